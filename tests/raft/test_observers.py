"""Observers and the removed: what they say counts for nothing, and what they are told is certain (P7)."""

from tenure.base.ids import BatchNumber
from tenure.raft.events import Received
from tenure.raft.messages import PreVote, PreVoteReply, Removed, Vote, VoteReply
from tests.raft.names import member_id
from tests.raft.play import direct, frame, more, play, sent
from tests.raft.script import Script


def three_and_two_observers() -> Script:
    """m1 leads m2 and m3; m4 and m5 observe."""
    lines = ("newcomer m4", "newcomer m5", "change m1 add m4", "settle", "change m1 add m5", "settle", "run 100ms")
    return play("cluster 3", "elect m1", *lines)


def role(script: Script, name: str) -> str:
    return script.stage.raft(name).role


def test_pre_votes_of_observers_make_no_candidate() -> None:
    script = three_and_two_observers()
    more(script, "crash m1", "stand m2")
    assert role(script, "m2") == "pre_candidate"
    (asked, *_) = sent(script.stage, PreVote, "m2>m3")
    assert isinstance(asked, PreVote)
    assert not sent(script.stage, PreVote, "m2>m4"), "they aren't even asked"
    for observer in ("m4", "m5"):
        reply = PreVoteReply(asked.term, True, "", asked.boot, asked.attempt)
        direct(script.stage, "m2", Received(frame(observer, "m2", reply)))
        assert role(script, "m2") == "pre_candidate"
    direct(
        script.stage, "m2", Received(frame("m3", "m2", PreVoteReply(asked.term, True, "", asked.boot, asked.attempt)))
    )
    assert role(script, "m2") == "candidate", "a voter's counts"


def test_votes_of_observers_make_no_leader() -> None:
    script = three_and_two_observers()
    more(script, "hold VoteReply", "kill m1", "settle", "stand m2", "settle")
    raft = script.stage.raft("m2")
    assert role(script, "m2") == "candidate"
    last, durable = raft.last_index, BatchNumber(9)
    term_at = raft.term_at(last)
    assert term_at is not None
    for voter, wins in (("m4", False), ("m5", False), ("m3", True)):
        boot = script.stage.actors["m2"].boot
        for attempt in range(1, 5):  # whichever it is by now
            reply = VoteReply(raft.term, True, "", boot, attempt, last, term_at, durable)
            direct(script.stage, "m2", Received(frame(voter, "m2", reply)))
        assert (role(script, "m2") == "leader") == wins, voter


def test_who_left_hears_it_when_that_can_be_rolled_back_no_more() -> None:
    script = play("cluster 3", "elect m1", "run 100ms", "hold m1>m2 Append", "change m1 remove m3", "settle")
    m3 = member_id("m3")
    assert script.stage.raft("m1").configuration.seat(m3) is None
    assert script.stage.raft("m1").farewell(m3) is None, "m2 hasn't got the change yet: m3 may stay"
    more(script, "free", "run 300ms")
    for name in ("m1", "m2"):
        said = script.stage.raft(name).farewell(m3)
        assert said is not None
        assert isinstance(said.message, Removed)
        assert script.stage.raft(name).farewell(member_id("m2")) is None


def test_votes_are_asked_of_voters_only() -> None:
    script = three_and_two_observers()
    more(script, "hold Vote", "kill m1", "settle", "stand m2", "settle")
    asked = {way for way in ("m3", "m4", "m5") for fits, kept in script.stage.held for one in kept if _to(one) == way}
    assert asked == {"m3"}


def _to(one: object) -> str | None:
    message = getattr(one, "message", None)
    return f"m{int(one.to, 16)}" if isinstance(message, Vote) else None  # type: ignore[attr-defined]


def test_a_snapshot_holds_the_members_of_its_index_not_the_newest() -> None:
    """P7.1: who is brought up by it must not take a change for committed that may be rolled back."""
    script = play("cluster 3", "elect m1", "propose m1 aa", "run 100ms", "newcomer m4", "cut m1>m2 m1>m3 m2>m1 m3>m1")
    more(script, "change m1 add m4", "snapshot m1", "settle")
    assert len(script.stage.raft("m1").configuration.members()) == 4
    kept = script.stage.actors["m1"].disk.snapshot
    assert kept is not None
    assert kept.configuration.index <= kept.index
    assert len(kept.configuration.members()) == 3
