"""The leader's half of a snapshot's way to a follower: several chunks in flight, and never so many that heartbeats and
writes would suffer.

Two bounds: bytes a second, for all followers together, because each chunk takes a moment of our loop; and a window of
bytes in flight for each, because chunks share a connection with the heartbeats and a slow link would queue them up. The
window grows with every answer that comes about as soon as the soonest ever did, and is halved when one takes a
heartbeat's interval longer (the idea of LEDBAT, RFC 6817).

A shipment outlives the link: what the follower has of it is not sent again. Nor is it given up for a newer snapshot,
else one that is taken every few seconds would starve a follower behind a slow link; the log above it stays meanwhile,
up to a limit (`held_from`), so that its end is of use.
"""

from typing import Final

from tenure.base.ids import LogIndex, MemberId
from tenure.base.instants import NEVER, Instant, after
from tenure.raft.entries import Image
from tenure.raft.messages import SnapshotChunk, SnapshotChunkReply
from tenure.raft.progress import Progress, Shipment
from tenure.raft.state import Core, Leader

_BURSTS_PER_S: Final = 200
"""What was not sent may be made up for 5 ms."""


def start(core: Core, peer: MemberId, progress: Progress) -> None:
    """The follower needs entries that we no longer hold: send it a snapshot, or go on with the one under way."""
    assert core.snapshot is not None, "a compacted log has a snapshot"
    shipment = progress.shipment
    progress.state = "snapshot"
    progress.inflight.clear()
    progress.moved_at = core.now
    if shipment is None or (shipment.acked == 0 and shipment.snapshot.index < core.log.base_index):
        shipment = progress.shipment = Shipment(core.snapshot, core.settings.snapshot_chunk_bytes)
    else:
        go_back(core, shipment)
    snapshot = shipment.snapshot
    core.trace("snapshot_sent", peer=peer, index=snapshot.index, bytes=snapshot.image.size, offset=shipment.acked)


def go_back(core: Core, shipment: Shipment) -> None:
    """What was in flight may be lost: one careful chunk from where the follower is known to be."""
    shipment.sent = shipment.acked
    shipment.chunks.clear()
    shipment.window = core.settings.snapshot_chunk_bytes


def ship_all(core: Core, leader: Leader) -> None:
    """At the end of a step: everybody in turn may take first what the rate allows."""
    leader.ship_due = NEVER
    peers = [peer for peer, one in leader.progress.items() if one.state == "snapshot" or one.copy is not None]
    if not peers:
        return
    leader.ship_turn = first = (leader.ship_turn + 1) % len(peers)
    for peer in peers[first:] + peers[:first]:
        progress = leader.progress[peer]
        if progress.state == "snapshot":
            assert progress.shipment is not None, "a follower in this state has one under way"
            if _ship(core, leader, peer, progress.shipment):
                progress.moved_at = core.now
        elif progress.copy is not None:
            _ship(core, leader, peer, progress.copy)


def _ship(core: Core, leader: Leader, peer: MemberId, shipment: Shipment) -> int:
    """Send as many chunks as window and rate allow now; how many bytes that were."""
    size, before = shipment.snapshot.image.size, shipment.sent
    while shipment.sent < size and shipment.sent - shipment.acked < shipment.window:
        if not _may_leave(core, leader):
            break
        leader.ship_credit -= _chunk(core, peer, shipment)
    return shipment.sent - before


def ask_again(core: Core, peer: MemberId, progress: Progress) -> None:
    """No answer for too long. Where all is acknowledged only the end can be missing: ask for that."""
    shipment = progress.shipment
    assert shipment is not None
    progress.moved_at = core.now
    if shipment.acked == shipment.snapshot.image.size:
        _chunk(core, peer, shipment)
    else:
        go_back(core, shipment)


def on_reply(core: Core, sender: MemberId, reply: SnapshotChunkReply) -> None:
    """The follower has so many bytes: what window and rate allow now leaves at the end of the step."""
    leader = core.role
    if not isinstance(leader, Leader) or reply.term != core.term or sender not in leader.progress:
        return
    progress = leader.progress[sender]
    progress.heard_at = core.now
    shipment = progress.shipment if progress.state == "snapshot" else progress.copy
    if shipment is None or shipment.snapshot.index != reply.snapshot_index:
        return
    received = reply.received
    if received > shipment.snapshot.image.size:
        core.trace("impossible_chunk", sender=sender, received=received, total=shipment.snapshot.image.size)
    elif received > shipment.acked:
        shipment.acked = received
        shipment.sent = max(shipment.sent, received)
        progress.moved_at = core.now
        _measure(core, shipment)
    elif received == 0 < shipment.acked:
        shipment.acked = 0  # a new life of the follower: what it had was in memory
        if progress.state == "snapshot":
            start(core, sender, progress)
        else:
            go_back(core, shipment)
    if progress.copy is not None and progress.copy.acked == progress.copy.snapshot.image.size:
        progress.copy = None  # the witness has it (P8)


