"""Durable effects (P4): what gathers into a batch, what waits for it, what its completion proves."""

from tenure.base.ids import BatchNumber, LogIndex, MemberId
from tenure.raft.entries import HardState
from tenure.raft.messages import AnyMessage, AppendReply, Envelope, VoteReply
from tenure.raft.ready import Batch, Fatal
from tenure.raft.state import Core, InFlight


def set_hard_state(core: Core) -> None:
    """Term or vote have changed: they go with the next batch."""
    core.disk.hard_state_dirty = True
    core.disk.dirty = True


def promise_number(core: Core) -> BatchNumber:
    """The number of the batch that makes everything accepted so far durable (P1.3)."""
    disk = core.disk
    flying = 1 if disk.in_flight is not None else 0
    gathering = 1 if disk.dirty else 0
    return BatchNumber(disk.durable + flying + gathering)


def promise(core: Core, to: MemberId, message: AnyMessage) -> None:
    """Send what promises all that was accepted so far: at once if it is durable, else behind its batch (P4.8)."""
    envelope = Envelope(core.me, to, core.nonce, message)
    disk = core.disk
    if disk.dirty:
        disk.promises.append(envelope)
    elif disk.in_flight is not None:
        disk.late.append(envelope)
    else:
        core.send.append(envelope)


def truncate(core: Core, start: LogIndex) -> None:
    """Take entries ≥ `start` away, in memory now and on disk with the next batch; caps the batch in flight (P4.5)."""
    assert start > core.commit, "a committed entry is never truncated"
    disk = core.disk
    submitted = core.log.unsaved
    core.log.truncate(start)
    if start < submitted:
        disk.truncate_from = start if disk.truncate_from is None else min(disk.truncate_from, start)
    if disk.in_flight is not None:
        disk.in_flight.cap = min(disk.in_flight.cap, LogIndex(start - 1))
    disk.promises = [
        promised
        for promised in disk.promises
        if not (isinstance(promised.message, AppendReply) and promised.message.match >= start)
    ]
    disk.dirty = True


def drop_vote_promises(core: Core) -> None:
    """A newer term came before a granted vote reached the disk: that grant is never said."""
    disk = core.disk
    disk.promises = [promised for promised in disk.promises if not isinstance(promised.message, VoteReply)]


def know_batches(core: Core, told: dict[MemberId, BatchNumber]) -> None:
    """Keep the highest numbers that others' disks are known to have reached, and check our own (P1.3)."""
    for member, number in told.items():
        if member == core.me:
            check_rollback(core, number)
        elif number > core.known_batches.get(member, 0):
            know_batch(core, member, number)


def know_batch(core: Core, member: MemberId, number: BatchNumber) -> None:
    """Another's disk has reached `number`."""
    if number > core.known_batches.get(member, 0):
        core.known_batches[member] = number
        core.disk.known_dirty = True


def check_rollback(core: Core, told: BatchNumber) -> None:
    """A peer knows of a later batch of ours than our disk: the disk went back, we may not vote or promise (P1.3)."""
    if told > core.disk.durable and core.fatal is None:
        core.fatal = Fatal(
            "rolled_back",
            f"a peer knows batch {told} of this member, but its disk ends at batch {core.disk.durable}: "
            "the disk has lost acknowledged writes. Replace it with `tenure member replace`, which gives it a new id",
        )
        core.trace("rolled_back", told=told, durable=core.disk.durable)


def next_batch(core: Core) -> Batch | None:
    """The batch that has gathered, if the disk is free to take it."""
    disk, log = core.disk, core.log
    if not disk.dirty or disk.in_flight is not None or core.fatal is not None:
        return None
    number = BatchNumber(disk.durable + 1)
    hard_state = HardState(core.term, core.vote)
    start = max(log.unsaved, log.first)
    end = log.last_index
    batch = Batch(
        number=number,
        hard_state=hard_state if disk.hard_state_dirty else None,
        snapshot=disk.snapshot,
        install=disk.install,
        compact_to=disk.compact_to,
        truncate_from=disk.truncate_from,
        entries=log.between(start, end) if start <= end else (),
        known_batches=dict(core.known_batches) if disk.known_dirty else None,
        send_after_persist=tuple(disk.promises),
    )
    disk.in_flight = InFlight(number, end, end, core.now, hard_state, disk.snapshot is not None)
    log.unsaved = LogIndex(end + 1)
    disk.dirty = disk.hard_state_dirty = disk.known_dirty = disk.install = False
    disk.snapshot = disk.compact_to = disk.truncate_from = None
    disk.promises = []
    return batch


def completed(core: Core, number: BatchNumber, sync_us: int) -> None:
    """The batch in flight is durable: so is the log up to its cap (P4.5), and what waited for it may leave."""
    disk = core.disk
    flying = disk.in_flight
    assert flying is not None, "Persisted without a batch in flight"
    assert flying.number == number, f"Persisted({number}), but {flying.number} is in flight"
    disk.in_flight = None
    disk.durable = number
    core.log.durable = max(core.log.durable, flying.cap)
    core.send.extend(disk.late)
    disk.late = []
    core.timing.sync_sample(sync_us)
