"""Figure 2 of the Raft paper (extended version), by its sentences.

Each test quotes the sentence that it holds the core to. Where Tenure deviates on purpose (stickiness P5.3, the disk
contract P4), the test says the rule as PROTOCOL.md has it. Figure 13 is `test_paper_snapshots`, members and hand-overs
are `test_paper_members`; figures 7 and 8 are golden scripts.
"""

import pytest

from tenure.base.ids import BatchNumber, ConsensusTerm, LogIndex
from tenure.base.instants import SECOND
from tenure.raft.entries import COMMAND, Entry
from tenure.raft.events import Propose, Received
from tenure.raft.messages import Append, AppendReject, AppendReply, Heartbeat, Vote, VoteReply
from tenure.raft.ready import Ready
from tenure.raft.state import Leader
from tests.raft.play import direct, frame, more, play, sent
from tests.raft.script import Script


def entry(index: int, term: int, data: bytes = b"x") -> Entry:
    return Entry(LogIndex(index), ConsensusTerm(term), COMMAND, data)


def append(term: int, prev: tuple[int, int], *entries: Entry, commit: int = 0) -> Append:
    return Append(ConsensusTerm(term), LogIndex(prev[0]), ConsensusTerm(prev[1]), LogIndex(commit), entries)


def vote(script: Script, candidate: str, term: int, last: tuple[int, int], *, transfer: bool = False) -> Vote:
    boot = script.stage.actors[candidate].boot
    return Vote(ConsensusTerm(term), LogIndex(last[0]), ConsensusTerm(last[1]), boot, 1, transfer)


def started(*presets: str, size: int = 3) -> Script:
    """Members with these logs, none of which has stood yet: `m1 1 1 2` is a disk with three entries of these terms."""
    script = play(f"members {size}")
    for preset in presets:
        more(script, f"preset {preset}")
    for name in script.stage.actors:
        script.stage.start(name)
    names = list(script.stage.actors)
    for number, name in enumerate(names):
        for other in names[:number]:
            script.stage.connect(other, name)
    return script


def give(script: Script, to: str, sender: str, message: Append | Vote) -> Ready:
    """Deliver one message; the write that follows completes at once and lets its answers out."""
    ready = direct(script.stage, to, Received(frame(sender, to, message)))
    if ready.write is not None:
        actor = script.stage.actors[to]
        actor.disk.submit(ready.write)
        script.stage.queue.clear()
        script.stage.persist(to)
    return ready


def answers(
    script: Script, ready: Ready, kind: type[VoteReply] | type[AppendReply] | type[AppendReject]
) -> list[object]:
    """What was said at once, and what the write has let out."""
    return [one.message for one in ready.send if isinstance(one.message, kind)] + list(sent(script.stage, kind))


# --- all servers ------------------------------------------------------------------------------------------------------


def test_terms_rise_monotonically() -> None:
    """“currentTerm: latest term server has seen (initialized to 0 on first boot, increases monotonically)”."""
    script = started()
    raft = script.stage.raft("m1")
    assert raft.term == 0
    for term in (3, 2, 5, 4, 5):
        before = raft.term
        give(script, "m1", "m2", append(term, (0, 0)))
        assert raft.term == max(before, term)


@pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
def test_a_higher_term_of_a_leader_makes_a_follower(role: str) -> None:
    """“If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to follower”."""
    script = play("cluster 3")
    if role == "leader":
        more(script, "elect m1")
    elif role == "candidate":
        more(script, "stand m1", "deliver m1>* PreVote", "deliver *>m1 PreVoteReply")
    raft = script.stage.raft("m1")
    assert raft.role == role
    direct(script.stage, "m1", Received(frame("m2", "m1", append(9, (0, 0)))))
    assert (raft.role, raft.term) == ("follower", 9)


