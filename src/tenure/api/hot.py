"""The HTTP protocol under the app: kv and keepalives are answered here, all else by uvicorn's own protocol.

A request is *hot* when this strict parser understands it to the last byte: one of three request lines, a header block
of plain fields with nothing that changes framing but one content-length, and the whole body. Everything else goes to
uvicorn's parser, untouched and at the boundary of a request; so two parsers never disagree about where a request ends.
Clients repeat their headers on each request of a connection, so the last block's meaning is remembered.

Pipelined hot requests are submitted as they come and answered in order. What isn't hot waits until they are answered.
"""

import asyncio
import logging
import re
from collections import deque
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tenure.api.answers import Rejected, Reply, from_result, internal, problem, refused
from tenure.api.door import Door
from tenure.api.handshake import shake
from tenure.api.stream import Stream
from tenure.api.taking import origin_of, take_keepalive, take_put
from tenure.base.ids import SessionId
from tenure.leadership.engine import AnyRequest, AnyResult, KvGet, KvPut, Origin, Refused

_log: Final = logging.getLogger("tenure.api")
_quiet: Final = logging.getLogger("tenure.api.http")
"""Takes uvicorn's words about garbage: said at debug, or anybody could fill our log."""

_REQUEST: Final = re.compile(
    rb"(?:(PUT|GET) /v1/kv/([A-Za-z0-9_.:@~/-]{1,512})(\?consistency=stale)?"
    rb"|POST /v1/sessions/([0-9]{1,16}-[0-9a-f]{16})/keepalive) HTTP/1\.1\r\n"
)
_BLOCK: Final = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n)*")
_CHANGES_FRAMING: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"connection", b"te", b"trailer"})


class Head:
    """What a header block means for a hot request."""

    __slots__ = ("headers", "length", "principal", "repeatable")

    def __init__(self, length: int, principal: str, headers: dict[bytes, bytes]) -> None:
        self.length = length
        self.principal = principal
        self.headers = headers
        self.repeatable = any(name.startswith((b"idempotency-key", b"tenure-")) for name in headers)


