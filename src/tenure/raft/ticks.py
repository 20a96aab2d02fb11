"""What time demands of each role, and when it does so next. Deadlines fire only behind drained sockets (P4.7)."""

from tenure.base.instants import NEVER, Instant, after
from tenure.raft import changing, election, replication, suspicion, transfer
from tenure.raft.state import Candidate, Core, Follower, Leader, PreCandidate


def tick(core: Core) -> None:
    """Fire what is due at `core.now`."""
    match core.role:
        case Leader() as leader:
            _tick_leader(core, leader)
        case Follower():
            _tick_follower(core)
        case PreCandidate() | Candidate() as role:
            if core.now >= role.ends_at:
                suspicion.unanswered(core)
                election.round_over(core)
            elif isinstance(role, PreCandidate) and core.suspicion and core.now >= core.suspicion.note_due:
                suspicion.send_notes(core)


def _tick_leader(core: Core, leader: Leader) -> None:
    now = core.now
    patience = max(core.settings.timeout_max_us, 10 * core.timing.rtt_p99)
    if now < leader.won_at + patience or replication.quorum_heard(core, leader, patience):
        core.graces = 0
    elif now >= core.grace_until:
        core.trace("quorum_lost", term=core.term)
        transfer.give_up(core, "quorum_lost")
        return
    if leader.late_us:  # P6.2, as for gaps: a stall in which we were replaced is no sample, and took the role with it
        core.timing.lateness_sample(leader.late_us, core.now)
        leader.late_us = 0
    if leader.transfer is not None:
        transfer.end_overdue(core, leader)
        if core.role is not leader:
            return
    if leader.calls:
        changing.end_overdue(core, leader)
    if core.disk.in_flight is not None:
        transfer.watch_disk(core, leader)
    if now >= leader.probe_due:
        idle = core.disk.in_flight is None and not core.disk.dirty
        stalled = core.disk.in_flight is not None and now >= after(core.disk.in_flight.since, core.timing.disk_stall)
        if len(core.voters) > 1 and (idle or stalled):
            replication.probe_disks(core, leader)
        leader.probe_due = after(core.now, core.timing.disk_stall)
    if now >= leader.beat_due:
        replication.beat(core, leader)


def _tick_follower(core: Core) -> None:
    if core.suspicion is None:
        if core.now < suspicion.timeout_at(core):
            return
        suspicion.suspect(core, "timeout")
    state = core.suspicion
    assert state is not None
    if core.now >= state.turn_at:
        if not suspicion.gives_way(core):
            election.stand(core)
    elif core.now >= state.note_due:
        suspicion.send_notes(core)
    if isinstance(core.role, Follower) and core.suspicion is not None and core.now >= core.suspicion.turn_at:
        core.suspicion.turn_at = after(core.now, core.timing.step)  # not a voter: only tells


def deadline(core: Core) -> Instant:
    """The next instant at which `tick` has something to do; NEVER after a `Fatal`."""
    if core.fatal is not None:
        return NEVER
    match core.role:
        case Leader() as leader:
            due = min(leader.probe_due, leader.beat_due)
            if leader.calls:
                due = min(due, changing.due(leader))
            if leader.transfer is not None:
                due = min(due, leader.transfer.ends_at)
            elif core.disk.in_flight is not None and leader.stall_traced != core.disk.in_flight.number:
                due = min(due, transfer.watch_due(core, leader, core.disk.in_flight))
            return min(leader.ship_due, due)
        case Follower():
            if core.suspicion is None:
                return suspicion.timeout_at(core)
            return min(core.suspicion.turn_at, core.suspicion.note_due)
        case PreCandidate() as role:
            return min(role.ends_at, core.suspicion.note_due) if core.suspicion else role.ends_at
        case Candidate() as role:
            return role.ends_at
