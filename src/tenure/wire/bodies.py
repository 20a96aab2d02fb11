"""HTTP bodies, problem JSON and the checks of what comes in (API.md), shared by the API, the SDK and remote engines.

A body is only decoded here: types, unknown fields, integer ranges. What people choose (names, keys, sizes) is checked
by `leadership.checks`, for every request, whichever way it came: REST or stream. Answers are `leadership.engine`'s.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

from tenure.base import tokens
from tenure.base.errors import Invalid
from tenure.base.ids import counter, counter_max, election_name
from tenure.base.instants import rfc3339
from tenure.leadership import limits
from tenure.leadership.checks import list_limit_max
from tenure.leadership.engine import (
    AsOf,
    Cause,
    Code,
    KvPut,
    KvValue,
    Refused,
    ReleaseCause,
    Transition,
    TransitionKind,
    Validate,
)
from tenure.leadership.members import Standby, VotingRole

body_bytes_max: Final = limits.kv_value_bytes_max + 8 * 1024
"""A kv value and what stands around it."""
history_limit_max: Final = list_limit_max
kv_list_limit_max: Final = list_limit_max

Counter = Annotated[int, Meta(ge=0, le=counter_max)]
Hex16 = Annotated[str, Meta(pattern="^[0-9a-f]{16}$", min_length=16, max_length=16)]
Election = Annotated[str, Meta(extra_json_schema={"pattern": "^[a-z0-9][a-z0-9_-]{0,62}$"})]
Node = Annotated[str, Meta(extra_json_schema={"pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"})]
Session = Annotated[str, Meta(extra_json_schema={"pattern": "^[0-9]{1,16}-[0-9a-f]{16}$"})]


class Body(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all request bodies: an unknown field is an error that names it."""


class OpenSessionBody(Body, frozen=True):
    """`POST /v1/sessions`."""

    node: Node
    ttl_ms: Annotated[int, Meta(ge=limits.session_ttl_ms_min, le=limits.session_ttl_ms_max)]
    process: Hex16
    meta: dict[str, str] = {}


class KeepaliveBody(Body, frozen=True):
    """`POST /v1/sessions/{id}/keepalive`."""

    number: Annotated[int, Meta(ge=1, le=counter_max)]
    health: Annotated[int, Meta(ge=0, le=100)] = 100
    lag: Counter | None = None


class CampaignBody(Body, frozen=True):
    """`POST /v1/elections/{name}/campaign`."""

    session: Session
    priority: Annotated[int, Meta(ge=-limits.priority_max, le=limits.priority_max)] = 0


class WithdrawBody(Body, frozen=True):
    """`POST /v1/elections/{name}/withdraw`."""

    session: Session


class ReleaseBody(Body, frozen=True):
    """`POST /v1/elections/{name}/release`."""

    session: Session
    term: Counter
    withdraw: bool = False
    cause: ReleaseCause = "released"
    reason: Annotated[str, Meta(max_length=limits.release_reason_chars_max)] | None = None


class PauseBody(Body, frozen=True):
    """`POST /v1/elections/{name}/pause`."""

    paused: bool


class AddMemberBody(Body, frozen=True):
    """`POST /v1/members`: a new member, as an observer."""

    id: Hex16
    name: Node
    peer: str
    priority: Annotated[int, Meta(ge=-limits.priority_max, le=limits.priority_max)] = 0
    if_index: Counter | None = None
    dry_run: bool = False
    standby: Standby = "no"
    returns: bool = False
    speaks: Counter = 1


class PromoteMemberBody(Body, frozen=True):
    """`POST /v1/members/{member}/promote`."""

    role: VotingRole = "voter"
    if_index: Counter | None = None
    dry_run: bool = False


class LeaveMemberBody(Body, frozen=True):
    """`POST /v1/members/{member}/demote` and `…/remove`."""

    if_index: Counter | None = None
    dry_run: bool = False


