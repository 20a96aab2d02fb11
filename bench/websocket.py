"""The least of a WebSocket client (RFC 6455): a handshake, text frames, and many keepalives on one connection.

The masking key is zero, which leaves the bytes as they are: a generator must not be slower than what it measures.
"""

import asyncio
import base64
import os
from typing import cast

from bench.http1 import request


def frame(message: bytes) -> bytes:
    """A masked text frame of less than 64 KiB."""
    length = bytes([0x80 | len(message)]) if len(message) < 126 else b"\xfe" + len(message).to_bytes(2, "big")
    return b"\x81" + length + b"\0\0\0\0" + message


class KeepStream(asyncio.Protocol):
    """Sessions on one stream, each in a closed loop: a fresh number when the last one was acknowledged (P3.2)."""

    def __init__(self, authority: str, sessions: list[str]) -> None:
        self.count = 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._authority = authority
        self._numbers = {session.encode(): 0 for session in sessions}
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        key = base64.b64encode(os.urandom(16)).decode()
        head = request("GET", "/v1/stream", self._authority)[:-2].decode()
        head += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        head += f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: tenure.v1\r\n\r\n"
        self._transport.write(head.encode())

    def _keep(self, session: bytes) -> bytes:
        number = self._numbers[session] = self._numbers[session] + 1
        return frame(b'{"type":"keep","session":"%b","number":%d}' % (session, number))

    def begin(self) -> None:
        """Send the first keepalive of every session."""
        assert self._transport is not None
        self._transport.write(b"".join([self._keep(session) for session in self._numbers]))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        position, end = 0, len(buffer)
        if not self.ready.done():
            position = buffer.find(b"\r\n\r\n") + 4
            assert buffer.startswith(b"HTTP/1.1 101"), buffer[:300]
            self.ready.set_result(None)
        again: list[bytes] = []
        while end - position >= 2:
            length, head = buffer[position + 1], 2
            if length == 126 and end - position >= 4:
                length, head = int.from_bytes(buffer[position + 2 : position + 4], "big"), 4
            if (length > 125 and head == 2) or end - position < head + length:
                break
            self._heard(buffer[position + head : position + head + length], again)
            position += head + length
        self._buffer = buffer[position:]
        if again and self._transport is not None:
            self.count += len(again)
            self._transport.write(b"".join(again))

    def _heard(self, message: bytes, again: list[bytes]) -> None:
        if not message.startswith(b'{"type":"kept","session":"'):
            assert b'"refused"' not in message, message
            return
        end = message.index(b'"', 26)
        session = message[26:end]
        number = int(message[end + 11 :].partition(b",")[0])
        assert number == self._numbers[session]
        again.append(self._keep(session))

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()
