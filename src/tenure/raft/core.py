"""`Raft.step`: every event at once (P4.1), then what time demands, then what must leave (DESIGN 4)."""

from collections.abc import Sequence
from typing import Final

from tenure.base.chance import Rng
from tenure.base.ids import BatchNumber, ConsensusTerm, LogIndex, MemberId
from tenure.base.instants import Instant
from tenure.raft import (
    census,
    changing,
    committing,
    configurations,
    election,
    following,
    links,
    reads,
    replication,
    shipping,
    snapshots,
    suspicion,
    ticks,
    transfer,
    versions,
    witnesses,
)
from tenure.raft.census import ProgressView, Sight
from tenure.raft.disk import completed, know_batch, next_batch
from tenure.raft.entries import COMMAND, Configuration, Entry, Restored, Snapshot
from tenure.raft.events import (
    ChangeMembership,
    Event,
    Lateness,
    LinkLost,
    LinkUp,
    Persisted,
    Propose,
    ReadIndex,
    Received,
    Resign,
    RttSample,
    TakeSnapshot,
    Transfer,
)
from tenure.raft.messages import (
    Append,
    AppendReject,
    AppendReply,
    DurableProbe,
    DurableProbeReply,
    Envelope,
    Found,
    Heartbeat,
    HeartbeatReply,
    HigherTerm,
    LeaderLost,
    PreVote,
    PreVoteReply,
    Removed,
    SnapshotChunk,
    SnapshotChunkReply,
    TimeoutNow,
    Vote,
    VoteReply,
    WantSnapshot,
)
from tenure.raft.ready import Accepted, Batch, Ready, Refused
from tenure.raft.settings import Identity, Settings
from tenure.raft.state import Core, Leader, RoleName

__all__ = ["Identity", "ProgressView", "Raft", "RoleName", "Settings"]

_NOTHING: Final[tuple[Entry | Snapshot, ...]] = ()


