"""Figure 2 of the Raft paper (extended version), claim by claim.

Each test says what it holds the core to, and where that stands: a box of the figure (and a step of it), or a section.
Where Tenure deviates on purpose (stickiness P5.3, the disk contract P4), the test says the rule as PROTOCOL.md has it.
Figure 13 is `test_paper_snapshots`, members and hand-overs `test_paper_members`; figures 7 and 8 are golden scripts.
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
    """Figure 2, State: currentTerm is 0 at first and never falls."""
    script = started()
    raft = script.stage.raft("m1")
    assert raft.term == 0
    for term in (3, 2, 5, 4, 5):
        before = raft.term
        give(script, "m1", "m2", append(term, (0, 0)))
        assert raft.term == max(before, term)


def in_role(role: str) -> Script:
    """Three members, of which m1 is a follower, a candidate or the leader."""
    script = play("cluster 3")
    if role == "leader":
        more(script, "elect m1")
    elif role == "candidate":
        more(script, "stand m1", "deliver m1>* PreVote", "deliver *>m1 PreVoteReply")
    assert script.stage.raft("m1").role == role
    return script


@pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
def test_a_higher_term_of_a_leader_makes_a_follower(role: str) -> None:
    """Figure 2, All Servers (§5.1): who is told of a higher term takes it over and follows, whatever it was."""
    script = in_role(role)
    raft = script.stage.raft("m1")
    direct(script.stage, "m1", Received(frame("m2", "m1", append(9, (0, 0)))))
    assert (raft.role, raft.term) == ("follower", 9)


def test_what_is_committed_is_applied_in_order() -> None:
    """Figure 2, All Servers (§5.3): what is committed is applied, each entry once, in the order of the log."""
    script = play("cluster 3 committed_per_step_max=2", "elect m1")
    for text in "abcdef":
        more(script, f"propose m1 {text}")
    more(script, "settle", "run 100ms")
    for actor in script.stage.live():
        assert [item.index for item in actor.applied] == list(range(1, 8))
        assert actor.state() == b"a b c d e f"


@pytest.mark.parametrize("keep", [False, True])
def test_term_vote_and_log_survive_a_crash(keep: bool) -> None:
    """Figure 2, State: currentTerm, votedFor and log are on the disk before an answer leaves, and outlive a crash."""
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
    """§5.2: who starts follows, whatever it was before."""
    script = in_role(role)
    more(script, "crash m1 keep")
    script.stage.start("m1")
    assert script.stage.raft("m1").role == "follower"


def test_an_answer_of_a_higher_term_ends_a_candidacy() -> None:
    """§5.1: an answer that shows a candidate a later term ends its candidacy."""
    script = play("cluster 3", "stand m1", "deliver m1>* PreVote", "deliver *>m1 PreVoteReply")
    raft = script.stage.raft("m1")
    boot = script.stage.actors["m1"].boot
    refusal = VoteReply(ConsensusTerm(9), False, "voted", boot, 2, LogIndex(0), ConsensusTerm(0), BatchNumber(1))
    direct(script.stage, "m1", Received(frame("m2", "m1", refusal)))
    assert (raft.role, raft.term, raft.vote) == ("follower", 9, None)


# --- RequestVote ------------------------------------------------------------------------------------------------------


def test_a_vote_of_an_older_term_is_refused_with_ours() -> None:
    """Figure 2, RequestVote 1 and its results: who asks in a past term gets no vote, and learns our term."""
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
    """Figure 2, RequestVote 2 (§5.4.1): no vote for a log behind ours (last term, then length); ours is 3@2."""
    script = started("m1 1 1 2")
    ready = give(script, "m1", "m2", vote(script, "m2", 7, last))
    (reply,) = answers(script, ready, VoteReply)
    assert isinstance(reply, VoteReply)
    assert (reply.granted, reply.term) == (granted, 7)


def test_one_vote_a_term_and_the_same_again_for_the_same() -> None:
    """Figure 2, RequestVote 2: the first to get a term's vote keeps it, and is told so again when it asks again."""
    script = started()
    for candidate, granted in (("m2", True), ("m3", False), ("m2", True)):
        script.stage.queue.clear()
        ready = give(script, "m1", candidate, vote(script, candidate, 1, (0, 0)))
        assert [reply.granted for reply in answers(script, ready, VoteReply)] == [granted]  # type: ignore[attr-defined]


# --- AppendEntries ----------------------------------------------------------------------------------------------------


def test_entries_of_an_older_term_are_not_taken() -> None:
    """Figure 2, AppendEntries 1: a leader of a past term is refused (here: with `HigherTerm`, P5.8)."""
    script = started("m1 1 term=5")
    give(script, "m1", "m2", append(4, (1, 1), entry(2, 4)))
    assert script.stage.raft("m1").last_index == 1
    assert sent(script.stage, AppendReply) == []


