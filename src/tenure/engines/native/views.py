"""Answers to reads, built from what is applied here. Whoever needs them linearizable has passed a round before."""

from typing import TYPE_CHECKING, Literal

import msgspec

from tenure.base.instants import MS, Instant, WallMs
from tenure.base.versions import feature_newest
from tenure.engines.native import pilot
from tenure.engines.native.changes import view
from tenure.leadership.engine import (
    AnyRequest,
    AnyResult,
    AsOf,
    ConsensusView,
    ElectionView,
    KvValue,
    ListMembers,
    MemberView,
    ReadAutopilot,
    Refused,
    Status,
    StatusReport,
)
from tenure.leadership.hints import Hints
from tenure.raft.entries import Seat

if TYPE_CHECKING:
    from tenure.engines.native.replica import Replica


def read(replica: "Replica", request: AnyRequest, now: Instant, wall_ms: WallMs) -> AnyResult:
    """Answer a read from the applied state. On the serving leader with the steward's hints of expiry and health."""
    if type(request) is ListMembers:
        return view(replica)
    if type(request) is ReadAutopilot:
        return pilot.view(replica)
    if type(request) is Status:
        return status(replica, now, wall_ms, quorum=replica.raft.leader is not None and not replica.stopped)
    return replica.machine.read(request, hints_of(replica, now, wall_ms))


def stale(replica: "Replica", request: AnyRequest, now: Instant, wall_ms: WallMs) -> AnyResult:
    """The same without having asked anybody, and how old it is."""
    result = read(replica, request, now, wall_ms)
    if type(result) is KvValue or type(result) is ElectionView or type(result) is Refused:
        return msgspec.structs.replace(result, as_of=AsOf(replica.applied, lag_ms(replica, now)))
    return result


def lag_ms(replica: "Replica", now: Instant) -> int | None:
    """How old the state here is, rounded up; None if that can't be known."""
    since = replica.raft.as_of(replica.applied)
    return None if since is None else -(-max(0, now - since) // MS)


def hints_of(replica: "Replica", now: Instant, wall_ms: WallMs) -> Hints | None:
    """What only the steward knows; None elsewhere."""
    return replica.steward.hints(now, wall_ms) if replica.steward is not None else None


def status(replica: "Replica", now: Instant, wall_ms: WallMs, quorum: bool) -> StatusReport:
    """Everything at a glance, as far as this member knows."""
    raft, machine = replica.raft, replica.machine
    hints = hints_of(replica, now, wall_ms)
    seat = raft.configuration.seat(raft.leader) if raft.leader is not None else None
    return StatusReport(
        cluster_id=replica.lineage[0] if replica.lineage else None,
        lineage=replica.lineage,
        forked=replica.forked,
        member=replica.name,
        state=state(replica),
        quorum=quorum,
        consensus=ConsensusView(
            leader=seat.name if seat is not None else raft.leader,
            term=raft.term,
            commit_index=raft.commit,
            applied_index=replica.applied,
            lag_ms=lag_ms(replica, now),
            feature=raft.feature,
        ),
        members=_members(replica),
        nodes=machine.nodes(hints),
        elections={view.election: view for view in machine.elections(hints)},
        protection=replica.protection,
        missing=() if quorum else _missing(replica),
        obstacle=replica.obstacle or replica.hindrance,
    )


def state(replica: "Replica") -> str:
    """What this member is to the cluster."""
    if replica.stopped:
        return "stopped"
    return "witness" if replica.witness else replica.raft.role


def _missing(replica: "Replica") -> tuple[str, ...]:
    """Who counts for a quorum and has no connection to this member."""
    raft = replica.raft
    return tuple(
        seat.name
        for seat in raft.configuration.seats
        if seat.role != "observer" and seat.id != replica.me and not raft.is_linked(seat.id)
    )


def _members(replica: "Replica") -> dict[str, MemberView]:
    """All seats by name; a second member with a name in use appears as NAME@ID (API.md)."""
    members: dict[str, MemberView] = {}
    for seat in replica.raft.configuration.seats:
        members[seat.name if seat.name not in members else f"{seat.name}@{seat.id}"] = _member(replica, seat)
    return members


def _member(replica: "Replica", seat: Seat) -> MemberView:
    raft = replica.raft
    role: Literal["leader", "voter", "witness", "observer"] = "leader" if seat.id == raft.leader else seat.role
    match: int | None = None
    rtt_ms: float | None = None
    state = "unknown"
    speaks: int | None = None
    if seat.id == replica.me:
        match, state, speaks = raft.durable_index, raft.role, feature_newest
    elif raft.role == "leader":
        progress = raft.progress().get(seat.id)
        if progress is not None:
            match, state, speaks = progress.match, progress.state, progress.speaks
            rtt_ms = round(progress.rtt_us / 1000, 3) if progress.rtt_us else None
    return MemberView(
        id=seat.id,
        role=role,
        api=replica.apis.get(seat.id),
        peer=seat.peer,
        match_index=match,
        lag=max(0, raft.last_index - match) if match is not None else None,
        rtt_ms=rtt_ms,
        state=state,
        standby=seat.standby,
        speaks=speaks,
    )
