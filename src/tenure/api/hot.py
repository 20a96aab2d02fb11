"""The HTTP protocol under the app: kv and keepalives are answered here, all else by uvicorn's own way through ASGI.

The parser is uvicorn's (httptools), for every request. When the head of one is complete this class decides: a *hot* one
becomes a request of the engine when its body is complete, and no task, future or ASGI message stands between (ADR
0008). Whatever isn't plainly hot takes the cold way, which knows all the words for what may be wrong.

Pipelined hot requests are submitted as they come and answered in order. A cold one waits until they are answered; what
comes behind it waits in uvicorn's queue.
"""

import asyncio
import logging
import re
from collections import deque
from typing import Any, Final

import httptools
from starlette.responses import Response
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tenure.api import lineage
from tenure.api.answers import Rejected, internal, problem, refused, wire, wire_of
from tenure.api.door import Door
from tenure.api.handshake import shake
from tenure.api.stream import Stream
from tenure.api.taking import origin_of, take_keepalive, take_put
from tenure.base.ids import SessionId
from tenure.leadership.engine import AnyRequest, AnyResult, KvGet, KvPut, Origin, Refused

_log: Final = logging.getLogger("tenure.api")
_asgi_log: Final = logging.getLogger("tenure.api.http")
"""Takes uvicorn's words: errors of ours behind a cold call. What clients do wrong is answered here, and not logged."""

_TARGET: Final = re.compile(
    rb"/v1/kv/([A-Za-z0-9_.:@~/-]{1,512})(\?consistency=stale)?|/v1/sessions/([0-9]{1,16}-[0-9a-f]{16})/keepalive"
)
_COLD_HEADERS: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"te", b"trailer"})


class _Hot:
    """A hot request until it is answered; the engine calls it with the result."""

    __slots__ = ("body", "headers", "method", "out", "protocol", "request", "target")

    def __init__(
        self, protocol: "HotProtocol", method: bytes, target: re.Match[bytes], headers: dict[bytes, bytes]
    ) -> None:
        self.protocol = protocol
        self.method = method
        self.target = target
        self.headers = headers
        self.body = b""
        self.request: AnyRequest | None = None
        self.out: bytes | None = None

    def taken(self, principal: str) -> tuple[AnyRequest, Origin | None]:
        """The engine's request and its origin, checked; or `Rejected`."""
        key, stale, session = self.target.groups()
        if session is not None:
            return take_keepalive(SessionId(session.decode()), self.body), None
        if self.method == b"GET":
            return KvGet(key.decode(), stale is not None), None
        put = take_put(key.decode(), self.body)
        return put, origin_of(self.headers, principal, "PUT", b"/v1/kv/" + key, self.body)

    def __call__(self, result: AnyResult) -> None:
        protocol = self.protocol
        protocol.door.in_flight -= 1
        try:
            if type(result) is Refused and result.code == "stale_term" and type(self.request) is KvPut:
                protocol.door.telemetry.fence_rejected("kv")
            self.out = wire_of(result)
            protocol.answered(self)
        except Exception:  # noqa: BLE001 - the caller is the engine: nothing may reach it
            _log.exception("answering a %s failed", type(self.request).__name__)
            self.out = wire(internal())
            protocol.abandon()


class _Over(Exception):
    """Raised into the parser, which stops: this connection's last answer was given."""


class HotProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        door: Door,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = _asgi_log
        self.door = door
        self._replies: deque[_Hot] = deque()
        """In the order of their requests; at most `pipelined_requests_max`."""
        self._hot: _Hot | None = None
        """The request whose body is being read, if it is a hot one."""
        self._behind: tuple[RequestResponseCycle, Any] | None = None
        """A cold request that waits for the replies of hot ones."""
        self._is_ending = False
        self._in_message = False
        self._in_head = False
        self._head_bytes = 0
        """Received of a head since it began, without its first segment: it may hold an earlier request too."""
        self._heard_at = 0.0
        self._begun_at: float | None = None
        """When a request began that hasn't arrived as a whole."""
        self._stuck_at: float | None = None
        """Since when the client hasn't taken what is written to it."""

    # --- connection ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Count it, or refuse it."""
        super().connection_made(transport)
        self._heard_at = self.loop.time()
        self.door.guests.add(self)
        if len(self.door.guests) > self.door.limits.connections_max:
            self._end_with(problem(503, "too_many", "too many connections", closes=True))

    def connection_lost(self, exc: Exception | None) -> None:
        """Answers to come are thrown away."""
        self.door.guests.discard(self)
        self._behind = None
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close, after what is being answered."""
        self.door.close()
        if self._replies:
            self._is_ending = True
        else:
            super().shutdown()

    def sweep(self, now: float) -> None:
        """End a connection whose request doesn't arrive, whose client doesn't read, or that has been idle too long."""
        limits = self.door.limits
        if self._begun_at is not None and now - self._begun_at > limits.request_timeout_ms / 1_000:
            detail = f"the request didn't arrive within {limits.request_timeout_ms} ms"
            self._end_with(problem(408, "timeout", detail, closes=True))
        elif self._stuck_at is not None and now - self._stuck_at > limits.stuck_timeout_ms / 1_000:
            self.abandon()
        elif self._is_idle() and now - self._heard_at > limits.idle_timeout_ms / 1_000:
            self.transport.close()

    def pause_writing(self) -> None:
        """The client reads slowly."""
        self._stuck_at = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._stuck_at = None
        super().resume_writing()

    def _is_idle(self) -> bool:
        """Nothing is being read, asked or answered."""
        return not self._in_message and not self._replies and self._is_asgi_idle()

    def _is_asgi_idle(self) -> bool:
        """Uvicorn's half owes no answer."""
        cycle: RequestResponseCycle | None = self.cycle  # declared as never None in uvicorn, where it begins as None
        return not self.pipeline and (cycle is None or cycle.response_complete)

    def _end_with(self, response: Response) -> None:
        """The last answer of this connection, if nothing else is being written."""
        cycle: RequestResponseCycle | None = self.cycle
        own = cycle is not None and cycle.more_body and not cycle.response_started
        if not self._replies and (self._is_asgi_idle() or (own and not self.pipeline)):
            self._write(wire(response))
        if not self.transport.is_closing():
            self.transport.close()

    def abandon(self) -> None:
        """No more answers; the client must not wait for them."""
        if not self.transport.is_closing():
            self.transport.abort()

    def _write(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        try:
            self.transport.write(data)
        except (OSError, RuntimeError) as error:  # uvloop raises RuntimeError on a handle that is closed
            _log.debug("a client has gone: %s", error)

    # --- reading: what httptools calls ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """As uvicorn's; garbage is answered as a problem, and what stands behind an upgrade isn't lost."""
        self._heard_at = self.loop.time()
        self._unset_keepalive_if_required()
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
            if self._in_head and self._head_bytes > self.door.limits.head_bytes_max:
                self._end_with(self._too_long())
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self._should_upgrade():
                self._upgrade(rest)
            elif rest:  # an upgrade that nobody speaks was answered as if it weren't one
                self.data_received(rest)
        except httptools.HttpParserError:
            if not self.transport.is_closing():
                self._end_with(problem(400, "bad_request", "not parseable as HTTP/1.1", closes=True))

    def _too_long(self) -> Response:
        detail = f"request line and headers have more than {self.door.limits.head_bytes_max} bytes"
        return problem(431, "too_large", detail, closes=True)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_message = self._in_head = True
        self._head_bytes = 0
        self._begun_at = self._heard_at
        self._hot = None
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Hot or cold?"""
        head_max = self.door.limits.head_bytes_max
        if self.transport.is_closing():
            raise _Over  # what was pipelined behind the last answer isn't executed
        self._in_head = False
        if len(self.url) + sum([len(name) + len(value) for name, value in self.headers]) > head_max:
            self._end_with(self._too_long())
            raise _Over
        self._hot = self._hot_one()
        if self._hot is None:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Part of the body; a hot one is bounded by its announced length."""
        if self._hot is None:
            super().on_body(body)
        else:
            self._hot.body += body

    def on_message_complete(self) -> None:
        """It has arrived as a whole."""
        self._in_message = False
        self._begun_at = None
        if self._hot is None:
            super().on_message_complete()
        else:
            self._submit(self._hot)

    # --- hot requests --------------------------------------------------------------------------------------------

    def _hot_one(self) -> _Hot | None:
        """None sends a request the cold way."""
        target = _TARGET.fullmatch(self.url)
        if target is None or not self._is_asgi_idle() or self.flow.write_paused or self._is_ending:
            return None
        method, limits = self.parser.get_method(), self.door.limits
        length = 0
        headers = dict(self.headers)
        match method:
            case b"GET" if target[1] is not None:
                # Short questions may have long answers: behind another they wait, as uvicorn does for the client.
                if b"content-length" in headers or self._replies:
                    return None
            case b"PUT" | b"POST" if (target[3] is not None) == (method == b"POST") and target[2] is None:
                length = int(headers.get(b"content-length", limits.hot_body_bytes_max + 1))
            case _:
                return None
        is_plain = len(headers) == len(self.headers) and headers.keys().isdisjoint(_COLD_HEADERS)
        is_kept = self.parser.get_http_version() == "1.1" and self.parser.should_keep_alive()
        is_known = headers.get(lineage.header, self.door.lineage) == self.door.lineage
        if not (is_plain and is_kept and is_known) or length > limits.hot_body_bytes_max:
            return None
        return _Hot(self, method, target, headers) if len(self._replies) < limits.pipelined_requests_max else None

    def _submit(self, hot: _Hot) -> None:
        door = self.door
        self._replies.append(hot)
        try:
            hot.request, origin = hot.taken(door.access.principal(hot.headers))
        except Rejected as rejected:
            self._reject(hot, rejected.response)
            return
        if door.is_full:
            self._reject(hot, refused("too_many", "too many requests in flight"))
            return
        door.in_flight += 1
        try:
            door.engine.submit(hot.request, origin, hot)
        except Exception:  # noqa: BLE001 - the client gets 500 without a trace, the log gets all
            _log.exception("the engine failed at a %s", type(hot.request).__name__)
            door.in_flight -= 1
            self._is_ending = True
            self._reject(hot, internal())

    def _reject(self, hot: _Hot, response: Response) -> None:
        hot.out = wire(response)
        self.answered(hot)

    def answered(self, hot: _Hot) -> None:
        """Write what is ready, in order."""
        replies = self._replies
        if replies[0] is not hot:
            return  # an earlier one is still open
        while replies and (out := replies[0].out) is not None:
            replies.popleft()
            self._write(out)
        if replies:
            return
        if self._is_ending:
            self.transport.close()
        elif self._behind is not None:
            behind, self._behind = self._behind, None
            super()._start_asgi_task(*behind)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """A cold request, when the hot ones before it are answered."""
        if self._replies:
            self._behind = (cycle, app)
            self.flow.pause_reading()
        else:
            super()._start_asgi_task(cycle, app)

    # --- the stream ----------------------------------------------------------------------------------------------

    def _upgrade(self, rest: bytes) -> None:
        """The stream's handshake; then the connection is the stream's, with what was sent before our 101."""
        if self._replies or not self._is_asgi_idle():
            self._end_with(problem(400, "bad_request", "an upgrade can't be pipelined", closes=True))
            return
        shaken = shake(self.door, self.parser.get_method(), self.url, self.headers)
        if isinstance(shaken, Response):
            self._end_with(shaken)
            return
        self.connections.discard(self)
        self.door.guests.discard(self)
        self._begun_at = None
        self._write(shaken)
        stream = Stream(self.door, self.transport, self.connections)  # type: ignore[arg-type] # uvicorn's set holds whatever has `shutdown`
        self.transport.set_protocol(stream)
        if rest:
            stream.data_received(rest)
