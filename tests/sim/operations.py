"""What clients did and learned: the words of histories (`linearizability` judges them)."""

from typing import Final, Literal, TypeAlias

from msgspec import Struct

OPEN: Final = 2**62
"""The return of an operation that never returned."""

Outcome: TypeAlias = Literal["ok", "mismatch", "stale", "unknown"]


class Operation(Struct, frozen=True):
    """One operation on one key.

    * put, ok: `value` was written, at `revision` (None: the system tells none); with `if_revision` the key had it; with
      `election` and `term`, the election was held under that term; without, no term was ever needed for this key.
    * put, mismatch: refused, because the key's revision was not `if_revision`; the term was right. No effect.
    * put, stale: refused, because the election was not held under `term`, or because a key once written under a term
      takes no write without one (`term` None). `current_term` was then the election's last term. No effect.
    * put, unknown: the caller never learned; `revision` is ignored.
    * check: it was asked whether `term` of `election` still counts; ok: it does; stale: no, and `current_term` was the
      last one. Of no key.
    * get, ok: `value` was read (None: no such key), written at `revision` (None: not told; 0: no such key).

    What surely had no effect and saw nothing (a get without an answer, a put refused for another reason) is left out.
    """

    key: str
    kind: Literal["put", "get", "check"]
    called: int
    returned: int
    outcome: Outcome
    value: str | None
    revision: int | None = None
    if_revision: int | None = None
    who: str = ""
    election: str | None = None
    term: int | None = None
    current_term: int | None = None

    @property
    def is_blind(self) -> bool:
        """Its result says nothing about the value before it."""
        return self.kind == "put" and self.if_revision is None

    def __str__(self) -> str:
        end = "…" if self.returned >= OPEN else str(self.returned)
        condition = "" if self.if_revision is None else f" if @{self.if_revision}"
        fence = "" if self.election is None else f" under {self.election}:{self.term}"
        current = "" if self.current_term is None else f", current term {self.current_term}"
        return (
            f"[{self.called}, {end}] {self.who} {self.kind} {self.key} {self.value!r}{condition}{fence}"
            f" → {self.outcome} @{self.revision}{current}"
        )


class Violation(Struct, frozen=True):
    """A key whose history can't be ordered: the end of the longest order found, the state there, and the operations
    that fit nowhere behind it."""

    key: str
    ordered: int
    tail: tuple[Operation, ...]
    state: str
    stuck: tuple[Operation, ...]

    def __str__(self) -> str:
        tail = "\n".join(f"    {operation}" for operation in self.tail)
        stuck = "\n".join(f"    {operation}" for operation in self.stuck)
        return (
            f"key {self.key!r} is not linearizable; the longest order has {self.ordered} operations, ending\n{tail}\n"
            f"  in {self.state}, and none of these can be next:\n{stuck}"
        )


def levels(operation: Operation) -> tuple[int, int]:
    """How far the operation's election was, at least and at most: 2·term while a term holds, one more when it is over.

    Grants are nobody's operation: a level may rise at any time. So the least one is what is known after it.
    """
    if operation.kind == "get":
        return 0, OPEN
    if operation.outcome != "stale":
        return (0, OPEN) if operation.term is None else (2 * operation.term, 2 * operation.term)
    current = operation.current_term
    if current is None:
        return 0, OPEN
    return (2 * current + 1 if current == operation.term else 2 * current), 2 * current + 1
