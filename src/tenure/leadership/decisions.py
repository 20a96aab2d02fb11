"""The steward's decisions, applied: only in the consensus term in which they were made (P3.5), and only on exactly what
they name (P3.4). Otherwise they do nothing, and say so.
"""

from typing import Final

from tenure.base.ids import ConsensusTerm
from tenure.leadership import holdings, idempotency, sessions
from tenure.leadership.commands import Decision, Demote, Evict, Expire, Grant, Revoke
from tenure.leadership.engine import Noted, Refused
from tenure.leadership.state import Handover, Turn

DONE: Final = Noted()


def apply(turn: Turn, entry_term: ConsensusTerm, body: Decision) -> Noted | Refused:
    """Do what was decided, if it still fits."""
    if body.decided != entry_term:  # P3.5
        return _void(f"decided in consensus term {body.decided}, committed as an entry of {entry_term}")
    match body:
        case Grant():
            return _grant(turn, body)
        case Expire():
            return _expire(turn, body)
        case Demote():
            return _demote(turn, body)
        case Revoke():
            return _revoke(turn, body)
        case Evict():
            idempotency.evict(turn.state, turn.indexes, body.keyed_below, body.clients_below)
            return DONE


def _grant(turn: Turn, body: Grant) -> Noted | Refused:
    election = turn.state.elections.get(body.election)
    if election is None or election.holder is not None or election.last_term != body.after_term:
        return _void(f"{body.election!r} is not vacant since term {body.after_term}")  # P3.4
    candidate = election.candidates.get(body.session)
    if candidate is None:
        return _void(f"{body.session} does not stand for {body.election!r} any more")
    if election.paused:
        return _void(f"{body.election!r} is paused")
    holdings.begin(turn, election, candidate)
    return DONE


def _expire(turn: Turn, body: Expire) -> Noted | Refused:
    session = turn.state.sessions.get(body.session)
    if session is None:
        return _void(f"session {body.session} is gone already")
    sessions.expire(turn, session, body.silent_ms)
    return DONE


def _demote(turn: Turn, body: Demote) -> Noted | Refused:
    election = turn.state.elections.get(body.election)
    if election is None or not _holds(turn, body):
        return _void(f"{body.session} does not hold {body.election!r} under term {body.term}")  # P3.4
    if election.handover is not None:
        return _void(f"{body.election!r} is being handed over already")
    holdings.hand_over(turn, election, Handover("unhealthy", None, body.grace_ms, False, body.reason, turn.index))
    return DONE


def _revoke(turn: Turn, body: Revoke) -> Noted | Refused:
    election = turn.state.elections.get(body.election)
    if election is None or not _holds(turn, body):
        return _void(f"{body.session} does not hold {body.election!r} under term {body.term}")  # P3.4
    holdings.end(turn, election, body.cause)
    return DONE


def _holds(turn: Turn, body: Demote | Revoke) -> bool:
    holder = turn.state.elections[body.election].holder
    return holder is not None and holder.session == body.session and holder.term == body.term


def _void(reason: str) -> Refused:
    return Refused("not_held", reason)
