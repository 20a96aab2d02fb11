"""Handing the leadership over (thesis §3.10), asked for or because our own disk hangs (P4.1)."""

from tenure.base.ids import MemberId
from tenure.base.instants import Instant, after
from tenure.raft import quorum, replication, suspicion
from tenure.raft.disk import promise_number
from tenure.raft.events import Transfer
from tenure.raft.messages import TimeoutNow
from tenure.raft.ready import TransferEnded
from tenure.raft.roles import become_follower
from tenure.raft.state import Core, InFlight, Leader, TransferUnderWay


def ask(core: Core, event: Transfer) -> None:
    """Begin a transfer, or say why not."""
    leader = core.role
    if not isinstance(leader, Leader):
        core.transfers.append(TransferEnded(event.token, "not_leader", core.watch.leader))
        return
    if event.target == core.me:
        core.transfers.append(TransferEnded(event.token, "done", core.me))
        return
    if leader.transfer is not None:
        core.transfers.append(TransferEnded(event.token, "busy", core.me))
        return
    target = _best(core, leader, event.target)
    if target is None:
        core.transfers.append(TransferEnded(event.token, "no_target", core.me))
        return
    timing = core.timing
    ends_at = after(core.now, max(4 * timing.vote_timeout, 2 * core.settings.timeout_max_us))
    leader.transfer = TransferUnderWay(event.token, target, ends_at)
    core.trace("transfer_begun", target=target, term=core.term)
    advance(core, leader)


def _best(core: Core, leader: Leader, wanted: MemberId | None) -> MemberId | None:
    """The wanted voter if it was heard lately, else the one with the longest match, then by rank."""
    oldest = core.now - core.settings.timeout_max_us - core.settings.heartbeat_us
    alive = [
        member
        for member in core.voters
        if member != core.me
        and leader.progress[member].heard_at >= oldest
        and leader.progress[member].match > 0
        and not core.is_witness_seat(member)
    ]
    if wanted is not None:
        return wanted if wanted in alive else None
    ranks = leader.ranks
    alive.sort(
        key=lambda member: (
            -leader.progress[member].match,
            ranks.index(member) if member in ranks else len(ranks),
            member,
        )
    )
    return alive[0] if alive else None


def heir(core: Core, leader: Leader) -> MemberId | None:
    """To whom a witness hands on: a voter that holds state and is linked, the one who lacks least first."""
    seats = core.configuration.seats
    alive = [seat for seat in seats if seat.role == "voter" and seat.id != core.me and seat.id in core.links]
    best = max(alive, key=lambda seat: (leader.progress[seat.id].match, seat.priority, seat.id), default=None)
    return best.id if best is not None else None


def advance(core: Core, leader: Leader) -> None:
    """TimeoutNow leaves when the target holds our whole log."""
    transfer = leader.transfer
    if transfer is None or transfer.sent or leader.progress[transfer.target].match != core.log.last_index:
        return
    transfer.sent = True
    core.say(transfer.target, TimeoutNow(core.term))


def end_overdue(core: Core, leader: Leader) -> None:
    """The wait for the target is bounded; the bound is a deadline like all others (P4.7)."""
    transfer = leader.transfer
    if transfer is None or core.now < transfer.ends_at:
        return
    leader.transfer = None
    core.trace("transfer_failed", target=transfer.target, sent=transfer.sent)
    if transfer.token is not None:
        core.transfers.append(TransferEnded(transfer.token, "timeout", core.me))
    if transfer.resign:
        give_up(core, "disk_stalled")


def give_up(core: Core, reason: str) -> None:
    """Leave the leadership of our own accord and say so (P5.5)."""
    if isinstance(core.role, Leader):
        suspicion.resign(core)
        become_follower(core, core.term, reason)
        core.watch.leader = None
        core.watch.heard_at = core.now
        core.watch.patience_us = core.timing.leader_timeout(None, core.settings.heartbeat_us, core.now)


def half_stalled(core: Core, flying: InFlight) -> Instant:
    """When the others are asked whether their disks write."""
    return after(flying.since, core.timing.disk_stall // 2)


def stalled_at(core: Core, leader: Leader, flying: InFlight) -> Instant:
    """When it is judged: D has passed, and half of it since the others were asked."""
    at = after(flying.since, core.timing.disk_stall)
    if leader.stall_probe[0] == flying.number:
        at = max(at, after(leader.stall_probe[2], core.timing.disk_stall // 2))
    return max(at, core.grace_until)


def watch_due(core: Core, leader: Leader, flying: InFlight) -> Instant:
    """When `watch_disk` has something to do for this batch."""
    if leader.stall_probe[0] != flying.number and len(core.voters) > 1:
        return half_stalled(core, flying)
    return stalled_at(core, leader, flying)


def watch_disk(core: Core, leader: Leader) -> None:
    """P4.1: a batch older than D. If a majority without us writes, the disk is ours alone: hand over, or resign; else
    every disk is slow, and another leader would be no better. Who writes is asked when half of D is over (ADR 0034):
    disks that stall together don't do so in the same millisecond.
    """
    flying = core.disk.in_flight
    if flying is None:
        return
    if leader.stall_probe[0] != flying.number and core.now >= half_stalled(core, flying) and len(core.voters) > 1:
        replication.probe_disks(core, leader)
        leader.stall_probe = (flying.number, leader.probe, core.now)
    if core.now < stalled_at(core, leader, flying) or leader.transfer is not None:
        return
    asked, since = leader.stall_probe[1], core.now - core.timing.disk_stall * 3 // 2
    progress = [(voter, leader.progress[voter]) for voter in core.voters if voter != core.me]
    others = [voter for voter, one in progress if one.probe_acked >= asked and one.probed_at >= since]
    if len(others) >= quorum.size(len(core.voters)):
        target = max(others, key=lambda voter: (not core.is_witness_seat(voter), leader.progress[voter].match, voter))
        core.trace("disk_stalled", batch=flying.number, target=target)
        leader.transfer = TransferUnderWay(None, target, after(core.now, 2 * core.timing.vote_timeout), resign=True)
        advance(core, leader)
    elif leader.stall_traced != flying.number:
        leader.stall_traced = flying.number
        core.trace("disk_stalled_everywhere", batch=flying.number, promised=promise_number(core))
