"""Is a history of operations on keys linearizable? (S13)

Wing and Gong's search with Lowe's memo ("Testing for linearizability", 2017), one key at a time, because a history is
linearizable exactly when its part on each key is (Herlihy and Wing, locality).

An operation whose result nobody learned (`unknown`) may have taken effect at any time after its call, or never; it
never takes effect twice. That is what makes such searches slow: an open operation stays open for ever. Two things keep
this one fast on long histories:

* An unknown put that nobody observes can be left out of any linearization. So it is tried only when a candidate could
  observe it, and after it only such an operation may follow.
* Candidates with the lowest revision come first. On a history that is linearizable the first try is then nearly always
  right, and on one that is not, a candidate below the revision already reached ends the branch at once.

Calls and returns are places in one total order (steps of the simulator, or nanoseconds of one clock): `a` precedes `b`
if `a.returned < b.called`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

from msgspec import Struct

OPEN: Final = 2**62
"""The return of an operation that never returned."""


class Operation(Struct, frozen=True):
    """One operation on one key.

    * put, ok: `value` was written, at `revision` (None: the system tells none); with `if_revision` the key had it.
    * put, mismatch: refused, because the key's revision was not `if_revision`; no effect.
    * put, unknown: the caller never learned; `revision` is ignored.
    * get, ok: `value` was read (None: no such key), written at `revision` (None: not told; 0: no such key).

    What surely had no effect and saw nothing (a get without an answer, a put refused for another reason) is left out.
    """

    key: str
    kind: Literal["put", "get"]
    called: int
    returned: int
    outcome: Literal["ok", "mismatch", "unknown"]
    value: str | None
    revision: int | None = None
    if_revision: int | None = None
    who: str = ""

    @property
    def is_blind(self) -> bool:
        """Its result says nothing about the state before it."""
        return self.kind == "put" and self.if_revision is None


class State(Struct, frozen=True):
    """The register: `revision` None when its last writer's is unknown so far; `floor` is the last revision known."""

    value: str | None = None
    revision: int | None = 0
    floor: int = 0


class Violation(Struct, frozen=True):
    """A key whose history can't be ordered: the end of the longest order found, the state there, and the operations
    that fit nowhere behind it."""

    key: str
    ordered: int
    tail: tuple[Operation, ...]
    state: State
    stuck: tuple[Operation, ...]

    def __str__(self) -> str:
        tail = "\n".join(f"    {_line(operation)}" for operation in self.tail)
        stuck = "\n".join(f"    {_line(operation)}" for operation in self.stuck)
        return (
            f"key {self.key!r} is not linearizable; the longest order has {self.ordered} operations, ending\n{tail}\n"
            f"  in {self.state}, and none of these can be next:\n{stuck}"
        )


def _line(operation: Operation) -> str:
    end = "…" if operation.returned >= OPEN else str(operation.returned)
    condition = "" if operation.if_revision is None else f" if @{operation.if_revision}"
    return (
        f"[{operation.called}, {end}] {operation.who} {operation.kind} {operation.value!r}{condition}"
        f" → {operation.outcome} @{operation.revision}"
    )


def next_state(state: State, operation: Operation) -> State | None:
    """The register after `operation`, None if it can't have had this result in `state`."""
    bound = _bind(state, operation)
    if bound is None or operation.outcome == "mismatch":
        return bound
    if operation.kind == "get":
        return bound
    if operation.outcome == "unknown":
        return State(operation.value, None, bound.floor)
    if operation.revision is None:
        return State(operation.value, None, bound.floor)
    if operation.revision <= bound.floor:
        return None
    return State(operation.value, operation.revision, operation.revision)


def _bind(state: State, operation: Operation) -> State | None:
    """What `operation` saw: `state`, perhaps with its revision now known; None if it can't have seen `state`."""
    match operation.kind, operation.outcome:
        case "get", _:
            if operation.value != state.value:
                return None
            return state if operation.revision is None else _with_revision(state, operation.revision)
        case _, "mismatch":
            assert operation.if_revision is not None
            return None if state.revision == operation.if_revision else state
        case _:
            return state if operation.if_revision is None else _with_revision(state, operation.if_revision)


def _with_revision(state: State, revision: int) -> State | None:
    if state.revision is not None:
        return state if state.revision == revision else None
    return State(state.value, revision, revision) if revision > state.floor else None