class _Waiting:
    """A hot request until it is answered; the engine calls it with the result."""

    __slots__ = ("out", "protocol", "request")

    def __init__(self, protocol: "HotProtocol", request: AnyRequest | None) -> None:
        self.protocol = protocol
        self.request = request
        self.out: bytes | None = None

    def __call__(self, result: AnyResult) -> None:
        protocol = self.protocol
        protocol.door.in_flight -= 1
        try:
            if type(result) is Refused and result.code == "stale_term" and type(self.request) is KvPut:
                protocol.door.telemetry.fence_rejected("kv")
            self.out = from_result(result).wire()
            protocol.answered(self)
        except Exception:  # noqa: BLE001 - the caller is the engine: nothing may reach it
            _log.exception("answering a %s failed", type(self.request).__name__)
            self.out = internal().wire()
            protocol.abandon()


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
        self.logger = _quiet
        self.door = door
        self._replies: deque[_Waiting] = deque()
        """In the order of their requests; at most `pipelined_requests_max`."""
        self._held = b""
        """An unfinished hot request, or what must wait until the hot ones are answered."""
        self._is_blocked = False
        """Reading is paused until the hot requests are answered."""
        self._is_ending = False
        self._last_block: bytes | None = None
        self._last_head: Head | None = None
        self._in_message = False
        self._head_bytes = 0
        self._refusal: Reply | None = None
        self._heard_at = 0.0
        self._begun_at: float | None = None
        """When a request began that hasn't arrived as a whole."""

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
        self._held = b""
        self._is_blocked = False
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close, after what is being answered."""
        self.door.close()
        if self._replies:
            self._is_ending = True
        else:
            super().shutdown()

    def sweep(self, now: float) -> None:
        """Close a connection whose request doesn't arrive, or that has been idle for too long."""
        limits = self.door.limits
        if self._begun_at is not None and now - self._begun_at > limits.request_timeout_ms / 1_000:
            detail = f"the request didn't arrive within {limits.request_timeout_ms} ms"
            self._end_with(problem(408, "timeout", detail, closes=True))
        elif self._is_idle() and not self._replies and now - self._heard_at > limits.idle_timeout_ms / 1_000:
            self.transport.close()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if not self._replies:
            self._resume()

    def _is_idle(self) -> bool:
        """Between two requests, as far as uvicorn's half knows."""
        cycle = self._cycle()
        return not self._in_message and not self.pipeline and (cycle is None or cycle.response_complete)

    def _cycle(self) -> RequestResponseCycle | None:
        return self.cycle  # declared as never None in uvicorn, where it begins as None

    def _end_with(self, reply: Reply) -> None:
        """The last answer of this connection, if nothing else is being written."""
        cycle = self._cycle()
        own = cycle is not None and cycle.more_body and not cycle.response_started
        if self._is_between_answers() or (own and not self.pipeline):
            self._write(reply.wire())
        if not self.transport.is_closing():
            self.transport.close()

    def abandon(self) -> None:
        """An answer can't be given; the client must not wait for it."""
        if not self.transport.is_closing():
            self.transport.abort()

    def _write(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        try:
            self.transport.write(data)
        except (OSError, RuntimeError) as error:  # uvloop raises RuntimeError on a handle that is closed
            _log.debug("a client has gone: %s", error)

    # --- requests ------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Hot requests first; the rest is uvicorn's."""
        self._heard_at = self.loop.time()
        if self._held:
            data = self._held + data
            self._held = b""
        if self._is_blocked:
            self._held = data
        elif self._is_idle():
            data = self._take(data)
            if data:
                super().data_received(data)
        else:
            super().data_received(data)

    def _take(self, data: bytes) -> bytes:
        """Submit the hot requests at the beginning; returns what uvicorn must see."""
        at = 0
        while at < len(data):
            if len(self._replies) >= self.door.limits.pipelined_requests_max or self.flow.write_paused:
                self._block(data[at:])
                return b""
            line = _REQUEST.match(data, at)
            end = data.find(b"\r\n\r\n", line.end() - 2) if line is not None else -1
            head = self._head(data[line.end() : end + 2]) if line is not None and end >= 0 else None
            if line is None or head is None or (line[1] == b"GET") != (head.length == 0):
                if not self._replies:
                    return data[at:] if at else data
                self._block(data[at:])
                return b""
            body_at = end + 4
            if body_at + head.length > len(data):
                self._held = data[at:] if at else data
                self._begun_at = self._begun_at or self._heard_at
                return b""
            at = body_at + head.length
            self._begun_at = None
            self._dispatch(line, head, data[body_at:at])
        return b""

    def _block(self, rest: bytes) -> None:
        self._held = rest
        self._is_blocked = True
        self.flow.pause_reading()

    def _head(self, block: bytes) -> Head | None:
        """What the block means; None sends the request the cold way, which knows all the words for what is wrong."""
        if block == self._last_block:
            return self._last_head
        self._last_block, self._last_head = block, self._parse(block)
        return self._last_head

    def _parse(self, block: bytes) -> Head | None:
        if len(block) > self.door.limits.head_bytes_max or not _BLOCK.fullmatch(block):
            return None
        headers: dict[bytes, bytes] = {}
        for line in block.split(b"\r\n")[:-1]:
            name, _, value = line.partition(b":")
            name = name.lower()
            if name in headers:
                return None
            headers[name] = value.strip(b" \t")
        if headers.pop(b"connection", b"keep-alive").lower() != b"keep-alive" or not headers.keys().isdisjoint(
            _CHANGES_FRAMING
        ):
            return None
        length = headers.get(b"content-length", b"0")
        if not (length.isdigit() and len(length) <= 8 and int(length) <= self.door.limits.hot_body_bytes_max):
            return None
        try:
            principal = self.door.access.principal(headers)
        except Rejected:
            return None
        return Head(int(length), principal, headers)

    def _dispatch(self, line: re.Match[bytes], head: Head, body: bytes) -> None:
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        door = self.door
        waiting = _Waiting(self, None)
        self._replies.append(waiting)
        try:
            request, origin = _request(line, head, body)
        except Rejected as rejected:
            self._reject(waiting, rejected.reply)
            return
        if door.is_full:
            self._reject(waiting, refused("too_many", "too many requests in flight"))
            return
        waiting.request = request
        door.in_flight += 1
        try:
            door.engine.submit(request, origin, waiting)
        except Exception:  # noqa: BLE001 - the client gets 500 without a trace, the log gets all
            _log.exception("the engine failed at a %s", type(request).__name__)
            door.in_flight -= 1
            self._reject(waiting, internal())

    def _reject(self, waiting: _Waiting, reply: Reply) -> None:
        waiting.out = reply.wire()
        if reply.closes:
            self._is_ending = True
        self.answered(waiting)

    def answered(self, waiting: _Waiting) -> None:
        """Write what is ready, in order."""
        replies = self._replies
        if replies[0] is not waiting:
            return  # an earlier one is still open
        while replies and (out := replies[0].out) is not None:
            replies.popleft()
            self._write(out)
        if not replies:
            self._resume()

    def _resume(self) -> None:
        if self._is_ending:
            self.transport.close()
        elif self._is_blocked and not self.flow.write_paused and not self.transport.is_closing():
            self._is_blocked = False
            data, self._held = self._held, b""
            self.flow.resume_reading()
            self.data_received(data)

    # --- uvicorn's half, with limits -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A cold request begins."""
        self._in_message = True
        self._head_bytes = 0
        self._begun_at = self._heard_at
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Part of the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.door.limits.head_bytes_max:
            detail = f"request line and headers have more than {self.door.limits.head_bytes_max} bytes"
            self._refusal = problem(431, "too_large", detail, closes=True)
            raise ValueError(detail)  # httptools hands it on as a parser's error

    def on_message_complete(self) -> None:
        """It has arrived as a whole."""
        self._in_message = False
        self._begun_at = None
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Garbage: a problem, then the end. Not into the middle of another answer."""
        self._end_with(self._refusal or problem(400, "bad_request", "not parseable as HTTP/1.1", closes=True))

    def handle_websocket_upgrade(self) -> None:
        """The stream's handshake; then the connection is the stream's."""
        if not self._is_between_answers():
            self._end_with(problem(400, "bad_request", "an upgrade can't be pipelined", closes=True))
            return
        shaken = shake(self.door, self.url, dict(self.headers))
        if isinstance(shaken, Reply):
            self._end_with(shaken)
            return
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        self.door.guests.discard(self)
        self._begun_at = None
        self._write(shaken)
        self.transport.set_protocol(Stream(self.door, self.transport, self.connections))  # type: ignore[arg-type] # uvicorn's set holds whatever has `shutdown`

    def _is_between_answers(self) -> bool:
        cycle = self._cycle()
        return not self._replies and not self.pipeline and (cycle is None or cycle.response_complete)


def _request(line: re.Match[bytes], head: Head, body: bytes) -> tuple[AnyRequest, Origin | None]:
    """The hot request, checked."""
    method, key, stale, session = line.groups()
    if session is not None:
        return take_keepalive(SessionId(session.decode()), body), None
    if method == b"GET":
        return KvGet(key.decode(), stale is not None), None
    if stale is not None:
        raise Rejected(refused("invalid", "unknown query parameter", field="consistency"))
    put = take_put(key.decode(), body)
    if not head.repeatable:
        return put, None
    return put, origin_of(head.headers, head.principal, "PUT", b"/v1/kv/" + key, body)
