"""Changes of term and role that every other module needs."""

from tenure.base.ids import ConsensusTerm, MemberId
from tenure.raft import quorum
from tenure.raft.disk import drop_vote_promises, set_hard_state
from tenure.raft.messages import PreVote, Vote
from tenure.raft.ready import Refused, TransferEnded
from tenure.raft.state import Core, Follower, Leader, Watch


def adopt_term(core: Core, term: ConsensusTerm) -> None:
    """Move to a higher term, without a vote in it yet. What was promised but not yet durable for the old is dropped."""
    assert term > core.term, "terms only rise"
    core.term = term
    core.vote = None
    drop_vote_promises(core)
    set_hard_state(core)
    core.higher_told.clear()
    core.notes.clear()  # a note stands for a pre-vote of its own term only (P5.1)
    core.watch = Watch(
        heard_at=core.now, patience_us=core.timing.leader_timeout(None, core.settings.heartbeat_us, core.now)
    )


def leave_leadership(core: Core, reason: str, heir: MemberId | None = None) -> None:
    """Stop leading: pending reads and changes are refused (their rounds prove nothing any more), a transfer is over. It
    is done only if it is its target that takes over; somebody else may have been elected meanwhile.
    """
    leader = core.role
    if not isinstance(leader, Leader):
        return
    tokens = [token for round_ in leader.rounds for token in round_.tokens] + leader.reads_waiting
    tokens += [call.event.token for call in leader.calls]
    core.refused.extend(Refused(token, "leader_lost", None) for token in tokens)
    if leader.transfer is not None and leader.transfer.token is not None:
        done = leader.transfer.sent and heir == leader.transfer.target
        core.transfers.append(TransferEnded(leader.transfer.token, "done" if done else "not_leader", heir))
    core.trace("leadership_ended", term=core.term, reason=reason)
    core.role = Follower()


def become_follower(core: Core, term: ConsensusTerm, reason: str, heir: MemberId | None = None) -> None:
    """Follow in `term` (≥ our own), with no leader known yet; `heir` is who leads or stands there, if that is known."""
    leave_leadership(core, reason, heir)
    core.role = Follower()
    if term > core.term:
        adopt_term(core, term)
        core.suspicion = None
        core.trace("term_adopted", term=term, reason=reason)


def is_heard(core: Core) -> bool:
    """Whether this member hears a leader (or leads): then it refuses every vote but a transfer's (P5.3)."""
    if isinstance(core.role, Leader):
        return True
    return isinstance(core.role, Follower) and core.watch.leader is not None and core.suspicion is None


def may_vote(core: Core, asked: PreVote | Vote | None = None) -> bool:
    """After an unclean stop the first vote waits until quorum − 1 others were heard (P1.3): of the members as whoever
    asks knows them, if that is newer than what we know. Those of old may have left while we were away (ADR 0031).
    """
    if not core.unclean:
        return True
    voters = core.voters
    if asked is not None and asked.voters and asked.members > core.configuration.index:
        voters = asked.voters
    others = sum(1 for voter in voters if voter != core.me and voter in core.heard_boots)
    return others >= quorum.size(len(voters)) - 1
