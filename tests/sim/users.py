"""Clients: they read and write keys, one operation at a time, and try again elsewhere when no answer comes.

They see the members only through requests that travel, get lost and time out. What a client did is written into one
history, which the linearizability checker judges at the end (S13).
"""

from dataclasses import dataclass, field
from random import Random

from tenure.leadership.engine import (
    AnyResult,
    ClientOpened,
    Keyed,
    KvGet,
    KvPut,
    KvValue,
    KvWritten,
    OpenClient,
    Origin,
    Refused,
    Sequenced,
)
from tests.sim.host import Host
from tests.sim.operations import OPEN, Operation, Outcome
from tests.sim.plan import MS, SECOND
from tests.sim.world import World

KEYS = ("a", "b", "c", "d/e")
TRESPASS: float = 0.05
"""How often a client reads what nodes write under their terms, or writes there without one."""
HEALED_PATIENCE_US = 3 * SECOND


@dataclass
class Pending:
    """One operation of a client, over all its tries."""

    request: KvPut | KvGet
    origin: Origin | None
    called: int
    tries: int = 0
    tag: int = 0
    doubtful: bool = False
    """An earlier try may have taken effect."""


@dataclass
class Client:
    """One client: one operation at a time, on any member, tried again elsewhere when no answer comes."""

    world: World
    name: str
    rng: Random
    pending: Pending | None = None
    tag: int = 0
    session: str | None = None
    sequence: int = 0
    seen: dict[str, int] = field(default_factory=dict)
    stopped: bool = False
    done: int = 0

    def wake(self) -> None:
        """Begin the next operation."""
        if self.stopped or self.pending is not None:
            return
        if self.session is None and self.rng.random() < 0.5:
            self.tag += 1
            self.world.asking.ask(self, -self.tag, self.member(), OpenClient(f"{self.rng.getrandbits(64):016x}"), None)
        key = self.rng.choice(KEYS)
        if self.rng.random() < TRESPASS:
            key = f"work/office-{self.rng.randrange(self.world.plan.elections)}"
        self.sequence += 1
        if self.rng.random() < 0.5:
            request: KvPut | KvGet = KvGet(key)
            origin = None
        else:
            condition = self.seen.get(key, 0) if self.rng.random() < 0.2 else None
            request = KvPut(key, f'"{self.name}-{self.sequence}"'.encode(), if_revision=condition)
            origin = self.origin(request)
        self.pending = Pending(request, origin, self.world.tick())
        self.try_once(self.pending)

    def origin(self, request: KvPut) -> Origin | None:
        """How the write is made safe to repeat, if at all (P9)."""
        draw = self.rng.random()
        if draw < 0.2:
            return None
        if self.session is not None and draw < 0.7:
            return Sequenced(self.session, self.sequence, self.sequence)
        return Keyed(self.name, f"{self.name}-{self.sequence}", str(hash_of(request.value)))

    def member(self) -> Host:
        """Any member."""
        return self.rng.choice(self.world.seated())

    def try_once(self, pending: Pending) -> None:
        """Ask some member; look again when patience is over. A duplicate may go to another one."""
        self.tag += 1
        pending.tag = tag = self.tag
        pending.tries += 1
        self.world.asking.ask(self, tag, self.member(), pending.request, pending.origin)
        repeatable = pending.origin is not None or isinstance(pending.request, KvGet)
        if repeatable and not self.world.healed and self.rng.random() < 0.05:
            self.world.asking.ask(self, tag, self.member(), pending.request, pending.origin)
            pending.doubtful = pending.doubtful or isinstance(pending.request, KvPut)
        patience = self.world.plan.patience_us if not self.world.healed else HEALED_PATIENCE_US
        self.world.later(patience, lambda: self.impatient(pending, tag))

    def retry(self, pending: Pending) -> None:
        """The pause after a failed try is over."""
        if self.pending is pending:
            self.try_once(pending)

    def impatient(self, pending: Pending, tag: int) -> None:
        """No answer in time."""
        if self.pending is pending and pending.tag == tag:
            self.again(pending)

    def again(self, pending: Pending) -> None:
        """The outcome of a try is unknown: another try if that is harmless, else give up."""
        pending.doubtful = pending.doubtful or isinstance(pending.request, KvPut)
        repeatable = pending.origin is not None or isinstance(pending.request, KvGet)
        limit = 1000 if self.world.healed else 4
        if repeatable and pending.tries < limit:
            pending.tag = 0
            pause = self.world.plan.latency_us + int(self.rng.random() * 20 * MS)
            self.world.later(pause, lambda: self.retry(pending))
            return
        self.record(pending, None)

    def answered(self, tag: int, result: AnyResult | None) -> None:
        """An answer, or the end of the connection."""
        if tag < 0:
            if isinstance(result, ClientOpened) and self.session is None:
                self.session = result.client
            return
        pending = self.pending
        if pending is None or pending.tag != tag:
            return
        if result is None or (isinstance(result, Refused) and result.code in {"no_quorum", "no_part", "founding"}):
            self.again(pending)
        elif isinstance(result, Refused) and result.code == "outcome_unknown":
            self.session = None
            self.record(pending, None)
        else:
            self.record(pending, result)

    def record(self, pending: Pending, result: AnyResult | None) -> None:
        """Write the operation into the history, and think before the next."""
        request = pending.request
        operation: Operation | None = None
        returned = self.world.tick()
        called = pending.called
        match request, result:
            case KvGet(), KvValue():
                self.seen[request.key] = result.revision
                operation = Operation(
                    request.key, "get", called, returned, "ok", result.value.decode(), result.revision, None, self.name
                )
            case KvGet(), Refused(code="unknown_key"):
                operation = Operation(request.key, "get", called, returned, "ok", None, 0, None, self.name)
            case KvPut(), KvWritten():
                self.seen[request.key] = result.revision
                operation = self.put(request, called, returned, "ok", result.revision)
            case KvPut(), Refused(code="revision_mismatch"):
                operation = self.put(request, called, returned, "mismatch", None)
            case KvPut(), None:
                operation = self.put(request, called, OPEN, "unknown", None)
            case KvPut(), Refused(code="stale_term") if not pending.doubtful:
                operation = self.put(request, called, returned, "stale", None)
            case KvPut(), Refused() if pending.doubtful:
                operation = self.put(request, called, OPEN, "unknown", None)
            case _:
                pass
        if operation is not None:
            self.world.observer.history.append(operation)
        self.pending = None
        self.done += 1
        self.world.later(int(self.rng.expovariate(1 / self.world.plan.think_us)), self.wake)

    def put(
        self,
        request: KvPut,
        called: int,
        returned: int,
        outcome: Outcome,
        revision: int | None,
    ) -> Operation:
        """A write for the history."""
        value = request.value.decode()
        return Operation(request.key, "put", called, returned, outcome, value, revision, request.if_revision, self.name)


def hash_of(value: bytes) -> int:
    """A digest that is the same in every process."""
    return sum(place * letter for place, letter in enumerate(value, 1))
