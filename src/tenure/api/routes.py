"""The one table of routes: the router matches by it, `/openapi.json` is made from it."""

import re
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tenure.api import calls
from tenure.api.answers import Rejected, Reply, problem
from tenure.api.calls import Handler
from tenure.api.events import events
from tenure.api.taking import decoded
from tenure.leadership import engine
from tenure.wire import bodies


@dataclass(frozen=True, slots=True, eq=False)
class Route:
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


async def _openapi(call: calls.Call) -> Reply:
    from tenure.api.openapi import document  # late: it inspects types, which most members are never asked for

    return Reply(200, ((b"content-type", b"application/json"),), document(ROUTES, call.door.info.version))


_SESSION: Final = b'"session":"17-0123456789abcdef"'
_CONSISTENCY: Final = ("consistency",)

ROUTES: Final = (
    Route(
        "GET", "/status", calls.status, "Members, consensus, nodes and elections at a glance; 503 without a quorum",
        answers={200: engine.StatusReport, 503: engine.StatusReport}, query=_CONSISTENCY,
    ),
    Route(
        "POST", "/leadership/stepdown", calls.stepdown,
        "The holder of an election hands over; without an election the consensus leader moves",
        bodies.StepdownBody, {200: engine.Stepped, 202: engine.Stepped}, refusals=(404, 409, 412), is_change=True,
        example=b'{"election":"orders","successor":"b","grace_ms":2000}',
    ),
    Route(
        "POST", "/fence-token/validate", calls.validate, "Whether a fencing token is the current one; linearizable",
        bodies.ValidateBody, {200: engine.Validated}, example=b'{"election":"orders","term":123713848344577}',
    ),
    Route(
        "GET", "/fence-token/validate", calls.validate_header,
        "The same for proxies (nginx auth_request), by the Fence-Token header",
        answers={204: None, 403: engine.Validated},
    ),
    Route(
        "POST", "/v1/sessions", calls.open_session, "Open a session for a node", bodies.OpenSessionBody,
        {201: engine.SessionOpened}, refusals=(409,), is_change=True,
        example=b'{"node":"a","ttl_ms":3000,"process":"0123456789abcdef"}',
    ),
    Route(
        "GET", "/v1/sessions/{session}", calls.read_session, "One session", answers={200: engine.SessionView},
        refusals=(404,),
    ),
    Route(
        "DELETE", "/v1/sessions/{session}", calls.close_session, "Close a session and give up what it held",
        answers={200: engine.SessionClosed}, is_change=True,
    ),
    Route(
        "POST", "/v1/sessions/{session}/keepalive", calls.keepalive,
        "Renew a session's leases; validity comes only from this answer", bodies.KeepaliveBody, {200: engine.Kept},
        refusals=(404,), example=b'{"number":7,"health":100,"lag":0}',
    ),
    Route(
        "GET", "/v1/elections", calls.list_elections, "All elections",
        answers={200: dict[str, dict[str, engine.ElectionView]]}, query=_CONSISTENCY,
    ),
    Route(
        "GET", "/v1/elections/{election}", calls.read_election,
        "One election; with after it waits for a later revision",
        answers={200: engine.ElectionView}, query=("consistency", "after", "wait_ms"), refusals=(404,),
    ),
    Route(
        "POST", "/v1/elections/{election}/campaign", calls.campaign, "Stand for an election", bodies.CampaignBody,
        {200: engine.Campaigning}, refusals=(404,), is_change=True, example=b"{" + _SESSION + b',"priority":10}',
    ),
    Route(
        "POST", "/v1/elections/{election}/withdraw", calls.withdraw, "Stop standing", bodies.WithdrawBody,
        {200: engine.Withdrawn}, refusals=(404,), is_change=True, example=b"{" + _SESSION + b"}",
    ),
    Route(
        "POST", "/v1/elections/{election}/release", calls.release, "Give the office back", bodies.ReleaseBody,
        {200: engine.Released}, refusals=(404, 409), is_change=True,
        example=b"{" + _SESSION + b',"term":123713848344577}',
    ),
    Route(
        "POST", "/v1/elections/{election}/pause", calls.pause, "While paused nobody new is granted", bodies.PauseBody,
        {200: engine.Configured}, refusals=(404,), is_change=True, example=b'{"paused":true}',
    ),
    Route(
        "GET", "/v1/elections/{election}/history", calls.history, "The last holdings, newest first",
        answers={200: engine.HistoryPage}, query=("limit",), refusals=(404,),
    ),
    Route(
        "GET", "/v1/elections/{election}/config", calls.read_config, "An election's settings",
        answers={200: engine.Configured}, query=_CONSISTENCY, refusals=(404,),
    ),
    Route(
        "PUT", "/v1/elections/{election}/config", calls.write_config, "Set an election's settings as a whole",
        engine.ElectionConfig, {200: engine.Configured}, is_change=True, example=b'{"mode":"fenced","health_min":50}',
    ),
    Route(
        "POST", "/v1/clients", calls.open_client, "Open a client session for sequenced requests", bodies.OpenClientBody,
        {200: engine.ClientOpened}, is_change=True, example=b'{"nonce":"0123456789abcdef"}',
    ),
    Route(
        "GET", "/v1/kv", calls.list_keys, "Keys that begin with a prefix", answers={200: engine.KvKeys},
        query=("prefix", "limit"),
    ),
    Route(
        "PUT", "/v1/kv/{key}", calls.put_value, "Write a key, fenced by an election's term if it was ever",
        bodies.KvPutBody, {200: engine.KvWritten}, refusals=(403, 412), is_change=True,
        example=b'{"value":{"any":["json"]},"election":"orders","term":123713848344577}',
    ),
    Route(
        "GET", "/v1/kv/{key}", calls.get_value, "Read a key", answers={200: bodies.KvValueBody}, query=_CONSISTENCY,
        refusals=(404,),
    ),
    Route("GET", "/v1/stream", calls.stream_without_upgrade, "WebSocket, subprotocol tenure.v1", answers={101: None}),
    Route(
        "GET", "/v1/events", events, "All transitions as server-sent events, resumable by Last-Event-ID",
        answers={200: None}, query=("after",),
    ),
    Route("GET", "/livez", calls.livez, "The process serves", is_open=True),
    Route("GET", "/readyz", calls.readyz, "This member can answer", answers={200: None, 503: None}, query=("verbose",)),
    Route("GET", "/leader", calls.leader, "This member leads the consensus", answers={200: None, 503: None}),
    Route("GET", "/metrics", calls.metrics, "Prometheus"),
    Route("GET", "/openapi.json", _openapi, "This description"),
)  # fmt: skip


