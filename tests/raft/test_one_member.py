"""One member, every message and every disk write by hand: what no member that obeys would ever send it, too."""

from zlib import crc32

from tenure.base.chance import SplitMix64
from tenure.base.ids import BatchNumber, Boot, ConsensusTerm, LogIndex, MemberId, Nonce
from tenure.base.instants import MS, Instant
from tenure.raft.core import Raft
from tenure.raft.entries import COMMAND, FEATURE, Configuration, Entry, HardState, Image, Restored, Seat, Snapshot
from tenure.raft.events import Event, LinkLost, LinkUp, Persisted, Received, TakeSnapshot
from tenure.raft.messages import (
    AnyMessage,
    Append,
    AppendReply,
    Envelope,
    Found,
    Heartbeat,
    HeartbeatReply,
    LeaderLost,
    PreVote,
    PreVoteReply,
    SnapshotChunk,
    Vote,
    VoteReply,
)
from tenure.raft.ready import Batch, Ready
from tenure.raft.settings import Identity, Settings
from tests.raft.names import member_id

LINEAGE = Nonce("f" * 16)
M1, M2, M3 = (member_id(name) for name in ("m1", "m2", "m3"))
SEATS = tuple(Seat(member, name, f"{name}:1") for member, name in ((M1, "m1"), (M2, "m2"), (M3, "m3")))
CONFIGURATION = Configuration(LogIndex(0), SEATS)


def entries(*terms: int, first: int = 1) -> tuple[Entry, ...]:
    """Commands of these terms from index `first` on."""
    return tuple(
        Entry(LogIndex(first + place), ConsensusTerm(term), COMMAND, b"%d" % (first + place))
        for place, term in enumerate(terms)
    )


def append(term: int, after: tuple[int, int], new: tuple[Entry, ...], commit: int = 0) -> Append:
    """An append behind index@term."""
    return Append(ConsensusTerm(term), LogIndex(after[0]), ConsensusTerm(after[1]), LogIndex(commit), new)


def heartbeat(term: int, number: int = 1, batches: dict[MemberId, BatchNumber] | None = None) -> Heartbeat:
    """A sign of life."""
    return Heartbeat(ConsensusTerm(term), Boot("leader"), number, LogIndex(0), 25 * MS, 0, (), batches or {})


class Member:
    """m2 of three. Its disk writes only when told so."""

    def __init__(
        self,
        *terms: int,
        term: int | None = None,
        settings: Settings | None = None,
        feature: int = 1,
        lineage: Nonce = LINEAGE,
        clean: bool = True,
        configuration: Configuration = CONFIGURATION,
    ) -> None:
        log = entries(*terms)
        hard_state = HardState(ConsensusTerm(term if term is not None else max(terms, default=0)), None)
        restored = Restored(hard_state, configuration, feature, None, log, BatchNumber(0), clean, {})
        self.now = Instant(1_000 * MS)
        self.lineage = lineage
        self.batch: Batch | None = None
        self.sent: list[tuple[MemberId, AnyMessage]] = []
        self.raft = Raft(
            Identity(M2, Boot("m2.1"), (LINEAGE,)), restored, settings or Settings(), SplitMix64(1), self.now
        )

    def step(self, *events: Event, drained: bool = False) -> Ready:
        """One step; deadlines fire only when asked for."""
        ready = self.raft.step(events, self.now, drained)
        self.sent.extend((envelope.to, envelope.message) for envelope in ready.send)
        if ready.write is not None:
            assert self.batch is None
            self.batch = ready.write
        return ready

    def hear(self, sender: MemberId, message: AnyMessage) -> Ready:
        """A message comes."""
        return self.step(Received(Envelope(sender, M2, self.lineage, message)))

    def persist(self) -> tuple[AnyMessage, ...]:
        """The write in flight is done; what left with it."""
        batch, self.batch = self.batch, None
        assert batch is not None, "nothing is being written"
        before = len(self.sent)
        self.step(Persisted(batch.number, 1_000))
        late = tuple(message for _, message in self.sent[before:])
        return tuple(envelope.message for envelope in batch.send_after_persist) + late

    def stand(self) -> int:
        """Become a candidate whose own vote is durable; the number of the try."""
        for peer in (M1, M3):
            self.step(LinkUp(peer, Boot("peer"), BatchNumber(0), 1))
        while self.raft.role == "follower":
            self.now = Instant(self.now + 5 * MS)
            self.step(drained=True)
        asked = next(message for _, message in reversed(self.sent) if hasattr(message, "attempt"))
        for peer in (M1, M3):
            self.hear(peer, PreVoteReply(asked.term, True, "", Boot("m2.1"), asked.attempt))
        while self.batch is not None:
            self.persist()
        return int(asked.attempt) + 1

    def lead(self) -> None:
        """Win with m1's vote."""
        self.hear(M1, self.vote(self.stand(), granted=True))
        assert self.raft.won_at is not None
        self.persist()
        self.hear(M1, AppendReply(self.raft.term, self.raft.last_index, BatchNumber(2)))
        assert self.raft.is_serving

    def vote(self, attempt: int, *, granted: bool) -> VoteReply:
        """An answer to that try."""
        reason, boot = "" if granted else "voted", Boot("m2.1")
        return VoteReply(self.raft.term, granted, reason, boot, attempt, LogIndex(0), ConsensusTerm(0), BatchNumber(1))


