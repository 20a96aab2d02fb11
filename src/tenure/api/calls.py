"""The cold calls: one small function each, from a parsed call to a request of the engine and back to a reply."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tenure.api.answers import age, from_refusal, from_result, invalid, json_reply, problem, refused
from tenure.api.door import Door
from tenure.api.taking import checked, origin_of, take, take_keepalive, take_put
from tenure.base.errors import Invalid
from tenure.base.ids import ElectionName, NodeId, SessionId, Term, counter, counter_max, session_id
from tenure.leadership import limits
from tenure.leadership.engine import (
    AsOf,
    Campaign,
    CloseSession,
    Configure,
    Configured,
    ElectionConfig,
    ElectionView,
    History,
    KvGet,
    KvList,
    OpenClient,
    OpenSession,
    Pause,
    ReadElection,
    ReadSession,
    Refused,
    Release,
    Request,
    Status,
    StatusReport,
    Stepdown,
    Validate,
    Validated,
    Withdraw,
)
from tenure.wire import bodies

R = TypeVar("R")
B = TypeVar("B")


@dataclass(slots=True)
class Call:
    """One cold request, its parts checked as far as the route knows them."""

    door: Door
    request: HttpRequest
    parts: dict[str, str]
    """Of the path, percent-decoded."""
    query: dict[str, str]
    headers: dict[bytes, bytes]
    body: bytes
    principal: str
    gone: "asyncio.Event" = field(default_factory=asyncio.Event)
    """Inside `noticing`: the client, or the server, leaves."""

    def take(self, kind: type[B]) -> B:
        """The body."""
        return take(msgspec.json.Decoder(kind), self.body)

    async def ask(self, request: Request[R]) -> R | Refused:
        """A question."""
        checked(request)  # type: ignore[arg-type] # every request is one of AnyRequest
        return await self.door.engine.ask(request)

    async def change(self, request: Request[R]) -> R | Refused:
        """A change, with the origin that makes it safe to repeat."""
        scope = self.request.scope
        origin = origin_of(self.headers, self.principal, scope["method"], scope["raw_path"], self.body)
        checked(request, origin)  # type: ignore[arg-type] # as above
        return await self.door.engine.ask(request, origin)

    async def ask_reply(self, request: Request[Any]) -> Response:
        """A question and its answer."""
        return from_result(await self.ask(request))

    async def change_reply(self, request: Request[Any]) -> Response:
        """A change and its answer."""
        return from_result(await self.change(request))

    @property
    def is_stale(self) -> bool:
        """`?consistency=stale`."""
        value = self.query.get("consistency", "linearizable")
        if value not in {"linearizable", "stale"}:
            raise invalid(Invalid("consistency", "must be linearizable or stale"))
        return value == "stale"

    def number(self, name: str, default: int | None, maximum: int = counter_max) -> int | None:
        """A query parameter that is a number."""
        text = self.query.get(name)
        if text is None:
            return default
        try:
            if not (text.isascii() and text.isdigit() and len(text) <= 16):
                raise Invalid(name, f"must be an integer from 0 to {maximum}, got {text[:40]!r}")
            return counter(int(text), name, maximum=maximum)
        except Invalid as error:
            raise invalid(error) from None

    @contextlib.asynccontextmanager
    async def noticing(self) -> AsyncIterator[None]:
        """Inside, `gone` is set when the client leaves, or the server."""
        leave = self.gone.set
        self.door.leaving.add(leave)
        if self.door.closing:
            self.gone.set()
        task = asyncio.get_running_loop().create_task(self._listen())
        try:
            yield
        finally:
            self.door.leaving.discard(leave)
            task.cancel()

    async def _listen(self) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass
        self.gone.set()


Handler = Callable[[Call], Awaitable[Response]]


def _session(call: Call) -> SessionId:
    try:
        return session_id(call.parts["session"])
    except Invalid as error:
        raise invalid(error) from None


def _election(call: Call) -> ElectionName:
    return ElectionName(call.parts["election"])  # its form is checked with the request


# --- sessions -------------------------------------------------------------------------------------------------------


async def open_session(call: Call) -> Response:
    """Open a session for a node."""
    body = call.take(bodies.OpenSessionBody)
    return await call.change_reply(OpenSession(NodeId(body.node), body.ttl_ms, body.process, body.meta))


async def read_session(call: Call) -> Response:
    """One session."""
    return await call.ask_reply(ReadSession(_session(call)))


async def close_session(call: Call) -> Response:
    """Close a session and give up what it held."""
    return await call.change_reply(CloseSession(_session(call)))


async def keepalive(call: Call) -> Response:
    """Renew a session's leases (the cold way)."""
    return await call.ask_reply(take_keepalive(_session(call), call.body))


