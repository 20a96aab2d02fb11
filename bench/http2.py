"""The least of HTTP/2 (RFC 9113) and gRPC framing that a load generator for etcd needs.

Requests of one lane share their headers. The first one sends them as literals with indexing, later ones as five bytes
that point into the HPACK table (RFC 7541), as every real client does. Answers' headers are not decoded: a message in a
DATA frame is success, a stream that ends without one is failure. Windows are opened to their maximum at the start.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from bench.sides import Answered

_DATA: Final = 0
_HEADERS: Final = 1
_RST: Final = 3
_SETTINGS: Final = 4
_PING: Final = 6
_GOAWAY: Final = 7
_END_STREAM: Final = 1
_ACK: Final = 1
_END_HEADERS: Final = 4
_WINDOW: Final = 2**31 - 1
_OPENING: Final = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    b"\x00\x00\x06\x04\x00\x00\x00\x00\x00"
    b"\x00\x04"
    + _WINDOW.to_bytes(4, "big")
    + b"\x00\x00\x04\x08\x00\x00\x00\x00\x00"
    + (_WINDOW - 65_535).to_bytes(4, "big")
)
_LATER: Final = b"\x83\x86\xc1\xc0\xbf\xbe"
"""POST, http, then the four dynamic entries in the order in which `_first_headers` made them."""


def _first_headers(path: str, authority: str) -> bytes:
    def literal(index: int, value: str) -> bytes:
        return bytes([0x40 | index, len(value)]) + value.encode()

    te = b"\x40\x02te\x08trailers"
    return b"\x83\x86" + literal(4, path) + literal(1, authority) + literal(31, "application/grpc") + te


def grpc(message: bytes) -> bytes:
    """A message with gRPC's five-byte prefix."""
    return b"\x00" + len(message).to_bytes(4, "big") + message


class Http2Lane(asyncio.Protocol):
    """A connection that calls one gRPC method: unary with `ask`, or long streams with `open_stream` and `say`."""

    def __init__(self, path: str, authority: str) -> None:
        self._headers = _first_headers(path, authority)
        self._buffer = b""
        self._stream = -1
        self._waiting: dict[int, Answered] = {}
        self._messages: dict[int, bytes] = {}
        self._listener: Callable[[list[tuple[int, bytes]]], None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(_OPENING)

    def _begin(self, flags: int) -> bytes:
        """A HEADERS frame for the next stream."""
        self._stream += 2
        block, self._headers = self._headers, _LATER
        return len(block).to_bytes(3, "big") + bytes([_HEADERS, flags]) + self._stream.to_bytes(4, "big") + block

    def ask(self, request: bytes, answered: Answered) -> None:
        """One unary call; `request` is the message with its prefix."""
        if self._transport is None or self._transport.is_closing():
            answered(None)
            return
        headers = self._begin(_END_HEADERS)
        self._waiting[self._stream] = answered
        frame = len(request).to_bytes(3, "big") + b"\x00\x01" + self._stream.to_bytes(4, "big")
        self._transport.write(headers + frame + request)

    def open_stream(self, listener: Callable[[list[tuple[int, bytes]]], None]) -> int:
        """One more stream in both directions; `listener` gets (stream, message) of each read together."""
        assert self._transport is not None
        self._listener = listener
        self._transport.write(self._begin(_END_HEADERS))
        return self._stream

    def say(self, messages: list[tuple[int, bytes]]) -> None:
        """Send prefixed messages on open streams, each in a frame of its own, in one write."""
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(
            b"".join([b"%b\x00\x00%b%b" % (len(m).to_bytes(3, "big"), n.to_bytes(4, "big"), m) for n, m in messages])
        )

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        position, end = 0, len(buffer)
        while end - position >= 9:
            length = int.from_bytes(buffer[position : position + 3], "big")
            if end - position < 9 + length:
                break
            kind, flags = buffer[position + 3], buffer[position + 4]
            stream = int.from_bytes(buffer[position + 5 : position + 9], "big")
            body = buffer[position + 9 : position + 9 + length]
            position += 9 + length
            self._frame(kind, flags, stream, body)
        self._buffer = buffer[position:]
        if self._listener is not None:
            self._deliver()

    def _frame(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == _DATA:
            self._messages[stream] = self._messages.get(stream, b"") + body
        if kind in {_DATA, _HEADERS} and flags & _END_STREAM:
            self._ended(stream, self._messages.pop(stream, None))
        elif kind == _RST:
            self._ended(stream, None)
        elif kind in {_SETTINGS, _PING} and not flags & _ACK and self._transport is not None:
            answer = body if kind == _PING else b""
            self._transport.write(bytes([0, 0, len(answer), kind, _ACK, 0, 0, 0, 0]) + answer)
        elif kind == _GOAWAY and self._transport is not None:
            self._transport.close()

    def _ended(self, stream: int, message: bytes | None) -> None:
        answered = self._waiting.pop(stream, None)
        if answered is not None:
            answered(message[5:] if message else None)

    def _deliver(self) -> None:
        """Cut what the long streams have received into messages."""
        messages: list[tuple[int, bytes]] = []
        for stream, received in self._messages.items():
            position = 0
            while len(received) - position >= 5:
                length = int.from_bytes(received[position + 1 : position + 5], "big")
                if len(received) - position < 5 + length:
                    break
                messages.append((stream, received[position + 5 : position + 5 + length]))
                position += 5 + length
            self._messages[stream] = received[position:]
        if messages and self._listener is not None:
            self._messages = {stream: rest for stream, rest in self._messages.items() if rest}
            self._listener(messages)

    def connection_lost(self, exc: Exception | None) -> None:
        waiting, self._waiting = self._waiting, {}
        for answered in waiting.values():
            answered(None)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()