def acknowledged(messages: tuple[AnyMessage, ...]) -> list[tuple[int, int]]:
    """(term, match) of the acknowledgements among these."""
    return [(message.term, message.match) for message in messages if isinstance(message, AppendReply)]


def test_only_what_the_leader_has_shown_to_match_is_committed() -> None:
    """The third entry is of a lost leader; that the new one has committed four says nothing about it."""
    member = Member(1, 1, 1)
    member.hear(M1, append(2, (1, 1), entries(1, first=2), commit=4))
    assert member.raft.commit == 2


def test_commit_never_goes_back_whatever_comes_late() -> None:
    """P10."""
    member = Member(1, 1)
    member.hear(M1, append(1, (2, 1), (), commit=2))
    member.hear(M1, append(1, (2, 1), (), commit=1))
    assert member.raft.commit == 2


def test_what_was_truncated_before_its_write_is_never_acknowledged() -> None:
    """P4.5: the entries of term 1 waited for a disk that was busy, and gave way to those of term 2."""
    member = Member(1)
    member.hear(M1, append(1, (1, 1), entries(1, first=2)))
    member.hear(M1, append(1, (2, 1), entries(1, 1, first=3)))
    member.hear(M3, append(2, (2, 1), entries(2, first=3)))
    said = acknowledged(member.persist()) + acknowledged(member.persist())
    assert said == [(1, 2), (2, 3)]


def test_what_an_install_swept_away_is_never_acknowledged() -> None:
    """P4.6: the same with a snapshot of term 2 in place of the log."""
    member = Member(1)
    member.hear(M1, append(1, (1, 1), entries(1, first=2)))
    member.hear(M1, append(1, (2, 1), entries(1, 1, 1, first=3)))
    chunk = SnapshotChunk(ConsensusTerm(2), LogIndex(3), ConsensusTerm(2), CONFIGURATION, 1, 0, 1, crc32(b"x"), b"x")
    member.hear(M3, chunk)
    said = acknowledged(member.persist()) + acknowledged(member.persist())
    assert said == [(1, 2), (2, 3)]


def test_a_write_from_before_an_install_says_nothing_about_the_snapshot() -> None:
    """P4.6: while the install is on its way to the disk nothing of the new log is durable."""
    member = Member(1)
    member.hear(M1, append(1, (1, 1), entries(1, 1, 1, 1, first=2)))
    chunk = SnapshotChunk(ConsensusTerm(2), LogIndex(3), ConsensusTerm(2), CONFIGURATION, 1, 0, 1, crc32(b"x"), b"x")
    member.hear(M3, chunk)
    member.persist()
    assert member.raft.durable_index == 0