@pytest.mark.parametrize("prev", [(4, 2), (3, 3), (2, 2)])
def test_a_gap_or_another_term_before_the_entries_is_rejected(prev: tuple[int, int]) -> None:
    """Figure 2, AppendEntries 2: no entries without the one that they follow, of prevLogTerm; ours is 3@2."""
    script = started("m1 1 1 2")
    ready = give(script, "m1", "m2", append(6, prev, entry(prev[0] + 1, 6)))
    assert len(answers(script, ready, AppendReject)) == 1
    assert answers(script, ready, AppendReply) == []
    assert script.stage.raft("m1").last_index == 3


def test_conflicting_entries_and_all_behind_them_go() -> None:
    """Figure 2, AppendEntries 3: where ours has another term than the leader's, the log is cut off from there on."""
    script = started("m1 1 1 2 2 2")
    give(script, "m1", "m2", append(6, (1, 1), entry(2, 1), entry(3, 5)))
    raft = script.stage.raft("m1")
    assert (raft.last_index, raft.term_at(LogIndex(3))) == (3, 5)
    assert [one.term for one in script.stage.actors["m1"].disk.entries] == [1, 1, 5]


def test_what_matches_stays_even_behind_a_shorter_request() -> None:
    """Figure 2, AppendEntries 4: only what is missing is appended; an old request must not shorten the log."""
    script = started("m1 1 1 2")
    give(script, "m1", "m2", append(2, (0, 0), entry(1, 1), entry(2, 1)))
    assert script.stage.raft("m1").last_index == 3


def test_the_same_entries_twice_are_one() -> None:
    """§5.5: a request that comes twice does no more than once."""
    script = started()
    for _ in range(2):
        give(script, "m1", "m2", append(1, (0, 0), entry(1, 1), entry(2, 1)))
    assert script.stage.raft("m1").last_index == 2


@pytest.mark.parametrize(("told", "commit"), [(1, 1), (2, 2), (9, 2)])
def test_commit_follows_the_leader_as_far_as_is_verified(told: int, commit: int) -> None:
    """Figure 2, AppendEntries 5: commitIndex follows leaderCommit within the request; what lies behind may conflict."""
    script = started("m1 1 1 1 1")
    give(script, "m1", "m2", append(3, (0, 0), entry(1, 1), entry(2, 1), commit=told))
    assert script.stage.raft("m1").commit == commit


# --- candidates and leaders -------------------------------------------------------------------------------------------


def test_a_follower_that_hears_nobody_stands() -> None:
    """Figure 2, Followers (§5.2): who hears no leader for an election timeout stands (by a pre-vote)."""
    script = play("cluster 3", "elect m1")
    more(script, "crash m1", "run 1s m2 m3")
    assert script.stage.raft("m2").role == "leader"


def test_who_has_granted_a_vote_waits_for_what_becomes_of_it() -> None:
    """Figure 2, Followers (§5.2): a vote given, too, begins the wait for a leader anew."""
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
    """Figure 2, Candidates (§5.2): to stand is one term more, the own vote, and a RequestVote to each other."""
    script = play("cluster 3", "stand m1", "deliver m1>* PreVote", "deliver *>m1 PreVoteReply")
    raft = script.stage.raft("m1")
    assert (raft.role, raft.term, raft.vote) == ("candidate", 1, script.stage.actors["m1"].id)
    assert len(sent(script.stage, Vote, "m1>*")) == 2


@pytest.mark.parametrize(("size", "needed"), [(2, 1), (3, 1), (4, 2), (5, 2), (7, 3)])
def test_a_majority_of_votes_makes_a_leader(size: int, needed: int) -> None:
    """Figure 2, Candidates (§5.2): a majority elects, and no fewer; the own vote counts once it is durable (P4.2)."""
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
    """§5.2: only votes of the term in which it stands count for a candidate."""
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
    """Figure 2, Candidates (§5.2): an AppendEntries of its own term makes a candidate follow the sender."""
    script = play("cluster 3", "stand m1", "deliver m1>* PreVote", "deliver *>m1 PreVoteReply")
    direct(script.stage, "m1", Received(frame("m2", "m1", append(1, (0, 0)))))
    raft = script.stage.raft("m1")
    assert (raft.role, raft.term, raft.leader) == ("follower", 1, script.stage.actors["m2"].id)


def test_a_candidate_without_an_end_begins_anew() -> None:
    """Figure 2, Candidates (§5.2): who has neither won nor lost after an election timeout tries again."""
    script = play("cluster 3", "partition m1 | m2 m3", "stand m1")
    raft = script.stage.raft("m1")
    first = raft._core.attempt
    more(script, "run 2s m1")
    assert raft._core.attempt > first
    assert raft.term == 0, "a pre-vote raises no term"


def test_a_new_leader_says_so_at_once_and_again() -> None:
    """Figure 2, Leaders (§5.2): a new leader sends each other member a heartbeat at once, and the next in due time."""
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
    """Figure 2, Leaders (§5.3): what is proposed is in the log at once; applied, and so answered, when committed."""
    script = play("cluster 3", "elect m1", "hold *>m1 AppendReply", "propose m1 a", "settle")
    actor = script.stage.actors["m1"]
    assert (script.stage.raft("m1").last_index, actor.state()) == (2, b"")
    more(script, "free", "settle")
    assert actor.state() == b"a"