def test_what_is_committed_is_applied_in_order() -> None:
    """“If commitIndex > lastApplied: increment lastApplied, apply log[lastApplied] to state machine”."""
    script = play("cluster 3 committed_per_step_max=2", "elect m1")
    for text in "abcdef":
        more(script, f"propose m1 {text}")
    more(script, "settle", "run 100ms")
    for actor in script.stage.live():
        assert [item.index for item in actor.applied] == list(range(1, 8))
        assert actor.state() == b"a b c d e f"


@pytest.mark.parametrize("keep", [False, True])
def test_term_vote_and_log_survive_a_crash(keep: bool) -> None:
    """“Persistent state on all servers: updated on stable storage before responding to RPCs”."""
    script = started("m1 1 1", "m2 1 1")
    ready = give(script, "m2", "m1", vote(script, "m1", 4, (2, 1)))
    assert [reply.granted for reply in answers(script, ready, VoteReply)] == [True]  # type: ignore[attr-defined]
    more(script, "crash m2 keep" if keep else "crash m2")
    script.stage.start("m2")
    raft = script.stage.raft("m2")
    assert (raft.term, raft.last_index) == (4, 2)
    assert raft.vote == script.stage.actors["m1"].id


@pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
def test_every_server_starts_as_a_follower(role: str) -> None:
    """§5.2: “When servers start up, they begin as followers”, whatever they were."""
    script = play("cluster 3")
    if role == "leader":
        more(script, "elect m1")
    elif role == "candidate":
        more(script, "stand m1", "deliver m1>* PreVote", "deliver *>m1 PreVoteReply")
    assert script.stage.raft("m1").role == role
    more(script, "crash m1 keep")
    script.stage.start("m1")
    assert script.stage.raft("m1").role == "follower"


def test_an_answer_of_a_higher_term_ends_a_candidacy() -> None:
    """§5.1: “If a candidate or leader discovers that its term is out of date, it immediately reverts to follower”."""
    script = play("cluster 3", "stand m1", "deliver m1>* PreVote", "deliver *>m1 PreVoteReply")
    raft = script.stage.raft("m1")
    boot = script.stage.actors["m1"].boot
    refusal = VoteReply(ConsensusTerm(9), False, "voted", boot, 2, LogIndex(0), ConsensusTerm(0), BatchNumber(1))
    direct(script.stage, "m1", Received(frame("m2", "m1", refusal)))
    assert (raft.role, raft.term, raft.vote) == ("follower", 9, None)


# --- RequestVote ------------------------------------------------------------------------------------------------------


def test_a_vote_of_an_older_term_is_refused_with_ours() -> None:
    """“Reply false if term < currentTerm”; “currentTerm, for candidate to update itself”."""
    script = started("m1 1 term=5")
    ready = give(script, "m1", "m2", vote(script, "m2", 4, (9, 4)))
    (reply,) = answers(script, ready, VoteReply)
    assert isinstance(reply, VoteReply)
    assert (reply.granted, reply.term) == (False, 5)


@pytest.mark.parametrize(
    ("last", "granted"),
    [((3, 2), True), ((4, 2), True), ((1, 3), True), ((2, 2), False), ((9, 1), False), ((0, 0), False)],
)
def test_votes_go_to_logs_at_least_as_fresh(last: tuple[int, int], granted: bool) -> None:
    """“…and candidate's log is at least as up-to-date as receiver's log, grant vote” (§5.4.1), ours ends at 3@2."""
    script = started("m1 1 1 2")
    ready = give(script, "m1", "m2", vote(script, "m2", 7, last))
    (reply,) = answers(script, ready, VoteReply)
    assert isinstance(reply, VoteReply)
    assert (reply.granted, reply.term) == (granted, 7)


def test_one_vote_a_term_and_the_same_again_for_the_same() -> None:
    """“If votedFor is null or candidateId … grant vote”."""
    script = started()
    for candidate, granted in (("m2", True), ("m3", False), ("m2", True)):
        script.stage.queue.clear()
        ready = give(script, "m1", candidate, vote(script, candidate, 1, (0, 0)))
        assert [reply.granted for reply in answers(script, ready, VoteReply)] == [granted]  # type: ignore[attr-defined]


