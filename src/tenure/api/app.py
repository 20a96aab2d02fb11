"""The cold way: starlette over the table of operations. Under `serve_config` the hot calls never reach it."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from tenure.api import lineage
from tenure.api.answers import Rejected, internal, invalid, problem, refused
from tenure.api.calls import Call
from tenure.api.door import Door, Served
from tenure.api.hub import Hub
from tenure.api.info import ServerInfo
from tenure.api.limits import Limits
from tenure.api.routes import OPERATIONS, Operation
from tenure.api.taking import Access, anonymous, decoded
from tenure.api.telemetry import Telemetry
from tenure.base.errors import Invalid
from tenure.wire.bodies import lineage_header

_log: Final = logging.getLogger("tenure.api")


def build(
    engine: Served, info: ServerInfo, *, limits: Limits | None = None, telemetry: Telemetry | None = None
) -> "App":
    """The API of one member on top of `engine`; serve it with `serve_config`."""
    telemetry = telemetry or Telemetry()
    limits = limits or Limits()
    return App(Door(engine, info, limits, telemetry, Access(info.secret), Hub(engine, telemetry)))


class App(Starlette):
    """The application, and the `door` that it shares with the ways that pass ASGI by."""

    def __init__(self, door: Door) -> None:
        self.door = door
        super().__init__(
            routes=[_route(operation, door) for operation in OPERATIONS],
            exception_handlers={
                Rejected: _rejected,
                HTTPException: _unmatched,
                ClientDisconnect: _gone,
                Exception: _failed,
            },
            lifespan=_life,
        )
        self.router.redirect_slashes = False  # a path means itself or nothing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3. The segments of a path are told apart before they are percent-decoded."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        scope["path"] = scope["raw_path"].decode("ascii", "replace")

        async def write(message: Message) -> None:
            """Uvicorn drops what is written to a client that has gone, once it knows; in the turn before that uvloop
            refuses to write, which is no error of ours: anybody could fill the log with it.
            """
            try:
                await send(message)
            except (OSError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and "handler is closed" not in str(error):
                    raise
                while (await receive())["type"] != "http.disconnect":
                    pass

        await super().__call__(scope, receive, write)


@contextlib.asynccontextmanager
async def _life(app: App) -> AsyncIterator[None]:
    app.door.hub.start()
    sweeper = asyncio.get_running_loop().create_task(_sweep(app.door))
    yield
    app.door.close()
    sweeper.cancel()
    await app.door.hub.stop()


async def _sweep(door: Door) -> None:
    """One timer for all connections; their limits are coarse."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(door.limits.sweep_ms / 1_000)
        now = loop.time()
        for guest in list(door.guests):
            try:
                guest.sweep(now)
            except Exception:  # noqa: BLE001 - one bad connection must not end the sweep of the others
                _log.exception("sweeping a connection failed")


# --- from a request to its operation --------------------------------------------------------------------------------


def _route(operation: Operation, door: Door) -> Route:
    path = operation.path.replace("{key}", "{key:path}")  # a key may hold slashes, other parts not
    return Route(path, _endpoint(operation, door), methods=[operation.method])


def _endpoint(operation: Operation, door: Door) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        """Everything that can be wrong with a request is found before its handler asks the engine."""
        parts = {name: decoded(part, name) for name, part in request.path_params.items()}
        headers = dict(request.headers.raw)
        principal = anonymous if operation.is_open else door.access.principal(headers)
        said = headers.get(lineage.header)
        if said is not None and not operation.is_open and (wrong := lineage.refusal(door, said)) is not None:
            return wrong
        query = _query(request, operation)
        body = await _body(request, door)
        if door.is_full:
            return refused("too_many", "too many requests in flight")
        door.in_flight += 1
        try:
            response = await operation.handler(Call(door, request, parts, query, headers, body, principal))
        finally:
            door.in_flight -= 1
        if said is not None and door.lineage:
            response.headers[lineage_header] = door.lineage.decode()
        return response

    return endpoint


def _query(request: Request, operation: Operation) -> dict[str, str]:
    """The query's parameters, each at most once and known to the operation."""
    pairs = request.query_params.multi_items()
    query = dict(pairs)
    for name, value in pairs:
        if name not in operation.query:
            known = ", ".join(operation.query) or "none"
            raise invalid(Invalid(name[:80], f"unknown query parameter; known here: {known}"))
        if "\N{REPLACEMENT CHARACTER}" in value:
            raise Rejected(refused("bad_request", f"{name} isn't UTF-8 after percent-decoding", field=name))
    if len(query) != len(pairs):
        raise Rejected(refused("bad_request", "a query parameter is given twice", field="query"))
    return query


async def _body(request: Request, door: Door) -> bytes:
    """The whole body, refused early if too long: by its announcement, or while it comes in chunks.

    Starlette's own limit answers in plain text, and closes before a client that is still sending can read why.
    """
    limit = door.limits.body_bytes_max
    announced = request.headers.get("content-length", "0")
    too_long = announced.isascii() and announced.isdigit() and int(announced[:20]) > limit
    body = bytearray()
    if not too_long:
        async for part in request.stream():
            body += part
            if len(body) > limit:
                too_long = True
                break
    if too_long:
        text = refused("too_large", f"at most {limit} bytes are taken", closes=True)
        raise Rejected(_Unread(text, door.limits.drain_bytes_max, door.limits.drain_ms))
    return bytes(body)


class _Unread(Response):
    """An answer that leaves some time to a client that is still sending: closing at once would reset the connection
    before the answer is read.
    """

    def __init__(self, answer: Response, bytes_max: int, ms_max: int) -> None:
        super().__init__(answer.body, answer.status_code, answer.headers)
        self._bytes_max = bytes_max
        self._s_max = ms_max / 1_000

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._s_max):
                await self._drain(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _drain(self, receive: Receive) -> None:
        left = self._bytes_max
        while left > 0:
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return
            left -= len(message.get("body", b""))


# --- what a request can end with but its answer ---------------------------------------------------------------------


async def _rejected(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Rejected)
    return error.response


async def _unmatched(request: Request, error: Exception) -> Response:
    """404 for an unknown path, 405 with `Allow` for a known one: starlette says what, but names one route's methods."""
    assert isinstance(error, HTTPException)
    if error.status_code != 405:
        return problem(404, "unknown_path", f"nothing is served at {request.scope['path'][:200]!r}")
    allowed: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            allowed |= route.methods
    allow = ", ".join(sorted(allowed))
    return problem(405, "method_not_allowed", f"allowed here: {allow}", headers={"allow": allow})


async def _gone(_request: Request, _error: Exception) -> Response:
    """The client left before its request had arrived; uvicorn throws this away."""
    return Response(status_code=400)


async def _failed(_request: Request, _error: Exception) -> Response:
    """The client gets 500 without a trace; starlette raises the error again, and uvicorn writes it to our log."""
    return internal()
