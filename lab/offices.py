"""What those who stood for an office said of it, held against each other. PURE.

S15   no two of them pass their own check at the same instant of the machine's one clock
S17   a term that somebody believes in later is greater, and each was granted to just that node
S18   a guard that has accepted a term accepts no lower one after it
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Final

from msgspec import Struct

GUARDS: Final = ("cluster", "ledger")


class Belief(Struct, frozen=True):
    """From `begin` to `end`, µs of CLOCK_BOOTTIME, this node's own check surely passed."""

    begin: int
    end: int
    term: int
    node: str


class Accepted(Struct, frozen=True):
    """A guarded write that was acknowledged. `place`: in the order in which its guard accepted. Instants in µs."""

    guard: str
    place: int
    term: int
    node: str
    name: str
    value: str
    asked: int
    answered: int


class Accounts(Struct):
    """All that was told so far."""

    beliefs: list[Belief] = []
    accepted: list[Accepted] = []
    refused: set[tuple[str, str, int]] = set()
    """Guard, node and term of tokens that were presented after their term, and refused."""
    over: set[tuple[str, str, int]] = set()
    """The same of those that are presented until they are refused."""
    trouble: list[str] = []

    def hear(self, node: str, line: Mapping[str, Any]) -> None:
        """One line of a node's account."""
        match line["kind"]:
            case "believed":
                self.beliefs.append(Belief(line["begin"], line["end"], line["term"], node))
            case "wrote":
                self._accept("cluster", node, line, line["revision"], line["key"], line["value"])
            case "entered":
                self._accept("ledger", node, line, line["row"], line["name"], line["name"])
            case "refused":
                self.refused.add((line["where"], node, line["term"]))
            case "over":
                self.over.add((line["where"], node, line["term"]))
            case "revived" | "trouble":
                self.trouble.append(f"{node}: {dict(line)}")
            case _:
                pass  # what it noticed of itself

    def _accept(self, guard: str, node: str, line: Mapping[str, Any], place: int, name: str, value: str) -> None:
        self.accepted.append(Accepted(guard, place, line["term"], node, name, value, line["asked"], line["at"]))


def wrong(accounts: Accounts, granted: Mapping[int, str]) -> list[str]:
    """All that must never be. `granted`: nodes by term, as the cluster tells them."""
    return [
        *accounts.trouble,
        *two_at_once(accounts.beliefs),
        *terms_that_fell(accounts.beliefs),
        *not_granted(accounts.beliefs, granted),
        *stale_accepted(accounts.accepted),
    ]


def two_at_once(beliefs: Iterable[Belief]) -> list[str]:
    """S15: two that overlap and aren't one node's under one term."""
    found = []
    going_on: list[Belief] = []
    for later in sorted(beliefs, key=lambda belief: (belief.begin, belief.end)):
        going_on = [earlier for earlier in going_on if earlier.end >= later.begin]
        found += [
            f"two hold at once: {earlier} {later}"
            for earlier in going_on
            if (earlier.node, earlier.term) != (later.node, later.term)
        ]
        going_on.append(later)
    return found


def terms_that_fell(beliefs: Iterable[Belief]) -> list[str]:
    """S17: another holding that is believed in later has a greater term; so none has two nodes either."""
    ordered = sorted(beliefs, key=lambda belief: (belief.begin, belief.end))
    return [
        f"no greater term later: {earlier} {later}"
        for earlier, later in pairwise(ordered)
        if (earlier.node, earlier.term) != (later.node, later.term) and earlier.term >= later.term
    ]


def not_granted(beliefs: Iterable[Belief], granted: Mapping[int, str]) -> list[str]:
    """Terms that the cluster gave to nobody, or to another."""
    believed = {(belief.term, belief.node) for belief in beliefs}
    return [
        f"{node} believed in term {term}, granted to {granted.get(term, 'nobody')}"
        for term, node in sorted(believed)
        if granted.get(term) != node
    ]


def stale_accepted(accepted: Iterable[Accepted]) -> list[str]:
    """S18, for each guard by itself."""
    return [
        f"{guard} accepted a stale token: {earlier} {later}"
        for guard in GUARDS
        for earlier, later in pairwise(sorted((one for one in accepted if one.guard == guard), key=_place))
        if earlier.term > later.term
    ]


def _place(one: Accepted) -> tuple[int, int]:
    return one.place, one.term


def unrefused(accounts: Accounts) -> set[tuple[str, str, int]]:
    """Tokens whose guard has accepted a greater term, and that it hasn't refused yet: it will, when it is asked."""
    newest = dict.fromkeys(GUARDS, 0)
    for one in accounts.accepted:
        newest[one.guard] = max(newest[one.guard], one.term)
    return {(guard, node, term) for guard, node, term in accounts.over - accounts.refused if term < newest[guard]}


def gap_us(beliefs: Iterable[Belief], begun_us: int, ended_us: int) -> int:
    """The longest time within this stretch in which nobody's check surely passed."""
    longest, at = 0, begun_us
    for belief in sorted(beliefs, key=lambda belief: belief.begin):
        if belief.end <= begun_us or belief.begin >= ended_us:
            continue
        longest = max(longest, belief.begin - at)
        at = max(at, belief.end)
    return max(longest, ended_us - at)


def held_from(accepted: Iterable[Accepted], since_us: int) -> int | None:
    """When the cluster first acknowledged a write under the office's term that was sent since then."""
    later = (one.answered for one in accepted if one.guard == "cluster" and one.asked >= since_us)
    return min(later, default=None)


def terms_within(beliefs: Iterable[Belief], begun_us: int, ended_us: int) -> set[int]:
    """Those that were believed in during a stretch."""
    return {belief.term for belief in beliefs if belief.end > begun_us and belief.begin < ended_us}
