"""The search for an order of one key's operations: Wing and Gong's, with Lowe's memo ("Testing for linearizability",
2017), cut down by what a register allows.

A place in the search is (`following`, `window`, `used`) and the register: all known operations but those in the window
and those from `following` on are ordered, and of the unknown ones those in `used`. The window holds what may come next:
what was called before the first of it returned. So a place is small whatever lies behind it, and two orders that come
to the same place are the same from there on.

What keeps the search narrow, none of which loses an order (`test_linearizability` holds it against a twin that has
nothing of this):

* What leaves the register as it is (a get of what stands there, a refusal that is right) is ordered at once.
* Revisions only rise. So while somebody has yet to see the present one, or to make or see a lower one than the next,
  nobody may write; where all revisions are told, hardly more than one order is left.
* An unknown put whose value is overwritten unseen can be left out, and one that is not needed yet can wait. So one is
  tried only right before an operation that needs it (or that ends its term), and of equal ones only the first.
* An untold revision is the least that nobody speaks of; or one of those that somebody does.
* A value that only one put can have written stands once: nobody may cover it before its last reader, and seen with its
  revision it has that one. Where no revisions are told, values that nobody reads are covered by the next write.
* A place that differs from an earlier one only in having used up more unknown puts is no better (`places.Seen`).
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from tests.sim.operations import OPEN, Operation, Violation, levels
from tests.sim.places import Move, Place, Register, Seen, Unknown, Window

places_max: Final = 3_000_000
"""Far above what an honest history needs (about one place for each write)."""


class Undecided(Exception):
    """The search was given up; neither answer is known."""


def admits(register: Register, operation: Operation) -> bool:
    """Whether this can be the operation's result here, revisions to be made left aside."""
    if operation.kind == "get":
        return operation.value == register.value and operation.revision in {None, register.revision}
    if register.level > levels(operation)[1]:
        return False
    if operation.outcome == "stale":
        return operation.term is not None or register.fenced
    if operation.term is None and register.fenced:
        return False
    matches = operation.if_revision in {None, register.revision}
    return not matches if operation.outcome == "mismatch" else matches


