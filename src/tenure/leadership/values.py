"""The values of the engine seam: refusals, views, the history, transitions. `engine` re-exports them."""

from typing import Literal

from msgspec import Struct

from tenure.base.ids import ElectionName, NodeId, SessionId, Term

# --- origins (P9) ---------------------------------------------------------------------------------------------------


class Sequenced(Struct, frozen=True, tag="seq", gc=False):
    """P9.1: request `sequence` of the client session `client`; all numbers below `answered_below` are answered."""

    client: str
    sequence: int
    answered_below: int


class Keyed(Struct, frozen=True, tag="key", gc=False):
    """P9.2: an `Idempotency-Key`, bound to its principal; `digest` is a hash of the request's body."""

    principal: str
    key: str
    digest: str


Origin = Sequenced | Keyed

# --- refusals -------------------------------------------------------------------------------------------------------

Code = Literal[
    "bad_request",  # 400
    "unauthorized",  # 401
    "denied",  # 403
    "reserved_key",  # 403
    "unknown_session",  # 404
    "unknown_election",  # 404
    "unknown_member",  # 404
    "unknown_key",  # 404
    "node_in_use",  # 409, with retry_after_ms
    "name_in_use",  # 409, of a member, as the next fourteen
    "address_in_use",
    "id_in_use",
    "was_removed",
    "change_pending",  # with retry_after_ms
    "stale_configuration",
    "not_caught_up",  # with retry_after_ms
    "loses_quorum",
    "last_voter",
    "too_many_voters",
    "too_many_members",
    "too_many_witnesses",
    "witness_stays",
    "not_observer",
    "not_voter",
    "version_too_old",  # P10: of a member that doesn't speak the cluster's feature version
    "not_held",  # 409
    "not_candidate",  # 409
    "outcome_unknown",  # 409
    "forked",  # 409: this cluster and the one that the client knows go on from one past (P1.4)
    "wrong_lineage",  # 409: another cluster, or a past of the one that the client knows
    "stale_term",  # 412, with current_term
    "no_eligible_successor",  # 412
    "revision_mismatch",  # 412
    "too_large",  # 413
    "invalid",  # 422, with field
    "key_reused",  # 422: another body under the same Idempotency-Key
    "too_many",  # 429
    "no_quorum",  # 503, with retry_after_ms
    "founding",  # 503
    "joining",  # 503: this member is no part of a cluster yet
    "compacted",  # 410
    "unsupported",  # 501: this engine has no such thing
    "no_state",  # 503: a witness holds nothing to answer from
    "no_part",  # 503: this member takes no part any more, or not in a cluster that goes on; nothing was done
]


class AsOf(Struct, frozen=True):
    """How old an answer is that one member gave alone: built at `applied_index`, and what was committed more than
    `lag_ms` before is in it; null: this member has not heard enough to say. True as long as the leader that it hears is
    the leader: one that lost its majority gives up within 250 ms, or ten round trips.
    """

    applied_index: int
    lag_ms: int | None


class Refused(Struct, frozen=True, tag="refused", omit_defaults=True):
    """Why not. Nothing has changed, except under `outcome_unknown` and `no_quorum`, where it may have or may yet, and
    where the reason says of a replacement that its first step is done.
    """

    code: Code
    reason: str
    field: str | None = None
    retry_after_ms: int | None = None
    current_term: int | None = None
    as_of: AsOf | None = None


# --- values ---------------------------------------------------------------------------------------------------------


class Lease(Struct, frozen=True):
    """What a keepalive's acknowledgement names: the only source of validity (P3.1)."""

    election: ElectionName
    term: Term
    fence_token: str
    ttl_ms: int


class Demand(Struct, frozen=True):
    """The holder is asked to demote and release within `grace_ms` of the demand (DESIGN 6, stepdown)."""

    election: ElectionName
    term: Term
    successor: NodeId | None
    grace_ms: int


class CandidateView(Struct, frozen=True):
    """One candidate of an election, and why it may not be chosen now."""

    node_id: NodeId
    priority: int
    eligible: bool
    reason: str | None


ElectionState = Literal["vacant", "granted", "held", "stepping_down", "expiring"]


class ElectionView(Struct, frozen=True, tag="election_view", omit_defaults=True):
    """`leader_status` with what surrounds it. `lease_expiry` is RFC 3339 for people, never decided on; null: unknown.

    `term` is the last granted one when vacant (0: never). `revision` is the log index of its last change.
    """

    election: ElectionName
    node_id: NodeId | None
    term: Term
    session: SessionId | None
    owner: str | None
    lease_expiry: str | None
    ttl_remaining_ms: int | None
    state: ElectionState
    candidates: tuple[CandidateView, ...]
    paused: bool
    config: "ElectionConfig"
    revision: int
    as_of: AsOf | None = None


class ElectionConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of an election (DESIGN 6)."""

    mode: Literal["exclusive", "fenced"] = "exclusive"
    on_quorum_loss: Literal["stop", "serve_fenced"] = "stop"
    cooldown_ms: int = 10_000
    health_min: int = 1
    lag_max: int | None = None


class PhaseView(Struct, frozen=True):
    """One phase of a holding: its name, and when it began by the commands' clocks (P10), RFC 3339 UTC."""

    name: str
    at: str


ReleaseCause = Literal["released", "crash"]
"""What who gives an office back may say of why."""

Cause = Literal[
    "first",  # nobody held it before
    "released",  # the holder gave it back
    "crash",  # given back by whoever watches over the application, because that had failed
    "closed",  # the holder's session was closed
    "expired",  # the holder's session ran out
    "stepdown",
    "switchover",  # stepdown to a named successor
    "disconnected",  # fenced election, lost connection (P3.8)
    "unhealthy",
    "restored",  # the cluster goes on from a snapshot, or from one member: older terms count no more (P2.1)
    "paused",
    "withdrawn",
]


class HoldingView(Struct, frozen=True):
    """One holding of an election in the bounded history: who, which term, why it began and ended, and when."""

    election: ElectionName
    term: Term
    node_id: NodeId
    session: SessionId
    began: Cause
    ended: Cause | None
    reason: str | None
    phases: tuple[PhaseView, ...]


# --- transitions: what a watcher sees -------------------------------------------------------------------------------


TransitionKind = Literal[
    "session_opened",
    "session_closed",
    "session_expired",
    "candidate",  # joined
    "withdrawn",
    "granted",
    "stepdown",  # begun
    "ended",  # a holding, with its cause
    "configured",
    "paused",
    "kv",  # a key changed
    "autopilot",  # it did or declined something; clients see no other
]


class Transition(Struct, frozen=True):
    """One committed change. `number` rises by one through the life of the cluster; `revision` is its log index;
    `at_ms` is the command's unix time (P10).
    """

    number: int
    revision: int
    kind: TransitionKind
    at_ms: int
    election: ElectionName | None = None
    session: SessionId | None = None
    node_id: NodeId | None = None
    term: Term | None = None
    fence_token: str | None = None
    cause: Cause | None = None
    successor: NodeId | None = None
    grace_ms: int | None = None
    key: str | None = None
    member: str | None = None
    reason: str | None = None


class Compacted(Struct, frozen=True):
    """What the watcher asked for is no longer kept; it should read the state and go on after `next_number - 1`."""

    next_number: int
