"""What Raft says of members (thesis §3.10, §4.1 to §4.2), claim by claim, as `test_paper` does it with figure 2."""

import pytest

from tenure.base.ids import LogIndex
from tenure.raft.messages import TimeoutNow, Vote
from tests.raft.play import more, play, sent
from tests.raft.test_paper import append, entry, give, vote


def test_a_configuration_is_used_as_soon_as_it_stands_in_the_log() -> None:
    """Thesis §4.1: a configuration is in force where it is in the log, on the leader as on followers."""
    script = play("cluster 3", "elect m1", "newcomer m4", "hold *>m1 AppendReply", "change m1 add m4", "settle")
    assert script.stage.raft("m1").commit == 1
    more(script, "expect m1 uses=m1,m2,m3,m4(observer)", "expect m2 uses=m1,m2,m3,m4(observer)")


def test_the_latest_one_counts_committed_or_not() -> None:
    """Thesis §4.1: the last configuration of a log is in force even while it is uncommitted: with m4 promoted, three of
    four must hold an entry, its own one first.
    """
    script = play("cluster 3", "elect m1", "newcomer m4", "change m1 add m4", "settle", "run 100ms")
    more(script, "crash m3", "hold m4>m1 AppendReply", "change m1 promote m4", "settle")
    before = script.stage.raft("m1").commit
    assert script.stage.raft("m1").last_index == before + 1, "m1 and m2 are no majority of four"
    more(script, "free", "settle")
    assert script.stage.raft("m1").commit == before + 1


def test_changes_come_one_after_the_other() -> None:
    """Thesis §4.1: while a change is uncommitted there is no other."""
    script = play("cluster 3", "elect m1", "newcomer m4", "newcomer m5", "hold *>m1 AppendReply")
    more(script, "change m1 add m4", "change m1 add m5", "expect said change_pending", "free", "settle")
    more(script, "change m1 add m5", "expect m1 uses=m1,m2,m3,m4(observer),m5(observer)")


def test_entries_are_taken_of_a_leader_that_is_no_member_here() -> None:
    """Thesis §4.1: a leader is followed even if our configuration doesn't know it, as a newcomer's wouldn't."""
    script = play("cluster 3", "elect m1", "newcomer m4")
    script.stage.queue.clear()
    give(script, "m2", "m4", append(7, (1, 1), entry(2, 7)))
    raft = script.stage.raft("m2")
    assert (raft.term, raft.last_index, raft.leader) == (7, 2, script.stage.actors["m4"].id)


def test_votes_are_given_to_a_candidate_that_is_no_member_here() -> None:
    """Thesis §4.1: a candidate can have our vote even if our configuration doesn't know it: it may be the one who knows
    better (P7.3).
    """
    script = play("cluster 3", "newcomer m4")
    give(script, "m2", "m4", vote(script, "m4", 7, (5, 5)))
    assert script.stage.raft("m2").vote == script.stage.actors["m4"].id


def test_a_new_server_catches_up_before_it_counts() -> None:
    """Thesis §4.2.1: a newcomer is sent the log without a say in majorities (an observer), until it has caught up."""
    script = play("cluster 3 promote_lag_max=2", "elect m1", "newcomer m4", "hold m1>m4 Append", "change m1 add m4")
    for text in "abcd":
        more(script, f"propose m1 {text}", "settle")
    assert script.stage.actors["m1"].state() == b"a b c d"
    more(script, "run 100ms", "change m1 promote m4", "expect said lags by 6", "free", "settle", "run 200ms")
    more(script, "change m1 promote m4", "settle", "expect m1 uses=m1,m2,m3,m4")
    assert script.stage.actors["m4"].state() == b"a b c d"


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_majorities_before_and_after_a_step_overlap(size: int) -> None:
    """Thesis §4.1: with one voter more, old and new majorities always share a member: what commits while a voter is
    added needs a majority of the new configuration.
    """
    newcomer = f"m{size + 1}"
    script = play(f"cluster {size}", "elect m1", f"newcomer {newcomer}", f"change m1 add {newcomer}", "settle")
    more(script, "run 100ms", "hold *>m1 AppendReply", f"change m1 promote {newcomer}", "settle")
    raft = script.stage.raft("m1")
    before = raft.commit
    for number in range(2, size + 2):
        held = 1 + (number - 2)
        assert (raft.commit > before) == (2 * held > size + 1), f"{held} of {size + 1}"
        script.stage.queue.extend(
            item for fits, kept in script.stage.held for item in kept if names_sender(item) == f"m{number}"
        )
        more(script, "settle")
    assert raft.commit > before


def names_sender(item: object) -> str:
    """Who sent it."""
    sender: str = item.sender  # type: ignore[attr-defined]  # only messages of the core are held here
    return f"m{int(sender, 16)}"


def test_a_leader_that_hands_over_takes_no_requests_until_that_is_over() -> None:
    """Thesis §3.10, step 1: who hands over refuses proposals; if nobody takes over in time, it takes them again."""
    script = play("cluster 3", "elect m1", "run 100ms", "transfer m1 m2", "drop m1>m2 TimeoutNow", "propose m1 x")
    more(script, "expect said refused 2: transferring", "run 1s", "propose m1 y", "settle")
    assert script.stage.actors["m1"].state() == b"y"


def test_the_target_is_brought_up_to_date_first() -> None:
    """Thesis §3.10, step 2: TimeoutNow waits until the target's log has all of the leader's."""
    script = play("cluster 3", "elect m1", "run 100ms", "hold m1>m2 Append", "propose m1 x", "settle")
    more(script, "transfer m1 m2", "settle")
    assert sent(script.stage, TimeoutNow) == []
    more(script, "free", "deliver m1>m2 Append")
    script.stage.persist("m2")
    more(script, "deliver m2>m1 AppendReply")
    assert len(sent(script.stage, TimeoutNow, "m1>m2")) == 1


def test_the_target_starts_an_election_without_waiting() -> None:
    """Thesis §3.10, step 3: TimeoutNow makes the target a candidate of the next term at once; its requests bear the
    mark of a transfer.
    """
    script = play("cluster 3", "elect m1", "run 100ms", "transfer m1 m2", "deliver m1>m2 TimeoutNow")
    raft = script.stage.raft("m2")
    assert (raft.role, raft.term, raft.vote) == ("candidate", 2, script.stage.actors["m2"].id)
    asked = sent(script.stage, Vote, "m2>*")
    assert [one.transfer for one in asked if isinstance(one, Vote)] == [True, True]
    assert raft.last_index == LogIndex(1)
