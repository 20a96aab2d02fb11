"""Elections and transfers, where a rule of P1.3, P4.7 or P5 was once broken: each test failed before its mending."""

from tenure.base.ids import BatchNumber, Boot, ConsensusTerm, LogIndex
from tenure.base.instants import MS, SECOND
from tenure.raft.events import Lateness, Received, Transfer
from tenure.raft.messages import Append, Heartbeat, LeaderLost, Vote, VoteReply
from tenure.raft.settings import Settings
from tenure.raft.timing import Timing
from tests.raft import names
from tests.raft.play import direct, frame, more, play, sent
from tests.raft.script import Script

T1, T2 = ConsensusTerm(1), ConsensusTerm(2)
M1, M2, M3 = (names.member_id(name) for name in ("m1", "m2", "m3"))


def led(size: int = 3) -> Script:
    return play(f"cluster {size}", "elect m1", "run 100ms")


def note(script: Script, sender: str, *, boot: str | None = None, epoch: int = 1) -> LeaderLost:
    """What `sender` would say had it just lost m1."""
    raft, actor = script.stage.raft(sender), script.stage.actors[sender]
    return LeaderLost(
        raft.term,
        M1,
        script.stage.actors["m1"].boot,
        Boot(boot or actor.boot),
        epoch,
        10**6,
        raft.last_index,
        ConsensusTerm(1),
        "fin",
    )


def test_nothing_leaves_a_member_whose_disk_went_back() -> None:
    """P1.3: the number and a request for its vote come in one step."""
    script = led()
    boot = script.stage.actors["m1"].boot
    beat = Heartbeat(T1, boot, 10**6, LogIndex(0), 25_000, 0, (), {M2: BatchNumber(10**6)})
    asked = Vote(T2, LogIndex(10), T1, boot, 1, transfer=True)
    append = Append(T1, LogIndex(0), ConsensusTerm(0), LogIndex(0), ())
    ready = direct(
        script.stage, "m2", *(Received(frame("m1", "m2", message)) for message in (append, beat, append, asked))
    )
    assert ready.fatal is not None
    assert ready.send == ()
    assert ready.write is None
    assert script.stage.raft("m2").term == 1


def test_one_stalled_write_does_not_stretch_the_next_elections() -> None:
    """P5.6: a disk that once stood still for 30 s must not make every vote round last a minute."""
    timing = Timing(Settings())
    timing.sync_sample(30 * SECOND)
    assert timing.vote_timeout <= 2 * timing.rtt_p99 + 2 * Settings().disk_stall_max_us


def test_notes_of_an_older_term_are_no_grants() -> None:
    """P5.1, P5.2: a note stands for a pre-vote in its own term only."""
    script = led()
    script.stage.cut |= {("m2", "m1"), ("m2", "m3")}
    more(script, "lose m2 m1 fin")
    direct(script.stage, "m2", Received(frame("m3", "m2", note(script, "m3"))))
    raft = script.stage.raft("m2")
    assert (raft.role, raft.term) == ("candidate", 2)
    boot, attempt = script.stage.actors["m2"].boot, raft._core.attempt
    refusal = VoteReply(T1, False, "leader_heard", boot, attempt, LogIndex(1), T1, BatchNumber(1))
    direct(script.stage, "m2", Received(frame("m1", "m2", refusal)), Received(frame("m3", "m2", refusal)))
    assert raft.role == "follower"
    for _ in range(8):
        direct(script.stage, "m2", later_us=1 * MS)
    assert raft.term == 2, "asked for votes again without a pre-vote"


def test_a_note_of_who_is_not_linked_is_void() -> None:
    """P5.2: the link to its sender is lost, or is that of another life."""
    script = led()
    script.stage.cut |= {("m2", "m1"), ("m2", "m3")}
    more(script, "lose m2 m1 fin")
    direct(script.stage, "m2", Received(frame("m3", "m2", note(script, "m3", boot="m3.earlier"))))
    assert script.stage.raft("m2").term == 1
    late = note(script, "m3")
    more(script, "lose m2 m3 fin")
    direct(script.stage, "m2", Received(frame("m3", "m2", late)))
    assert script.stage.raft("m2").term == 1


def test_who_may_not_vote_yet_sends_no_notes() -> None:
    """P1.3: a note stands for a pre-vote, and that would be refused."""
    script = led(5)
    more(script, "crash m5")
    stage = script.stage
    stage.start("m5")
    stage.step(stage.actors["m5"], [stage.link_up("m5", "m1")])  # it has heard one, and needs two
    more(script, "run 100ms")
    assert stage.raft("m5").leader == M1
    stage.queue.clear()
    more(script, "lose m5 m1 fin")
    assert sent(stage, LeaderLost, "m5>*") == []


def test_a_late_refusal_of_a_vote_does_not_depose_the_winner() -> None:
    """P5.8: somebody stuck above a living leader is freed by it; the answer to an old request is no reason to go."""
    script = led()
    actor = script.stage.actors["m1"]
    refusal = VoteReply(ConsensusTerm(2), False, "old_term", actor.boot, 1, LogIndex(1), T1, BatchNumber(1))
    direct(script.stage, "m1", Received(frame("m3", "m1", refusal)))
    assert script.stage.raft("m1").role == "leader"


def test_a_vote_in_a_term_that_has_its_leader_is_pointless() -> None:
    """It would make a member that has lost the leader believe that it hears it again."""
    script = play("cluster 5", "hold m1>m5 Vote", "elect m1", "run 100ms", "lose m5 m1 fin")
    stage = script.stage
    assert (stage.raft("m5").leader, stage.raft("m5").vote) == (None, None)
    asked = Vote(T1, LogIndex(10), T1, stage.actors["m4"].boot, 1, transfer=False)
    ready = direct(stage, "m5", Received(frame("m4", "m5", asked)))
    answers = [one.message for one in ready.send if isinstance(one.message, VoteReply)]
    assert [answer.granted for answer in answers] == [False]
    assert stage.raft("m5").leader is None


def test_a_transfer_ends_only_behind_drained_sockets() -> None:
    """P4.7: its end is a deadline like all others."""
    script = led()
    ready = direct(script.stage, "m1", Transfer(77, M2))
    assert ready.transfers == ()
    ready = direct(script.stage, "m1", drained=False, later_us=5 * SECOND)
    assert ready.transfers == ()
    ready = direct(script.stage, "m1")
    assert [ended.token for ended in ready.transfers] == [77]


def test_a_member_that_is_always_late_still_notices_a_dead_leader() -> None:
    """P6.3 allows one fresh interval after a stall; a host that is late every time must not wait for ever."""
    script = led()
    stage = script.stage
    raft, actor = stage.raft("m2"), stage.actors["m2"]
    begun = actor.now
    while raft.leader is not None:
        assert actor.now - begun < 2 * SECOND, "never noticed"
        wait = max(0, actor.deadline - actor.now)
        actor.deadline = direct(stage, "m2", Lateness(15 * MS), later_us=wait + 15 * MS).deadline


def test_a_late_leader_without_a_majority_resigns() -> None:
    """P6.3: CheckQuorum likewise."""
    script = led()
    stage = script.stage
    raft, actor = stage.raft("m1"), stage.actors["m1"]
    begun = actor.now
    while raft.role == "leader":
        assert actor.now - begun < 3 * SECOND, "leads for ever"
        wait = max(0, actor.deadline - actor.now)
        actor.deadline = direct(stage, "m1", Lateness(15 * MS), later_us=wait + 15 * MS).deadline