# --- AppendEntries ----------------------------------------------------------------------------------------------------


def test_entries_of_an_older_term_are_not_taken() -> None:
    """“Reply false if term < currentTerm” (here: with `HigherTerm`, P5.8)."""
    script = started("m1 1 term=5")
    give(script, "m1", "m2", append(4, (1, 1), entry(2, 4)))
    assert script.stage.raft("m1").last_index == 1
    assert sent(script.stage, AppendReply) == []


@pytest.mark.parametrize("prev", [(4, 2), (3, 3), (2, 2)])
def test_a_gap_or_another_term_before_the_entries_is_rejected(prev: tuple[int, int]) -> None:
    """“Reply false if log doesn't contain an entry at prevLogIndex whose term matches prevLogTerm”; ours is 3@2."""
    script = started("m1 1 1 2")
    ready = give(script, "m1", "m2", append(6, prev, entry(prev[0] + 1, 6)))
    assert len(answers(script, ready, AppendReject)) == 1
    assert answers(script, ready, AppendReply) == []
    assert script.stage.raft("m1").last_index == 3


def test_conflicting_entries_and_all_behind_them_go() -> None:
    """“If an existing entry conflicts with a new one, delete the existing entry and all that follow it”."""
    script = started("m1 1 1 2 2 2")
    give(script, "m1", "m2", append(6, (1, 1), entry(2, 1), entry(3, 5)))
    raft = script.stage.raft("m1")
    assert (raft.last_index, raft.term_at(LogIndex(3))) == (3, 5)
    assert [one.term for one in script.stage.actors["m1"].disk.entries] == [1, 1, 5]


def test_what_matches_stays_even_behind_a_shorter_request() -> None:
    """“Append any new entries not already in the log”: an old request must not shorten the log."""
    script = started("m1 1 1 2")
    give(script, "m1", "m2", append(2, (0, 0), entry(1, 1), entry(2, 1)))
    assert script.stage.raft("m1").last_index == 3


def test_the_same_entries_twice_are_one() -> None:
    """§5.5: “Raft RPCs are idempotent”."""
    script = started()
    for _ in range(2):
        give(script, "m1", "m2", append(1, (0, 0), entry(1, 1), entry(2, 1)))
    assert script.stage.raft("m1").last_index == 2


@pytest.mark.parametrize(("told", "commit"), [(1, 1), (2, 2), (9, 2)])
def test_commit_follows_the_leader_as_far_as_is_verified(told: int, commit: int) -> None:
    """“set commitIndex = min(leaderCommit, index of last new entry)”; what lies behind that entry may conflict."""
    script = started("m1 1 1 1 1")
    give(script, "m1", "m2", append(3, (0, 0), entry(1, 1), entry(2, 1), commit=told))
    assert script.stage.raft("m1").commit == commit


# --- candidates and leaders -------------------------------------------------------------------------------------------


def test_a_follower_that_hears_nobody_stands() -> None:
    """“If election timeout elapses without receiving AppendEntries RPC … convert to candidate” (by a pre-vote)."""
    script = play("cluster 3", "elect m1")
    more(script, "crash m1", "run 1s m2 m3")
    assert script.stage.raft("m2").role == "leader"


def test_who_has_granted_a_vote_waits_for_what_becomes_of_it() -> None:
    """“…without receiving AppendEntries RPC from current leader or granting vote to candidate”: that begins anew."""
    script = started("m1 1 term=3")
    actor = script.stage.actors["m1"]
    waits_until = actor.deadline
    direct(script.stage, "m1", later_us=waits_until - actor.now - 1)
    give(script, "m1", "m2", vote(script, "m2", 3, (1, 1)))
    direct(script.stage, "m1", later_us=1_000)
    assert actor.now > waits_until
    assert script.stage.raft("m1").role == "follower"
    assert not any("leader_lost" in line for line in script.stage.lines)


