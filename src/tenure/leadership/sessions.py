"""Sessions: opened, closed, expired. A node has at most one; nobody takes another's over (API.md)."""

from typing import Literal

from tenure.base.ids import SessionId
from tenure.leadership import holdings
from tenure.leadership.commands import CloseSession, OpenSession
from tenure.leadership.engine import Refused, SessionClosed, SessionOpened, Transition
from tenure.leadership.limits import sessions_max
from tenure.leadership.state import Session, Turn


def open_session(turn: Turn, body: OpenSession) -> SessionOpened | Refused:
    """P3.6: the id is the log index plus the nonce of the process; the TTL never changes; no second process joins."""
    state, nodes = turn.state, turn.indexes.nodes
    known = nodes.get(body.node)
    if known is not None:
        standing = state.sessions[known]
        if standing.process == body.process and standing.ttl_ms == body.ttl_ms:
            return SessionOpened(standing.id, standing.node, standing.ttl_ms)  # the same opening, repeated
        reason = f"node {body.node!r} has the live session {known}; it ends when it is closed or runs out"
        return Refused("node_in_use", reason, field="node", retry_after_ms=standing.ttl_ms)
    if len(state.sessions) >= sessions_max:
        return Refused("too_many", f"there are at most {sessions_max} sessions")
    session = Session(
        id=SessionId(f"{turn.index}-{body.process}"),
        node=body.node,
        ttl_ms=body.ttl_ms,
        process=body.process,
        meta=body.meta,
        opened_ms=turn.at_ms,
        candidate_of={},
        holds={},
    )
    state.sessions[session.id] = session
    nodes[body.node] = session.id
    turn.transitions.append(
        Transition(
            turn.next_number(), turn.index, "session_opened", turn.at_ms, session=session.id, node_id=session.node
        )
    )
    return SessionOpened(session.id, session.node, session.ttl_ms)


def close_session(turn: Turn, body: CloseSession) -> SessionClosed | Refused:
    """Withdraw, release, forget. Repeating it says the same; a session that never was is 404."""
    session = turn.state.sessions.get(body.session)
    if session is None:
        if int(body.session.partition("-")[0]) >= turn.index:
            return Refused("unknown_session", f"there was never a session {body.session}", field="session")
        return SessionClosed(body.session)
    _remove(turn, session, "closed", None)
    return SessionClosed(body.session)


def expire(turn: Turn, session: Session, silent_ms: int | None) -> None:
    """The steward's decision; `decisions` has checked it."""
    _remove(turn, session, "expired", silent_ms)


def _remove(turn: Turn, session: Session, cause: Literal["closed", "expired"], silent_ms: int | None) -> None:
    elections = turn.state.elections
    for name in sorted(session.holds):
        holdings.end(turn, elections[name], cause, silent_ms)
    for name in sorted(session.candidate_of):
        holdings.stand_down(turn, elections[name], session.id, cause)
    del turn.state.sessions[session.id]
    del turn.indexes.nodes[session.node]
    turn.transitions.append(
        Transition(
            turn.next_number(),
            turn.index,
            "session_closed" if cause == "closed" else "session_expired",
            turn.at_ms,
            session=session.id,
            node_id=session.node,
        )
    )
