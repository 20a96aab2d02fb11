"""What reads answer, built from applied state, with the steward's hints where there are any."""

import msgspec

from tenure.base.ids import ElectionName, SessionId
from tenure.base.instants import rfc3339
from tenure.leadership import elections, kv
from tenure.leadership.choosing import Reason, barred
from tenure.leadership.engine import (
    CandidateView,
    ElectionState,
    ElectionView,
    HistoryPage,
    HoldingView,
    KvValue,
    NodeView,
    PhaseView,
    Refused,
    SessionView,
    Validate,
    Validated,
)
from tenure.leadership.hints import Hints, LeaseHint
from tenure.leadership.state import Candidate, Election, Holding, State


def session(state: State, name: SessionId) -> SessionView | Refused:
    """One session."""
    found = state.sessions.get(name)
    if found is None:
        return elections.unknown_session(name)
    holders = [(election, state.elections[election].holder) for election in sorted(found.holds)]
    return SessionView(
        session=found.id,
        node=found.node,
        ttl_ms=found.ttl_ms,
        candidate_of=tuple(sorted(found.candidate_of)),
        holds=tuple(holder.lease for _, holder in holders if holder is not None),
        meta=found.meta,
    )


def election(found: Election, hints: Hints | None) -> ElectionView:
    """One election. Without hints: no expiry, and a granted one counts as held."""
    holder = found.holder
    lease = hints.lease(found) if hints is not None else None
    return ElectionView(
        election=found.name,
        node_id=holder.node if holder is not None else None,
        term=found.last_term,
        session=holder.session if holder is not None else None,
        owner=holder.owner if holder is not None else None,
        lease_expiry=rfc3339(lease.expiry_wall_ms) if lease is not None and lease.expiry_wall_ms is not None else None,
        ttl_remaining_ms=lease.remaining_ms if lease is not None else None,
        state=_state(found, lease),
        candidates=_candidates(found, hints),
        paused=found.paused,
        config=found.config,
        revision=found.revision,
    )


def _state(found: Election, lease: LeaseHint | None) -> ElectionState:
    if found.holder is None:
        return "vacant"
    if lease is not None and lease.state == "expiring":
        return "expiring"
    if found.handover is not None:
        return "stepping_down"
    return lease.state if lease is not None else "held"


def _candidates(found: Election, hints: Hints | None) -> tuple[CandidateView, ...]:
    views: list[CandidateView] = []
    obstacles = hints.obstacles(found) if hints is not None else None
    for candidate in found.candidates.values():
        if obstacles is not None:
            obstacle = obstacles[candidate.session]
            reason = obstacle.reason if obstacle is not None else None
        else:
            reason = _replicated_reason(found, candidate)
        views.append(CandidateView(candidate.node, candidate.priority, reason is None, reason))
    return tuple(views)


def _replicated_reason(found: Election, candidate: Candidate) -> Reason | None:
    """What the state alone says against a candidate."""
    if found.holder is not None and found.holder.session == candidate.session:
        return "holds"
    if found.paused:
        return "paused"
    return "stepped_down" if barred(found, candidate) else None


def nodes(state: State, hints: Hints | None) -> dict[str, NodeView]:
    """All nodes with a live session."""
    views: dict[str, NodeView] = {}
    for found in sorted(state.sessions.values(), key=lambda one: one.node):
        hint = hints.node(found.id) if hints is not None else None
        views[found.node] = NodeView(
            session=found.id,
            ttl_ms=found.ttl_ms,
            health=hint.health if hint is not None else None,
            lag=hint.lag if hint is not None else None,
            last_seen_ms=hint.last_seen_ms if hint is not None else None,
            holds=tuple(sorted(found.holds)),
        )
    return views


def history(state: State, name: str, limit: int) -> HistoryPage | Refused:
    """The last holdings, newest first."""
    found = state.elections.get(ElectionName(name))
    if found is None:
        return elections.unknown_election(name)
    return HistoryPage(found.name, tuple(_holding(line) for line in reversed(found.history[-limit:])))


def _holding(line: Holding) -> HoldingView:
    return HoldingView(
        election=line.election,
        term=line.term,
        node_id=line.node_id,
        session=line.session,
        began=line.began,
        ended=line.ended,
        reason=line.reason,
        phases=tuple(PhaseView(phase.name, rfc3339(phase.at_ms)) for phase in line.phases),
    )


def validate(state: State, request: Validate) -> Validated:
    """API.md, Fencing token: valid only if the election is now held under exactly this term."""
    found = state.elections.get(ElectionName(request.election))
    if found is None:
        return Validated(False, "unknown_election", None)
    if request.term > found.last_term or request.term == 0:
        return Validated(False, "never_issued", found.last_term)
    if request.term < found.last_term:
        return Validated(False, "stale", found.last_term)
    if found.holder is None:
        return Validated(False, "not_held", found.last_term)
    if request.owner is not None and request.owner != found.holder.owner:
        return Validated(False, "wrong_owner", found.last_term)
    return Validated(True, "current", found.last_term)


def kv_get(state: State, key: str, hints: Hints | None) -> KvValue | Refused:
    """A key; `leader_status/{election}` is answered from the election itself."""
    if key.startswith(kv.leader_status_prefix):
        found = state.elections.get(ElectionName(key[len(kv.leader_status_prefix) :]))
        if found is not None:
            return _leader_status(key, found, hints)
    entry = state.kv.get(key)
    if entry is None:
        return Refused("unknown_key", f"there is no key {key!r}", field="key")
    return KvValue(key, entry.value, entry.revision, entry.election, entry.term)


def _leader_status(key: str, found: Election, hints: Hints | None) -> KvValue:
    view = election(found, hints)
    value = {"node_id": view.node_id, "term": view.term, "lease_expiry": view.lease_expiry}
    return KvValue(key, msgspec.json.encode(value), found.revision)