def test_a_candidate_votes_for_itself_once_in_a_new_term() -> None:
    """“On conversion to candidate: increment currentTerm, vote for self, send RequestVote RPCs to all”."""
    script = play("cluster 3", "stand m1", "deliver m1>* PreVote", "deliver *>m1 PreVoteReply")
    raft = script.stage.raft("m1")
    assert (raft.role, raft.term, raft.vote) == ("candidate", 1, script.stage.actors["m1"].id)
    assert len(sent(script.stage, Vote, "m1>*")) == 2


@pytest.mark.parametrize(("size", "needed"), [(2, 1), (3, 1), (4, 2), (5, 2), (7, 3)])
def test_a_majority_of_votes_makes_a_leader(size: int, needed: int) -> None:
    """“If votes received from majority of servers: become leader”; the own vote counts once it is durable (P4.2)."""
    script = play(f"cluster {size}", "stand m1", "deliver m1>* PreVote", "deliver *>m1 PreVoteReply")
    raft = script.stage.raft("m1")
    script.stage.persist("m1")
    boot, attempt = script.stage.actors["m1"].boot, raft._core.attempt
    roles = []
    for number in range(needed):
        roles.append(raft.role)
        reply = VoteReply(raft.term, True, "", boot, attempt, LogIndex(0), ConsensusTerm(0), BatchNumber(1))
        direct(script.stage, "m1", Received(frame(f"m{number + 2}", "m1", reply)))
    assert [*roles, raft.role] == ["candidate"] * needed + ["leader"]


def test_votes_of_another_term_make_no_leader() -> None:
    """§5.2: “…votes from a majority of the servers in the full cluster for the same term”."""
    script = play("cluster 3", "stand m1", "deliver m1>* PreVote", "deliver *>m1 PreVoteReply")
    script.stage.persist("m1")
    raft, boot = script.stage.raft("m1"), script.stage.actors["m1"].boot
    attempt = raft._core.attempt
    for term in (raft.term - 1, raft.term):
        assert raft.role == "candidate"
        reply = VoteReply(ConsensusTerm(term), True, "", boot, attempt, LogIndex(0), ConsensusTerm(0), BatchNumber(1))
        direct(script.stage, "m1", Received(frame("m2", "m1", reply)))
    assert raft.role == "leader"


def test_a_candidate_gives_way_to_the_leader_of_its_term() -> None:
    """“If AppendEntries RPC received from new leader: convert to follower”."""
    script = play("cluster 3", "stand m1", "deliver m1>* PreVote", "deliver *>m1 PreVoteReply")
    direct(script.stage, "m1", Received(frame("m2", "m1", append(1, (0, 0)))))
    raft = script.stage.raft("m1")
    assert (raft.role, raft.term, raft.leader) == ("follower", 1, script.stage.actors["m2"].id)


def test_a_candidate_without_an_end_begins_anew() -> None:
    """“If election timeout elapses: start new election”."""
    script = play("cluster 3", "partition m1 | m2 m3", "stand m1")
    raft = script.stage.raft("m1")
    first = raft._core.attempt
    more(script, "run 2s m1")
    assert raft._core.attempt > first
    assert raft.term == 0, "a pre-vote raises no term"


def test_a_new_leader_says_so_at_once_and_again() -> None:
    """“Upon election: send initial empty AppendEntries RPCs (heartbeat) to each server; repeat during idle periods”."""
    script = play("cluster 3", "stand m1", "deliver m1>* PreVote", "deliver *>m1 PreVoteReply", "deliver Vote")
    script.stage.persist("m1")
    script.stage.persist("m2")
    script.stage.persist("m3")
    more(script, "deliver VoteReply")
    assert script.stage.raft("m1").role == "leader"
    assert len(sent(script.stage, Heartbeat, "m1>*")) == 2
    more(script, "settle")
    direct_until = script.stage.actors["m1"].deadline - script.stage.actors["m1"].now
    assert direct_until <= script.stage.settings.heartbeat_us