class ReplaceMemberBody(Body, frozen=True):
    """`POST /v1/members/{member}/replace`: `by` takes its place."""

    by: str
    role: VotingRole = "voter"
    if_index: Counter | None = None
    dry_run: bool = False


class AmendMemberBody(Body, frozen=True):
    """`PATCH /v1/members/{member}`."""

    peer: str | None = None
    priority: Annotated[int, Meta(ge=-limits.priority_max, le=limits.priority_max)] | None = None
    if_index: Counter | None = None
    dry_run: bool = False
    standby: Standby | None = None


class StepdownBody(Body, frozen=True):
    """`POST /leadership/stepdown`; `wait_ms` is grace + 1 s unless given, 0 answers 202 at once."""

    election: Election | None = None
    successor: Node | None = None
    reason: str | None = None
    grace_ms: Annotated[int, Meta(ge=0, le=limits.grace_ms_max)] = 5_000
    wait_ms: Annotated[int, Meta(ge=0, le=limits.wait_ms_max)] | None = None
    fenced_off: bool = False


class ValidateBody(Body, frozen=True):
    """`POST /fence-token/validate`: the token, or an election with a term (checked by the term alone)."""

    token: str | None = None
    election: Election | None = None
    term: Counter | None = None


class KvPutBody(Body, frozen=True):
    """`PUT /v1/kv/{key}`. `value` is any JSON, kept as the bytes that came."""

    value: Raw
    election: Election | None = None
    term: Counter | None = None
    if_revision: Counter | None = None


class KvPutMessage(KvPutBody, frozen=True, tag="kv_put", kw_only=True):
    """The same on the stream, where the key isn't in a path."""

    key: str


class KvValueBody(Struct, frozen=True, tag="kv_value", omit_defaults=True):
    """`GET /v1/kv/{key}`: the value stands in the answer as the JSON that it is."""

    key: str
    value: Raw
    revision: int
    election: str | None = None
    term: int | None = None
    as_of: AsOf | None = None


class TransitionBody(Struct, frozen=True):
    """What `GET /v1/events` and an observing stream tell of each transition; `at` is RFC 3339."""

    number: int
    revision: int
    kind: TransitionKind
    at: str
    election: str | None
    session: str | None
    node_id: str | None
    term: int | None
    fence_token: str | None
    cause: Cause | None
    successor: str | None
    grace_ms: int | None
    key: str | None
    member: str | None
    reason: str | None


class OpenClientBody(Body, frozen=True):
    """`POST /v1/clients`."""

    nonce: Hex16


class Problem(Struct, frozen=True, omit_defaults=True, tag="about:blank"):
    """Problem JSON (RFC 9457; its `type` is the tag): a stable `code`, and the `field` at fault where there is one."""

    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    retry_after_ms: int | None = None
    current_term: int | None = None


problem_type: Final = "application/problem+json"
token_header: Final = "Fence-Token"  # noqa: S105 - the name of a header
key_header: Final = "Idempotency-Key"
client_header: Final = "Tenure-Client"
sequence_header: Final = "Tenure-Sequence"
answered_header: Final = "Tenure-Answered-Below"
lineage_header: Final = "Tenure-Lineage"
"""What the client knows of the cluster's lineage (P1.4), `-` if nothing; and what the member says of it."""
lineage_unknown: Final = "-"
applied_header: Final = "Tenure-Applied-Index"
lag_header: Final = "Tenure-Lag-Ms"
stream_subprotocol: Final = "tenure.v1"