class Raft:
    """One member's consensus core. Not thread-safe; never waits."""

    __slots__ = ("_core",)

    def __init__(self, identity: Identity, restored: Restored, settings: Settings, rng: Rng, now: Instant) -> None:
        self._core = core = Core(identity, restored, settings, rng, now)
        core.watch.patience_us = settings.heartbeat_us + settings.floor_us
        if core.voters == (core.me,):
            core.watch.patience_us = 0  # nobody else could lead
        versions.speaks(core, restored.feature)

    # --- what is asked of it

    def step(self, events: Sequence[Event], now: Instant, drained: bool = True, gather: bool = False) -> Ready:
        """Take `events` in order, then, if the sockets are `drained`, fire due deadlines (P4.7).

        With `gather` what must be durable is left for `batch`, as more steps of the same turn may follow.
        """
        core = self._core
        assert now >= core.now, "time only rises"
        core.now = now
        for event in events:
            if core.fatal is not None:
                break
            if type(event) is Received:
                self._receive(event.envelope)
            else:
                self._take(event)
        if drained and core.fatal is None:
            ticks.tick(core)
        if core.fatal is not None:
            core.send.clear()  # P1.3: no vote and no acknowledgement leaves, nor what this very step has said
        return self._finish(gather)

    def batch(self) -> Batch | None:
        """What the steps of this turn have gathered for the disk, if it is free."""
        disk = self._core.disk
        return next_batch(self._core) if disk.dirty and disk.in_flight is None else None

    @property
    def role(self) -> RoleName:
        """The role's name; `stopped` after a `Fatal`."""
        core = self._core
        return core.role.name if core.fatal is None else "stopped"

    @property
    def term(self) -> ConsensusTerm:
        """The consensus term."""
        return self._core.term

    @property
    def vote(self) -> MemberId | None:
        """Whom this member voted for in `term` (not necessarily durable yet)."""
        return self._core.vote

    @property
    def leader(self) -> MemberId | None:
        """The leader of the term, as far as heard; None while it is suspected lost."""
        core = self._core
        if isinstance(core.role, Leader):
            return core.me
        return core.watch.leader if core.suspicion is None else None

    @property
    def commit(self) -> LogIndex:
        """The commit index."""
        return self._core.commit

    @property
    def last_index(self) -> LogIndex:
        """Last accepted index."""
        return self._core.log.last_index

    @property
    def durable_index(self) -> LogIndex:
        """Last durable index of the log."""
        return self._core.log.durable

    @property
    def snapshot_is_due_on_disk(self) -> bool:
        """Whether a snapshot waits for the disk, or is on its way to it."""
        disk = self._core.disk
        return disk.snapshot is not None or (disk.in_flight is not None and disk.in_flight.snapshot)

    @property
    def first_index(self) -> LogIndex:
        """First index that the log still holds."""
        return self._core.log.first

    @property
    def configuration(self) -> Configuration:
        """The active configuration."""
        return self._core.configuration

    @property
    def feature(self) -> int:
        """The cluster's feature version (P10)."""
        return self._core.feature

    @property
    def ranks(self) -> tuple[MemberId, ...]:
        """Who should stand first, as last heard."""
        core = self._core
        return core.role.ranks if isinstance(core.role, Leader) else core.watch.ranks

    @property
    def is_serving(self) -> bool:
        """Leads, its no-op is committed, and no transfer is under way."""
        core = self._core
        if core.is_witness or not isinstance(core.role, Leader) or core.role.transfer is not None:
            return False
        return reads.led_term(core) is not None

    @property
    def is_witness(self) -> bool:
        """Whether this member votes without holding state (P8)."""
        return self._core.is_witness

    @property
    def lead(self) -> tuple[RoleName, ConsensusTerm, MemberId | None, bool]:
        """Role, term, leader and whether it serves, at once."""
        core = self._core
        role = core.role
        if core.fatal is not None:
            return ("stopped", core.term, self.leader, self.is_serving)
        if type(role) is Leader:
            serves = core.commit >= role.noop and role.transfer is None and not core.is_witness
            return ("leader", core.term, core.me, serves)
        return (role.name, core.term, core.watch.leader if core.suspicion is None else None, False)

    @property
    def awaited_beat(self) -> int | None:
        """On the leader, the heartbeat whose answers (or those to a later one) the oldest round waits for (P3.3)."""
        role = self._core.role
        return role.rounds[0].number if isinstance(role, Leader) and role.rounds else None

    @property
    def calls_the_roll(self) -> bool:
        """On the leader: a change of the members waits for signs of life (ADR 0033)."""
        return isinstance(self._core.role, Leader) and bool(self._core.role.calls)

    @property
    def won_at(self) -> Instant | None:
        """When this member won the term that it leads."""
        return self._core.role.won_at if isinstance(self._core.role, Leader) else None

    def term_at(self, index: LogIndex) -> ConsensusTerm | None:
        """The term of a log entry that is still held."""
        return self._core.log.term_at(index)

    def entries(self, start: LogIndex, end: LogIndex) -> tuple[Entry, ...]:
        """Entries held in memory, both ends included: for checks and tools."""
        return self._core.log.between(start, end)

    def progress(self) -> dict[MemberId, ProgressView]:
        """On the leader, how far the others are; elsewhere empty."""
        return census.progress(self._core)

    def sights(self) -> dict[MemberId, Sight]:
        """On the leader, what is seen of each other member, also by the other voters (P7.4); elsewhere empty."""
        return census.sights(self._core)

    def is_linked(self, member: MemberId) -> bool:
        """Whether a connection from `member` stands; a frozen one may have one too."""
        return member in self._core.links

    def as_of(self, applied: LogIndex) -> Instant | None:
        """From when the state at `applied` is at the oldest, as far as this member can know; None: not at all."""
        return reads.as_of(self._core, applied)

    def farewell(self, member: MemberId) -> Envelope | None:
        """What a removed member must hear as soon as it can be reached (P7); None for everybody else."""
        core = self._core
        removed = configurations.farewell(core, member)
        return Envelope(core.me, member, core.nonce, removed) if removed is not None else None

    def known_batch(self, member: MemberId) -> BatchNumber:
        """The highest durable batch number of `member` that is known here; the handshake tells it (P1.3)."""
        return self._core.known_batches.get(member, BatchNumber(0))

    def timings(self) -> dict[str, int]:
        """The estimators in microseconds, for `/status`, metrics and `tenure timing`."""
        timing = self._core.timing
        return {
            "rtt_p99_us": timing.rtt_p99,
            "sync_p99_us": timing.sync_p99,
            "step_us": timing.step,
            "vote_timeout_us": timing.vote_timeout,
            "disk_stall_us": timing.disk_stall,
            "lateness_us": timing.lateness(self._core.now),
        }

    # --- events

    def _take(self, event: Event) -> None:
        core = self._core
        match event:
            case Received():
                self._receive(event.envelope)
            case Propose():
                _propose(core, event)
            case Persisted():
                completed(core, event.batch, event.sync_us)
                election.own_vote_durable(core)
                if isinstance(core.role, Leader):
                    replication.maybe_commit(core, core.role)
                    changing.answered(core, core.role)
            case ReadIndex():
                reads.ask(core, event.token)
            case LinkUp():
                links.up(core, event)
            case LinkLost():
                links.lost(core, event)
            case RttSample():
                core.timing.rtt_sample(event.peer, event.rtt_us, core.now, counts=event.peer in core.voters)
            case Lateness():
                following.stalled(core, event.late_us)
            case Transfer():
                transfer.ask(core, event)
            case ChangeMembership():
                changing.ask(core, event)
            case Resign():
                transfer.give_up(core, "stopping")
            case TakeSnapshot():
                snapshots.take(core, event)

    def _receive(self, envelope: Envelope) -> None:  # noqa: C901 - one arm per message, no logic
        core = self._core
        if envelope.lineage != core.nonce:  # P1.4: each nonce is drawn once, so the newest stands for the whole lineage
            core.trace("foreign_lineage", sender=envelope.sender, lineage=envelope.lineage)
            return
        if envelope.to != core.me:
            core.trace("misdirected", sender=envelope.sender, to=envelope.to)
            return
        sender = envelope.sender
        if type(envelope.message) is Heartbeat:  # what there is most of, before many a look at its type
            following.on_heartbeat(core, sender, envelope.message)
            return
        match envelope.message:
            case HeartbeatReply() as message:
                replication.on_heartbeat_reply(core, sender, message)
                if isinstance(core.role, Leader):
                    if core.role.rounds:
                        reads.close_rounds(core, core.role)
                    changing.heard(core, core.role, sender)
            case Append() as message:
                following.on_append(core, sender, message)
            case AppendReply() as message:
                replication.on_append_reply(core, sender, message)
                if isinstance(core.role, Leader) and core.role.calls:
                    changing.heard(core, core.role, sender)
            case Heartbeat() as message:
                following.on_heartbeat(core, sender, message)
            case AppendReject() as message:
                replication.on_append_reject(core, sender, message)
            case LeaderLost() as message:
                suspicion.on_note(core, sender, message)
                election.consider(core)
            case Found() as message:
                suspicion.on_found(core, sender, message)
            case PreVote() as message:
                election.on_pre_vote(core, sender, message)
            case PreVoteReply() as message:
                election.on_pre_vote_reply(core, sender, message)
            case Vote() as message:
                election.on_vote(core, sender, message)
            case VoteReply() as message:
                know_batch(core, sender, message.batch)
                election.on_vote_reply(core, sender, message)
            case HigherTerm() as message:
                election.on_higher_term(core, sender, message)
            case TimeoutNow() as message:
                election.on_timeout_now(core, sender, message)
            case DurableProbe() as message:
                following.on_probe(core, sender, message)
            case DurableProbeReply() as message:
                replication.on_probe_reply(core, sender, message)
                if isinstance(core.role, Leader):
                    changing.heard(core, core.role, sender)
            case SnapshotChunk() as message:
                following.on_snapshot_chunk(core, sender, message)
            case SnapshotChunkReply() as message:
                shipping.on_reply(core, sender, message)
            case WantSnapshot() as message:
                witnesses.on_want(core, sender, message)
            case Removed() as message:
                configurations.on_removed(core, message)

    # --- outputs

    def _finish(self, gather: bool) -> Ready:
        """Most steps do one small thing: what is empty costs a look here, and no call."""
        core = self._core
        if isinstance(core.role, Leader) and core.fatal is None:
            _lead(core, core.role)
        committed, more = _NOTHING, False
        if core.commit > core.applied_to or core.installed is not None:
            committed, more = committing.hand_out(core)
        ready = Ready(
            tuple(core.send) if core.send else (), None if gather else next_batch(core),
            tuple(core.accepted) if core.accepted else (), tuple(core.refused) if core.refused else (), committed,
            tuple(core.reads) if core.reads else (), tuple(core.transfers) if core.transfers else (),
            tuple(core.changes) if core.changes else (), core.configuration if core.seats_changed else None,
            core.snapshot_wanted, tuple(core.traces) if core.traces else (),
            core.now if more else ticks.deadline(core), core.fatal,
        )  # fmt: skip
        core.seats_changed = core.snapshot_wanted = False
        if ready.send:
            core.send.clear()
        if ready.traces:
            core.traces.clear()
        if ready.accepted or ready.refused or ready.reads or ready.transfers or ready.changes:
            for gathered in (core.accepted, core.refused, core.reads, core.transfers, core.changes):
                gathered.clear()
        return ready


