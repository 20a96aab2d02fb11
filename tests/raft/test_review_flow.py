"""Flow control and its costs: each test failed before its mending."""

from tenure.raft.messages import Append, SnapshotChunk
from tests.raft.play import more, play, sent


def test_a_full_window_is_not_sent_twice_with_every_commit() -> None:
    """A commit notice carries no entries: those beyond the window would travel twice, to a follower that is slow."""
    script = play("cluster 3 inflight_appends_max=2 append_entries_max=1", "elect m1", "hold m3>m1 AppendReply")
    for text in "abcdefgh":
        more(script, f"propose m1 {text}", "settle")
    said = [line for line in script.stage.lines if line.startswith("m1 → m3  Append") and "[]" not in line]
    pages = [line.partition(" commit ")[0] for line in said]
    assert len(pages) == len(set(pages)), pages
    assert script.stage.raft("m1").commit == 9


def test_a_lost_first_append_costs_a_caught_up_voter_no_snapshot() -> None:
    """The vote said where the voter's log ends, behind its disk: nothing before that is ever sent again."""
    script = play(
        "cluster 3 log_kept_entries=0", "elect m1", "propose m1 a", "propose m1 b", "settle", "run 100ms",
        "snapshot m1", "snapshot m2", "settle", "crash m1", "hold m2>m3 Append", "lose m2 m1 fin", "lose m3 m1 fin",
    )  # fmt: skip
    more(script, "win m2", "settle")
    stage = script.stage
    for _, kept in stage.held:
        kept.clear()
    stage.held = []
    stage.lines.clear()
    more(script, "run 500ms")
    assert not any("SnapshotChunk" in line for line in stage.lines)
    assert stage.raft("m3").commit == stage.raft("m2").last_index
    assert sent(stage, SnapshotChunk) == []


def test_after_a_new_connection_the_next_proposal_leaves_at_once() -> None:
    """A follower that holds everything is not probed: an empty probe within its promise has no answer."""
    script = play("cluster 3", "elect m1", "propose m1 a", "settle", "run 100ms")
    more(script, "lose m1 m2 fin", "link m1 m2", "settle", "propose m1 b")
    assert [message.entries[0].data for message in sent(script.stage, Append, "m1>m2")] == [b"b"]  # type: ignore[union-attr]


def test_old_entries_do_not_lift_the_bound_on_what_is_uncommitted() -> None:
    """A new leader counts what it took over, as it will be subtracted when it commits."""
    script = play("cluster 3", "elect m1", "cut m1>m3 m3>m1", "hold m2>m1 AppendReply")
    for text in "abcd":
        more(script, f"propose m1 {text * 10}", "settle")
    more(script, "crash m1", "lose m2 m1 fin", "lose m3 m1 fin", "hold m3>m2 AppendReply", "win m2")
    leader = script.stage.raft("m2")._core.role
    assert leader.uncommitted_bytes == 40  # type: ignore[union-attr]
