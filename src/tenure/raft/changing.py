"""The leader's half of membership changes (P7.1): judge the next step towards a wish, and put it into the log."""

from tenure.base.ids import LogIndex, MemberId
from tenure.raft import census, configurations, membership, quorum, reads, replication
from tenure.raft.entries import CONFIGURATION, Configuration, encode_configuration
from tenure.raft.events import ChangeMembership
from tenure.raft.membership import Refusal
from tenure.raft.ready import Accepted, ChangeEnded, Refused
from tenure.raft.state import Core, Leader


def ask(core: Core, event: ChangeMembership) -> None:
    """Take the next step towards the wish, say that there is none left, or why it can't be taken."""
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
    if then is None or isinstance(then, Refusal):
        _end(core, event, then)
        return
    if now.index > core.commit:
        _end(core, event, Refusal("change_pending", f"the change at index {now.index} is not committed yet"))
        return
    unsafe = _unsafe(core, leader, then)
    if unsafe is not None:
        _end(core, event, unsafe)
    elif core.me not in then.voters():
        core.changes.append(ChangeEnded(event.token, "leads", now))  # P7.3
    elif event.dry_run:
        core.changes.append(ChangeEnded(event.token, "done", then))
    else:
        index = LogIndex(core.log.last_index + 1)
        then = membership.at(membership.intends(now, then, heals=event.heals), index)
        entry = replication.append(core, leader, CONFIGURATION, encode_configuration(then))
        core.trace("configuration", index=index, voters=len(then.voters()), members=len(then.seats))
        configurations.take(core, then)
        core.accepted.append(Accepted(event.token, entry.index, entry.term))
        replication.maybe_commit(core, leader)  # a smaller quorum may hold more …
        reads.close_rounds(core, leader)  # … and have answered more; a lone voter hears no answer that would tell


def _end(core: Core, event: ChangeMembership, refused: Refusal | None) -> None:
    outcome = ChangeEnded(event.token, "done" if refused is None else "refused", core.configuration, refused)
    core.changes.append(outcome)


def _unsafe(core: Core, leader: Leader, then: Configuration) -> Refusal | None:
    """What the leader of the moment knows against it: the quorum to come must be alive and not wait for a laggard."""
    now = core.configuration
    for seat in then.seats:
        if now.seat(seat.id) is None and any(before.id in core.links for before in membership.former(now, seat)):
            return Refusal("address_in_use", f"{seat.name} at {seat.peer} is there: its disk is not lost")
    alive = census.dependable(core, leader)
    for voter in then.voters():
        if voter in now.voters() or voter == core.me:
            continue
        match = leader.progress[voter].match
        lag = core.log.last_index - match
        # Below `now.index` it doesn't know yet who the members are: after an unclean stop it would wait, for its vote,
        # for some who may have left long ago (P1.3).
        if voter not in alive or lag > core.settings.promote_lag_max or match < now.index:
            what = f"lags by {lag} entries" if voter in alive else "is not connected"
            return Refusal("not_caught_up", f"{_name(now, voter)} {what}; wait until it has caught up")
    voters = then.voters()
    if set(voters) != set(now.voters()) and not quorum.reached(voters, alive):
        missing = ", ".join(_name(then, voter) for voter in voters if voter not in alive)
        text = (
            f"{len(voters)} voters need {quorum.size(len(voters))}, and {missing} can't be heard: nothing could commit"
        )
        return Refusal("loses_quorum", text)
    return None


def _name(configuration: Configuration, member: MemberId) -> str:
    seat = configuration.seat(member)
    return seat.name if seat is not None else member
