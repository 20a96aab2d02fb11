"""The follower's half: what a leader's frames do here."""

from tenure.base.ids import ConsensusTerm, LogIndex, MemberId
from tenure.base.instants import after
from tenure.raft import configurations, snapshots, suspicion, witnesses
from tenure.raft.disk import know_batches, promise, promise_number, truncate
from tenure.raft.messages import (
    Append,
    AppendReject,
    DurableProbe,
    DurableProbeReply,
    Heartbeat,
    HeartbeatReply,
    HigherTerm,
    SnapshotChunk,
)
from tenure.raft.roles import become_follower
from tenure.raft.state import Core, Follower, Leader, Watch

_graces_max = 3
"""So many stalls are excused in one silence: a host that is late each time would else wait for ever."""


def from_leader(core: Core, sender: MemberId, term: ConsensusTerm) -> bool:
    """Take traffic of a leader: follow it if its term isn't below ours, else say ours (P5.8). Whether to go on."""
    if term < core.term:
        _say_higher_term(core, sender)
        return False
    if term > core.term:
        become_follower(core, term, "leader_traffic", sender)
    assert not isinstance(core.role, Leader), f"two leaders in term {term}: {core.me} and {sender}"
    if not isinstance(core.role, Follower):
        core.role = Follower()
    if core.watch.leader != sender:
        core.watch = Watch(leader=sender, heard_at=core.now)
        core.watch.timeout_us = core.timing.forget_leader(sender)
        core.trace("following", leader=sender, term=term)
    if core.suspicion is not None or core.notes or core.rounds_failed:
        suspicion.hear(core)
    core.watch.heard_at = core.now
    core.graces = 0
    return True


def _say_higher_term(core: Core, sender: MemberId) -> None:
    """At most once per term; again only after a long silence, should it have been lost on the way."""
    told = core.higher_told.get(sender)
    if told is not None and told[0] == core.term and core.now - told[1] < core.settings.timeout_max_us:
        return
    core.higher_told[sender] = (core.term, core.now)
    core.say(sender, HigherTerm(core.term, core.watch.leader))


def on_heartbeat(core: Core, sender: MemberId, beat: Heartbeat) -> None:
    """Sign of life, round, ranks and batch numbers; answered at once: nothing durable is promised (P4.1)."""
    if not from_leader(core, sender, beat.term):
        return
    watch = core.watch
    if watch.boot != beat.boot:
        watch.boot, watch.number, watch.beat_at = beat.boot, 0, None
    _measure_gap(core, beat)
    watch.number = max(watch.number, beat.number)
    watch.ranks = beat.ranks
    know_batches(core, beat.batches)
    term, match = core.promised
    if term == core.term:
        advance_commit(core, min(beat.commit, match))
    if core.is_witness:
        witnesses.ask(core, sender)
    if beat.answer:
        durable, speaks = core.disk.durable, core.settings.feature_max
        core.say(sender, HeartbeatReply(core.term, beat.boot, beat.number, durable, speaks, core.unheard))
        if beat.echoes:
            core.freshness.answer(beat, core.me, core.now)


def _measure_gap(core: Core, beat: Heartbeat) -> None:
    """P6.2: a gap that ended with a new leader, a new connection or an own stall is no sample."""
    watch = core.watch
    if watch.beat_at is not None and beat.number > watch.number and core.now >= core.grace_until:
        gap = max(0, core.now - watch.beat_at - core.late_us)
        core.timing.gap_sample(gap, watch.interval_us, core.now)
    watch.beat_at = core.now
    watch.interval_us = beat.interval_us
    core.timing.leader_lateness = beat.lateness_us
    core.late_us = 0
    watch.timeout_us = core.timing.leader_timeout(watch.leader, beat.interval_us, core.now)


def advance_commit(core: Core, index: LogIndex) -> None:
    """Commit never goes back, and never past what this member has verified."""
    if index > core.commit:
        assert index <= core.log.last_index
        core.commit = index


def on_append(core: Core, sender: MemberId, append: Append) -> None:
    """Match, truncate what conflicts, take what is new; the acknowledgement waits for the disk (P4.8)."""
    if not from_leader(core, sender, append.term):
        return
    log, entries = core.log, append.entries
    prev_index, prev_term = append.prev_index, append.prev_term
    last = LogIndex(prev_index + len(entries))
    if prev_index < core.commit:  # committed entries match any leader's (Raft §5.4.3): skip them
        if last <= core.commit:
            _answer(core, sender, core.commit, asked=bool(entries))
            return
        entries = entries[core.commit - prev_index :]
        prev_index = core.commit
        known = log.term_at(prev_index)
        assert known is not None
        prev_term = known
    if log.term_at(prev_index) != prev_term:
        place = log.last_at_or_below(prev_index, prev_term)
        hint = log.term_at(place)
        assert hint is not None
        core.say(sender, AppendReject(core.term, append.prev_index, place, hint))
        return
    for offset, entry in enumerate(entries):
        known = log.term_at(entry.index)
        if known == entry.term:
            continue
        if known is not None:
            core.trace("truncated", start=entry.index, last=log.last_index)
            truncate(core, entry.index)
            configurations.truncated(core, entry.index)
        log.append(entries[offset:])
        core.disk.dirty = True
        configurations.appended(core, entries[offset:])
        break
    _answer(core, sender, last, asked=bool(entries))
    advance_commit(core, min(append.commit, last))


def _answer(core: Core, sender: MemberId, match: LogIndex, *, asked: bool) -> None:
    """An empty append within what is already promised is a mere commit notice: no answer."""
    term, promised = core.promised
    if asked or term != core.term or match > promised:
        snapshots.acknowledge(core, sender, match)


def on_probe(core: Core, sender: MemberId, probe: DurableProbe) -> None:
    """One durable write of nothing (P4.1)."""
    if from_leader(core, sender, probe.term):
        core.disk.dirty = True
        promise(core, sender, DurableProbeReply(core.term, probe.number, promise_number(core)))


def on_snapshot_chunk(core: Core, sender: MemberId, chunk: SnapshotChunk) -> None:
    """A piece of the leader's snapshot."""
    if from_leader(core, sender, chunk.term):
        snapshots.on_chunk(core, sender, chunk)


def stalled(core: Core, late_us: int) -> None:
    """Our own loop was late (P6.3): take it off the gap; after a stall allow one fresh interval and round trip."""
    if isinstance(core.role, Leader):
        core.role.late_us = max(core.role.late_us, late_us)
    else:
        core.timing.lateness_sample(late_us, core.now)
    core.late_us += late_us
    if late_us > core.settings.heartbeat_us // 2 and core.graces < _graces_max:
        core.graces += 1
        core.grace_until = max(core.grace_until, after(core.now, core.settings.heartbeat_us + core.timing.rtt_p99))