class Search:
    """One history of one key."""

    def __init__(self, history: Sequence[Operation]) -> None:
        ordered = sorted(history, key=lambda operation: (operation.called, operation.returned))
        self.known = [operation for operation in ordered if operation.outcome != "unknown"]
        puts = [operation for operation in ordered if operation.outcome == "unknown" and operation.kind == "put"]
        elections = {operation.election for operation in ordered} - {None}
        assert len(elections) <= 1, f"a key belongs to one election: {elections}"
        self.least_level = [OPEN] * (len(self.known) + 1)
        """The lowest level that any operation from here on allows at most."""
        for place in range(len(self.known) - 1, -1, -1):
            self.least_level[place] = min(self.least_level[place + 1], levels(self.known[place])[1])
        self.read = {operation.value for operation in self.known if operation.kind == "get"}
        self._note_revisions(puts)
        self._pin(puts)
        self.unknown = Unknown(puts, self.read, self.pinned)

    def _note_revisions(self, unknown: Sequence[Operation]) -> None:
        self.last_need: dict[int, int] = {}
        """The last operation that needs a revision to stand."""
        self.maker: dict[int, int] = {}
        self.value_at: dict[int, str | None] = {}
        spoken_of = {operation.if_revision for operation in self.known} | {each.if_revision for each in unknown}
        for place, operation in enumerate(self.known):
            need = self.need(operation)
            if need is not None:
                self.last_need[need] = place
            if operation.kind == "get" and operation.revision is not None:
                self.value_at.setdefault(operation.revision, operation.value)
            if operation.kind == "put" and operation.outcome == "ok" and operation.revision is not None:
                self.maker[operation.revision] = place
        self.told = sorted(self.last_need.keys() | self.maker.keys())
        self.spoken_of = sorted({each for each in spoken_of if each is not None}.union(self.told))
        self.reveals_nothing = self.spoken_of in ([], [0])
        """Revisions tell nothing but whether there is a key."""

    def _pin(self, unknown: Sequence[Operation]) -> None:
        """A value that only one put can have written does not come back, and has the revision that anybody saw."""
        puts = [operation for operation in self.known if operation.kind == "put" and operation.outcome == "ok"]
        makers = Counter(operation.value for operation in [*puts, *unknown])
        self.pinned = {value: revision for revision, value in self.value_at.items() if makers[value] == 1}
        self.last_read = {
            operation.value: place
            for place, operation in enumerate(self.known)
            if operation.kind == "get" and makers[operation.value] <= 1
        }
        """The last operation that sees a value which does not come back; of no value too."""

    @staticmethod
    def need(operation: Operation) -> int | None:
        """The revision that must stand when this one comes."""
        if operation.kind == "get":
            return operation.revision
        return operation.if_revision if operation.outcome == "ok" else None

    # --- the way through ---------------------------------------------------------------------------------------------

    def run(self) -> Violation | None:
        """Depth first, along the likeliest order."""
        path: list[Operation] = []
        following, window = self.widened(0, ())
        start = self.settled((following, window, 0, Register(), False), path)
        seen = Seen()
        seen.adds(start)
        best: tuple[int, tuple[Operation, ...], Place] = (len(path), tuple(path[-5:]), start)
        stack = [(self.moves(start), len(path))]
        place = start
        while place[1] or place[0] < len(self.known):
            move = None
            while stack and move is None:
                moves, length = stack[-1]
                del path[length:]
                move = next(moves, None)
                if move is None:
                    stack.pop()
            if move is None:
                return self._violation(best)
            path.extend(move[0])
            place = self.settled(move[1], path)
            if not seen.adds(place):
                continue
            if seen.count > places_max:
                raise Undecided(f"key {self.known[0].key!r}: no answer after {places_max} places")
            if len(path) > best[0]:
                best = (len(path), tuple(path[-5:]), place)
            stack.append((self.moves(place), len(path)))
        return None

    def _violation(self, best: tuple[int, tuple[Operation, ...], Place]) -> Violation:
        ordered, tail, (following, window, _, register, _) = best
        needs = {self.last_need.get(register.revision, -1), self.last_read.get(register.value, -1)}
        late = sorted(place for place in needs if place >= following)  # they hold up whoever would write
        stuck = tuple(self.known[place] for place in (*window, *late))
        return Violation(stuck[0].key, ordered, tail, str(register), stuck)

    def widened(self, following: int, window: Window) -> tuple[int, Window]:
        """Take in what was called before the first of the window returned."""
        known, added = self.known, list(window)
        first_return = min([known[place].returned for place in window], default=OPEN)
        while following < len(known) and known[following].called <= first_return:
            first_return = min(first_return, known[following].returned)
            added.append(following)
            following += 1
        return following, tuple(added)

    def first_return(self, place: Place) -> int:
        """Nothing that was called later may come now."""
        return min([self.known[each].returned for each in place[1]], default=OPEN)

    def without(self, place: Place, done: int, register: Register, unseen: bool) -> Place:
        """The place after `done`."""
        following, window, used, _, _ = place
        following, window = self.widened(following, tuple(each for each in window if each != done))
        return following, window, used, register, unseen

    def settled(self, place: Place, path: list[Operation]) -> Place:
        """Order at once whatever takes nothing from any other."""
        found = True
        while found:
            found = False
            for each in place[1]:
                operation = self.known[each]
                if operation.kind == "put" and operation.outcome == "ok":
                    continue
                register = place[3]
                if not admits(register, operation):
                    continue
                if levels(operation)[0] > register.level:
                    if not self._may_rise(place, each) or self.unknown.ends_with(place, levels(operation)[0]):
                        continue
                    register = Register(register.value, register.revision, register.fenced, levels(operation)[0])
                place = self.without(place, each, register, unseen=False)
                path.append(operation)
                found = True
                break
        return place

    def _may_rise(self, place: Place, who: int) -> bool:
        """Nobody that is still to come needs the election where it is."""
        following, window, _, register, _ = place
        level = max(register.level, levels(self.known[who])[0])
        return self.least_level[following] >= level and all(
            levels(self.known[each])[1] >= level for each in window if each != who
        )

    def _may_write(self, place: Place, who: int) -> bool:
        """Nobody but `who` needs the revision that stands, or its value if that is there only once."""
        following, window, _, register, _ = place
        last_read = self.last_read.get(register.value, -1)
        if max(self.last_need.get(register.revision, -1), last_read) >= following:
            return False
        return not any(
            self.need(self.known[each]) == register.revision
            or (last_read >= 0 and self.known[each].kind == "get" and self.known[each].value == register.value)
            for each in window
            if each != who
        )

    # --- what may come next ------------------------------------------------------------------------------------------

    def moves(self, place: Place) -> Iterator[Move]:
        """The likeliest first."""
        _, window, _, register, unseen = place
        for each in sorted(window, key=lambda each: self.known[each].returned):
            operation = self.known[each]
            if operation.kind == "get" or not admits(register, operation) or not self._may_rise(place, each):
                continue
            level = max(register.level, levels(operation)[0])
            if operation.outcome != "ok":
                raised = Register(register.value, register.revision, register.fenced, level)
                yield (operation,), self.without(place, each, raised, unseen and operation.is_blind)
            elif not (unseen and operation.is_blind) and self._may_write(place, each):
                may_hide = self.reveals_nothing and operation.is_blind and not register.fenced
                hidden = self.hidden(window, each) if may_hide else ()
                if hidden and self.is_unread(each) and hidden[0] < each:
                    continue  # one of them comes last, whichever: nobody reads it
                fenced = register.fenced or operation.term is not None
                for revision in self.revisions(register, operation, each):
                    after = Register(operation.value, revision + len(hidden), fenced, level)
                    to = place
                    for one in hidden:
                        to = self.without(to, one, register, unseen=False)
                    done = (*(self.known[one] for one in hidden), operation)
                    yield done, self.without(to, each, after, unseen=False)
        if self._may_write(place, -1):
            yield from self.unknown_moves(place)

    def is_unread(self, place: int) -> bool:
        """A blind write without a term, of a value that nobody reads."""
        operation = self.known[place]
        return (
            operation.is_blind
            and operation.outcome == "ok"
            and operation.term is None
            and (operation.value not in self.read)
        )

    def hidden(self, window: Window, by: int) -> Window:
        """What nobody reads and compares with may as well come right before a write that covers it."""
        return tuple(each for each in window if each != by and self.is_unread(each))

    def revisions(self, register: Register, operation: Operation, who: int) -> Iterator[int]:
        """Those that this put may have made, none of them above what others still have to see or to make."""
        following = self.next_told(register)
        if operation.outcome == "ok" and operation.revision is not None:
            if operation.revision == following and self.maker[following] == who:
                yield following
            return
        seen = self.value_at.get(following, operation.value)
        if following < OPEN and following not in self.maker and seen == operation.value:
            yield following
        if operation.value in self.pinned:
            return
        spoken = bisect_right(self.spoken_of, register.revision)
        unspoken = register.revision + 1
        taken: list[int] = []
        while spoken < len(self.spoken_of) and self.spoken_of[spoken] < following:
            taken.append(self.spoken_of[spoken])
            unspoken += unspoken == self.spoken_of[spoken]
            spoken += 1
        if unspoken < following:
            yield unspoken
        yield from taken

    def next_told(self, register: Register) -> int:
        """The least revision that somebody still has to make or to see."""
        place = bisect_right(self.told, register.revision)
        return self.told[place] if place < len(self.told) else OPEN

    def unknown_moves(self, place: Place) -> Iterator[Move]:
        """Unknown puts that an operation of the window needs in front of it."""
        following, window, used, register, unseen = place
        waiting = [self.known[each] for each in window]
        wanted = {each.value for each in waiting if each.kind == "get"}
        anything = any(not each.is_blind or each.outcome == "stale" for each in waiting if each.kind == "put")
        if not wanted and not anything and not self.unknown.conditional:
            return
        latest = self.first_return(place)
        for number in self.unknown.candidates(wanted, used, register.revision, self.next_told(register), latest):
            operation = self.unknown.puts[number]
            if (unseen and operation.is_blind) or not admits(register, operation):
                continue
            level = max(register.level, levels(operation)[0])
            if not (self.least_level[following] >= level and all(levels(each)[1] >= level for each in waiting)):
                continue
            for revision in self.revisions(register, operation, -1):
                after = Register(operation.value, revision, register.fenced or operation.term is not None, level)
                taken = used | 1 << number
                needed = _is_needed(operation, register, after, waiting)
                if needed or self.unknown.compares(revision, taken, latest):
                    yield (operation,), (following, window, taken, after, True)


def _is_needed(put: Operation, before: Register, after: Register, waiting: Sequence[Operation]) -> bool:
    """Somebody waits for the register to become `after`; or will end the term under which `put` still may come."""
    return any(
        (put.term is not None and each.outcome != "ok" and levels(each)[0] > after.level)
        if admits(before, each)
        else admits(after, each)
        for each in waiting
    )
