"""Pre-votes and votes (Raft §5.2, §5.4.1; thesis §9.6), with the disk contract P4.2 and the stickiness of P5.3."""

from tenure.base.ids import ConsensusTerm, MemberId
from tenure.base.instants import after
from tenure.raft import quorum, replication, suspicion
from tenure.raft.disk import promise, promise_number, set_hard_state
from tenure.raft.messages import HigherTerm, PreVote, PreVoteReply, TimeoutNow, Vote, VoteReply
from tenure.raft.roles import adopt_term, become_follower, is_heard, leave_leadership, may_vote
from tenure.raft.state import Candidate, Core, Follower, Leader, PreCandidate


def stand(core: Core) -> None:
    """Our turn: with notes of a majority at once, else by an ordinary pre-vote (P5.5)."""
    if not core.is_voter:
        return
    if not may_vote(core):
        core.trace("may_not_vote_yet", heard=len(core.heard_boots))
        suspicion.failed(core)
        return
    granted = {core.me} | suspicion.believed(core)
    if quorum.reached(core.voters, granted):
        campaign(core, core.term, transfer=False, why="notes" if len(granted) > 1 else "alone")
        return
    core.attempt += 1
    core.role = PreCandidate(core.attempt, granted, after(core.now, suspicion.round_us(core)))
    core.trace("pre_vote_asked", term=core.term + 1, attempt=core.attempt, granted=len(granted))
    _ask_pre_votes(core, set(core.voters) - {core.me})


def _ask_pre_votes(core: Core, voters: set[MemberId]) -> None:
    log = core.log
    message = PreVote(
        ConsensusTerm(core.term + 1), log.last_index, log.last_term, core.identity.boot, core.attempt,
        core.configuration.index, core.voters,
    )  # fmt: skip
    for voter in sorted(voters):
        core.say(voter, message)


def campaign(core: Core, above: ConsensusTerm, *, transfer: bool, why: str) -> None:
    """Move to the term after `above`, vote for ourselves and ask; the requests may leave before the disk (P4.2)."""
    leave_leadership(core, "campaign")
    adopt_term(core, ConsensusTerm(max(above, core.term) + 1))
    core.vote = core.me
    set_hard_state(core)
    core.attempt += 1
    core.role = Candidate(
        core.attempt, set(), after(core.now, suspicion.round_us(core)), promise_number(core), transfer
    )
    core.trace("vote_asked", term=core.term, attempt=core.attempt, why=why, transfer=transfer)
    message = Vote(
        core.term, core.log.last_index, core.log.last_term, core.identity.boot, core.attempt, transfer,
        core.configuration.index, core.voters,
    )  # fmt: skip
    for voter in core.voters:
        if voter != core.me:
            core.say(voter, message)


def on_pre_vote(core: Core, sender: MemberId, asked: PreVote) -> None:
    """Answer at once: nothing durable is promised."""
    reason = _pre_vote_refusal(core, sender, asked)
    granted = reason == ""
    core.trace("pre_vote_answered", candidate=sender, term=asked.term, granted=granted, reason=reason)
    term = asked.term if granted else core.term
    core.say(sender, PreVoteReply(term, granted, reason, asked.boot, asked.attempt))
    if reason == "log_behind":
        suspicion.stand_soon(core, sender)
    role = core.role
    if isinstance(role, PreCandidate) and sender in role.refused:
        role.refused.discard(sender)  # it has lost the leader as well by now, whom it heard when it refused
        _ask_pre_votes(core, {sender})


def _pre_vote_refusal(core: Core, sender: MemberId, asked: PreVote) -> str:
    if asked.term < core.term or (asked.term == core.term and core.vote not in (None, sender)):
        return "old_term"
    if is_heard(core):
        return "leader_heard"  # P5.3
    if not core.log.up_to_date(asked.last_index, asked.last_term):
        return "log_behind"
    if not may_vote(core, asked):
        return "not_heard_enough"
    return ""


def on_pre_vote_reply(core: Core, sender: MemberId, reply: PreVoteReply) -> None:
    """Count a pre-vote of this very attempt; a majority makes a candidate."""
    role = core.role
    if reply.boot != core.identity.boot or reply.attempt != core.attempt or not isinstance(role, PreCandidate):
        return
    if not reply.granted:
        if reply.term > core.term:
            become_follower(core, reply.term, "higher_term")
            return
        role.refused.add(sender)
        if reply.reason == "log_behind" and suspicion.lets_stand(core):
            _give_way(core, role)
        else:
            _give_up_if_hopeless(core, role)
        return
    role.granted.add(sender)
    consider(core)


def consider(core: Core) -> None:
    """Pre-votes and notes together may make a majority by now."""
    role = core.role
    if isinstance(role, PreCandidate):
        role.granted |= suspicion.believed(core)
        if quorum.reached(core.voters, role.granted):
            if suspicion.is_behind(core) and suspicion.lets_stand(core):
                _give_way(core, role)
            else:
                campaign(core, core.term, transfer=False, why="pre_votes")
        elif core.suspicion is not None and (again := role.refused & core.suspicion.noticed):
            role.refused -= again
            core.suspicion.noticed -= again
            _ask_pre_votes(core, again)  # they heard the leader when they refused; it may be a long round (P5.6)


def _give_way(core: Core, role: PreCandidate) -> None:
    """To who is fresher and stands as well (P5.6, ADR 0035)."""
    core.trace("gave_way", attempt=role.attempt, granted=len(role.granted))
    core.role = Follower()