def test_a_snapshot_is_not_taken_while_an_installed_one_waits_for_the_disk() -> None:
    """One write holds one snapshot: the store begins its log behind that of an install (seed 1082325026243)."""
    member = Member(1)
    member.hear(M1, append(1, (1, 1), entries(1, first=2)))  # on its way to the disk
    chunk = SnapshotChunk(ConsensusTerm(2), LogIndex(3), ConsensusTerm(2), CONFIGURATION, 1, 0, 1, crc32(b"x"), b"x")
    member.hear(M3, chunk)
    member.hear(M3, append(2, (3, 2), entries(2, 2, first=4), commit=5))
    ready = member.step(TakeSnapshot(LogIndex(5), 1, Image.of([b"five"])))
    assert [trace.what for trace in ready.traces] == ["snapshot_deferred"]
    member.persist()
    batch = member.batch
    assert batch is not None
    assert batch.install
    assert batch.snapshot is not None
    assert batch.snapshot.index == 3
    assert [entry.index for entry in batch.entries] == [4, 5]


def test_an_acknowledgement_that_waits_keeps_its_term() -> None:
    """P4.5: accepted in term 1, durable only when term 2 is known already."""
    member = Member(1)
    member.hear(M1, append(1, (1, 1), entries(1, first=2)))
    member.hear(M1, append(1, (2, 1), entries(1, first=3)))
    member.hear(M3, heartbeat(2))
    said = acknowledged(member.persist()) + acknowledged(member.persist())
    assert (1, 3) in said
    assert (2, 3) not in said


def test_after_an_unclean_stop_the_first_vote_waits_until_another_member_was_heard() -> None:
    """P1.3: only another can tell whether this disk went back."""
    member = Member(1, clean=False)
    asked = Vote(ConsensusTerm(2), LogIndex(1), ConsensusTerm(1), Boot("m1.1"), 1, False)
    member.hear(M1, asked)
    refusal = member.sent[-1][1]
    assert isinstance(refusal, VoteReply)
    assert (refusal.granted, refusal.reason) == (False, "not_heard_enough")
    member.step(LinkUp(M3, Boot("m3.1"), BatchNumber(0), 1))
    member.hear(M1, asked)
    said = member.persist() if member.batch is not None else ()
    said += member.persist() if member.batch is not None else ()
    assert any(isinstance(message, VoteReply) and message.granted for message in said)


def test_the_first_vote_waits_for_the_members_that_are_known_to_be_the_newest() -> None:
    """P1.3: who was away counts by the newer members that it is told of, never by older ones."""
    for members, granted in ((0, False), (1, True)):
        member = Member(1, clean=False)
        asked = PreVote(ConsensusTerm(2), LogIndex(1), ConsensusTerm(1), Boot("m1.1"), 1, LogIndex(members), (M1,))
        member.hear(M1, asked)
        reply = member.sent[-1][1]
        assert isinstance(reply, PreVoteReply)
        assert reply.granted == granted


def test_frames_of_another_cluster_count_for_nothing() -> None:
    """P1.3: the lineage of every frame is looked at."""
    stranger = Member(1, lineage=Nonce("0" * 16))
    stranger.hear(M1, append(7, (1, 1), entries(7, first=2)))
    assert (stranger.raft.term, stranger.raft.last_index) == (1, 1)