@pytest.mark.parametrize(("size", "needed"), [(2, 1), (3, 1), (4, 2), (5, 2), (7, 3)])
def test_an_entry_is_committed_once_a_majority_holds_it(size: int, needed: int) -> None:
    """§5.3: an entry of the leader's is committed when a majority has it, the leader among them, and no sooner."""
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
    """Figure 2, State of leaders: matchIndex begins at 0 with each leader; here a voter's last id comes with its vote
    (P5.7), and counts only where the log has it.
    """
    script = started("m1 1 3", "m2 1 2", "m3 1")
    more(script, f"hold {other}>m1 VoteReply", "hold m1>* Append", "win m1")
    leader = script.stage.raft("m1")._core.role
    assert isinstance(leader, Leader)
    found = {name: leader.progress[script.stage.actors[name].id].match for name in (voter, other)}
    assert found == {voter: match, other: 0}


def test_a_leader_tries_again_without_end() -> None:
    """§5.3: a leader sends AppendEntries again until the follower has it, even if the entry is applied long since."""
    script = play("cluster 3", "elect m1", "hold m1>m3 Append", "propose m1 a", "settle")
    assert script.stage.actors["m1"].state() == b"a"
    more(script, "run 1s")
    tries = [line for line in script.stage.lines if "m1 → m3  Append t1 after 1@1 [2@1 a]" in line]
    assert len(tries) > 3
    script.stage.held.clear()
    more(script, "run 1s")
    assert script.stage.actors["m3"].state() == b"a"


def test_a_follower_behind_is_sent_all_from_its_next_index() -> None:
    """Figure 2, Leaders (§5.3): a follower that lags is sent what the log has from its nextIndex on."""
    script = play("cluster 3", "elect m1", "cut m1>m3")
    for text in "abc":
        more(script, f"propose m1 {text}", "settle")
    more(script, "heal", "run 1s")
    assert script.stage.actors["m3"].state() == b"a b c"


def test_a_rejection_moves_the_next_index_back_until_it_matches() -> None:
    """Figure 2, Leaders (§5.3): each rejection moves nextIndex back (by whole terms) until both logs agree."""
    script = started("m1 1 1 1 4 4 5 5 6 6 6", "m2 1 1 1 4 4 5 5 6 6 6", "m3 1 1 1 2 2 2 3 3 3 3 3")
    script.stage.lines.clear()
    more(script, "elect m1", "run 500ms")
    rejections = [line for line in script.stage.lines if "AppendReject" in line]
    assert len(rejections) <= 3
    assert [one.term for one in script.stage.actors["m3"].disk.entries][:10] == [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]


def test_only_entries_of_the_own_term_are_counted() -> None:
    """Figure 2, Leaders (§5.4.2): matchIndex commits only an entry of currentTerm, and with it those before it."""
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
    """§8: who follows takes no proposal, and names the leader."""
    script = play("cluster 3", "elect m1")
    ready = direct(script.stage, "m2", Propose(5, b"x"))
    assert [(one.reason, one.leader) for one in ready.refused] == [("not_leader", script.stage.actors["m1"].id)]


def test_a_heard_leader_is_not_disturbed() -> None:
    """§6: who has just heard its leader neither votes for another nor takes over its term (P5.3); a transfer is the
    exception (thesis §4.2.3).
    """
    script = play("cluster 3", "elect m1", "run 100ms")
    raft = script.stage.raft("m2")
    give(script, "m2", "m3", vote(script, "m3", 9, (9, 9)))
    assert (raft.term, raft.leader) == (1, script.stage.actors["m1"].id)
    give(script, "m2", "m3", vote(script, "m3", 9, (9, 9), transfer=True))
    assert (raft.term, raft.vote) == (9, script.stage.actors["m3"].id)


def test_a_new_leader_commits_an_entry_of_its_own_first() -> None:
    """§8: a leader's first entry is a no-op of its term, and commits what it found."""
    script = started("m1 1 1", "m2 1 1", "m3 1 1")
    more(script, "elect m1")
    raft = script.stage.raft("m1")
    assert (raft.commit, raft.term_at(LogIndex(3))) == (3, raft.term)


def test_reads_wait_for_a_round_of_the_own_term() -> None:
    """§8: a leader answers a read only when a majority has confirmed that it still leads; cut off, it refuses."""
    script = play("cluster 3", "elect m1", "partition m1 | m2 m3", "read m1")
    more(script, "run 1s")
    assert not any("may answer" in line for line in script.stage.lines)
    assert any("refused 1: leader_lost" in line for line in script.stage.lines)


def test_a_clock_that_stands_still_elects_nobody() -> None:
    """§5.6: clocks may delay, but never mislead; only time makes candidates, so without it nobody is."""
    script = play("cluster 3")
    for _ in range(10):
        for name in script.stage.actors:
            direct(script.stage, name)
    assert all(script.stage.raft(name).role == "follower" for name in script.stage.actors)
    direct(script.stage, "m1", later_us=1 * SECOND)
    assert script.stage.raft("m1").role == "pre_candidate"
