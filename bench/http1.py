"""The least of HTTP/1.1 that a load generator needs: keep-alive, one request at a time, `Content-Length` answers."""

import asyncio
from typing import cast

from bench.sides import Answered


def request(method: str, path: str, authority: str, body: bytes | None = None, headers: str = "") -> bytes:
    """A whole request, encoded in advance. `headers`: more of them, each with its line's end."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {authority}\r\n{headers}"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + (body or b"")


class Http1Lane(asyncio.Protocol):
    """One keep-alive connection. A status of 2xx is success."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answered: Answered | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, request: bytes, answered: Answered) -> None:
        """Send; nothing else may be outstanding."""
        assert self._answered is None
        if self._transport is None or self._transport.is_closing():
            answered(None)
            return
        self._answered = answered
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        head = buffer.find(b"\r\n\r\n")
        if head < 0:
            self._buffer = buffer
            return
        body = head + 4
        lower = buffer[:head].lower()
        place = lower.find(b"content-length:")
        length = int(lower[place + 15 : (lower + b"\r\n").index(b"\r\n", place)]) if place >= 0 else 0
        if len(buffer) < body + length:
            self._buffer = buffer
            return
        self._buffer = buffer[body + length :]
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(buffer[body : body + length] if buffer[9:10] == b"2" else None)

    @property
    def lost(self) -> bool:
        """The connection is gone."""
        return self._transport is None or self._transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(None)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()


class Http1Pool:
    """Many lanes that look like one: requests that don't wait for each other, as HTTP/2 streams don't."""

    def __init__(self, host: str, port: int, lanes_max: int = 2_000) -> None:
        self._host, self._port = host, port
        self._idle: list[Http1Lane] = []
        self._lanes: list[Http1Lane] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._lanes_max = lanes_max

    async def fill(self, count: int) -> None:
        """Open connections in advance."""
        for _ in range(count):
            self._idle.append(await self._open())

    async def _open(self) -> Http1Lane:
        _, lane = await asyncio.get_running_loop().create_connection(Http1Lane, self._host, self._port)
        self._lanes.append(lane)
        return lane

    def ask(self, request: bytes, answered: Answered) -> None:
        """Send on an idle connection, or on a new one."""
        while self._idle:
            lane = self._idle.pop()
            if not lane.lost:
                self._ask(lane, request, answered)
                return
        if len(self._lanes) >= self._lanes_max:
            answered(None)
            return
        task = asyncio.get_running_loop().create_task(self._open_and_ask(request, answered))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open_and_ask(self, request: bytes, answered: Answered) -> None:
        try:
            lane = await self._open()
        except OSError:
            answered(None)
            return
        self._ask(lane, request, answered)

    def _ask(self, lane: Http1Lane, request: bytes, answered: Answered) -> None:
        def finished(body: bytes | None) -> None:
            if not lane.lost:
                self._idle.append(lane)
            answered(body)

        lane.ask(request, finished)

    def close(self) -> None:
        """Hang up everything."""
        for task in self._opening:
            task.cancel()
        for lane in self._lanes:
            lane.close()
