"""Founding needs all, survives a crash after each step, and never takes a wiped member for its former self (P1.2)."""

from collections import deque
from collections.abc import Iterator

import pytest

from tenure.base.chance import SplitMix64
from tenure.base.ids import MemberId
from tenure.base.instants import Instant, WallMs
from tenure.raft.founding import (
    FoundAck,
    Founding,
    FoundingMessage,
    FoundPersisted,
    FoundReceived,
    Listed,
    Record,
    Stored,
    hello_every_us,
)

NAMES = ("m1", "m2", "m3")
LIST = tuple(Listed(name, f"host:{name}") for name in NAMES)


class Town:
    """Three members on a perfect network; every effect is one numbered step, before which anyone may crash."""

    def __init__(self, names: tuple[str, ...] = NAMES) -> None:
        self.now = 0
        self.wipes = 0
        self.steps = 0
        self.disks: dict[str, tuple[MemberId, Stored]] = {}
        self.up: dict[str, Founding] = {}
        self.mail: deque[tuple[str, str, FoundingMessage]] = deque()
        self.refusals: dict[str, str | None] = {}
        self.lists = dict.fromkeys(NAMES, LIST)
        self.log: list[tuple[str, Record]] = []
        self.acknowledged: set[tuple[MemberId, str]] = set()
        for name in names:
            self.wipe(name)

    def wipe(self, name: str) -> None:
        """A fresh disk, and so a fresh id; the process starts on it."""
        self.wipes += 1
        self.disks[name] = (MemberId(f"{self.wipes:016x}"), Stored("empty", None))
        self.start(name)

    def start(self, name: str) -> None:
        """(Re)start from what is on the disk; what was on its way to it is lost."""
        member, stored = self.disks[name]
        me = next(one for one in self.lists[name] if one.name == name)
        rng = SplitMix64(self.wipes * 1000 + self.steps)
        self.up[name] = Founding(me, member, self.lists[name], stored, rng, int)
        self.mail = deque(letter for letter in self.mail if name not in letter[:2])

    def effects(self, rounds: int) -> Iterator[str]:
        """Run; yields the name of who did something after each durable write or delivery."""
        for _ in range(rounds):
            self.now += hello_every_us
            for name in list(self.up):
                yield from self._step(name, [])
            while self.mail:
                sender, to, message = self.mail.popleft()
                if to in self.up:
                    yield from self._step(to, [FoundReceived(sender, message)])

    def _step(self, name: str, inputs: list[FoundReceived | FoundPersisted]) -> Iterator[str]:
        ready = self.up[name].step(inputs, Instant(self.now), WallMs(5))
        self.steps += 1
        self.refusals[name] = ready.refused
        for to, message in ready.send:
            if isinstance(message, FoundAck):
                self.acknowledged.add((message.member, message.lineage))
            self.mail.append((name, to, message))
        if ready.persist is not None:
            member, _ = self.disks[name]
            self.disks[name] = (member, Stored(ready.persist.state, ready.persist.record))
            if ready.persist.state == "sealed":
                self.log.append((name, ready.persist.record))
            process = self.up[name]
            yield name
            if self.up[name] is process:
                yield from self._step(name, [FoundPersisted(ready.persist.state, ready.persist.record)])
        else:
            yield name

    def sealed(self) -> dict[str, Record]:
        """Who is sealed, with which record."""
        return {
            name: stored.record
            for name, (_, stored) in self.disks.items()
            if stored.state == "sealed" and stored.record is not None
        }

    def check(self) -> None:
        """One lineage, and it names only ids whose disks had acknowledged it (or the first-listed's own)."""
        assert len({record.lineage for record in self.sealed().values()}) <= 1
        for name, record in self.sealed().items():
            assert record.holds(self.disks[name][0])
            first = record.configuration.seats[0].id
            for seat in record.configuration.seats:
                assert seat.id == first or (seat.id, record.lineage) in self.acknowledged


def run(town: Town, rounds: int = 30) -> None:
    """Run to rest, checking after each effect."""
    for _ in town.effects(rounds):
        town.check()


def test_three_empty_members_found_one_cluster() -> None:
    """The good case."""
    town = Town()
    run(town)
    assert set(town.sealed()) == set(NAMES)
    assert len({record.lineage for record in town.sealed().values()}) == 1


def test_a_single_member_founds_itself() -> None:
    """No peers, no waiting."""
    alone = Listed("m1", "host:m1")
    founding = Founding(alone, MemberId("a" * 16), (alone,), Stored("empty", None), SplitMix64(1), lambda wall: 7)
    ready = founding.step([], Instant(0), WallMs(5))
    assert ready.persist is not None
    ready = founding.step([FoundPersisted(ready.persist.state, ready.persist.record)], Instant(0), WallMs(5))
    ready = founding.step([], Instant(10_000), WallMs(5))
    assert ready.persist is not None
    assert ready.persist.state == "sealed"
    assert ready.persist.record.stamp == 7


def test_two_of_three_never_found() -> None:
    """P1.2: a founding by a majority would let a wiped member vote twice."""
    town = Town(("m1", "m2"))
    run(town)
    assert town.sealed() == {}


@pytest.mark.parametrize("victim", NAMES)
@pytest.mark.parametrize("at", range(1, 60))
def test_a_crash_after_any_effect_only_delays_it(victim: str, at: int) -> None:
    """Restarted on its disk, everybody ends sealed under one lineage."""
    town = Town()
    for count, _ in enumerate(town.effects(12), 1):
        town.check()
        if count == at:
            town.start(victim)
    run(town)
    assert set(town.sealed()) == set(NAMES)
    assert len({record.lineage for record in town.sealed().values()}) == 1


@pytest.mark.parametrize("victim", NAMES)
@pytest.mark.parametrize("at", range(1, 60))
def test_a_member_wiped_after_any_effect_is_taken_anew_or_refused(victim: str, at: int) -> None:
    """Either the founding goes on with its new id, or a cluster stands and names what to do; never its old place."""
    town = Town()
    wiped = False
    for count, _ in enumerate(town.effects(12), 1):
        town.check()
        if count == at:
            town.wipe(victim)
            wiped = True
    run(town)
    assert wiped
    member, stored = town.disks[victim]
    others = {record.lineage for name, record in town.sealed().items() if name != victim}
    assert len(others) == 1
    if stored.state != "sealed":
        refusal = town.refusals[victim]
        assert refusal is not None
        assert "--join" in refusal
        assert "member replace" in refusal
    else:
        assert all(record.holds(member) for record in town.sealed().values())


def test_unequal_lists_are_refused_and_both_shown() -> None:
    """The operator sees what each was started with."""
    town = Town()
    town.lists["m3"] = (*LIST[:1], LIST[2])
    town.start("m3")
    run(town, rounds=5)
    refusal = town.refusals["m1"]
    assert refusal is not None
    assert "m1=host:m1,m2=host:m2,m3=host:m3" in refusal
    assert "m1=host:m1,m3=host:m3" in refusal
    assert town.sealed() == {}


def test_a_refused_stamp_stops_the_founding_with_its_reason() -> None:
    """P2.2: a clock before the release date founds nothing."""
    alone = Listed("m1", "host:m1")
    founding = Founding(
        alone, MemberId("a" * 16), (alone,), Stored("empty", None), SplitMix64(1), lambda _: "too early"
    )
    ready = founding.step([], Instant(0), WallMs(5))
    assert ready.persist is None
    assert ready.refused == "too early"
