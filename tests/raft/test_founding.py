"""Founding needs all, survives a crash after each step, and never takes a wiped member for its former self (P1.2)."""

import pytest

from tenure.base.chance import SplitMix64
from tenure.base.ids import MemberId, Nonce
from tenure.base.instants import NEVER, Instant, WallMs
from tenure.raft.founding import (
    FoundHello,
    Founding,
    FoundJoined,
    FoundPersisted,
    FoundPropose,
    FoundReceived,
    FoundSeal,
    Listed,
    Persist,
    Stored,
)
from tests.raft.town import LIST, NAMES, Town


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
    for name in ("m1", "m3"):  # on both sides, whichever of them the operator looks at
        refusal = town.refusals[name]
        assert refusal is not None, name
        assert "m1=host:m1,m2=host:m2,m3=host:m3" in refusal
        assert "m1=host:m1,m3=host:m3" in refusal
        assert "the same --cluster" in refusal
    assert town.sealed() == {}
    town.lists["m3"] = LIST
    town.start("m3")
    run(town, rounds=12)
    assert set(town.sealed()) == {"m1", "m2", "m3"}, "mended, it goes on by itself"
    assert town.refusals == dict.fromkeys(NAMES)


def test_a_refused_stamp_stops_the_founding_with_its_reason() -> None:
    """P2.2: a clock before the release date founds nothing."""
    alone = Listed("m1", "host:m1")
    founding = Founding(
        alone, MemberId("a" * 16), (alone,), Stored("empty", None), SplitMix64(1), lambda _: "too early"
    )
    ready = founding.step([], Instant(0), WallMs(5))
    assert ready.persist is None
    assert ready.refused == "too early"


def test_a_witness_is_founded_as_one_and_lists_that_differ_in_it_are_unequal() -> None:
    town = Town()
    witnessed = (*LIST[:2], Listed("m3", "host:m3", "witness"))
    for name in ("m1", "m2"):
        town.lists[name] = witnessed
        town.start(name)
    run(town, rounds=5)
    assert "m3=host:m3/witness" in (town.refusals["m1"] or "")
    assert town.sealed() == {}
    town.lists["m3"] = witnessed
    town.start("m3")
    run(town, rounds=12)
    roles = {seat.name: seat.role for seat in town.sealed()["m3"].configuration.seats}
    assert roles == {"m1": "voter", "m2": "voter", "m3": "witness"}


def test_who_joins_listens_to_nobody_and_is_sealed_by_what_the_cluster_answers() -> None:
    town = Town()
    run(town)
    record = town.sealed()["m1"]
    member = MemberId("b" * 16)
    me = Listed("m4", "host:m4")
    joins = Founding(me, member, (), Stored("empty", None), SplitMix64(1), lambda wall: 7)
    for message in (FoundSeal(record), FoundPropose(record), town.up["m1"]._hello()):
        ready = joins.step([FoundReceived("m1", message)], Instant(0), WallMs(5))
        assert (ready.send, ready.persist, ready.refused, ready.deadline) == ((), None, None, NEVER)
    lineage = (record.lineage, Nonce("d" * 16))
    ready = joins.step([FoundJoined(record, lineage)], Instant(1), WallMs(5))
    assert ready.persist == Persist("sealed", record, lineage)
    ready = joins.step([FoundPersisted("sealed", record)], Instant(2), WallMs(5))
    assert ready.sealed == record
    again = joins.step([FoundJoined(town.sealed()["m2"], ())], Instant(3), WallMs(5))
    assert again.persist is None, "once a member, always this one"
    late = joins.step([FoundReceived("m2", FoundHello("m2", member, LIST, "empty", None))], Instant(4), WallMs(5))
    assert [to for to, _ in late.send] == ["m2"], "who comes late hears the record from it too"