class Match(NamedTuple):
    """A route and the parts of the path, percent-decoded."""

    route: Route
    parts: dict[str, str]


def _pattern(path: str) -> "re.Pattern[str]":
    """`{key}` may hold slashes, other parts not."""
    return re.compile(
        re.sub(r"\\{(\w+)\\}", lambda part: f"(?P<{part[1]}>{'.*' if part[1] == 'key' else '[^/]+'})", re.escape(path))
    )


class Router:
    """Finds the route of a request: 404 for an unknown path, 405 with `Allow` for a known one."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self._plain: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        by_path: dict[str, dict[str, Route]] = {}
        for route in routes:
            by_path.setdefault(route.path, {})[route.method] = route
        for path, methods in by_path.items():
            if "{" in path:
                self._patterns.append((_pattern(path), methods))
            else:
                self._plain[path] = methods

    def match(self, method: str, raw_path: str) -> Match:
        """`raw_path` as it came, before percent-decoding."""
        methods = self._plain.get(raw_path)
        parts: dict[str, str] = {}
        if methods is None:
            for pattern, candidates in self._patterns:
                found = pattern.fullmatch(raw_path)
                if found is not None:
                    methods = candidates
                    parts = {name: decoded(part, name) for name, part in found.groupdict().items()}
                    break
            else:
                raise Rejected(problem(404, "unknown_path", f"nothing is served at {raw_path[:200]!r}"))
        route = methods.get("GET" if method == "HEAD" else method)
        if route is None:
            allowed = sorted(methods.keys() | ({"HEAD"} if "GET" in methods else set()))
            allow = ((b"allow", ", ".join(allowed).encode()),)
            raise Rejected(problem(405, "method_not_allowed", f"allowed here: {', '.join(allowed)}", headers=allow))
        return Match(route, parts)
