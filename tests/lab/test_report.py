"""The checks miss what they should miss."""

from lab.failover import Series, Strike
from lab.network import Weather
from lab.partitions import Outcome
from lab.quiet import Quiet
from lab.report import Accuracy, accuracy_checks, failover_checks, partition_checks, quiet_checks
from lab.traces import Event, FailOver

MS = 1_000


def strikes(elected_ms: float, first_ms: float) -> list[Strike]:
    """Three that were noticed after 50 ms; the middle one is as asked."""

    def one(extra: float) -> Strike:
        elected, first = int((50 + elected_ms + extra) * MS), int((first_ms + extra) * MS)
        return Strike(FailOver(0, "m2", 2, 50 * MS, 50 * MS, elected, first, first, 1), first, None)

    return [one(0), one(-5), one(500)]


def kept(series: Series) -> list[bool]:
    return [check.kept for check in failover_checks([series])]


def test_kills_are_held_to_their_round_trips_by_the_median() -> None:
    clear = Weather(100)
    assert kept(Series("kill", 3, clear, strikes(300, 370))) == [True, True, True]
    assert kept(Series("kill", 3, clear, strikes(301, 370))) == [False, True, True]
    assert kept(Series("kill", 3, clear, strikes(300, 371))) == [True, False, True]


def test_no_figure_is_no_pass() -> None:
    assert kept(Series("kill", 3, Weather(100))) == [False, False, True]


def test_only_kills_on_clear_cables_have_bounds() -> None:
    assert kept(Series("kill", 3, Weather(100, loss=0.02), strikes(900, 900))) == [True]
    assert kept(Series("freeze", 3, Weather(100), strikes(900, 900))) == [True]
    assert kept(Series("kill", 3, Weather(0), strikes(900, 900))) == [True]


def test_a_lost_write_or_a_second_leader_is_always_a_miss() -> None:
    assert kept(Series("freeze", 3, Weather(20), lost=["m1 holds nothing"])) == [False]
    assert kept(Series("freeze", 3, Weather(20), two_leaders=["term 2"])) == [False]


def test_an_election_without_a_reason_is_a_miss_unless_cables_hung() -> None:
    election = [Event(1, "m2", "vote_asked", {"why": "notes"})]
    lossy, spiky = Weather(100, loss=0.02), Weather(100, loss=0.02, spike_ms=150)
    assert [check.kept for check in quiet_checks([Quiet(3, lossy, 600, election)])] == [False, True]
    assert [check.kept for check in quiet_checks([Quiet(3, lossy, 600)])] == [True, True]
    assert [check.kept for check in quiet_checks([Quiet(3, spiky, 600, election)])] == [True]


def test_anything_wrong_behind_a_partition_is_a_miss() -> None:
    right, wrong = Outcome("chain", 3, Weather(20), 8), Outcome("chain", 3, Weather(20), 8, wrong=["lost"])
    assert [check.kept for check in partition_checks([right, wrong])] == [True, False]


def test_a_switch_that_distorts_is_a_miss() -> None:
    assert [check.kept for check in accuracy_checks([Accuracy(20, 0.2, 0.9, 3), Accuracy(20, 0.2, 1.0, 3)])] == [
        True,
        False,
    ]
