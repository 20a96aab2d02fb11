"""What nodes do under their terms, as operations of the one history (S13, S18): guarded writes to keys of the cluster,
reads of such keys, and the question whether a term still counts.

Each is asked once, or twice under one idempotency key. What its answer says, the checker is told; what nobody answered
in time, or was refused by one of two, may still take effect.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tenure.leadership.engine import (
    AnyRequest,
    AnyResult,
    KvGet,
    KvPut,
    KvValue,
    KvWritten,
    Origin,
    Refused,
    Validate,
    Validated,
)
from tests.sim.operations import OPEN, Operation, Outcome

if TYPE_CHECKING:
    from tests.sim.world import World

DEEDS: Final = frozenset({KvPut, KvGet, Validate})
UNSETTLED: Final = frozenset({"no_quorum", "founding", "outcome_unknown"})
"""Refusals that leave open whether the write takes effect."""


@dataclass(frozen=True, slots=True)
class Deed:
    """One of them, under way."""

    request: AnyRequest
    called: int
    twice: bool
    """It has an idempotency key, and perhaps it was sent to two members."""


@dataclass
class Deeds:
    """All of one node, over the lives of its processes. `seen`: the last revision that it knows of each key."""

    world: "World"
    who: str
    open: dict[int, Deed] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def began(self, tag: int, request: AnyRequest, origin: Origin | None) -> None:
        """It was asked for."""
        self.open[tag] = Deed(request, self.world.tick(), origin is not None)

    def ended(self, tag: int, result: AnyResult | None) -> None:
        """An answer; None: no answer any more."""
        deed = self.open.pop(tag, None)
        if deed is None:
            return
        operation = self.operation(deed, result)
        if operation is not None:
            self.world.observer.history.append(operation)

    def abandon(self) -> None:
        """Nobody waits for any answer any more."""
        for tag in list(self.open):
            self.ended(tag, None)

    def operation(self, deed: Deed, result: AnyResult | None) -> Operation | None:
        """What the checker is told of it; None: it had no effect and says nothing."""
        called, returned, who, seen = deed.called, self.world.tick(), self.who, self.seen
        match deed.request, result:
            case KvPut() as put, _:
                return self.written(deed, put, result)
            case KvGet(key), KvValue(_, value, revision):
                seen[key] = revision
                return Operation(key, "get", called, returned, "ok", value.decode(), revision, None, who)
            case KvGet(key), Refused("unknown_key"):
                return Operation(key, "get", called, returned, "ok", None, 0, None, who)
            case Validate(election, term), Validated(valid, reason, current) if reason != "unknown_election":
                self.world.seen[f"validated {reason}"] += 1
                outcome: Outcome = "ok" if valid else "stale"
                return Operation("", "check", called, returned, outcome, None, None, None, who, election, term, current)
            case _:
                return None

    def written(self, deed: Deed, put: KvPut, result: AnyResult | None) -> Operation | None:
        """A write, by its answer."""
        returned, current = self.world.tick(), None
        revision: int | None = None
        outcome: Outcome
        match result:
            case KvWritten():
                outcome, revision = "ok", result.revision
                self.seen[put.key] = revision
            case Refused("stale_term") if not deed.twice:
                outcome, current = "stale", result.current_term
                self.world.seen["guarded write stale"] += 1
            case Refused("revision_mismatch") if not deed.twice:
                outcome = "mismatch"
            case Refused(code) if not deed.twice and code not in UNSETTLED:
                return None
            case _:
                outcome, returned = "unknown", OPEN
        return Operation(
            put.key, "put", deed.called, returned, outcome, put.value.decode(), revision, put.if_revision, self.who,
            put.election, put.term, current,
        )  # fmt: skip