# --- elections ------------------------------------------------------------------------------------------------------


async def list_elections(call: Call) -> Response:
    """All elections."""
    report = await call.ask(Status(call.is_stale))
    if isinstance(report, Refused):
        return from_refusal(report)
    if not report.quorum and not call.is_stale:
        return problem(503, "no_quorum", "no quorum; ?consistency=stale tells what this member knows")
    as_of = AsOf(report.consensus.applied_index, report.consensus.lag_ms) if call.is_stale else None
    return json_reply({"elections": report.elections}, headers=age(as_of))


async def read_election(call: Call) -> Response:
    """One election; with `?after=REVISION` the answer waits for a later revision."""
    after = call.number("after", None)
    request = ReadElection(_election(call), call.is_stale)
    if after is None:
        if "wait_ms" in call.query:
            raise invalid(Invalid("wait_ms", "waits for a revision: give after too"))
        return await call.ask_reply(request)
    wait_ms = call.number("wait_ms", call.door.limits.long_poll_ms_default, limits.wait_ms_max)
    assert wait_ms is not None
    if call.door.hub.long_polls >= call.door.limits.long_polls_max:
        return refused("too_many", "too many long polls")
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_ms / 1_000
    with call.door.hub.waiting(request.election) as changed:
        async with call.noticing():
            while True:
                changed.clear()
                view = await call.ask(request)
                if not isinstance(view, ElectionView) or view.revision > after:
                    return from_result(view)
                if loop.time() >= until:
                    return from_result(view)
                await _first(changed, call.gone, until - loop.time())
                if call.gone.is_set():
                    return from_result(view)


async def _first(one: asyncio.Event, other: asyncio.Event, timeout_s: float) -> None:
    """Until either is set, or the time is over."""
    tasks = [asyncio.ensure_future(one.wait()), asyncio.ensure_future(other.wait())]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def campaign(call: Call) -> Response:
    """Stand for an election."""
    body = call.take(bodies.CampaignBody)
    return await call.change_reply(Campaign(SessionId(body.session), _election(call), body.priority))


async def withdraw(call: Call) -> Response:
    """Stop standing."""
    body = call.take(bodies.WithdrawBody)
    return await call.change_reply(Withdraw(SessionId(body.session), _election(call)))


async def release(call: Call) -> Response:
    """Give the office back."""
    body = call.take(bodies.ReleaseBody)
    session, term = SessionId(body.session), Term(body.term)
    return await call.change_reply(Release(session, _election(call), term, body.withdraw, body.cause, body.reason))


async def pause(call: Call) -> Response:
    """While paused nobody new is granted."""
    body = call.take(bodies.PauseBody)
    return await call.change_reply(Pause(_election(call), body.paused))


async def history(call: Call) -> Response:
    """The last holdings, newest first."""
    limit = call.number("limit", 20, bodies.history_limit_max)
    assert limit is not None
    return await call.ask_reply(History(_election(call), limit))


async def read_config(call: Call) -> Response:
    """An election's settings."""
    view = await call.ask(ReadElection(_election(call), call.is_stale))
    if isinstance(view, Refused):
        return from_refusal(view)
    return json_reply(Configured(view.election, view.config, view.paused), headers=age(view.as_of))


async def write_config(call: Call) -> Response:
    """Set an election's settings as a whole."""
    return await call.change_reply(Configure(_election(call), call.take(ElectionConfig)))


# --- clients and kv -------------------------------------------------------------------------------------------------


async def open_client(call: Call) -> Response:
    """Open a client session for sequenced requests."""
    return await call.change_reply(OpenClient(call.take(bodies.OpenClientBody).nonce))


async def put_value(call: Call) -> Response:
    """Write a key (the cold way)."""
    result = await call.change(take_put(call.parts["key"], call.body))
    if isinstance(result, Refused) and result.code == "stale_term":
        call.door.telemetry.fence_rejected("kv")
    return from_result(result)


async def get_value(call: Call) -> Response:
    """Read a key (the cold way)."""
    return await call.ask_reply(KvGet(call.parts["key"], call.is_stale))