def _lead(core: Core, leader: Leader) -> None:
    """The end of a leader's step: what it has to say to the others now."""
    if leader.outbid > core.term:
        election.outbid(core)
        if core.role is not leader:
            return
    if leader.reads_waiting:
        reads.open_round(core, leader)
    if core.is_witness:
        witnesses.hand_on(core, leader)
    if leader.transfer is not None:
        transfer.advance(core, leader)
    replication.replicate(core, leader)


def _propose(core: Core, event: Propose) -> None:
    leader = core.role
    if not isinstance(leader, Leader):
        core.refused.append(Refused(event.token, "not_leader", core.watch.leader))
    elif event.expected_term is not None and event.expected_term != core.term:
        core.refused.append(Refused(event.token, "wrong_term", core.me))  # P3.5
    elif leader.transfer is not None or core.is_witness:
        core.refused.append(Refused(event.token, "transferring", core.me))  # P7.5, P8
    elif (
        core.log.last_index - core.commit >= core.settings.proposals_uncommitted_max
        or leader.uncommitted_bytes >= core.settings.proposals_uncommitted_bytes_max
    ):
        core.refused.append(Refused(event.token, "overloaded", core.me))
    else:
        entry = replication.append(core, leader, COMMAND, event.data)
        core.accepted.append(Accepted(event.token, entry.index, entry.term))
