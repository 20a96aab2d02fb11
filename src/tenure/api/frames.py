"""WebSocket frames of the stream: `websockets` reads and writes them, but for the usual one.

A frame of the usual kind (text, final, masked, under 126 bytes: every keepalive) takes the short branch of `feed`: two
slices and one call into C, a third of what the library needs (ADR 0007). Any other frame goes to the library as a
whole, with its rules, its limits, its pongs and its closes. Only where a frame ends is worked out here for both.
"""

from typing import Final

from websockets.frames import Opcode
from websockets.protocol import OPEN, SEND_EOF
from websockets.server import ServerProtocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # built without its C part: right all the same, two µs a frame slower
    from websockets.utils import apply_mask

_TEXT_FINAL: Final = 0x81
_MASKED: Final = 0x80
_HEADS: Final = tuple(bytes((_TEXT_FINAL, length)) for length in range(126))
_head_bytes_max: Final = 14
reason_bytes_max: Final = 120
"""Of a close frame's reason; the standard allows 123."""


def text(payload: bytes) -> tuple[bytes, bytes]:
    """A text message: its head and itself, to be joined with others into one write."""
    length = len(payload)
    if length < 126:
        return _HEADS[length], payload
    if length < 65_536:
        return b"\x81\x7e" + length.to_bytes(2, "big"), payload
    return b"\x81\x7f" + length.to_bytes(8, "big"), payload


class Frames:
    """One connection after its handshake, sans I/O."""

    __slots__ = ("_library", "_limit", "_parts", "_rest", "has_ended", "said")

    def __init__(self, message_bytes_max: int) -> None:
        assert message_bytes_max >= 125, "the short branch of `feed` doesn't ask"
        self._limit = message_bytes_max
        self._library = ServerProtocol(state=OPEN, max_size=message_bytes_max)
        self._rest = b""
        """A frame that isn't whole yet; the library is never given a part of one that it may take."""
        self._parts: bytearray | None = None
        """Of a fragmented message; the library sees to its limit."""
        self.said: list[bytes] = []
        """What the library wants to say; `unsent` takes it."""
        self.has_ended = False
        """Nothing more is read: a close was received, or sent because of what was."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take what arrived; the messages that are complete now, in order. Then look at `unsent`."""
        found: list[bytes] = []
        if self.has_ended:
            return found
        buffer = self._rest + data if self._rest else data
        at, size = 0, len(buffer)
        while size - at >= 2:
            length = buffer[at + 1] - _MASKED
            if buffer[at] == _TEXT_FINAL and 0 <= length < 126 and self._parts is None:
                end = at + 6 + length
                if end > size:
                    break
                found.append(apply_mask(buffer[at + 6 : end], buffer[at + 2 : at + 6]))
            else:
                end = self._end(buffer, at)
                if end > size and end - at <= self._limit + _head_bytes_max:
                    break
                if self._is_last(buffer[at:end], found):
                    return found
            at = end
        self._rest = buffer[at:] if at else buffer
        return found

    @property
    def unsent(self) -> bytes:
        """What the library wants to say (pongs, a close), once."""
        said, self.said = self.said, []
        return b"".join(said)

    def ping(self) -> bytes:
        """Are you there?"""
        self._library.send_ping(b"")
        self._gather()
        return self.unsent

    def close(self, code: int, reason: str) -> bytes:
        """The last frame, for a reason of ours; nothing if one was sent already."""
        self._library.fail(code, reason.encode()[:reason_bytes_max].decode(errors="ignore"))
        self._gather()
        return self.unsent

    @staticmethod
    def _end(buffer: bytes, at: int) -> int:
        """Where the frame at `at` ends; behind its head as far as that tells."""
        length, head = buffer[at + 1] & 0x7F, 2
        if length >= 126:
            head = 4 if length == 126 else 10
            length = int.from_bytes(buffer[at + 2 : at + head], "big") if len(buffer) - at >= head else 0
        return at + head + (4 if buffer[at + 1] & _MASKED else 0) + length

    def _is_last(self, frame: bytes, found: list[bytes]) -> bool:
        """Give the library a whole frame, or as much as has come of one that is too long."""
        self._library.receive_data(frame)
        for event in self._library.events_received():
            match event.opcode:  # type: ignore[union-attr] # requests and responses belong to the handshake
                case Opcode.TEXT | Opcode.CONT:
                    self._part(bytes(event.data), event.fin, found)  # type: ignore[union-attr] # as above
                case Opcode.BINARY:
                    self._library.fail(1003, "binary messages aren't understood here")
                case _:
                    pass  # answered by the library
        self._gather()
        return self.has_ended

    def _part(self, data: bytes, final: bool, found: list[bytes]) -> None:
        if self._parts is None:
            self._parts = bytearray()
        self._parts += data
        if final:
            found.append(bytes(self._parts))
            self._parts = None

    def _gather(self) -> None:
        for said in self._library.data_to_send():
            if said == SEND_EOF:
                self.has_ended = True
                self._rest, self._parts = b"", None
            else:
                self.said.append(said)
