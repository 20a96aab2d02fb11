"""The one table of operations: starlette's routes are made from it, and `/openapi.json`."""

from dataclasses import dataclass, field
from typing import Any, Final

from starlette.responses import Response

from tenure.api import calls, members
from tenure.api.calls import Handler
from tenure.api.events import events
from tenure.api.snapshot import snapshot
from tenure.leadership import engine
from tenure.wire import bodies


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One call. `answers` are by status the types of its JSON bodies; None is no JSON."""

    method: str
    path: str
    handler: Handler
    summary: str
    body: type | None = None
    answers: dict[int, Any] = field(default_factory=lambda: {200: None})
    query: tuple[str, ...] = ()
    refusals: tuple[int, ...] = ()
    """Statuses of problems beyond those that every call knows."""
    is_change: bool = False
    """Takes `Idempotency-Key` or the Tenure- headers of a client session (P9)."""
    is_open: bool = False
    """Needs no credential."""
    example: bytes | None = None
    """A body, checked against its type by a test."""


async def _openapi(call: calls.Call) -> Response:
    from tenure.api.openapi import document  # late: it inspects types, which most members are never asked for

    return Response(document(OPERATIONS, call.door.info.version), media_type="application/json")


_SESSION: Final = b'"session":"17-0123456789abcdef"'
_CONSISTENCY: Final = ("consistency",)

OPERATIONS: Final = (
    Operation(
        "GET", "/status", calls.status, "Members, consensus, nodes and elections at a glance; 503 without a quorum",
        answers={200: engine.StatusReport, 503: engine.StatusReport}, query=_CONSISTENCY,
    ),
    Operation(
        "POST", "/leadership/stepdown", calls.stepdown,
        "The holder of an election hands over; without an election the consensus leader moves",
        bodies.StepdownBody, {200: engine.Stepped, 202: engine.Stepped}, refusals=(404, 409, 412), is_change=True,
        example=b'{"election":"orders","successor":"b","grace_ms":2000}',
    ),
    Operation(
        "POST", "/fence-token/validate", calls.validate, "Whether a fencing token is the current one; linearizable",
        bodies.ValidateBody, {200: engine.Validated}, example=b'{"election":"orders","term":123713848344577}',
    ),
    Operation(
        "GET", "/fence-token/validate", calls.validate_header,
        "The same for proxies (nginx auth_request), by the Fence-Token header",
        answers={204: None, 403: engine.Validated},
    ),
    Operation(
        "POST", "/v1/sessions", calls.open_session, "Open a session for a node", bodies.OpenSessionBody,
        {201: engine.SessionOpened}, refusals=(409,), is_change=True,
        example=b'{"node":"a","ttl_ms":3000,"process":"0123456789abcdef"}',
    ),
    Operation(
        "GET", "/v1/sessions/{session}", calls.read_session, "One session", answers={200: engine.SessionView},
        refusals=(404,),
    ),
    Operation(
        "DELETE", "/v1/sessions/{session}", calls.close_session, "Close a session and give up what it held",
        answers={200: engine.SessionClosed}, is_change=True,
    ),
    Operation(
        "POST", "/v1/sessions/{session}/keepalive", calls.keepalive,
        "Renew a session's leases; validity comes only from this answer", bodies.KeepaliveBody, {200: engine.Kept},
        refusals=(404,), example=b'{"number":7,"health":100,"lag":0}',
    ),
    Operation(
        "GET", "/v1/elections", calls.list_elections, "All elections",
        answers={200: dict[str, dict[str, engine.ElectionView]]}, query=_CONSISTENCY,
    ),
    Operation(
        "GET", "/v1/elections/{election}", calls.read_election,
        "One election; with after it waits for a later revision",
        answers={200: engine.ElectionView}, query=("consistency", "after", "wait_ms"), refusals=(404,),
    ),
    Operation(
        "POST", "/v1/elections/{election}/campaign", calls.campaign, "Stand for an election", bodies.CampaignBody,
        {200: engine.Campaigning}, refusals=(404,), is_change=True, example=b"{" + _SESSION + b',"priority":10}',
    ),
    Operation(
        "POST", "/v1/elections/{election}/withdraw", calls.withdraw, "Stop standing", bodies.WithdrawBody,
        {200: engine.Withdrawn}, refusals=(404,), is_change=True, example=b"{" + _SESSION + b"}",
    ),
    Operation(
        "POST", "/v1/elections/{election}/release", calls.release, "Give the office back", bodies.ReleaseBody,
        {200: engine.Released}, refusals=(404, 409), is_change=True,
        example=b"{" + _SESSION + b',"term":123713848344577}',
    ),
    Operation(
        "POST", "/v1/elections/{election}/pause", calls.pause, "While paused nobody new is granted", bodies.PauseBody,
        {200: engine.Configured}, refusals=(404,), is_change=True, example=b'{"paused":true}',
    ),
    Operation(
        "GET", "/v1/elections/{election}/history", calls.history, "The last holdings, newest first",
        answers={200: engine.HistoryPage}, query=("limit",), refusals=(404,),
    ),
    Operation(
        "GET", "/v1/elections/{election}/config", calls.read_config, "An election's settings",
        answers={200: engine.Configured}, query=_CONSISTENCY, refusals=(404,),
    ),
    Operation(
        "PUT", "/v1/elections/{election}/config", calls.write_config, "Set an election's settings as a whole",
        engine.ElectionConfig, {200: engine.Configured}, is_change=True, example=b'{"mode":"fenced","health_min":50}',
    ),
    Operation(
        "POST", "/v1/clients", calls.open_client, "Open a client session for sequenced requests", bodies.OpenClientBody,
        {200: engine.ClientOpened}, is_change=True, example=b'{"nonce":"0123456789abcdef"}',
    ),
    Operation(
        "GET", "/v1/kv", calls.list_keys, "Keys that begin with a prefix", answers={200: engine.KvKeys},
        query=("prefix", "limit"),
    ),
    Operation(
        "PUT", "/v1/kv/{key}", calls.put_value, "Write a key, fenced by an election's term if it was ever",
        bodies.KvPutBody, {200: engine.KvWritten}, refusals=(403, 412), is_change=True,
        example=b'{"value":{"any":["json"]},"election":"orders","term":123713848344577}',
    ),
    Operation(
        "GET", "/v1/kv/{key}", calls.get_value, "Read a key", answers={200: bodies.KvValueBody}, query=_CONSISTENCY,
        refusals=(404,),
    ),
    Operation(
        "GET", "/v1/members", members.list_members, "Who belongs to the coordination cluster",
        answers={200: engine.MembersView}, query=_CONSISTENCY,
    ),
    Operation(
        "POST", "/v1/members", members.add, "A new member, as an observer that counts for nothing yet",
        bodies.AddMemberBody, {200: engine.MembersView}, refusals=(409,), is_change=True,
        example=b'{"id":"0123456789abcdef","name":"m4","peer":"10.0.0.4:8369"}',
    ),
    Operation(
        "PATCH", "/v1/members/{member}", members.amend, "Another peer address or priority of a member",
        bodies.AmendMemberBody, {200: engine.MembersView}, refusals=(404, 409), is_change=True,
        example=b'{"peer":"10.0.0.14:8369"}',
    ),
    Operation(
        "POST", "/v1/members/{member}/promote", members.promote, "An observer that has caught up votes from now on",
        bodies.PromoteMemberBody, {200: engine.MembersView}, refusals=(404, 409), is_change=True,
        example=b'{"role":"voter"}',
    ),
    Operation(
        "POST", "/v1/members/{member}/demote", members.demote, "A voter goes on as an observer",
        bodies.LeaveMemberBody, {200: engine.MembersView}, refusals=(404, 409, 412), is_change=True, example=b"{}",
    ),
    Operation(
        "POST", "/v1/members/{member}/remove", members.remove, "A member leaves for ever",
        bodies.LeaveMemberBody, {200: engine.MembersView}, refusals=(404, 409, 412), is_change=True,
        example=b'{"dry_run":true}',
    ),
    Operation(
        "POST", "/v1/members/{member}/replace", members.replace, "An observer takes the place of a member",
        bodies.ReplaceMemberBody, {200: engine.MembersView}, refusals=(404, 409, 412), is_change=True,
        example=b'{"by":"m4"}',
    ),
    Operation(
        "GET", "/v1/autopilot", members.autopilot,
        "What the autopilot sees and waits for, and what it did and declined, newest first",
        answers={200: engine.AutopilotView}, query=_CONSISTENCY,
    ),
    Operation(
        "PUT", "/v1/autopilot", members.configure_autopilot, "Set the autopilot's settings as a whole",
        engine.AutopilotSettings, {200: engine.AutopilotConfigured}, is_change=True,
        example=b'{"dead_after_ms":300000,"stabilise_ms":10000}',
    ),
    Operation(
        "GET", "/v1/stream", calls.stream_without_upgrade, "WebSocket, subprotocol tenure.v1", answers={101: None}
    ),
    Operation(
        "GET", "/v1/events", events, "All transitions as server-sent events, resumable by Last-Event-ID",
        answers={200: None}, query=("after",),
    ),
    Operation(
        "GET", "/v1/snapshot", snapshot, "The state as a file, for `tenure snapshot inspect` and `restore`",
        answers={200: None}, query=_CONSISTENCY,
    ),
    Operation("GET", "/livez", calls.livez, "The process serves", is_open=True),
    Operation(
        "GET", "/readyz", calls.readyz, "This member can answer", answers={200: None, 503: None}, query=("verbose",)
    ),
    Operation("GET", "/leader", calls.leader, "This member leads the consensus", answers={200: None, 503: None}),
    Operation("GET", "/metrics", calls.metrics, "Prometheus"),
    Operation("GET", "/openapi.json", _openapi, "This description"),
)  # fmt: skip
