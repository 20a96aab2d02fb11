"""P5.6 at one member: whose turn it is, and how long a turn and a round last."""

from msgspec.structs import replace

from tenure.base.ids import BatchNumber, Boot, ConsensusTerm, LogIndex
from tenure.base.instants import MS, Instant
from tenure.raft.entries import Configuration
from tenure.raft.events import LinkLost, LinkUp, Persisted, RttSample
from tenure.raft.messages import Heartbeat, LeaderLost
from tests.raft.play import more, play
from tests.raft.test_one_member import LOSS, M1, M2, M3, SEATS, Member, append, entries, note_of_m3


def second_in_rank(priority: int = 1) -> Member:
    """m2 follows m1, which ranks m3 before it, as the configuration does."""
    seats = (*SEATS[:2], replace(SEATS[2], priority=priority))
    member = Member(1, configuration=Configuration(LogIndex(0), seats))
    member.step(LinkUp(M1, Boot("leader"), BatchNumber(0), 1), LinkUp(M3, Boot("m3.1"), BatchNumber(0), 1))
    member.hear(M1, Heartbeat(ConsensusTerm(1), Boot("leader"), 5, LogIndex(0), 25 * MS, 0, (M3, M2), {}))
    return member


def later(member: Member, step_us: int) -> str:
    """The role after so much time."""
    member.now = Instant(member.now + step_us)
    member.step(drained=True)
    return member.raft.role


def test_the_second_in_rank_stands_one_step_after_the_first() -> None:
    """P5.6: so that the first may have won by then."""
    member = second_in_rank()
    member.step(LOSS)
    assert later(member, 0) == "follower"
    assert later(member, member.raft.timings()["step_us"]) == "pre_candidate"


def test_a_rank_whose_link_is_down_is_not_waited_for() -> None:
    """P5.6: it can't stand."""
    member = second_in_rank()
    member.step(LinkLost(M3, Boot("m3.1"), "fin", False))
    member.step(LOSS)
    assert later(member, 0) == "pre_candidate"


def test_a_better_rank_that_has_noticed_too_is_waited_for_once() -> None:
    """P5.6: two more steps at one's turn; a second note puts nothing off."""
    member = second_in_rank()
    step_us = member.raft.timings()["step_us"]
    member.step(LOSS)
    member.hear(M3, note_of_m3())
    assert later(member, step_us) == "follower"
    member.hear(M3, note_of_m3())
    assert later(member, step_us) == "follower"
    member.hear(M3, note_of_m3())
    assert later(member, step_us) == "candidate"


def test_who_may_be_taken_for_better_by_whom_it_takes_for_better_waits_less() -> None:
    """P5.6, ADR 0035: m3 was ranked first only because m2 was behind then; m3 may know the opposite by now."""
    member = second_in_rank(priority=0)
    step_us = member.raft.timings()["step_us"]
    member.step(LOSS)
    member.hear(M3, note_of_m3())
    assert later(member, step_us) == "follower"
    member.hear(M3, note_of_m3())
    assert later(member, step_us) == "candidate"


def test_two_that_take_each_other_for_better_do_not_split_their_votes() -> None:
    """With clocks and a network without any difference both stood after three steps, twice (seed 10979)."""
    script = play("cluster 3", "elect m1", "run 100ms")
    for name, ranks in (("m2", (M3, M2)), ("m3", (M2, M3))):
        script.stage.raft(name)._core.watch.ranks = ranks
    step_us = script.stage.raft("m2").timings()["step_us"]
    more(script, "kill m1", "settle", f"advance {2 * step_us}us", "settle", f"advance {step_us}us", "settle")
    assert script.stage.raft("m2").is_serving
    assert script.stage.raft("m2").term == 2, "the first round was enough"


def test_a_loss_is_told_again_each_step_while_one_waits() -> None:
    """P5.2: the first note may have been lost, and it ages."""
    member = second_in_rank()
    step_us = member.raft.timings()["step_us"]
    member.step(LOSS)
    member.hear(M3, note_of_m3())
    assert later(member, step_us) == "follower"
    assert later(member, step_us) == "follower"
    assert sum(isinstance(message, LeaderLost) for _, message in member.sent) == 2


def test_a_turn_lasts_as_long_as_a_vote_takes() -> None:
    """P5.6: step = max(5 ms, 1.5·A), A the round trip through both applications."""
    member = second_in_rank()
    assert member.raft.timings()["step_us"] == 5 * MS
    for _ in range(20):
        member.step(RttSample(M3, 20 * MS))
    assert member.raft.timings()["step_us"] == 30 * MS


def test_a_round_lasts_as_long_as_the_disks_need() -> None:
    """P5.6: 2·A + 2 fsync p99."""
    member = second_in_rank()
    member.hear(M1, append(1, (1, 1), entries(1, first=2)))
    assert member.batch is not None
    member.step(Persisted(member.batch.number, 100 * MS))
    assert member.raft.timings()["vote_timeout_us"] >= 200 * MS