def check(history: Iterable[Operation]) -> tuple[Violation, ...]:
    """All keys whose history is not linearizable."""
    by_key: dict[str, list[Operation]] = {}
    for operation in history:
        by_key.setdefault(operation.key, []).append(operation)
    found = (check_key(by_key[key]) for key in sorted(by_key))
    return tuple(violation for violation in found if violation is not None)


def check_key(history: Sequence[Operation]) -> Violation | None:
    """One key's history: None if it is linearizable."""
    return _Search(history).run()


class _Node(Struct, frozen=True):
    """A place in the search: all of `known[:low]` and those in `beyond` (bit 0 is `known[low]`) are ordered, and of the
    unknown ones those in `used`. `unseen`: the last one ordered is an unknown put that nobody has observed yet."""

    low: int
    beyond: int
    used: int
    state: State
    unseen: bool


class _Search:
    def __init__(self, history: Sequence[Operation]) -> None:
        ordered = sorted(history, key=lambda operation: (operation.called, operation.returned))
        self.known = [operation for operation in ordered if operation.outcome != "unknown"]
        self.unknown = [
            operation for operation in ordered if operation.outcome == "unknown" and operation.kind == "put"
        ]

    def run(self) -> Violation | None:
        start = _Node(0, 0, 0, State(), False)
        seen = {start}
        path: list[Operation] = []
        best: tuple[int, tuple[Operation, ...], _Node] = (0, (), start)
        stack: list[tuple[_Node, Iterator[tuple[Operation, _Node]]]] = [(start, self.moves(start))]
        while stack:
            node, moves = stack[-1]
            if node.low == len(self.known):
                return None
            if len(path) > best[0]:
                best = (len(path), tuple(path[-5:]), node)
            move = next(((done, to) for done, to in moves if to not in seen), None)
            if move is None:
                stack.pop()
                if path:
                    path.pop()
                continue
            operation, to = move
            seen.add(to)
            path.append(operation)
            stack.append((to, self.moves(to)))
        ordered, tail, node = best
        stuck, _ = self.window(node)
        return Violation(self.known[0].key, ordered, tail, node.state, tuple(self.known[place] for place in stuck))

    def window(self, node: _Node) -> tuple[list[int], int]:
        """Places of the known operations that may come next, and the first return among all that are still to come."""
        first_return = OPEN
        places = []
        place, beyond = node.low, node.beyond
        while place < len(self.known) and self.known[place].called <= first_return:
            if not beyond & 1:
                places.append(place)
                first_return = min(first_return, self.known[place].returned)
            beyond >>= 1
            place += 1
        return places, first_return

    def moves(self, node: _Node) -> Iterator[tuple[Operation, _Node]]:
        """What may come next, the likeliest first."""
        places, first_return = self.window(node)
        floor = node.state.floor
        if any(_revision_seen(self.known[place]) < floor for place in places):
            return  # it saw or made something older than what is ordered already: no order can begin like this
        for place in sorted(places, key=lambda place: (_revision_seen(self.known[place]), place)):
            operation = self.known[place]
            if node.unseen and operation.is_blind:
                continue
            state = next_state(node.state, operation)
            if state is not None:
                yield operation, self.after(node, place, state)
        yield from self.unknown_moves(node, places, first_return)

    def unknown_moves(self, node: _Node, places: list[int], first_return: int) -> Iterator[tuple[Operation, _Node]]:
        wanted = {self.known[place].value for place in places if self.known[place].kind == "get"}
        candidates = [
            (number, operation)
            for number, operation in enumerate(self.unknown)
            if operation.called <= first_return and not node.used >> number & 1
        ]
        compares = any(not self.known[place].is_blind and self.known[place].kind == "put" for place in places)
        compares = compares or any(not operation.is_blind for _, operation in candidates)
        for number, operation in candidates:
            if (operation.value not in wanted and not compares) or (node.unseen and operation.is_blind):
                continue
            state = next_state(node.state, operation)
            if state is not None:
                yield operation, _Node(node.low, node.beyond, node.used | 1 << number, state, True)

    def after(self, node: _Node, place: int, state: State) -> _Node:
        low, beyond = node.low, node.beyond | 1 << (place - node.low)
        while beyond & 1:
            beyond >>= 1
            low += 1
        return _Node(low, beyond, node.used, state, False)


def _revision_seen(operation: Operation) -> int:
    """The revision that the register had at the latest when this operation was done; `OPEN` when not told."""
    if operation.outcome == "mismatch" or operation.revision is None:
        return OPEN if operation.if_revision is None or operation.outcome == "mismatch" else operation.if_revision
    return operation.revision