status_of: Final[dict[Code, int]] = {
    "bad_request": 400,
    "unauthorized": 401,
    "denied": 403,
    "reserved_key": 403,
    "unknown_session": 404,
    "unknown_election": 404,
    "unknown_member": 404,
    "unknown_key": 404,
    "node_in_use": 409,
    "not_held": 409,
    "not_candidate": 409,
    "outcome_unknown": 409,
    "forked": 409,
    "wrong_lineage": 409,
    "name_in_use": 409,
    "address_in_use": 409,
    "id_in_use": 409,
    "was_removed": 409,
    "change_pending": 409,
    "stale_configuration": 409,
    "not_caught_up": 409,
    "loses_quorum": 409,
    "last_voter": 409,
    "too_many_voters": 409,
    "too_many_members": 409,
    "too_many_witnesses": 409,
    "witness_stays": 409,
    "not_observer": 409,
    "not_voter": 409,
    "version_too_old": 409,
    "compacted": 410,
    "stale_term": 412,
    "no_eligible_successor": 412,
    "revision_mismatch": 412,
    "too_large": 413,
    "invalid": 422,
    "key_reused": 422,
    "too_many": 429,
    "no_quorum": 503,
    "founding": 503,
    "joining": 503,
    "no_state": 503,
    "no_part": 503,
    "unsupported": 501,
}


def refusal_of(problem: Problem) -> Refused | None:
    """The typed refusal behind a problem's code, for clients; None for codes of the HTTP layer alone."""
    for code in status_of:
        if code == problem.code:
            return Refused(code, problem.detail, problem.field, problem.retry_after_ms, problem.current_term)
    return None


def kv_value_body(value: KvValue) -> KvValueBody:
    """The answer's form, in which the stored bytes are JSON and no string."""
    return KvValueBody(value.key, Raw(value.value), value.revision, value.election, value.term, value.as_of)


def transition_body(told: Transition) -> TransitionBody:
    """The form in which others hear of a transition."""
    return TransitionBody(
        number=told.number,
        revision=told.revision,
        kind=told.kind,
        at=rfc3339(told.at_ms),
        election=told.election,
        session=told.session,
        node_id=told.node_id,
        term=told.term,
        fence_token=told.fence_token,
        cause=told.cause,
        successor=told.successor,
        grace_ms=told.grace_ms,
        key=told.key,
        member=told.member,
        reason=told.reason,
    )


def parse_token(text: str, field: str = "token") -> Validate:
    """The question that a fencing token asks."""
    token = tokens.parse(text, field)
    return Validate(token.election, token.term, token.owner)


def validation_of(body: ValidateBody) -> Validate:
    """`{token}` or `{election, term}`, never both and never half."""
    match body:
        case ValidateBody(token=str() as token, election=None, term=None):
            if token.startswith("eyJ"):
                raise Invalid("token", "signed tokens aren't issued by this version")
            return parse_token(token)
        case ValidateBody(token=None, election=str() as election, term=int() as term):
            return Validate(election_name(election), term)
        case ValidateBody(token=str()):
            raise Invalid("token", "stands alone: either token, or election and term")
        case ValidateBody(election=None):
            raise Invalid("election", "either token, or election and term")
        case _:
            raise Invalid("term", "either token, or election and term")


def check_put(request: KvPut) -> None:
    """All of a put but its key, which the hot path's pattern has checked already."""
    if len(request.value) > limits.kv_value_bytes_max:
        raise Invalid("value", f"must have at most {limits.kv_value_bytes_max} bytes, got {len(request.value)}")
    if (request.election is None) != (request.term is None):
        raise Invalid("term" if request.term is None else "election", "election and term come together or not at all")
    if request.election is not None and request.term is not None:
        election_name(request.election)
        counter(request.term, "term")
    if request.if_revision is not None:
        counter(request.if_revision, "if_revision")


_PATH_AT: Final = " - at `$"


def invalid_of(error: msgspec.ValidationError) -> Invalid:
    """What msgspec said as `Invalid`: the path of the field at fault, and what is wrong with it."""
    text = str(error)
    what, _, path = text.partition(_PATH_AT)
    field = path.rstrip("`").lstrip(".") or "body"
    for marker in ("unknown field `", "required field `"):
        _, found, rest = what.partition(marker)
        if found:
            name = rest.partition("`")[0]
            field = name if field == "body" else f"{field}.{name}"
    return Invalid(field, what)


def counter_range(value: int | None) -> bool:
    """Whether an optional counter lies in its range."""
    return value is None or 0 <= value <= counter_max