def _measure(core: Core, shipment: Shipment) -> None:
    """Widen the window, or narrow it if the chunk just answered had to wait on its way."""
    settings, chunks = core.settings, shipment.chunks
    sent_at: Instant | None = None
    while chunks and chunks[0][0] <= shipment.acked:
        sent_at = chunks.popleft()[1]
    if sent_at is None:
        return
    took = core.now - sent_at
    shipment.least_us = took if shipment.least_us is None else min(shipment.least_us, took)
    if took <= shipment.least_us + settings.heartbeat_us:
        shipment.window = min(settings.snapshot_inflight_bytes_max, shipment.window + settings.snapshot_chunk_bytes)
    elif shipment.acked > shipment.narrowed:
        shipment.window = max(settings.snapshot_chunk_bytes, shipment.window // 2)
        shipment.narrowed = shipment.sent


def _may_leave(core: Core, leader: Leader) -> bool:
    """Whether the rate allows a chunk now; else `ship_due` says when to look again."""
    settings = core.settings
    earned = (core.now - leader.ship_at) * settings.snapshot_bytes_per_s // 1_000_000
    if earned:  # else the next step's share begins where this one's did: steps may be shorter than a byte takes
        burst = settings.snapshot_chunk_bytes + settings.snapshot_bytes_per_s // _BURSTS_PER_S
        leader.ship_credit = min(burst, leader.ship_credit + earned)
        leader.ship_at = core.now
    if leader.ship_credit >= settings.snapshot_chunk_bytes:
        return True
    missing = settings.snapshot_chunk_bytes - leader.ship_credit
    leader.ship_due = after(core.now, missing * 1_000_000 // settings.snapshot_bytes_per_s + 1)
    return False


def _chunk(core: Core, peer: MemberId, shipment: Shipment) -> int:
    """Send the next chunk; how many bytes."""
    snapshot = shipment.snapshot
    image = snapshot.image
    data = cut(image, shipment.sent, core.settings.snapshot_chunk_bytes)
    core.say(
        peer,
        SnapshotChunk(
            core.term, snapshot.index, snapshot.term, snapshot.configuration, snapshot.feature, shipment.sent,
            image.size, image.crc, data,
        ),
    )  # fmt: skip
    shipment.sent += len(data)
    shipment.chunks.append((shipment.sent, core.now))
    return len(data)


def cut(image: Image, offset: int, length: int) -> bytes:
    """Up to `length` bytes at `offset`, of one piece alone: nothing is joined."""
    for piece in image.pieces:
        if offset < len(piece):
            return piece[offset : offset + length]
        offset -= len(piece)
    return b""


def held_from(core: Core, index: LogIndex) -> LogIndex:
    """The last index that may go from the log now that a snapshot at `index` stands: what followers still need stays,
    up to the limits. So a shipment under way, or a short absence, doesn't end with another snapshot.
    """
    settings, log = core.settings, core.log
    kept = max(LogIndex(index - settings.log_kept_entries), log.within(settings.log_kept_bytes, index))
    least = max(LogIndex(index - settings.log_held_entries_max), log.within(settings.log_held_bytes_max, index))
    return max(log.base_index, min(kept, max(least, _needed(core, index))))


def _needed(core: Core, index: LogIndex) -> LogIndex:
    """The last index that every follower heard of lately has, or will have with its shipment."""
    needed = index
    if isinstance(core.role, Leader):
        for progress in core.role.progress.values():
            if core.now - progress.heard_at > core.settings.log_held_us:
                progress.shipment = None  # neither its bytes nor the log above it are kept for one so long gone
                if progress.state == "snapshot":
                    progress.state, progress.probe_sent = "probe", True
                continue
            has = progress.match
            if progress.shipment is not None:
                has = max(has, progress.shipment.snapshot.index)
            needed = min(needed, has)
    return needed