def test_the_version_rises_only_when_every_member_speaks_it() -> None:
    """P10: m1 speaks 2 since its upgrade, m3 does not yet."""
    member = Member(1, settings=Settings(feature_max=2))
    member.lead()
    beats = [message for _, message in member.sent if isinstance(message, Heartbeat)]
    term, last = member.raft.term, member.raft.last_index

    def beat(first: int, second: int) -> list[Entry]:
        for peer, speaks in ((M1, first), (M3, second)):
            member.hear(peer, HeartbeatReply(term, Boot("m2.1"), beats[-1].number, BatchNumber(2), speaks))
        member.now = Instant(member.now + 30 * MS)
        member.step(drained=True)
        log = member.raft.entries(LogIndex(last + 1), member.raft.last_index)
        return [entry for entry in log if entry.kind == FEATURE]

    assert beat(2, 1) == []
    assert beat(1, 2) == []
    assert [entry.data for entry in beat(2, 2)] == [b"2"]


def test_a_member_that_meets_a_version_which_it_does_not_speak_stops() -> None:
    """P10: it never guesses."""
    member = Member(1)
    feature = Entry(LogIndex(2), ConsensusTerm(1), FEATURE, b"2")
    ready = member.hear(M1, append(1, (1, 1), (feature,), commit=2))
    assert ready.fatal is not None
    assert ready.fatal.reason == "unknown_feature"
    assert member.raft.role == "stopped"


def test_a_restarted_member_begins_at_its_snapshot() -> None:
    """P10: what the snapshot holds is never handed out again."""
    snapshot = Snapshot(LogIndex(2), ConsensusTerm(1), CONFIGURATION, 1, Image.of([b"two"]))
    restored = Restored(
        HardState(ConsensusTerm(1), None), CONFIGURATION, 1, snapshot, entries(1, 1, 1), BatchNumber(3), True, {}
    )
    raft = Raft(Identity(M2, Boot("m2.1"), (LINEAGE,)), restored, Settings(), SplitMix64(1), Instant(0))
    assert raft.commit == 2
    envelope = Envelope(M1, M2, LINEAGE, append(1, (3, 1), (), commit=3))
    ready = raft.step([Received(envelope)], Instant(0))
    assert [item.index for item in ready.committed if isinstance(item, Entry)] == [3]


def test_refusals_of_an_earlier_try_do_not_end_this_one() -> None:
    """P4.2: an answer belongs to the very request that it answers."""
    member = Member(1)
    attempt = member.stand()
    for peer in (M1, M3):
        member.hear(peer, member.vote(attempt - 1, granted=False))
    assert member.raft.role == "candidate"


def follower_that_hears_m1() -> Member:
    """m2 follows m1; both others are linked."""
    member = Member(1)
    member.step(LinkUp(M1, Boot("leader"), BatchNumber(0), 1), LinkUp(M3, Boot("m3.1"), BatchNumber(0), 1))
    member.hear(M1, heartbeat(1, number=5))
    return member


def note_of_m3(epoch: int = 1, heard: int = 5, last: int = 1) -> LeaderLost:
    """m3 has lost m1."""
    return LeaderLost(
        ConsensusTerm(1), M1, Boot("leader"), Boot("m3.1"), epoch, heard, LogIndex(last), ConsensusTerm(1), "fin"
    )


LOSS = LinkLost(M1, Boot("leader"), "fin", False)


def test_a_note_that_counts_stands_for_a_pre_vote() -> None:
    """P5.1: with m3's note m2 asks for votes at once."""
    member = follower_that_hears_m1()
    member.step(LOSS)
    member.hear(M3, note_of_m3())
    member.step(drained=True)
    assert member.raft.role == "candidate"


def test_a_note_from_before_the_leader_was_heard_again_is_void() -> None:
    """P5.2: traffic of the leader clears all notes."""
    member = follower_that_hears_m1()
    member.hear(M3, note_of_m3())
    member.hear(M1, heartbeat(1, number=6))
    member.step(LOSS)
    member.step(drained=True)
    assert member.raft.role == "pre_candidate"


