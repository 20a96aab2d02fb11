"""Snapshots: taken from the state machine, sent in chunks, installed as one item of the apply queue (P4.6)."""

from tenure.base.ids import LogIndex, MemberId
from tenure.raft import configurations
from tenure.raft.disk import promise, promise_number
from tenure.raft.entries import Snapshot
from tenure.raft.events import TakeSnapshot
from tenure.raft.messages import AppendReply, SnapshotChunk, SnapshotChunkReply
from tenure.raft.state import Core, Incoming, Leader, Progress


def take(core: Core, event: TakeSnapshot) -> None:
    """Make the state at an applied index durable and cut the log below it, a tail kept for slow followers."""
    index = event.index
    if core.snapshot is not None and index <= core.snapshot.index:
        core.trace("snapshot_outdated", index=index)
        return
    if core.disk.install:  # an installed one gathers still: the two can't be one write, the next chance comes soon
        core.trace("snapshot_deferred", index=index)
        return
    assert index <= core.applied_to, "a snapshot is of an applied index"
    term = core.log.term_at(index)
    assert term is not None
    snapshot = Snapshot(index, term, configurations.as_of(core, index), core.feature, event.data)
    cut(core, snapshot, core.settings.log_kept_entries)
    core.trace("snapshot_taken", index=index, bytes=len(event.data), first=core.log.first)


def cut(core: Core, snapshot: Snapshot, kept_entries: int) -> None:
    """Keep a snapshot of what is applied; the log below it goes, but for a tail, in the same write."""
    core.snapshot = snapshot
    kept = LogIndex(max(core.log.base_index, snapshot.index - kept_entries))
    kept = min(kept, core.log.durable)
    core.log.compact(kept)
    disk = core.disk
    disk.snapshot = snapshot
    disk.compact_to = LogIndex(core.log.base_index + 1)
    disk.dirty = True


def start(core: Core, peer: MemberId, progress: Progress) -> None:
    """The follower needs entries that we no longer hold: send it our snapshot."""
    assert core.snapshot is not None, "a compacted log has a snapshot"
    progress.state = "snapshot"
    progress.inflight.clear()
    progress.snapshot = core.snapshot
    progress.snapshot_offset = 0
    core.trace("snapshot_sent", peer=peer, index=core.snapshot.index, bytes=len(core.snapshot.data))
    resend(core, peer, progress)


def resend(core: Core, peer: MemberId, progress: Progress) -> None:
    """Send the chunk at the offset that the follower has reached."""
    snapshot = progress.snapshot
    assert snapshot is not None
    progress.moved_at = core.now
    offset = progress.snapshot_offset
    data = snapshot.data[offset : offset + core.settings.snapshot_chunk_bytes]
    core.say(
        peer,
        SnapshotChunk(
            core.term, snapshot.index, snapshot.term, snapshot.configuration, snapshot.feature, offset,
            len(snapshot.data), data,
        ),
    )  # fmt: skip


def on_chunk_reply(core: Core, sender: MemberId, reply: SnapshotChunkReply) -> None:
    """The follower has so many bytes: send the next, or wait for its `AppendReply` after the disk."""
    leader = core.role
    if not isinstance(leader, Leader) or reply.term != core.term or sender not in leader.progress:
        return
    progress = leader.progress[sender]
    progress.heard_at = core.now
    snapshot = progress.snapshot
    if snapshot is None or snapshot.index != reply.snapshot_index:
        return
    if not 0 <= reply.received <= len(snapshot.data) or reply.received == progress.snapshot_offset:
        return
    progress.snapshot_offset = reply.received
    if reply.received < len(snapshot.data):
        resend(core, sender, progress)
    elif progress.state != "snapshot":
        progress.snapshot = None  # a witness's copy (P8): it has it


