"""Snapshots: taken from the state machine, received in chunks, installed as one item of the apply queue (P4.6).
How they are sent: `shipping`.

What is received stays in memory until it is whole: a broken link, or another leader with the same snapshot, goes on
where it stopped; a new life of this process begins anew.
"""

from zlib import crc32

from tenure.base.ids import LogIndex, MemberId
from tenure.raft import configurations, shipping, versions
from tenure.raft.disk import promise, promise_number
from tenure.raft.entries import Image, Snapshot
from tenure.raft.events import TakeSnapshot
from tenure.raft.messages import AppendReply, SnapshotChunk, SnapshotChunkReply
from tenure.raft.state import Core, Incoming


def take(core: Core, event: TakeSnapshot) -> None:
    """Make the state at an applied index durable and cut the log below it, a tail kept for followers."""
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
    snapshot = Snapshot(index, term, configurations.as_of(core, index), event.feature, event.image)
    cut(core, snapshot, shipping.held_from(core, index))
    core.trace("snapshot_taken", index=index, bytes=event.image.size, first=core.log.first)


def cut(core: Core, snapshot: Snapshot, kept: LogIndex) -> None:
    """Keep a snapshot of what is applied; the log up to `kept` goes, in the same write."""
    core.snapshot = snapshot
    core.log.compact(min(kept, core.log.durable))
    disk = core.disk
    disk.snapshot = snapshot
    disk.compact_to = LogIndex(core.log.base_index + 1)
    disk.dirty = True


def on_chunk(core: Core, sender: MemberId, chunk: SnapshotChunk) -> None:
    """Gather a chunk in order; the caller has checked the leader and its term."""
    if not versions.speaks(core, chunk.feature):
        return
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
        newest = incoming is None or chunk.snapshot_index >= incoming.head.snapshot_index
        if not newest and incoming is not None and chunk.term <= incoming.term:
            return  # late: this leader has a newer one under way. Another leader's may be older: it is what there is
        incoming = core.incoming = Incoming(chunk, chunk.term)
        core.trace("snapshot_coming", sender=sender, index=chunk.snapshot_index, bytes=chunk.total)
    incoming.term = max(incoming.term, chunk.term)
    if chunk.offset == incoming.received and incoming.received + len(chunk.data) <= chunk.total:
        incoming.pieces.append(chunk.data)
        incoming.received += len(chunk.data)
        incoming.crc = crc32(chunk.data, incoming.crc)
    if incoming.received < chunk.total:
        core.say(sender, SnapshotChunkReply(core.term, chunk.snapshot_index, incoming.received))
        return
    core.incoming = None
    if incoming.crc != chunk.crc:
        core.trace("snapshot_damaged", sender=sender, index=chunk.snapshot_index)
        core.say(sender, SnapshotChunkReply(core.term, chunk.snapshot_index, 0))
        return
    core.say(sender, SnapshotChunkReply(core.term, chunk.snapshot_index, chunk.total))
    if copied:
        _keep(core, incoming)
        return
    head = incoming.head
    image = Image(tuple(incoming.pieces), incoming.received, incoming.crc)
    _install(
        core, sender, Snapshot(head.snapshot_index, head.snapshot_term, head.configuration, head.feature, image)
    )  # fmt: skip


def _takes_copy(core: Core, chunk: SnapshotChunk) -> bool:
    """Whether this is a snapshot of what the witness holds as entries."""
    newer = core.snapshot is None or chunk.snapshot_index > core.snapshot.index
    if not core.is_witness or not newer or core.disk.install:
        return False
    held = chunk.snapshot_index <= core.applied_to
    return held and core.log.term_at(chunk.snapshot_index) == chunk.snapshot_term


def _keep(core: Core, incoming: Incoming) -> None:
    """The copy is whole: make it durable in the same write that lets the log below it go."""
    head = incoming.head
    image = Image(tuple(incoming.pieces), incoming.received, incoming.crc)
    snapshot = Snapshot(head.snapshot_index, head.snapshot_term, head.configuration, head.feature, image)
    configurations.as_of(core, snapshot.index)
    cut(core, snapshot, snapshot.index)
    core.trace("snapshot_kept", index=snapshot.index, bytes=image.size, first=core.log.first)


def _continues(head: SnapshotChunk, chunk: SnapshotChunk) -> bool:
    """The same bytes, whoever sends them."""
    return (head.snapshot_index, head.snapshot_term, head.total, head.crc) == (
        chunk.snapshot_index, chunk.snapshot_term, chunk.total, chunk.crc,
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
    core.trace("snapshot_installed", index=snapshot.index, bytes=snapshot.image.size)
    acknowledge(core, sender, snapshot.index)


def acknowledge(core: Core, to: MemberId, match: LogIndex) -> None:
    """Promise everything up to `match`, behind the disk if it isn't durable yet (P4.5: in the term it was accepted)."""
    core.promised = (core.term, match)
    promise(core, to, AppendReply(core.term, match, promise_number(core)))
