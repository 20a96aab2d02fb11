"""Is a history of operations on keys linearizable? (S13, and S18 for fenced keys)

A history is linearizable exactly when its part on each key is (Herlihy and Wing, locality), so `search` judges one key
at a time; nothing is claimed about the order of reads on different keys. Two things do reach over keys, and have plain
checks of their own, each one sweep over the history:

* A revision is an index of the one log. So revisions rise in real time, whatever the keys.
* A term belongs to an election, not to a key. Once a write of a term, a refusal, or a token that was checked shows how
  far an election has come, no later write under an older term may succeed anywhere, and no older token may count.

An operation whose result nobody learned (`unknown`) may have taken effect at any time after its call, or never; it
never takes effect twice.

Calls and returns are places in one total order (steps of the simulator, or nanoseconds of one clock): `a` precedes `b`
if `a.returned < b.called`.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

from msgspec import Struct

from tests.sim.operations import OPEN, Operation, Violation, levels
from tests.sim.search import Search

__all__ = ["OPEN", "Disorder", "Operation", "Violation", "check", "check_key", "check_revisions", "check_terms"]


class Disorder(Struct, frozen=True):
    """Two operations, perhaps on different keys, that contradict each other."""

    what: str
    earlier: Operation
    later: Operation

    def __str__(self) -> str:
        return f"{self.what}:\n    {self.earlier}\n    {self.later}"


def check(history: Iterable[Operation]) -> tuple[Violation | Disorder, ...]:
    """Everything that is wrong: all keys that are not linearizable, one pair for each wrong order over keys."""
    operations = list(history)
    by_key: dict[str, list[Operation]] = {}
    by_election: dict[str, list[Operation]] = {}
    for operation in operations:
        if operation.kind != "check":
            by_key.setdefault(operation.key, []).append(operation)
        if operation.election is not None:
            by_election.setdefault(operation.election, []).append(operation)
    found: list[Violation | Disorder | None] = [check_key(by_key[key]) for key in sorted(by_key)]
    found.append(check_revisions(operations))
    found += [check_terms(by_election[election]) for election in sorted(by_election)]
    return tuple(each for each in found if each is not None)


def check_key(history: Sequence[Operation]) -> Violation | None:
    """One key's history: None if it is linearizable."""
    return Search(history).run()


def check_revisions(history: Sequence[Operation]) -> Disorder | None:
    """Revisions of all keys are places of one log: none is given twice, and they rise in real time."""
    writes: dict[int, Operation] = {}
    for operation in history:
        if operation.kind == "put" and operation.outcome == "ok" and operation.revision is not None:
            first = writes.setdefault(operation.revision, operation)
            if first is not operation:
                return Disorder("two writes at one revision", first, operation)
    known = sorted(
        (each for each in history if each.outcome == "ok" and each.revision is not None), key=lambda each: each.returned
    )
    latest = list(accumulate(known, _later))
    returns = [each.returned for each in known]
    for revision, write in writes.items():
        before = bisect_left(returns, write.called)
        if before and (latest[before - 1].revision or 0) >= revision:
            return Disorder("a later write has a lower revision", latest[before - 1], write)
    return None


def _later(a: Operation, b: Operation) -> Operation:
    return a if (a.revision or 0) >= (b.revision or 0) else b


def _further(a: Operation, b: Operation) -> Operation:
    return a if levels(a)[0] >= levels(b)[0] else b


def check_terms(history: Sequence[Operation]) -> Disorder | None:
    """One election: how far it has come (`levels`) never goes back, neither in real time nor by revision."""
    told = [each for each in history if each.kind != "get" and levels(each) != (0, OPEN)]
    by_return = sorted((each for each in told if each.outcome != "unknown"), key=lambda each: each.returned)
    furthest = list(accumulate(by_return, _further))
    returns = [each.returned for each in by_return]
    for operation in by_return:
        before = bisect_left(returns, operation.called)
        if before and levels(furthest[before - 1])[0] > levels(operation)[1]:
            return Disorder("a term that was over", furthest[before - 1], operation)
    written = [each for each in told if each.outcome == "ok" and each.revision is not None and each.term is not None]
    written.sort(key=lambda each: each.revision or 0)
    for first, second in pairwise(written):
        if (first.term or 0) > (second.term or 0):
            return Disorder("an older term at a higher revision", first, second)
    return None