def on_chunk(core: Core, sender: MemberId, chunk: SnapshotChunk) -> None:
    """Gather a chunk in order; the caller has checked the leader and its term."""
    copied = _takes_copy(core, chunk)
    if chunk.snapshot_index <= core.commit and not copied:
        core.incoming = None
        acknowledge(core, sender, core.commit)
        return
    if chunk.total > core.settings.snapshot_bytes_max:
        core.trace("snapshot_too_large", total=chunk.total)
        return
    incoming = core.incoming
    if incoming is None or not _continues(incoming.head, chunk):
        if chunk.offset != 0:
            core.say(sender, SnapshotChunkReply(core.term, chunk.snapshot_index, 0))
            return
        incoming = core.incoming = Incoming(chunk, bytearray())
    if chunk.offset == len(incoming.data) and len(incoming.data) + len(chunk.data) <= chunk.total:
        incoming.data += chunk.data
    if len(incoming.data) < chunk.total:
        core.say(sender, SnapshotChunkReply(core.term, chunk.snapshot_index, len(incoming.data)))
        return
    core.incoming = None
    if copied:
        _keep(core, sender, incoming)
        return
    head = incoming.head
    snapshot = Snapshot(head.snapshot_index, head.snapshot_term, head.configuration, head.feature, bytes(incoming.data))
    _install(core, sender, snapshot)


def _takes_copy(core: Core, chunk: SnapshotChunk) -> bool:
    """Whether this is a snapshot of what the witness holds as entries."""
    newer = core.snapshot is None or chunk.snapshot_index > core.snapshot.index
    if not core.is_witness or not newer or core.disk.install:
        return False
    held = chunk.snapshot_index <= core.applied_to
    return held and core.log.term_at(chunk.snapshot_index) == chunk.snapshot_term


def _keep(core: Core, sender: MemberId, incoming: Incoming) -> None:
    """The copy is whole: make it durable in the same write that lets the log below it go."""
    head = incoming.head
    snapshot = Snapshot(head.snapshot_index, head.snapshot_term, head.configuration, head.feature, bytes(incoming.data))
    configurations.as_of(core, snapshot.index)
    cut(core, snapshot, kept_entries=0)
    witness = core.witness
    log = core.log
    witness.bytes = sum(len(entry.data) for entry in log.between(log.first, core.applied_to))
    core.trace("snapshot_kept", index=snapshot.index, bytes=len(snapshot.data), first=log.first)
    core.say(sender, SnapshotChunkReply(core.term, snapshot.index, len(snapshot.data)))


def _continues(head: SnapshotChunk, chunk: SnapshotChunk) -> bool:
    return (head.term, head.snapshot_index, head.snapshot_term, head.total) == (
        chunk.term, chunk.snapshot_index, chunk.snapshot_term, chunk.total,
    )  # fmt: skip


def _install(core: Core, sender: MemberId, snapshot: Snapshot) -> None:
    if core.log.term_at(snapshot.index) == snapshot.term:
        core.commit = snapshot.index  # we hold it all: only the commit moves
        acknowledge(core, sender, snapshot.index)
        return
    core.log.reset(snapshot.index, snapshot.term)
    core.snapshot = snapshot
    configurations.replaced(core, snapshot.configuration)
    core.feature = snapshot.feature
    core.commit = snapshot.index
    core.installed = snapshot
    disk = core.disk
    disk.snapshot, disk.install = snapshot, True
    disk.compact_to = disk.truncate_from = None
    disk.promises = [kept for kept in disk.promises if not isinstance(kept.message, AppendReply)]
    disk.dirty = True
    if disk.in_flight is not None:
        disk.in_flight.cap = LogIndex(0)
    core.trace("snapshot_installed", index=snapshot.index, bytes=len(snapshot.data))
    acknowledge(core, sender, snapshot.index)


def acknowledge(core: Core, to: MemberId, match: LogIndex) -> None:
    """Promise everything up to `match`, behind the disk if it isn't durable yet (P4.5: in the term it was accepted)."""
    core.promised = (core.term, match)
    promise(core, to, AppendReply(core.term, match, promise_number(core)))
