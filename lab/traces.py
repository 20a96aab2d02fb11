"""What members' log lines say about changes of leader. PURE."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

WANTED: Final = frozenset({"transfer", "outbid"})
"""Reasons of a vote request that somebody asked for (P5.8, P7.3)."""


class Event(Struct, frozen=True):
    """One line: when (CLOCK_BOOTTIME), who, what, and its values."""

    at_us: int
    member: str
    what: str
    detail: Mapping[str, Any]


def parse(log: bytes) -> list[Event]:
    """The lines of one member's log. A line that is being written, or is not ours, is left out."""
    found: list[Event] = []
    for line in log.split(b"\n"):
        if not line.startswith(b"{"):
            continue
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if "boot_us" in told:
            found.append(Event(told["boot_us"], told["member"], told["what"], told))
    return found


class FailOver(Struct, frozen=True):
    """One change of leader. Instants in µs; what ended it happened at `leader`, the new one.

    `noticed_us`: the new leader told `leader_lost`; `majority_us`: so many voters had told it that they and the new
    leader's own are a majority. `first_us`: the first command of its term was applied. `asked`: vote requests made.
    """

    struck_us: int
    leader: str
    term: int
    noticed_us: int
    majority_us: int
    elected_us: int
    serves_us: int
    first_us: int
    asked: int

    @property
    def convergence_us(self) -> int:
        """From noticing to the election, at the new leader; where a majority noticed before it did, from there."""
        return self.elected_us - min(self.noticed_us, self.majority_us)

    @property
    def first_write_us(self) -> int:
        """From the blow to the first write that is committed and applied at the new leader."""
        return self.first_us - self.struck_us


def fail_over(events: Sequence[Event], struck_us: int, lost: str, voters: int) -> FailOver | None:
    """What followed the blow of `struck_us` against the leader `lost`; None if nobody has served since."""
    after = [event for event in events if event.at_us >= struck_us]
    first = next((event for event in after if event.what == "first_command" and event.member != lost), None)
    if first is None:
        return None
    leader, term = first.member, first.detail["term"]

    def of_leader(what: str) -> int | None:
        return next(
            (e.at_us for e in after if e.what == what and e.member == leader and e.detail["term"] == term), None
        )

    elected, serves = of_leader("leader_elected"), of_leader("leader_serves")
    if elected is None or serves is None:
        return None
    noticed: dict[str, int] = {}
    for event in after:
        if event.what == "leader_lost" and event.detail["leader"] == lost and event.at_us <= elected:
            noticed.setdefault(event.member, event.at_us)
    if leader not in noticed:
        return None
    majority = voters // 2 + 1
    instants = sorted(noticed.values())
    majority_us = instants[majority - 1] if len(instants) >= majority else noticed[leader]
    asked = sum(event.what == "vote_asked" and event.at_us <= elected for event in after)
    return FailOver(
        struck_us, leader, term, noticed[leader], majority_us, elected, serves, first.at_us, asked
    )  # fmt: skip


def vote_requests(events: Iterable[Event], since_us: int, until_us: int) -> list[Event]:
    """Real vote requests that nobody had asked for."""
    return [
        event
        for event in events
        if event.what == "vote_asked" and since_us <= event.at_us < until_us and event.detail["why"] not in WANTED
    ]


def count(events: Iterable[Event], what: str, since_us: int, until_us: int) -> int:
    """How often something was told."""
    return sum(event.what == what and since_us <= event.at_us < until_us for event in events)


def leaders_by_term(events: Iterable[Event], what: str) -> dict[int, set[str]]:
    """Who told `what` (`leader_elected`, `leader_serves`, `first_command`) of each term."""
    found: dict[int, set[str]] = defaultdict(set)
    for event in events:
        if event.what == what:
            found[event.detail["term"]].add(event.member)
    return dict(found)


def two_in_a_term(events: Sequence[Event]) -> list[str]:
    """Terms with more than one leader, elected or committing; empty, or it is a bug."""
    return [
        f"term {term}: {what} by {', '.join(sorted(members))}"
        for what in ("leader_elected", "leader_serves", "first_command")
        for term, members in sorted(leaders_by_term(events, what).items())
        if len(members) > 1
    ]
