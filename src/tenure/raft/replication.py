"""The leader's half of replication (Raft §5.3): heartbeats, pipelined appends with flow control, commit.

A page of entries that several followers need is one `Append` object, so that the driver encodes it once.
"""

from tenure.base.ids import ConsensusTerm, LogIndex, MemberId
from tenure.base.instants import Instant, after
from tenure.raft import quorum, shipping
from tenure.raft.disk import know_batch
from tenure.raft.entries import FEATURE, NOOP, Entry
from tenure.raft.messages import (
    Append,
    AppendReject,
    AppendReply,
    DurableProbe,
    DurableProbeReply,
    Heartbeat,
    HeartbeatReply,
)
from tenure.raft.progress import Progress
from tenure.raft.state import Candidate, Core, Leader

_doublings_max = 8


def become_leader(core: Core, won: Candidate) -> None:
    """Lead the term: an own no-op first (Raft §8), the voters' last ids in place of probes (P5.7)."""
    log = core.log
    last = log.last_index
    progress: dict[MemberId, Progress] = {}
    for peer in core.peers:
        known = won.lasts.get(peer)
        one = Progress(LogIndex(0), LogIndex(last + 1), heard_at=core.now, moved_at=core.now)
        link = core.links.get(peer)
        one.boot = link.boot if link is not None else None
        if known is not None:
            index, term = known
            if log.term_at(index) == term:  # a grant leaves behind the disk, so all that is durable there (P4.8)
                one.match, one.next, one.state = index, LogIndex(index + 1), "replicate"
            else:
                one.next = max(LogIndex(min(last, index) + 1), LogIndex(1))
        progress[peer] = one
    leader = Leader(noop=LogIndex(last + 1), won_at=core.now, progress=progress)
    if last > core.applied_to:
        leader.uncommitted_bytes = sum(len(entry.data) for entry in log.between(LogIndex(core.applied_to + 1), last))
    core.role = leader
    core.watch.leader = core.me
    core.watch.boot = core.identity.boot
    core.suspicion = None
    core.rounds_failed = 0
    core.notes.clear()
    leader.probe_due = after(core.now, core.timing.disk_stall)
    core.trace("leader_elected", term=core.term, noop=leader.noop, votes=len(won.granted))
    append(core, leader, NOOP, b"")
    beat(core, leader)


def append(core: Core, leader: Leader, kind: int, data: bytes) -> Entry:
    """Put an entry at the end of our log; it is replicated and persisted at the end of the step."""
    entry = Entry(LogIndex(core.log.last_index + 1), core.term, kind, data)
    core.log.append_one(entry)
    core.disk.dirty = True
    leader.uncommitted_bytes += len(data)
    return entry


def beat(core: Core, leader: Leader, *, opens_round: bool = False) -> int:
    """One numbered heartbeat to all (P6.1); its number is new in (boot, term). Returns the number.

    Where nothing waits for answers every second one is asked for: an answer wakes two processes, and CheckQuorum has
    patience for ten beats.
    """
    raise_feature(core, leader)  # not only with regular ones: each round puts those off, and a busy leader has none
    leader.beat += 1
    leader.beat_at = core.now
    interval = core.settings.heartbeat_us
    leader.beat_due = after(core.now, interval)
    leader.ranks = _ranks(core, leader)
    leader.commit_at_beat = core.commit
    batches = dict(core.known_batches)
    batches[core.me] = core.disk.durable
    late_us = core.timing.lateness(core.now)
    answer = opens_round or leader.beat % 2 == 0 or _waits_for_answers(core, leader)
    committed, echoes = _echoes(core, leader) if answer else (LogIndex(0), {})
    said: dict[LogIndex, Heartbeat] = {}
    """By commit index: those who hold what is committed are told the same, which the driver encodes once."""
    for peer, progress in leader.progress.items():
        commit = min(core.commit, progress.match)
        message = said.get(commit)
        if message is None:
            message = said[commit] = Heartbeat(
                core.term, core.identity.boot, leader.beat, commit, interval, late_us, leader.ranks, batches, answer,
                committed, echoes,
            )  # fmt: skip
        core.say(peer, message)
    return leader.beat


