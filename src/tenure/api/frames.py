"""WebSocket frames of a server (RFC 6455), sans I/O: bytes in, messages and control frames out.

Only what the stream needs: text messages, whole or fragmented, up to a limit; ping, pong, close. No extensions are
offered, so any reserved bit is an error. A frame of the usual kind (text, final, masked, under 126 bytes) takes the
short branch: two slices and one call into C.
"""

import base64
import hashlib
from dataclasses import dataclass
from typing import Final

from websockets.utils import apply_mask

_TEXT_FINAL: Final = 0x81
_TEXT: Final = 0x1
_CONTINUATION: Final = 0x0
_BINARY: Final = 0x2
_CLOSE: Final = 0x8
_PING: Final = 0x9
_PONG: Final = 0xA
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HEADS: Final = tuple(bytes((_TEXT_FINAL, length)) for length in range(126))


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered with the same payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A sign of life."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The peer closes, or broke the protocol: answer with `code` and read no further. `guilty` says what it did."""

    code: int
    guilty: str | None = None


Control = Ping | Pong | Closed


def accept_key(key: bytes) -> bytes:
    """`Sec-WebSocket-Accept` for `Sec-WebSocket-Key` (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def text(payload: bytes) -> tuple[bytes, bytes]:
    """A text message: its head and itself, to be joined with others into one write."""
    length = len(payload)
    if length < 126:
        return _HEADS[length], payload
    if length < 65_536:
        return b"\x81\x7e" + length.to_bytes(2, "big"), payload
    return b"\x81\x7f" + length.to_bytes(8, "big"), payload


def pong(payload: bytes) -> bytes:
    """The answer to a ping."""
    return bytes((0x80 | _PONG, len(payload))) + payload


def ping() -> bytes:
    """Are you there?"""
    return bytes((0x80 | _PING, 0))


def close(code: int, reason: str = "") -> bytes:
    """The last frame of a connection."""
    payload = code.to_bytes(2, "big") + reason.encode()[:120]
    return bytes((0x80 | _CLOSE, len(payload))) + payload


class Reader:
    """Gathers frames. `feed` returns the complete messages (bytes) and control frames in order; ends at a `Closed`."""

    __slots__ = ("_ended", "_limit", "_parts", "_parts_bytes", "_rest")

    def __init__(self, message_bytes_max: int) -> None:
        assert message_bytes_max >= 125, "the short branch of `feed` doesn't ask"
        self._limit = message_bytes_max
        self._rest = b""
        self._parts: list[bytes] | None = None
        """Of a fragmented message; never more than `_limit` bytes in all."""
        self._parts_bytes = 0
        self._ended = False

    def feed(self, data: bytes) -> list[bytes | Control]:
        """Take what arrived."""
        found: list[bytes | Control] = []
        if self._ended:
            return found
        buffer = self._rest + data if self._rest else data
        at, size = 0, len(buffer)
        while size - at >= 6:
            length = buffer[at + 1] & 0x7F
            if buffer[at] == _TEXT_FINAL and buffer[at + 1] >= 0x80 and length < 126 and self._parts is None:
                end = at + 6 + length
                if end > size:
                    break
                found.append(apply_mask(buffer[at + 6 : end], buffer[at + 2 : at + 6]))
            else:
                taken = self._frame(buffer, at, found)
                if taken is None:
                    break
                end = taken
            if self._has_ended():
                return found
            at = end
        self._rest = buffer[at:] if at else buffer
        self._refuse_early(found)
        return found

    def _has_ended(self) -> bool:
        return self._ended

    def _refuse_early(self, found: list[bytes | Control]) -> None:
        """A frame's head alone can be wrong: then what it announces isn't waited for."""
        if not self._ended and len(self._rest) >= 2:
            wrong = self._wrong(self._rest[0], self._rest[1])
            if wrong is not None:
                self._end(found, wrong)

    def _wrong(self, first: int, second: int) -> Closed | None:
        opcode, length = first & 0x0F, second & 0x7F
        if first & 0x70:
            return Closed(1002, "a reserved bit is set, but no extension was agreed")
        if not second & 0x80:
            return Closed(1002, "a frame of a client must be masked")
        if opcode >= 0x8:
            if opcode not in {_CLOSE, _PING, _PONG}:
                return Closed(1002, "an unknown opcode")
            return Closed(1002, "a control frame is fragmented or too long") if length > 125 or first < 0x80 else None
        if opcode == _BINARY:
            return Closed(1003, "binary messages aren't understood here")
        if opcode not in {_TEXT, _CONTINUATION}:
            return Closed(1002, "an unknown opcode")
        if (opcode == _CONTINUATION) != (self._parts is not None):
            return Closed(1002, "a continuation without a beginning, or a beginning inside a message")
        return None

    def _end(self, found: list[bytes | Control], closed: Closed) -> None:
        found.append(closed)
        self._ended = True
        self._rest, self._parts = b"", None

    def _frame(self, buffer: bytes, at: int, found: list[bytes | Control]) -> int | None:
        """One frame of any kind at `at`; where it ends, or None while it isn't whole."""
        first, second = buffer[at], buffer[at + 1]
        wrong = self._wrong(first, second)
        if wrong is not None:
            self._end(found, wrong)
            return at
        length, head = second & 0x7F, 2
        if length >= 126:
            head = 4 if length == 126 else 10
            if len(buffer) - at < head:
                return None
            length = int.from_bytes(buffer[at + 2 : at + head], "big")
        if length + self._parts_bytes > self._limit and first & 0x0F < 0x8:
            self._end(found, Closed(1009, f"a message has more than {self._limit} bytes"))
            return at
        body = at + head + 4
        if len(buffer) < body + length:
            return None
        payload = apply_mask(buffer[body : body + length], buffer[body - 4 : body])
        if first & 0x0F >= 0x8:
            self._control(first & 0x0F, payload, found)
        else:
            self._part(payload, first >= 0x80, found)
        return body + length

    def _part(self, payload: bytes, final: bool, found: list[bytes | Control]) -> None:
        parts = [] if self._parts is None else self._parts
        parts.append(payload)
        if final:
            found.append(b"".join(parts))
            self._parts, self._parts_bytes = None, 0
        elif len(parts) > 1_024:
            self._end(found, Closed(1008, "a message in more than 1024 fragments"))
        else:
            self._parts, self._parts_bytes = parts, self._parts_bytes + len(payload)

    def _control(self, opcode: int, payload: bytes, found: list[bytes | Control]) -> None:
        if opcode == _PING:
            found.append(Ping(payload))
        elif opcode == _PONG:
            found.append(Pong())
        elif len(payload) >= 2 and not _sendable(int.from_bytes(payload[:2], "big")):
            self._end(found, Closed(1002, "a close code that must not travel"))
        else:
            self._end(found, Closed(1000))


def _sendable(code: int) -> bool:
    return (1000 <= code <= 1014 and code not in {1004, 1005, 1006}) or 3000 <= code <= 4999
