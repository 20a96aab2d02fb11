"""How a holding begins and ends: the only places where `Election.holder` changes.

Both write the history (causes and phases by the commands' clocks, P10) and tell the watchers.
"""

import msgspec

from tenure.base.ids import SessionId
from tenure.leadership import terms
from tenure.leadership.engine import Cause, Lease, Transition
from tenure.leadership.limits import history_max
from tenure.leadership.state import Bar, Candidate, Election, Handover, Holder, Holding, Phase, Turn, Vacancy


def begin(turn: Turn, election: Election, candidate: Candidate) -> None:
    """Grant a vacant election: the next term, its owner, its token (P2.1, P2.3)."""
    assert election.holder is None, "a grant names a vacancy"
    state = turn.state
    session = state.sessions[candidate.session]
    term = terms.next_term(state.counter)
    assert term > election.last_term, "terms strictly increase (P2)"
    state.counter = term
    owner = terms.owner_of(state.lineage, session.node, session.id)
    token = terms.fence_token(election.name, term, owner)
    vacancy = election.vacancy
    began: Cause = vacancy.cause if vacancy is not None else "first"
    election.holder = Holder(session.id, session.node, term, owner, Lease(election.name, term, token, session.ttl_ms))
    election.last_term = term
    election.vacancy = None
    election.successor = None
    election.bars.clear()  # who stepped down is eligible again once the successor was granted (API.md)
    election.revision = turn.index
    session.holds[election.name] = term
    phases = (Phase("vacant", vacancy.at_ms),) if vacancy is not None else ()
    election.history.append(
        Holding(
            election=election.name,
            term=term,
            node_id=session.node,
            session=session.id,
            began=began,
            ended=None,
            reason=None,
            phases=(*phases, Phase("granted", turn.at_ms)),
        )
    )
    del election.history[:-history_max]
    turn.transitions.append(
        Transition(
            turn.next_number(),
            turn.index,
            "granted",
            turn.at_ms,
            election=election.name,
            session=session.id,
            node_id=session.node,
            term=term,
            fence_token=token,
            cause=began,
        )
    )


def hand_over(turn: Turn, election: Election, handover: Handover) -> None:
    """Begin, or sharpen, a stepdown: replicated from here to the end of the holding (P3.6)."""
    holder = election.holder
    assert holder is not None
    known = election.handover
    election.handover = handover
    election.revision = turn.index
    phases: list[Phase] = []
    if known is None:
        name = handover.cause if handover.cause in {"unhealthy", "restored"} else "stepdown"
        phases.append(Phase(name, turn.at_ms))
    if handover.fenced_off and (known is None or not known.fenced_off):
        phases.append(Phase("fenced_off", turn.at_ms))  # the operator's word, kept for ever (DESIGN 6)
    _amend(election, tuple(phases), reason=handover.reason)
    turn.transitions.append(
        Transition(
            turn.next_number(),
            turn.index,
            "stepdown",
            turn.at_ms,
            election=election.name,
            session=holder.session,
            node_id=holder.node,
            term=holder.term,
            cause=handover.cause,
            successor=handover.successor,
            grace_ms=handover.grace_ms,
        )
    )


def end(turn: Turn, election: Election, how: Cause, silent_ms: int | None = None, reason: str | None = None) -> None:
    """End the holding. `how` it ended names the last phase; why it ended is the stepdown's cause if one had begun.

    `reason` is the word of who gave it back; a stepdown's own stands above it.
    """
    holder, handover = election.holder, election.handover
    assert holder is not None
    cause = handover.cause if handover is not None else how
    phases = (Phase("last_heard", turn.at_ms - silent_ms),) if silent_ms is not None else ()
    last = "revoked" if how in {"stepdown", "switchover", "unhealthy", "restored"} else how
    if handover is not None and handover.reason is not None:
        reason = None
    _amend(election, (*phases, Phase(last, turn.at_ms)), ended=cause, reason=reason)
    del turn.state.sessions[holder.session].holds[election.name]
    if handover is not None and cause != "restored":  # that is nobody's fault
        election.bars[holder.node] = Bar("stepped_down", turn.index)
        election.successor = handover.successor
    elif how in {"released", "crash"}:
        election.bars[holder.node] = Bar("released", turn.index)
    election.holder = None
    election.handover = None
    election.vacancy = Vacancy(cause, turn.at_ms)
    election.revision = turn.index
    turn.transitions.append(
        Transition(
            turn.next_number(),
            turn.index,
            "ended",
            turn.at_ms,
            election=election.name,
            session=holder.session,
            node_id=holder.node,
            term=holder.term,
            cause=cause,
        )
    )


def stand_down(turn: Turn, election: Election, session: SessionId, cause: Cause) -> None:
    """Remove a candidacy, if there is one."""
    candidate = election.candidates.pop(session, None)
    if candidate is None:
        return
    del turn.state.sessions[session].candidate_of[election.name]
    election.revision = turn.index
    turn.transitions.append(
        Transition(
            turn.next_number(),
            turn.index,
            "withdrawn",
            turn.at_ms,
            election=election.name,
            session=session,
            node_id=candidate.node,
            cause=cause,
        )
    )


def _amend(
    election: Election, phases: tuple[Phase, ...], ended: Cause | None = None, reason: str | None = None
) -> None:
    """Write on the last line of the history."""
    line = election.history[-1]
    assert line.ended is None
    election.history[-1] = msgspec.structs.replace(
        line, phases=line.phases + phases, ended=ended, reason=reason if reason is not None else line.reason
    )