def _echoes(core: Core, leader: Leader) -> tuple[LogIndex, dict[MemberId, int]]:
    """What tells the others how old their state is, at a regular pace: reads make many more heartbeats (`freshness`).
    Before our no-op is committed we don't know all that is.
    """
    if core.now < leader.echo_due or core.commit < leader.noop:
        return LogIndex(0), {}
    leader.echo_due = after(core.now, core.settings.heartbeat_us // 2)
    return core.commit, {peer: progress.beat_acked for peer, progress in leader.progress.items()}


def _waits_for_answers(core: Core, leader: Leader) -> bool:
    """Whether an answer could let something go on: a round, a change, our first commit, a transfer, an append sent
    again.
    """
    return (
        bool(leader.rounds or leader.calls)
        or core.commit < leader.noop
        or leader.transfer is not None
        or any(progress.state != "replicate" or progress.inflight for progress in leader.progress.values())
    )


def _ranks(core: Core, leader: Leader) -> tuple[MemberId, ...]:
    """Who should stand first when we are lost: in step with the log, priority, id; witnesses last (P5). A hint, made
    anew when the members change or somebody falls behind or catches up.
    """
    committed = leader.commit_at_beat
    behind = [peer for peer, progress in leader.progress.items() if progress.match < committed]
    if leader.ranked is not None and leader.ranked[0] is core.configuration and leader.ranked[1] == behind:
        return leader.ranks
    leader.ranked = (core.configuration, behind)
    rows = []
    for seat in core.configuration.seats:
        if seat.role == "observer" or seat.id == core.me:
            continue
        rows.append((seat.role == "witness", seat.id in behind, -seat.priority, seat.id))
    return tuple(row[3] for row in sorted(rows))


def replicate(core: Core, leader: Leader) -> None:
    """At the end of a step: send every peer what it may have now."""
    pages: dict[LogIndex, Append] = {}
    last, commit = core.log.last_index, core.commit
    for peer, progress in leader.progress.items():
        if progress.state == "replicate" and progress.next > last and progress.commit_sent >= commit:
            continue  # up to date
        if progress.state == "snapshot":
            continue
        if core.demoted is not None and core.demoted[0] == peer and commit < core.demoted[1]:
            # P7.3, ADR 0030: who loses its vote hears of it when that is committed. Else, where the entry gets lost by
            # all others, it is the freshest, refuses them its vote, and doesn't stand itself.
            _replicate_to(core, peer, progress, {}, LogIndex(core.demoted[1] - 1))
        else:
            _replicate_to(core, peer, progress, pages, last)
    shipping.ship_all(core, leader)


def _replicate_to(core: Core, peer: MemberId, progress: Progress, pages: dict[LogIndex, Append], end: LogIndex) -> None:
    """What a peer may have of the log up to `end`."""
    log, settings = core.log, core.settings
    if progress.next <= log.base_index:
        shipping.start(core, peer, progress)
        return
    if progress.state == "probe":
        if not progress.probe_sent:
            message = _page(core, progress.next, pages, end)
            progress.probe_sent = True
            progress.moved_at = core.now
            progress.commit_sent = core.commit
            core.say(peer, message)
        return
    while progress.next <= end and len(progress.inflight) < settings.inflight_appends_max:
        message = _page(core, progress.next, pages, end)
        last = message.entries[-1].index
        if not progress.inflight:
            progress.moved_at = core.now
        progress.inflight.append(last)
        progress.next = LogIndex(last + 1)
        progress.commit_sent = core.commit
        core.say(peer, message)
    if progress.commit_sent < core.commit and progress.commit_sent < progress.next - 1 == end:
        # With entries beyond the window it would carry them, and they would be sent again later: those tell it.
        progress.commit_sent = core.commit
        core.say(peer, _page(core, progress.next, pages, end))


def _page(core: Core, start: LogIndex, pages: dict[LogIndex, Append], end: LogIndex) -> Append:
    known = pages.get(start)
    if known is None:
        log, settings = core.log, core.settings
        prev = LogIndex(start - 1)
        prev_term = log.term_at(prev)
        assert prev_term is not None
        count = max(0, min(settings.append_entries_max, end - start + 1))
        entries = log.page(start, count, settings.append_bytes_max)
        known = pages[start] = Append(core.term, prev, prev_term, core.commit, entries)
    return known


def _progress(core: Core, sender: MemberId, term: ConsensusTerm) -> tuple[Leader, Progress] | None:
    """The sender's progress, if we lead in just that term: an acknowledgement of an older one counts for nothing."""
    leader = core.role
    if not isinstance(leader, Leader) or term != core.term:
        return None
    progress = leader.progress.get(sender)
    if progress is None:
        return None
    progress.heard_at = core.now
    return leader, progress


def on_append_reply(core: Core, sender: MemberId, reply: AppendReply) -> None:
    """Everything up to `match` is durable at the sender."""
    found = _progress(core, sender, reply.term)
    if found is None:
        return
    leader, progress = found
    know_batch(core, sender, reply.batch)
    if reply.match > core.log.last_index:
        core.trace("impossible_match", sender=sender, match=reply.match, last=core.log.last_index)
        return
    progress.acked_at = core.now
    shipment = progress.shipment
    if shipment is not None and reply.match >= shipment.snapshot.index:
        shipment = progress.shipment = None
    if progress.state == "snapshot" and shipment is not None:
        return
    if progress.state != "replicate" and (progress.state == "snapshot" or reply.match >= progress.next - 1):
        # An older append's answer doesn't end a probe: where frames change places, each would send the window again.
        progress.state = "replicate"
        progress.inflight.clear()
        progress.next = LogIndex(max(reply.match, progress.match) + 1)
        progress.probe_sent = False
    if reply.match > progress.match:
        progress.match = reply.match
        progress.moved_at = core.now
        progress.again = 0
        progress.next = max(progress.next, LogIndex(reply.match + 1))
        maybe_commit(core, leader)
    inflight = progress.inflight
    while inflight and inflight[0] <= reply.match:
        inflight.popleft()


def on_append_reject(core: Core, sender: MemberId, reject: AppendReject) -> None:
    """Fast rejection: step back by whole terms; a rejection of what was since acknowledged is stale."""
    found = _progress(core, sender, reject.term)
    if found is None:
        return
    _, progress = found
    if progress.state == "snapshot" or reject.prev_index <= progress.match:
        return
    if progress.state == "probe" and reject.prev_index != progress.next - 1:
        return
    place = core.log.last_at_or_below(reject.hint_index, reject.hint_term)
    progress.next = LogIndex(max(progress.match + 1, min(reject.prev_index, place + 1)))
    to_probe(progress)
    core.trace("append_rejected", sender=sender, prev=reject.prev_index, next=progress.next)


def to_probe(progress: Progress) -> None:
    """What was in flight may be lost: one careful message next."""
    progress.state = "probe"
    progress.inflight.clear()
    progress.probe_sent = False


def on_heartbeat_reply(core: Core, sender: MemberId, reply: HeartbeatReply) -> None:
    """A sign of life, and a voice for every round up to its number (P3.3)."""
    found = _progress(core, sender, reply.term)
    if found is None or reply.boot != core.identity.boot:
        return
    leader, progress = found
    if reply.number > leader.beat:
        core.trace("impossible_beat", sender=sender, number=reply.number, last=leader.beat)
        return
    progress.beat_acked = max(progress.beat_acked, reply.number)
    progress.speaks = reply.speaks
    progress.unheard = reply.unheard
    know_batch(core, sender, reply.batch)
    _retry(core, leader, sender, progress)


def answer_after_us(core: Core, peer: MemberId) -> int:
    """How long an answer that waits for no disk may take before what it would answer is sent again."""
    return max(4 * core.timing.srtt(peer), 4 * core.settings.heartbeat_us)


def retry_after_us(core: Core, leader: Leader, peer: MemberId, progress: Progress) -> int:
    """How long an unanswered append may stand before it is sent again. Of a disk it waits for D at most (P4.1): by the
    p99 after one long stall what is lost would be missed for half a minute.

    Who has a probe already, or the no-op for which all wait, writes nothing twice: these wait as if for no disk, then
    for twice as long each time. Else a no-op that gets lost twice would cost two D (L1).
    """
    sync_us = min(4 * core.timing.sync_p99, core.timing.disk_stall)
    full = max(4 * core.timing.srtt(peer) + sync_us, 4 * core.settings.heartbeat_us)
    if progress.state == "probe" or core.commit < leader.noop:
        return min(full, answer_after_us(core, peer) << progress.again)
    return full


def _retry(core: Core, leader: Leader, peer: MemberId, progress: Progress) -> None:
    waited = core.now - progress.moved_at
    shipment = progress.shipment
    if progress.state == "snapshot" and shipment is not None and shipment.acked < shipment.snapshot.image.size:
        if waited >= answer_after_us(core, peer):  # chunks are kept in memory: what a disk takes says nothing of them
            shipping.ask_again(core, peer, progress)
        return
    if waited < retry_after_us(core, leader, peer, progress):
        return
    progress.again = min(progress.again + 1, _doublings_max)
    match progress.state:
        case "probe":
            progress.probe_sent = False
        case "replicate":
            if progress.inflight:
                progress.next = LogIndex(progress.match + 1)
                to_probe(progress)
        case "snapshot":
            shipping.ask_again(core, peer, progress)


def on_probe_reply(core: Core, sender: MemberId, reply: DurableProbeReply) -> None:
    """The sender's disk lives."""
    found = _progress(core, sender, reply.term)
    if found is not None and reply.number <= found[0].probe:
        found[1].acked_at = found[1].probed_at = core.now
        found[1].probe_acked = max(found[1].probe_acked, reply.number)
        know_batch(core, sender, reply.batch)


def probe_disks(core: Core, leader: Leader, voters: tuple[MemberId, ...] = ()) -> int:
    """One durable write of nothing, everywhere (P4.1): per D with nothing to write, and when ours takes half of D."""
    leader.probe += 1
    leader.probe_due = after(core.now, core.timing.disk_stall)
    core.disk.dirty = True
    for voter in voters or core.voters:
        if voter != core.me:
            core.say(voter, DurableProbe(core.term, leader.probe))
    return leader.probe


def maybe_commit(core: Core, leader: Leader) -> None:
    """Commit what a majority holds durably, only if it is of our own term (Raft §5.4.2); ourselves only by our
    durable index, so a majority without us suffices (P4.3).
    """
    log = core.log
    matches: list[int] = [log.durable if voter == core.me else leader.progress[voter].match for voter in core.voters]
    index = LogIndex(quorum.held_by_quorum(matches))
    if index <= core.commit or log.term_at(index) != core.term:
        return
    first = core.commit < leader.noop
    core.commit = index
    if first:
        core.trace("leader_serves", term=core.term, commit=index)


def raise_feature(core: Core, leader: Leader) -> None:
    """P10: the cluster's version rises only when every member speaks it, by a log entry."""
    if core.commit < leader.noop or core.feature >= core.settings.feature_max:
        return
    spoken = min((progress.speaks for progress in leader.progress.values()), default=core.settings.feature_max)
    version = min(spoken, core.settings.feature_max)
    if version <= core.feature or len(leader.progress) != len(core.peers):
        return
    # What is committed may not be handed out yet: it may have been committed in this very step.
    if any(entry.kind == FEATURE for entry in core.log.between(LogIndex(core.applied_to + 1), core.log.last_index)):
        return
    core.trace("feature_raised", version=version)
    append(core, leader, FEATURE, str(version).encode())


def quorum_heard(core: Core, leader: Leader, patience_us: int) -> bool:
    """CheckQuorum (thesis §6.2): whether a majority of voters was heard lately enough. What was found once is true for
    as long as the patience lasts, so each step but one in many only compares.
    """
    oldest = core.now - patience_us
    voters, heard_at = leader.quorum_heard
    if heard_at < oldest or voters is not core.voters:
        voters = core.voters
        times: list[int] = [core.now if voter == core.me else leader.progress[voter].heard_at for voter in voters]
        heard_at = Instant(quorum.held_by_quorum(times))
        leader.quorum_heard = (voters, heard_at)
    return heard_at >= oldest