def test_an_entry_is_answered_only_when_it_is_committed() -> None:
    """“append entry to local log, respond after entry applied to state machine”."""
    script = play("cluster 3", "elect m1", "hold *>m1 AppendReply", "propose m1 a", "settle")
    actor = script.stage.actors["m1"]
    assert (script.stage.raft("m1").last_index, actor.state()) == (2, b"")
    more(script, "free", "settle")
    assert actor.state() == b"a"


@pytest.mark.parametrize(("size", "needed"), [(2, 1), (3, 1), (4, 2), (5, 2), (7, 3)])
def test_an_entry_is_committed_once_a_majority_holds_it(size: int, needed: int) -> None:
    """§5.3: “A log entry is committed once the leader … has replicated it on a majority of the servers”."""
    script = play(f"cluster {size}", "elect m1", "hold *>m1 AppendReply", "propose m1 a", "settle")
    raft = script.stage.raft("m1")
    for number in range(needed):
        assert raft.commit == 1
        direct(
            script.stage,
            "m1",
            Received(frame(f"m{number + 2}", "m1", AppendReply(raft.term, LogIndex(2), BatchNumber(2)))),
        )
    assert raft.commit == 2


@pytest.mark.parametrize(("voter", "other", "match"), [("m2", "m3", 0), ("m3", "m2", 1)])
def test_what_followers_hold_is_learned_anew_by_each_leader(voter: str, other: str, match: int) -> None:
    """“matchIndex[]: … (initialized to 0, increases monotonically)”, “(Reinitialized after election)”; here a voter's
    last id comes with its vote (P5.7), and counts only where the log has it.
    """
    script = started("m1 1 3", "m2 1 2", "m3 1")
    more(script, f"hold {other}>m1 VoteReply", "hold m1>* Append", "win m1")
    leader = script.stage.raft("m1")._core.role
    assert isinstance(leader, Leader)
    found = {name: leader.progress[script.stage.actors[name].id].match for name in (voter, other)}
    assert found == {voter: match, other: 0}


def test_a_leader_tries_again_without_end() -> None:
    """§5.3: “the leader retries AppendEntries RPCs indefinitely (even after it has responded to the client)”."""
    script = play("cluster 3", "elect m1", "hold m1>m3 Append", "propose m1 a", "settle")
    assert script.stage.actors["m1"].state() == b"a"
    more(script, "run 1s")
    tries = [line for line in script.stage.lines if "m1 → m3  Append t1 after 1@1 [2@1 a]" in line]
    assert len(tries) > 3
    script.stage.held.clear()
    more(script, "run 1s")
    assert script.stage.actors["m3"].state() == b"a"


def test_a_follower_behind_is_sent_all_from_its_next_index() -> None:
    """“If last log index ≥ nextIndex for a follower: send … entries starting at nextIndex”."""
    script = play("cluster 3", "elect m1", "cut m1>m3")
    for text in "abc":
        more(script, f"propose m1 {text}", "settle")
    more(script, "heal", "run 1s")
    assert script.stage.actors["m3"].state() == b"a b c"


def test_a_rejection_moves_the_next_index_back_until_it_matches() -> None:
    """“If AppendEntries fails because of log inconsistency: decrement nextIndex and retry” (by whole terms, §5.3)."""
    script = started("m1 1 1 1 4 4 5 5 6 6 6", "m2 1 1 1 4 4 5 5 6 6 6", "m3 1 1 1 2 2 2 3 3 3 3 3")
    script.stage.lines.clear()
    more(script, "elect m1", "run 500ms")
    rejections = [line for line in script.stage.lines if "AppendReject" in line]
    assert len(rejections) <= 3
    assert [one.term for one in script.stage.actors["m3"].disk.entries][:10] == [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]


