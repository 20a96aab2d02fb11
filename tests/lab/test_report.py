"""The checks miss what they should miss."""

from typing import Any

import pytest

from lab.__main__ import verdict
from lab.failover import Blow, Series, Strike
from lab.network import Weather
from lab.partitions import Outcome
from lab.quiet import Quiet
from lab.report import Accuracy, accuracy_checks, failover_checks, failover_table, partition_checks, quiet_checks
from lab.traces import Event, FailOver

MS = 1_000


def strikes(elected_ms: float, first_ms: float) -> list[Strike]:
    """Three that were noticed after 50 ms; the middle one is as asked."""

    def one(extra: float) -> Strike:
        elected, first = int((50 + elected_ms + extra) * MS), int((first_ms + extra) * MS)
        return Strike(FailOver(0, "m2", 2, 50 * MS, 50 * MS, elected, first, first, 1), first, None)

    return [one(0), one(-5), one(500)]


def kept(series: Series) -> dict[str, bool]:
    """Each claim by its last words."""
    return {check.claim.rpartition(": ")[2]: check.kept for check in failover_checks([series])}


def missed(series: Series) -> set[str]:
    return {claim for claim, is_kept in kept(series).items() if not is_kept}


measured = "every blow was measured"
elected = "elected within 3 RTT of the loss being noticed"
written = "first committed write within 3.5 RTT + 20 ms"
calm = "no false election before a blow"
harmless = "no acknowledged write lost, one leader a term"


def test_kills_are_held_to_their_round_trips_by_the_median() -> None:
    clear = Weather(100)
    assert kept(Series("kill", 3, clear, 3, strikes(300, 370))) == dict.fromkeys(
        (measured, elected, written, calm, harmless), True
    )
    assert missed(Series("kill", 3, clear, 3, strikes(301, 370))) == {elected}
    assert missed(Series("kill", 3, clear, 3, strikes(300, 371))) == {written}


def test_no_figure_is_no_pass() -> None:
    assert missed(Series("kill", 3, Weather(100), 20)) == {measured, elected, written}


def test_a_median_of_fewer_blows_than_asked_for_does_not_count_and_says_of_how_many_it_is() -> None:
    series = Series("kill", 3, Weather(100), 20, strikes(200, 300))
    assert missed(series) == {measured, elected, written}
    assert all("3 of 20" in check.seen for check in failover_checks([series]) if not check.kept)
    assert "| 3 of 20 |" in failover_table([series])
    assert missed(Series("freeze", 3, Weather(0), 5, strikes(200, 300))) == {measured}


def test_only_kills_on_clear_cables_have_bounds() -> None:
    cases: list[tuple[Blow, Weather]] = [
        ("kill", Weather(100, loss=0.02)),
        ("freeze", Weather(100)),
        ("kill", Weather(0)),
    ]
    for blow, weather in cases:
        assert missed(Series(blow, 3, weather, 3, strikes(900, 900))) == set()


def test_an_election_before_a_blow_is_a_miss_unless_cables_hung() -> None:
    def series(weather: Weather) -> Series:
        return Series("isolate", 3, weather, 3, strikes(200, 300), false_elections=1)

    assert missed(series(Weather(20))) == {calm}
    assert missed(series(Weather(20, loss=0.02))) == {calm}
    assert missed(series(Weather(20, loss=0.05))) == set()
    assert missed(series(Weather(20, spike_ms=150))) == set()


def test_a_lost_write_or_a_second_leader_is_always_a_miss() -> None:
    assert missed(Series("freeze", 3, Weather(20), 0, lost=["m1 holds nothing"])) == {harmless}
    assert missed(Series("freeze", 3, Weather(20), 0, two_leaders=["term 2"])) == {harmless}


def test_an_election_without_a_reason_is_a_miss_unless_cables_hung() -> None:
    election = [Event(1, "m2", "vote_asked", {"why": "notes"})]
    lossy, spiky = Weather(100, loss=0.02), Weather(100, loss=0.02, spike_ms=150)
    assert [check.kept for check in quiet_checks([Quiet(3, lossy, 600, election)])] == [False, True]
    assert [check.kept for check in quiet_checks([Quiet(3, lossy, 600)])] == [True, True]
    assert [check.kept for check in quiet_checks([Quiet(3, spiky, 600, election)])] == [True]


def outcome(**seen: Any) -> Outcome:
    """In which all was well, but for this."""
    return Outcome("chain", 3, Weather(20), 8, **{"held_again_s": 0.4, "guarded": 100, "refused": 2, **seen})


@pytest.mark.parametrize(
    ("seen", "claim"),
    [
        ({"wrong": ["lost"]}, "one history"),
        ({"held_again_s": 15.1}, "worked under within 15 s of healing"),
        ({"held_again_s": 0.0}, "worked under within 15 s of healing"),
        ({"guarded": 0}, "worked under within 15 s of healing"),
        ({"false_elections": 1}, "no false election before the partition"),
        ({"refused": 0}, "stale tokens were presented, and refused"),
    ],
)
def test_anything_wrong_behind_a_partition_is_a_miss(seen: dict[str, Any], claim: str) -> None:
    (missed,) = (check for check in partition_checks([outcome(**seen)]) if not check.kept)
    assert claim in missed.claim
    assert verdict([missed]) != 0


def test_partitions_that_went_well_miss_nothing() -> None:
    assert all(check.kept for check in partition_checks([outcome(), outcome(refused=0)])), "one of them tried a guard"
    assert partition_checks([]) == []
    assert verdict(partition_checks([outcome()])) == 0


def test_a_switch_that_distorts_is_a_miss() -> None:
    assert [check.kept for check in accuracy_checks([Accuracy(20, 0.2, 0.9, 3), Accuracy(20, 0.2, 1.0, 3)])] == [
        True,
        False,
    ]
