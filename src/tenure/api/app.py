"""The cold way: an ASGI app over the table of routes. Under `serve_config` the hot calls never reach it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import parse_qsl

from tenure.api.answers import Headers, Rejected, Reply, internal, invalid, refused
from tenure.api.calls import Call
from tenure.api.door import Door, Served
from tenure.api.hub import Hub
from tenure.api.info import ServerInfo
from tenure.api.limits import Limits
from tenure.api.routes import ROUTES, Match, Route, Router
from tenure.api.taking import Access, anonymous
from tenure.api.telemetry import Telemetry
from tenure.base.errors import Invalid

_log: Final = logging.getLogger("tenure.api")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Gone(Exception):
    """The client left before its request had arrived, or before its answer was written."""


def build(
    engine: Served, info: ServerInfo, *, limits: Limits | None = None, telemetry: Telemetry | None = None
) -> "App":
    """The API of one member on top of `engine`; serve it with `serve_config`."""
    telemetry = telemetry or Telemetry()
    limits = limits or Limits()
    return App(Door(engine, info, limits, telemetry, Access(info.secret), Hub(engine, telemetry)))


class App:
    """ASGI 3."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._router = Router(ROUTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the server's life."""
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "lifespan":
                await self._lifespan(receive, send)
            case _:
                await send({"type": "websocket.close", "code": 1011, "reason": "serve the app with serve_config"})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        sweeper: asyncio.Task[None] | None = None
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.door.hub.start()
                sweeper = asyncio.get_running_loop().create_task(self._sweep())
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self.door.close()
                if sweeper is not None:
                    sweeper.cancel()
                await self.door.hub.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _sweep(self) -> None:
        """One timer for all connections; their limits are coarse."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.door.limits.sweep_ms / 1_000)
            now = loop.time()
            for guest in list(self.door.guests):
                try:
                    guest.sweep(now)
                except Exception:  # noqa: BLE001 - one bad connection must not end the sweep of the others
                    _log.exception("sweeping a connection failed")

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(scope["method"], send)
        with suppress(Gone):
            await self._answered(scope, receive, answer)

    async def _answered(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            reply = await self._answer(scope, receive, answer)
        except Rejected as rejected:
            reply = rejected.reply
        except Gone:
            raise
        except Exception:  # noqa: BLE001 - the client gets 500 without a trace, the log gets all
            _log.exception("a %s failed", scope["method"])
            reply = internal()
        if answer.is_begun:
            await answer.end()
        elif reply is not None:
            await answer.whole(reply, self._drain(receive) if reply.status == 413 else None)

    async def _answer(self, scope: Scope, receive: Receive, answer: "_Answer") -> Reply | None:
        """Everything that can be wrong with a request is found before its handler asks the engine."""
        method, raw_path = scope["method"], scope["raw_path"]
        found = self._router.match(method, raw_path.decode("ascii", "replace"))
        headers = dict(scope["headers"])
        principal = anonymous if found.route.is_open else self.door.access.principal(headers)
        query = _query(scope["query_string"], found.route)
        body = await self._body(headers, receive)
        if self.door.is_full:
            return refused("too_many", "too many requests in flight")
        call = Call(
            self.door,
            method,
            raw_path,
            found.parts,
            query,
            headers,
            body,
            principal,
            receive,
            answer.start,
            answer.more,
        )
        return await self._handle(found, call)

    async def _handle(self, found: Match, call: Call) -> Reply | None:
        self.door.in_flight += 1
        self.door.telemetry.requests_in_flight = self.door.in_flight
        try:
            return await found.route.handler(call)
        finally:
            self.door.in_flight -= 1

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body, refused early if too long: by its announcement, or while it comes in chunks."""
        limit = self.door.limits.body_bytes_max
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced[:20]) > limit:
            raise Rejected(refused("too_large", f"at most {limit} bytes are taken", closes=True))
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise Rejected(refused("too_large", f"at most {limit} bytes are taken", closes=True))
            if not message.get("more_body", False):
                return b"".join(parts)

    async def _drain(self, receive: Receive) -> None:
        """Throw away some of a refused body: closing at once would reset the connection before the answer is read."""
        left = self.door.limits.drain_bytes_max
        try:
            async with asyncio.timeout(self.door.limits.drain_ms / 1_000):
                while left > 0:
                    message = await receive()
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        return
                    left -= len(message.get("body", b""))
        except TimeoutError:
            pass


def _query(text: bytes, route: Route) -> dict[str, str]:
    """The query's parameters, each at most once and known to the route."""
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=16)
    except (UnicodeDecodeError, ValueError) as error:
        raise Rejected(refused("bad_request", f"the query can't be parsed: {error}", field="query")) from None
    query = dict(pairs)
    for name in query:
        if name not in route.query:
            known = ", ".join(route.query) or "none"
            raise invalid(Invalid(name[:80], f"unknown query parameter; known here: {known}"))
    if len(query) != len(pairs):
        raise Rejected(refused("bad_request", "a query parameter is given twice", field="query"))
    return query


class _Answer:
    """Writes one answer. What is written to a client that has gone is dropped by uvicorn once it was told so; in the
    turn before that uvloop refuses to write, which is no error of ours: anybody could fill the log with it.
    """

    def __init__(self, method: str, send: Send) -> None:
        self._send = send
        self._is_head = method == "HEAD"
        self.is_begun = False

    async def _write(self, message: MutableMapping[str, Any]) -> None:
        try:
            await self._send(message)
        except OSError as error:
            raise Gone from error
        except RuntimeError as error:
            if "handler is closed" not in str(error):
                raise
            raise Gone from error

    async def start(self, status: int, headers: Headers) -> None:
        self.is_begun = True
        await self._write({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def more(self, text: bytes) -> None:
        await self._write({"type": "http.response.body", "body": text, "more_body": True})

    async def end(self) -> None:
        await self._write({"type": "http.response.body", "body": b"", "more_body": False})

    async def whole(self, reply: Reply, drain: Awaitable[None] | None) -> None:
        headers = reply.headers
        if reply.status != 204:
            headers = (*headers, (b"content-length", b"%d" % len(reply.body)))
        await self.start(reply.status, headers)
        if drain is None:
            await self._write({"type": "http.response.body", "body": reply.body, "more_body": False})
            return
        await self.more(reply.body)
        await drain
        await self.end()