def test_only_entries_of_the_own_term_are_counted() -> None:
    """“If there exists an N > commitIndex, a majority of matchIndex[i] ≥ N, and log[N].term == currentTerm”."""
    script = started("m1 1 2", "m2 1 2", "m3 1")
    more(script, "hold m1>m2 Append", "hold m1>m3 Append", "win m1", "settle")
    raft = script.stage.raft("m1")
    reply = AppendReply(raft.term, LogIndex(2), BatchNumber(1))
    direct(script.stage, "m1", *(Received(frame(name, "m1", reply)) for name in ("m2", "m3")))
    assert raft.commit == 0
    noop = AppendReply(raft.term, LogIndex(3), BatchNumber(1))
    direct(script.stage, "m1", Received(frame("m2", "m1", noop)))
    assert raft.commit == 3


def test_a_leader_never_shortens_its_log() -> None:
    """Figure 3, Leader Append-Only: S6, whatever old rejections say."""
    script = play("cluster 3", "elect m1", "propose m1 a", "propose m1 b", "settle")
    raft = script.stage.raft("m1")
    reject = AppendReject(raft.term, LogIndex(2), LogIndex(0), ConsensusTerm(0))
    direct(script.stage, "m1", Received(frame("m2", "m1", reject)))
    assert (raft.last_index, raft.commit) == (3, 3)


def test_followers_and_candidates_take_no_proposals() -> None:
    """§8: “If the client's first choice is not the leader, that server will reject the client's request”."""
    script = play("cluster 3", "elect m1")
    ready = direct(script.stage, "m2", Propose(5, b"x"))
    assert [(one.reason, one.leader) for one in ready.refused] == [("not_leader", script.stage.actors["m1"].id)]


def test_a_heard_leader_is_not_disturbed() -> None:
    """§6: “if a server receives a RequestVote RPC within the minimum election timeout of hearing from a current leader,
    it does not update its term or grant its vote” (P5.3); a transfer is the exception (thesis §4.2.3).
    """
    script = play("cluster 3", "elect m1", "run 100ms")
    raft = script.stage.raft("m2")
    give(script, "m2", "m3", vote(script, "m3", 9, (9, 9)))
    assert (raft.term, raft.leader) == (1, script.stage.actors["m1"].id)
    give(script, "m2", "m3", vote(script, "m3", 9, (9, 9), transfer=True))
    assert (raft.term, raft.vote) == (9, script.stage.actors["m3"].id)


def test_a_new_leader_commits_an_entry_of_its_own_first() -> None:
    """§8: “each leader commits a blank no-op entry into the log at the start of its term”."""
    script = started("m1 1 1", "m2 1 1", "m3 1 1")
    more(script, "elect m1")
    raft = script.stage.raft("m1")
    assert (raft.commit, raft.term_at(LogIndex(3))) == (3, raft.term)


def test_reads_wait_for_a_round_of_the_own_term() -> None:
    """§8: “a leader must check whether it has been deposed before processing a read-only request”."""
    script = play("cluster 3", "elect m1", "partition m1 | m2 m3", "read m1")
    more(script, "run 1s")
    assert not any("may answer" in line for line in script.stage.lines)
    assert any("refused 1: leader_lost" in line for line in script.stage.lines)


def test_a_clock_that_stands_still_elects_nobody() -> None:
    """§5.6: “safety must not depend on timing”; time alone makes candidates, so without it nothing happens."""
    script = play("cluster 3")
    for _ in range(10):
        for name in script.stage.actors:
            direct(script.stage, name)
    assert all(script.stage.raft(name).role == "follower" for name in script.stage.actors)
    direct(script.stage, "m1", later_us=1 * SECOND)
    assert script.stage.raft("m1").role == "pre_candidate"
