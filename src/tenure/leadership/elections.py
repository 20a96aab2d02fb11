"""Elections as people and nodes change them: campaign, withdraw, release, stepdown, configure, pause."""

from tenure.base.ids import ElectionName, SessionId
from tenure.leadership import holdings
from tenure.leadership.choosing import barred
from tenure.leadership.commands import Campaign, Configure, Pause, Release, Stepdown, Withdraw
from tenure.leadership.engine import (
    Campaigning,
    Configured,
    ElectionConfig,
    Refused,
    Released,
    Stepped,
    Transition,
    Withdrawn,
)
from tenure.leadership.limits import candidates_max, elections_max, session_candidacies_max
from tenure.leadership.state import Candidate, Election, Handover, Turn


def campaign(turn: Turn, body: Campaign) -> Campaigning | Refused:
    """Stand, or change the priority. Gives no lease (P3.1)."""
    session = turn.state.sessions.get(body.session)
    if session is None:
        return unknown_session(body.session)
    election = turn.state.elections.get(body.election)
    known = election.candidates.get(body.session) if election is not None else None
    if known is not None and known.priority == body.priority:
        return Campaigning(body.election, body.session, body.priority)
    if known is None:
        if election is not None and len(election.candidates) >= candidates_max:
            return Refused("too_many", f"an election has at most {candidates_max} candidates")
        if len(session.candidate_of) >= session_candidacies_max:
            return Refused("too_many", f"a session stands for at most {session_candidacies_max} elections")
    if election is None:
        begun = _begin(turn, body.election)
        if isinstance(begun, Refused):
            return begun
        election = begun
    arrived = known.arrived if known is not None else turn.index
    election.candidates[session.id] = Candidate(session.id, session.node, body.priority, arrived)
    session.candidate_of[election.name] = arrived
    election.revision = turn.index
    turn.transitions.append(
        Transition(
            turn.next_number(),
            turn.index,
            "candidate",
            turn.at_ms,
            election=election.name,
            session=session.id,
            node_id=session.node,
        )
    )
    return Campaigning(election.name, session.id, body.priority)


def withdraw(turn: Turn, body: Withdraw) -> Withdrawn | Refused:
    """Stop standing; what it held is released. The holder ended its validity before it asked (P3.7)."""
    election = turn.state.elections.get(body.election)
    if election is None:
        return unknown_election(body.election)
    if body.session not in turn.state.sessions:
        return unknown_session(body.session)
    if election.holder is not None and election.holder.session == body.session:
        holdings.end(turn, election, "withdrawn")
    holdings.stand_down(turn, election, body.session, "withdrawn")
    return Withdrawn(election.name, body.session)


def release(turn: Turn, body: Release) -> Released | Refused:
    """Give just this term back (P3.6)."""
    election = turn.state.elections.get(body.election)
    if election is None:
        return unknown_election(body.election)
    holder = election.holder
    if holder is None or holder.session != body.session or holder.term != body.term:
        held = f"held under term {holder.term}" if holder is not None else "vacant"
        reason = f"session {body.session} doesn't hold {body.election!r} under term {body.term}; it is {held}"
        return Refused("not_held", reason, current_term=election.last_term)
    holdings.end(turn, election, body.cause, reason=body.reason)
    if body.withdraw:
        holdings.stand_down(turn, election, body.session, "withdrawn")
    return Released(election.name, body.term)


def stepdown(turn: Turn, body: Stepdown) -> Stepped | Refused:
    """Begin to hand over (P3.6: from here on replicated), or refuse before anything changes (API.md: 404, 409, 412)."""
    election = turn.state.elections.get(body.election)
    if election is None:
        return unknown_election(body.election)
    holder, known = election.holder, election.handover
    if holder is None:
        return Refused("not_held", f"nobody holds {election.name!r}", current_term=election.last_term)
    refused = no_successor(election, body.successor)
    if refused is not None:
        return refused
    successor = body.successor if body.successor is not None else known.successor if known is not None else None
    handover = Handover(
        cause="switchover" if successor is not None else "stepdown",
        successor=successor,
        # A stepdown that is under way gets no more time by being asked for again.
        grace_ms=known.grace_ms if known is not None else body.grace_ms,
        fenced_off=body.fenced_off or (known is not None and known.fenced_off),
        reason=body.reason if body.reason is not None else known.reason if known is not None else None,
        index=known.index if known is not None else turn.index,
    )
    if handover != known:
        holdings.hand_over(turn, election, handover)
    return Stepped(election.name, successor, holder.term, "under_way", holder.node)


def no_successor(election: Election, successor: str | None) -> Refused | None:
    """412 by what the state alone can tell; the steward adds health and lag before anything is proposed."""
    holder = election.holder
    if election.paused:
        return Refused("no_eligible_successor", f"{election.name!r} is paused: nobody new is granted")
    others = [
        candidate
        for candidate in election.candidates.values()
        if (holder is None or candidate.session != holder.session) and not barred(election, candidate)
    ]
    if successor is None:
        return None if others else Refused("no_eligible_successor", "there is no other candidate")
    if any(candidate.node == successor for candidate in others):
        return None
    return Refused("no_eligible_successor", f"{successor!r} is no other candidate of {election.name!r}", "successor")


def configure(turn: Turn, body: Configure) -> Configured | Refused:
    """Set an election's settings as a whole; begins it if it is new."""
    election = turn.state.elections.get(body.election)
    if election is None:
        begun = _begin(turn, body.election)
        if isinstance(begun, Refused):
            return begun
        election = begun
    elif election.config == body.config:
        return Configured(election.name, election.config, election.paused)
    election.config = body.config
    election.revision = turn.index
    turn.transitions.append(
        Transition(turn.next_number(), turn.index, "configured", turn.at_ms, election=election.name)
    )
    return Configured(election.name, election.config, election.paused)


def pause(turn: Turn, body: Pause) -> Configured | Refused:
    """While paused nobody new is granted; the holder stays."""
    election = turn.state.elections.get(body.election)
    if election is None:
        return unknown_election(body.election)
    if election.paused != body.paused:
        election.paused = body.paused
        election.revision = turn.index
        turn.transitions.append(
            Transition(turn.next_number(), turn.index, "paused", turn.at_ms, election=election.name)
        )
    return Configured(election.name, election.config, election.paused)


def unknown_election(name: str) -> Refused:
    """404: an election begins with its first campaign or configuration (API.md)."""
    return Refused("unknown_election", f"there is no election {name!r}", field="election")


def unknown_session(session: SessionId) -> Refused:
    """404."""
    return Refused("unknown_session", f"there is no session {session}: never opened, closed, or run out", "session")


def _begin(turn: Turn, name: ElectionName) -> Election | Refused:
    if len(turn.state.elections) >= elections_max:
        return Refused("too_many", f"there are at most {elections_max} elections")
    election = Election(name, ElectionConfig(), turn.index)
    turn.state.elections[name] = election
    return election