def test_a_note_is_void_when_its_sender_has_found_the_leader() -> None:
    """P5.2, also when that is heard before an older note."""
    member = follower_that_hears_m1()
    member.step(LOSS)
    member.hear(M3, note_of_m3())
    member.hear(M3, Found(ConsensusTerm(1), M1, Boot("m3.1"), 2))
    member.hear(M3, note_of_m3())
    member.step(drained=True)
    assert member.raft.role == "pre_candidate"


def test_found_itself_voids_the_note() -> None:
    """P5.2: without any older note behind it."""
    member = follower_that_hears_m1()
    member.step(LOSS)
    member.hear(M3, note_of_m3())
    member.hear(M3, Found(ConsensusTerm(1), M1, Boot("m3.1"), 2))
    member.step(drained=True)
    assert member.raft.role == "pre_candidate"


def test_a_note_is_void_when_its_sender_is_lost_too() -> None:
    """P5.2: it can't vote."""
    member = follower_that_hears_m1()
    member.step(LOSS)
    member.hear(M3, note_of_m3())
    member.step(LinkLost(M3, Boot("m3.1"), "fin", False))
    member.step(drained=True)
    assert member.raft.role == "pre_candidate"


def test_a_note_of_one_who_lost_the_leader_long_before_is_void() -> None:
    """P5.2: m3 stopped hearing at heartbeat 3, m2 heard 5."""
    member = follower_that_hears_m1()
    member.step(LOSS)
    member.hear(M3, note_of_m3(heard=3))
    member.step(drained=True)
    assert member.raft.role == "pre_candidate"


def test_the_end_of_an_earlier_lifes_connection_is_no_loss() -> None:
    """P5.4: the leader's present connection stands."""
    member = follower_that_hears_m1()
    member.step(LinkLost(M1, Boot("before"), "fin", False), drained=True)
    assert (member.raft.role, member.raft.leader) == ("follower", M1)


def test_a_leader_that_comes_back_as_a_new_process_is_lost() -> None:
    """P5.5: it never goes on leading in its term."""
    member = follower_that_hears_m1()
    member.step(LinkUp(M1, Boot("restarted"), BatchNumber(0), 1))
    assert member.raft.leader is None


def test_a_note_of_a_fresher_log_is_no_grant() -> None:
    """P5.1: m3 holds an entry that m2 lacks; it would refuse its pre-vote."""
    member = follower_that_hears_m1()
    member.step(LOSS)
    for _ in range(20):
        member.hear(M3, note_of_m3(last=2))
        member.now = Instant(member.now + 1 * MS)
        member.step(drained=True)
    assert member.raft.role == "pre_candidate"


def test_a_note_of_long_ago_is_void() -> None:
    """P5.2: older than two steps and a round trip."""
    member = follower_that_hears_m1()
    member.hear(M3, note_of_m3())
    member.now = Instant(member.now + 60 * MS)
    member.step(LOSS)
    member.step(drained=True)
    assert member.raft.role == "pre_candidate"


def test_what_is_heard_of_others_disks_goes_with_the_next_write() -> None:
    """P1.3: so that a restarted member still knows it, and can tell a disk that went back."""
    member = Member(1)
    member.hear(M1, heartbeat(1, batches={M3: BatchNumber(9)}))
    member.hear(M1, append(1, (1, 1), entries(1, first=2)))
    assert member.batch is not None
    assert member.batch.known_batches == {M3: 9}
    assert member.raft.known_batch(M3) == 9


def test_the_leader_spreads_what_it_knows_of_each_disk() -> None:
    """P1.3: with its heartbeats, its own number among it."""
    member = Member(1)
    member.lead()
    member.hear(M1, AppendReply(member.raft.term, member.raft.last_index, BatchNumber(7)))
    member.now = Instant(member.now + 30 * MS)
    member.sent.clear()
    member.step(drained=True)
    beats = [message for _, message in member.sent if isinstance(message, Heartbeat)]
    assert beats
    assert all(message.batches[M1] == 7 and message.batches[M2] >= 1 for message in beats)