async def list_keys(call: Call) -> Response:
    """Keys that begin with a prefix."""
    limit = call.number("limit", 100, bodies.kv_list_limit_max)
    assert limit is not None
    return await call.ask_reply(KvList(call.query.get("prefix", ""), limit))


# --- the three of the requirements ----------------------------------------------------------------------------------


async def status(call: Call) -> Response:
    """Everything at a glance; 503 with the same body without a quorum."""
    report = await call.ask(Status(call.is_stale))
    if isinstance(report, Refused) and not call.is_stale:
        known = await call.ask(Status(stale=True))  # as far as known
        if isinstance(known, StatusReport):
            return from_result(msgspec.structs.replace(known, quorum=False))
    return from_result(report)


async def stepdown(call: Call) -> Response:
    """Ask the holder to hand over; without an election the consensus leader moves. The engine does the waiting."""
    body = call.take(bodies.StepdownBody)
    election = None if body.election is None else ElectionName(body.election)
    request = Stepdown(election, body.successor, body.reason, body.grace_ms, body.wait_ms, body.fenced_off)
    return await call.change_reply(request)


async def validate(call: Call) -> Response:
    """Is this term the current one? Linearizable."""
    try:
        question = bodies.validation_of(call.take(bodies.ValidateBody))
    except Invalid as error:
        raise invalid(error) from None
    return from_result(await _validated(call, question))


async def validate_header(call: Call) -> Response:
    """The same for proxies: 204, or 403 with the reason."""
    name = bodies.token_header
    token = call.headers.get(name.lower().encode())
    if token is None:
        return problem(403, "denied", f"send the {name} header", field=name)
    try:
        question = bodies.parse_token(token.decode("latin-1"), name)
    except Invalid as error:
        return problem(403, "denied", str(error), field=name)
    result = await _validated(call, question)
    if isinstance(result, Validated):
        return Response(status_code=204) if result.valid else json_reply(result, 403)
    return from_result(result)


async def _validated(call: Call, question: Validate) -> Validated | Refused:
    result = await call.ask(question)
    if isinstance(result, Validated) and not result.valid:
        call.door.telemetry.fence_rejected("validate")
    return result


# --- health ---------------------------------------------------------------------------------------------------------


async def livez(call: Call) -> Response:
    """The process serves; never depends on the quorum."""
    return json_reply({"status": "ok", "member": call.door.info.member})


async def _known(call: Call) -> StatusReport | Refused:
    return await call.door.engine.ask(Status(stale=True))


async def readyz(call: Call) -> Response:
    """This member can answer: part of a cluster, in touch with a leader, no witness, and it has caught up once."""
    report = await _known(call)
    if isinstance(report, Refused):
        return from_refusal(report)
    checks = {
        "founded": report.cluster_id is not None,
        "quorum": report.quorum,
        "leader_known": report.consensus.leader is not None,
        "current": report.consensus.lag_ms is not None,
        "serves": call.door.engine.unserving() is None,
        "open": not call.door.closing,
    }
    is_ready = all(checks.values())
    shown: dict[str, object] = {"status": "ok" if is_ready else "unavailable", "state": report.state}
    if report.missing:
        shown["missing"] = report.missing
    if "verbose" in call.query:
        shown |= {"checks": checks, "member": report.member, "consensus": report.consensus}
    return json_reply(shown, 200) if is_ready else json_reply(shown, 503, {"retry-after": "1"})


async def leader(call: Call) -> Response:
    """This member leads the consensus."""
    report = await _known(call)
    if isinstance(report, Refused):
        return from_refusal(report)
    leads = report.quorum and report.consensus.leader == report.member
    shown = {"leader": report.consensus.leader, "member": report.member, "leads": leads}
    return json_reply(shown, 200) if leads else json_reply(shown, 503, {"retry-after": "1"})


async def stream_without_upgrade(_call: Call) -> Response:
    """The stream is a WebSocket."""
    detail = "open a WebSocket with the subprotocol tenure.v1"
    return problem(426, "upgrade_required", detail, headers={"upgrade": "websocket"})


async def metrics(call: Call) -> Response:
    """Prometheus."""
    from tenure.api.metrics import render  # late: prometheus_client is 3 MB of resident memory

    report = await _known(call)
    call.door.telemetry.requests_in_flight = call.door.in_flight - 1  # this one is none of the engine's
    text, kind = render(call.door.telemetry, report if isinstance(report, StatusReport) else None)
    return Response(text, headers={"content-type": kind})