def on_vote(core: Core, sender: MemberId, asked: Vote) -> None:
    """Grant one vote a term at most, to a log at least as fresh as our accepted one (P4.4), behind the disk (P4.8)."""
    reason = _vote_refusal(core, sender, asked)
    core.trace("vote_answered", candidate=sender, term=asked.term, granted=reason == "", reason=reason)
    log = core.log
    if reason:
        core.say(
            sender,
            VoteReply(
                core.term, False, reason, asked.boot, asked.attempt, log.last_index, log.last_term, core.disk.durable
            ),
        )
        if reason == "log_behind":
            suspicion.stand_soon(core, sender)
        return
    if core.vote != sender:
        core.vote = sender
        set_hard_state(core)
    core.suspicion = None
    core.watch.heard_at = core.now
    core.watch.patience_us = 2 * suspicion.round_us(core)
    reply = VoteReply(
        core.term, True, "", asked.boot, asked.attempt, log.last_index, log.last_term, promise_number(core)
    )
    promise(core, sender, reply)


def _vote_refusal(core: Core, sender: MemberId, asked: Vote) -> str:
    """Why not; adopts the asked term only when neither stickiness nor age forbids it (P5.3)."""
    if asked.term < core.term:
        return "old_term"
    if not asked.transfer and is_heard(core):
        return "leader_heard"
    if asked.term == core.term and core.watch.leader is not None:
        return "leader_known"  # that term's election is over; to grant would end a suspicion of its leader
    if asked.term > core.term:
        become_follower(core, asked.term, "higher_term", sender)
    if not core.log.up_to_date(asked.last_index, asked.last_term):  # also for a repeated grant (P4.2)
        if isinstance(core.role, Follower) and core.suspicion is None and core.watch.leader is None:
            suspicion.suspect(core, "timeout")
        return "log_behind"
    if core.vote not in (None, sender):
        return "voted"
    if not may_vote(core, asked):
        return "not_heard_enough"
    return ""


def on_vote_reply(core: Core, sender: MemberId, reply: VoteReply) -> None:
    """Count a vote of this very request, once a voter; a refusal by a higher term ends the candidacy."""
    role = core.role
    if isinstance(role, Leader):
        return  # it has won: who is stuck above it will say so to its frames, and is freed (P5.8), not obeyed
    if reply.term > core.term:
        become_follower(core, reply.term, "higher_term")
        return
    if not isinstance(role, Candidate) or reply.boot != core.identity.boot or reply.attempt != role.attempt:
        return  # P4.2: an answer to another life or another request
    if not reply.granted:
        role.refused.add(sender)
        _give_up_if_hopeless(core, role)
        return
    if reply.term != core.term:
        return
    role.granted.add(sender)
    role.lasts[sender] = (reply.last_index, reply.last_term)
    win_if_elected(core)


def own_vote_durable(core: Core) -> None:
    """Our own vote, and all log that the request named, are durable: it counts from now on (P4.2)."""
    role = core.role
    if isinstance(role, Candidate) and core.disk.durable >= role.own_batch and core.me not in role.granted:
        role.granted.add(core.me)
        win_if_elected(core)


def win_if_elected(core: Core) -> None:
    """Lead when a majority has granted, our own durable vote among it."""
    role = core.role
    if isinstance(role, Candidate) and core.me in role.granted and quorum.reached(core.voters, role.granted):
        replication.become_leader(core, role)


def _give_up_if_hopeless(core: Core, role: PreCandidate | Candidate) -> None:
    """A majority can no longer be reached: end the round now instead of waiting for it."""
    possible = [voter for voter in core.voters if voter not in role.refused]
    if not quorum.reached(core.voters, set(possible)):
        round_over(core)


def round_over(core: Core) -> None:
    """The round of pre-votes or votes has failed: back to following, our next turn later."""
    role = core.role
    assert isinstance(role, PreCandidate | Candidate)
    core.trace("round_failed", term=core.term, granted=len(role.granted), refused=len(role.refused))
    core.role = Follower()
    suspicion.failed(core)


def on_timeout_now(core: Core, sender: MemberId, message: TimeoutNow) -> None:
    """Obeyed only from just the leader of just this term (thesis §3.10)."""
    if message.term != core.term or core.watch.leader != sender or not isinstance(core.role, Follower | PreCandidate):
        core.trace("timeout_now_ignored", sender=sender, term=message.term)
        return
    if core.is_voter and may_vote(core):
        campaign(core, core.term, transfer=True, why="transfer")


def on_higher_term(core: Core, sender: MemberId, message: HigherTerm) -> None:
    """P5.8: a member is stuck above our term; give up ours and lead in the one above its."""
    if message.term <= core.term or sender not in core.peers:
        return  # an observer counts here: it may have voted when it was asked as a voter (P7.3)
    if message.leader is not None:
        # Another leads there: outbidding it would depose it (L5).
        become_follower(core, message.term, "deposed", message.leader)
    elif isinstance(core.role, Leader):
        core.role.outbid = max(core.role.outbid, message.term)


def outbid(core: Core) -> None:
    """P5.8, once we serve. Before our no-op is committed the other may be the rightful winner of a later term: two
    fresh winners that outbid each other would never end (figure 7 of the paper, with its member (c)).
    """
    leader = core.role
    if not isinstance(leader, Leader) or leader.outbid <= core.term or core.commit < leader.noop:
        return
    if leader.transfer is None:  # else it may be the very target that stands there
        core.trace("term_outbid", term=leader.outbid)
        campaign(core, leader.outbid, transfer=True, why="outbid")
