"""The leader's half of membership changes (P7.1): judge the next step towards a wish, and put it into the log.

Before other members count than now, the roll is called (ADR 0033): a majority of those who will count must do a durable
write of nothing that was asked for after the change was. By what it heard before, a leader would build a quorum on who
died a moment ago; a heartbeat's answer says nothing of a disk; and a new leader knows of nobody yet.
"""

from typing import Final

from tenure.base.ids import LogIndex, MemberId
from tenure.base.instants import NEVER, Instant, after
from tenure.raft import census, configurations, membership, quorum, reads, replication
from tenure.raft.disk import promise_number
from tenure.raft.entries import CONFIGURATION, Configuration, encode_configuration
from tenure.raft.events import ChangeMembership
from tenure.raft.membership import Refusal, Wish
from tenure.raft.messages import DurableProbe
from tenure.raft.ready import Accepted, ChangeEnded, Refused
from tenure.raft.roll import RollCall
from tenure.raft.state import Core, Leader

_calls_max: Final = 16


def ask(core: Core, event: ChangeMembership) -> None:
    """Take the next step towards the wish, say that there is none left, or why it can't be taken. A step that changes
    who counts waits for a roll call.
    """
    _step(core, event, None)


def answered(core: Core, leader: Leader) -> None:
    """Somebody has given a sign: whose roll call is complete, or has nothing left to wait for, goes on."""
    for call in tuple(leader.calls):
        then = membership.next_change(core.configuration, call.event.wish)
        if not isinstance(then, Configuration) or _missing(core, leader, then, call) is None:
            leader.calls.remove(call)
            _step(core, call.event, call)


def heard(core: Core, leader: Leader, peer: MemberId) -> None:
    """A sign of life. Who hasn't done what it was asked for may not have heard of it."""
    if not leader.calls:
        return
    answered(core, leader)
    one = leader.progress.get(peer)
    for call in leader.calls:
        late = core.now - call.asked_at >= replication.answer_after_us(core, peer)
        if one is not None and one.probe_acked < call.number and late:
            core.say(peer, DurableProbe(core.term, call.number))


def end_overdue(core: Core, leader: Leader) -> None:
    """Who has not answered by now is not there."""
    for call in [call for call in leader.calls if core.now >= call.ends_at]:
        leader.calls.remove(call)
        then = membership.next_change(core.configuration, call.event.wish)
        missing = _missing(core, leader, then, call) if isinstance(then, Configuration) else None
        if missing is not None:
            _end(core, call.event, missing)
        else:
            _step(core, call.event, call)


def due(leader: Leader) -> Instant:
    """When the first roll call ends."""
    return min((call.ends_at for call in leader.calls), default=NEVER)


def _missing(core: Core, leader: Leader, then: Configuration, call: RollCall) -> Refusal | None:
    """What a roll call still lacks: a majority of those who will count, and who is new among them."""
    there = census.present(core, leader, call)
    for voter in _newcomers(core, call.event.wish, then):
        if voter not in there:
            text = f"{_name(then, voter)} is not connected, or its disk does not answer"
            return Refusal("not_caught_up", text)
        if leader.progress[voter].match < core.configuration.index:
            return _lags(core, leader, voter)
    return None if quorum.reached(then.voters(), there) else _loses(then, there)


def _step(core: Core, event: ChangeMembership, called: RollCall | None) -> None:
    leader = core.role
    if not isinstance(leader, Leader):
        core.refused.append(Refused(event.token, "not_leader", core.watch.leader))
        return
    if leader.transfer is not None or core.is_witness:  # P7.5, P8
        core.refused.append(Refused(event.token, "transferring", core.me))
        return
    if core.commit < leader.noop:  # P7.1
        core.refused.append(Refused(event.token, "not_serving", core.me))
        return
    now = core.configuration
    if event.expected_index is not None and event.expected_index != now.index:
        text = f"the members changed at index {now.index}; the change expects them as of {event.expected_index}"
        _end(core, event, Refusal("stale_configuration", text))
        return
    then = membership.next_change(now, event.wish)
    if isinstance(then, Refusal):
        _end(core, event, then)
        return
    if now.index > core.commit:  # nor is done what may be rolled back
        _end(core, event, Refusal("change_pending", f"the change at index {now.index} is not committed yet"))
        return
    if then is None:
        _end(core, event, None)
        return
    unsafe = _unsafe(core, leader, event.wish, then, called)
    if unsafe is not None:
        _end(core, event, unsafe)
    elif called is None and _counts_others(now, then):
        _call(core, leader, event, then)
    elif core.me not in then.voters():
        core.changes.append(ChangeEnded(event.token, "leads", now))  # P7.3
    elif event.dry_run:
        core.changes.append(ChangeEnded(event.token, "done", then))
    else:
        _append(core, leader, event, then)


