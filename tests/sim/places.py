"""Places in the search: the register, what is left to order, and the puts of which nobody knows."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from msgspec import Struct

from tests.sim.operations import Operation, levels


class Register(Struct, frozen=True):
    """The key: `fenced` once it was written under a term, `level` says how far its election has come (`levels`)."""

    value: str | None = None
    revision: int = 0
    fenced: bool = False
    level: int = 0


Window: TypeAlias = tuple[int, ...]
Place: TypeAlias = tuple[int, Window, int, Register, bool]
"""`following`, `window`, `used`, the register; and whether the last one is an unknown put that nobody has seen yet."""
Move: TypeAlias = tuple[tuple[Operation, ...], Place]


class Seen:
    """Places that were tried. One is no better than another that differs in having used more of the unknown puts."""

    def __init__(self) -> None:
        self.count = 0
        self._used: dict[tuple[int, Window, Register, bool], list[int]] = {}

    def adds(self, place: Place) -> bool:
        """Whether it is worth a try."""
        following, window, used, register, unseen = place
        others = self._used.setdefault((following, window, register, unseen), [])
        if any(other & ~used == 0 for other in others):
            return False
        others.append(used)
        self.count += 1
        return True


class Unknown:
    """The unknown puts of a key, by what they are good for. Those of one `signature` are equal but for their calls."""

    def __init__(self, puts: Sequence[Operation], read: set[str | None], pinned: dict[str | None, int]) -> None:
        self.puts = puts
        self.by_value: dict[str | None, list[int]] = {}
        self.pinned: dict[int, int] = {}
        """By the revision that it must have made, if it came at all."""
        blind: dict[tuple[str | None, int | None], list[int]] = {}
        self.conditional: dict[int, list[int]] = {}
        """By the revision that they compare with."""
        for number, operation in enumerate(puts):
            self.by_value.setdefault(operation.value, []).append(number)
            if operation.if_revision is not None:
                self.conditional.setdefault(operation.if_revision, []).append(number)
                continue
            if operation.value in pinned:
                self.pinned[pinned[operation.value]] = number
                continue
            value = operation.value if operation.value in read else None  # nobody reads it: it is like all others
            blind.setdefault((value, operation.term), []).append(number)
        self.unread = [group for (value, _), group in blind.items() if value is None]
        self.others = [group for (value, _), group in blind.items() if value is not None]
        self.terms = sorted((levels(operation)[0], number) for number, operation in enumerate(puts) if operation.term)

    def candidates(
        self, wanted: set[str | None], used: int, revision: int, following: int, latest: int
    ) -> Iterator[int]:
        """Numbers of puts that may have come by now, each kind once, the likeliest first."""
        tried = set()
        pinned = self.pinned.get(following)
        if pinned is not None and not used >> pinned & 1 and self.puts[pinned].called <= latest:
            tried.add(pinned)
            yield pinned
        for value in wanted:
            for number in self.by_value.get(value, ()):
                if self.puts[number].called > latest:
                    break
                if not used >> number & 1 and number not in tried:
                    tried.add(number)
                    yield number
        for number in self.conditional.get(revision, ()):
            if not used >> number & 1 and number not in tried and self.puts[number].called <= latest:
                yield number
        for groups in (self.unread, self.others):
            for group in groups:
                first = next((each for each in group if not used >> each & 1), None)
                if first is not None and first not in tried and self.puts[first].called <= latest:
                    yield first

    def compares(self, revision: int, used: int, latest: int) -> bool:
        """Whether one of them may follow at once, because it compares with this revision."""
        return any(
            not used >> number & 1 and self.puts[number].called <= latest
            for number in self.conditional.get(revision, ())
        )

    def ends_with(self, place: Place, level: int) -> bool:
        """Whether there are puts that could come now and not once the election has come to `level`."""
        begin = bisect_left(self.terms, (place[3].level, 0))
        for at in range(begin, len(self.terms)):
            term_level, number = self.terms[at]
            if term_level >= level:
                break
            if not place[2] >> number & 1:
                return True
        return False