def _call(core: Core, leader: Leader, event: ChangeMembership, then: Configuration) -> None:
    """Ask all who will count, ourselves too, for a write of nothing: a process may answer whose disk is stuck."""
    if len(leader.calls) >= _calls_max:
        core.refused.append(Refused(event.token, "overloaded", core.me))
        return
    comes = (voter for voter in _newcomers(core, event.wish, then) if voter not in then.voters())
    number = replication.probe_disks(core, leader, (*then.voters(), *comes))
    patience_us = max(core.settings.timeout_max_us, 4 * core.timing.rtt_p99) + core.timing.disk_stall
    ends_at = min(after(core.now, patience_us), event.until)
    call = RollCall(event, number, promise_number(core), core.now, ends_at)
    leader.calls.append(call)


def _append(core: Core, leader: Leader, event: ChangeMembership, then: Configuration) -> None:
    index = LogIndex(core.log.last_index + 1)
    now = core.configuration
    then = membership.at(now, membership.intends(now, then, heals=event.heals), index)
    entry = replication.append(core, leader, CONFIGURATION, encode_configuration(then))
    core.trace("configuration", index=index, voters=len(then.voters()), members=len(then.seats))
    configurations.take(core, then)
    core.accepted.append(Accepted(event.token, entry.index, entry.term))
    replication.maybe_commit(core, leader)  # a smaller quorum may hold more …
    reads.close_rounds(core, leader)  # … and have answered more; a lone voter hears no answer that would tell


def _end(core: Core, event: ChangeMembership, refused: Refusal | None) -> None:
    outcome = ChangeEnded(event.token, "done" if refused is None else "refused", core.configuration, refused)
    core.changes.append(outcome)


def _counts_others(now: Configuration, then: Configuration) -> bool:
    """Whether other members count then."""
    return set(now.voters()) != set(then.voters())


def _newcomers(core: Core, wish: Wish, then: Configuration) -> list[MemberId]:
    """Also who shall vote only behind the step at hand: where the old one leaves first it is too late then."""
    return [voter for voter in membership.joins(core.configuration, wish, then) if voter != core.me]


def _unsafe(core: Core, leader: Leader, wish: Wish, then: Configuration, called: RollCall | None) -> Refusal | None:
    """What the leader of the moment knows against it: the quorum to come must be alive and not wait for a laggard."""
    now = core.configuration
    for seat in then.seats:
        if now.seat(seat.id) is None and any(before.id in core.links for before in membership.former(now, seat)):
            return Refusal("address_in_use", f"{seat.name} at {seat.peer} is there: its disk is not lost")
    alive, promising = census.dependable(core, leader), census.promising(core, leader)
    for voter in _newcomers(core, wish, then):
        if called is None and voter in promising and voter not in alive:
            continue  # a new leader hasn't heard it yet, nor how far it is: the roll will tell
        if voter not in alive:
            return Refusal("not_caught_up", f"{_name(now, voter)} is not connected")
        match = leader.progress[voter].match
        # Below `now.index` it doesn't know yet who the members are: after an unclean stop it would wait, for its vote,
        # for some who may have left long ago (P1.3). While the roll is called it may still come to know them.
        knows = match >= now.index or called is None
        if core.log.last_index - match > core.settings.promote_lag_max or not knows:
            return _lags(core, leader, voter)
    if _counts_others(now, then) and not quorum.reached(then.voters(), promising):
        return _loses(then, promising)
    return None


def _lags(core: Core, leader: Leader, voter: MemberId) -> Refusal:
    lag = core.log.last_index - leader.progress[voter].match
    entries = "1 entry" if lag == 1 else f"{lag} entries"
    text = f"{_name(core.configuration, voter)} lags by {entries}"
    return Refusal("not_caught_up", text)


def _loses(then: Configuration, there: set[MemberId]) -> Refusal:
    voters = then.voters()
    missing = ", ".join(_name(then, voter) for voter in voters if voter not in there)
    text = f"{len(voters)} voters need {quorum.size(len(voters))}, and {missing} can't be heard: nothing could commit"
    return Refusal("loses_quorum", text)


def _name(configuration: Configuration, member: MemberId) -> str:
    seat = configuration.seat(member)
    return seat.name if seat is not None else member
