"""Frames between members: sans-I/O encoding and an incremental decoder.

A frame is a length (4 bytes, big-endian, of what follows it), a protocol version (1 byte) and the msgpack of one
`Frame`, a closed union of tagged arrays. What is wrong with a frame is said by `BadFrame`; after one, the stream is
out of step and its connection must be dropped. Unknown fields at the end of a known frame are ignored, so a newer
member may add some; an unknown tag is an error (P10: never guess).
"""

from struct import Struct as Layout
from typing import Final, Literal

import msgspec
from msgspec import Struct

from tenure.base.errors import TenureError
from tenure.base.ids import BatchNumber, Boot, MemberId, Nonce
from tenure.leadership.engine import AnyRequest, AnyResult, Origin, Refused
from tenure.raft.founding import FoundingMessage, State
from tenure.raft.messages import Envelope, Message

protocol_version: Final = 1
frame_bytes_max: Final = 4 * 1024 * 1024
"""What follows the length, of any frame on a connection whose ends have proved themselves."""
handshake_bytes_max: Final = 4 * 1024
"""The same before that, and for everything that an acceptor says."""
_HEADER: Final = Layout(">IB")

# --- the handshake --------------------------------------------------------------------------------------------------


class Hello(Struct, frozen=True, array_like=True):
    """Who is speaking. `told` is the highest batch number of the OTHER side that the speaker knows (P1.3, 0: none).

    `cluster` is the founding list as the operator gave it (`name=host:port`), `lineage` is empty before founding,
    `speaks` the newest feature version that it knows and `feature` the one that its cluster speaks (P10), `nonce` is
    fresh for each connection.
    """

    member: MemberId
    name: str
    boot: Boot
    lineage: tuple[Nonce, ...] = ()
    founding: State = "empty"
    cluster: tuple[str, ...] = ()
    api: str = ""
    peer: str = ""
    speaks: int = 1
    told: BatchNumber = BatchNumber(0)
    nonce: str = ""
    feature: int = 1


class Control(Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Base of the frames that the transport keeps to itself."""


class Introduce(Control, frozen=True, tag="in"):
    """Dialer, first: `hello` is an encoded `Hello`, kept as bytes because the proofs are made over it."""

    hello: bytes


class Welcome(Control, frozen=True, tag="we"):
    """Acceptor's answer: its own `Hello`, and its proof over both (empty without a secret)."""

    hello: bytes
    proof: bytes


class Proof(Control, frozen=True, tag="pf"):
    """Dialer's proof over both, and the batch number that it could not say before it knew whom it speaks to (P1.3)."""

    told: BatchNumber
    proof: bytes


class Taken(Control, frozen=True, tag="ok"):
    """Acceptor: the connection stands; frames may flow."""


class Reject(Control, frozen=True, tag="no"):
    """Either side, instead of going on: why. The connection ends."""

    reason: str


class Ping(Control, frozen=True, tag="pi"):
    """Dialer: answered at once, on the same connection. `sent_us` is the dialer's own clock, echoed."""

    number: int
    sent_us: int


class Pong(Control, frozen=True, tag="po"):
    """The answer to the `Ping` of that number."""

    number: int
    sent_us: int


class Closing(Control, frozen=True, tag="cl"):
    """Dialer: a graceful stop; the end of this connection is no sign of a crash (P5.4)."""


# --- what the engine says -------------------------------------------------------------------------------------------


class Call(Struct, frozen=True, array_like=True, tag="c"):
    """A request that only the consensus leader can answer, passed on by another member. `id` is the caller's."""

    id: int
    request: AnyRequest
    origin: Origin | None = None


class CallReply(Struct, frozen=True, array_like=True, tag="cr"):
    """The answer to the `Call` of that id."""

    id: int
    result: AnyResult


PeerFrame = Envelope | Call | CallReply | FoundingMessage
"""What a transport hands up."""
ControlFrame = Introduce | Welcome | Proof | Taken | Reject | Ping | Pong | Closing
Frame = PeerFrame | ControlFrame

# --- encoding -------------------------------------------------------------------------------------------------------

_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not what they should be."""
_encoder: Final = msgspec.msgpack.Encoder()
_hello_decoder: Final = msgspec.msgpack.Decoder(Hello)
_frame_decoder: Final[msgspec.msgpack.Decoder[Frame]] = msgspec.msgpack.Decoder(Frame)
_ENVELOPE_HEAD: Final = b"\x95" + _encoder.encode("e")
"""An envelope is an array of five: its tag, sender, to, lineage, message."""


def encode(frame: Frame) -> bytes:
    """One frame, ready to be written."""
    payload = _encoder.encode(frame)
    if len(payload) >= frame_bytes_max:
        assert type(frame) is CallReply, f"{type(frame).__name__} of {len(payload)} bytes"
        payload = _encoder.encode(CallReply(frame.id, _too_large(len(payload))))
    return _HEADER.pack(len(payload) + 1, protocol_version) + payload


def _too_large(size: int) -> Refused:
    """A status report of a cluster with very many nodes and candidates; all other answers have bounds of their own."""
    return Refused(
        "too_large",
        f"the answer has {size} bytes, members pass on {frame_bytes_max}: ask the consensus leader itself, or any "
        "member with consistency=stale",
    )


def encode_hello(hello: Hello) -> bytes:
    """The bytes that go into `Introduce` and `Welcome`, and under the proofs."""
    return _encoder.encode(hello)


def decode_hello(data: bytes) -> Hello:
    """The other way; `BadFrame` if it isn't one."""
    try:
        return _hello_decoder.decode(data)
    except _UNREADABLE as error:
        raise BadFrame("undecodable", f"hello: {error}") from None


class EnvelopeEncoder:
    """Encodes envelopes; a message that goes to several members in a row is encoded once, and so are its entries."""

    __slots__ = ("_heads", "_message", "_payload")

    def __init__(self) -> None:
        self._heads: dict[tuple[MemberId, MemberId, Nonce], bytes] = {}
        self._message: Message | None = None
        self._payload = b""

    def encode(self, envelope: Envelope) -> bytes:
        """The same bytes as `encode(envelope)`."""
        message = envelope.message
        if message is not self._message:
            self._payload = _encoder.encode(message)
            self._message = message
        key = (envelope.sender, envelope.to, envelope.lineage)
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= 64:  # members come and go; the table stays small
                self._heads.clear()
            head = self._heads[key] = _ENVELOPE_HEAD + b"".join(_encoder.encode(part) for part in key)
        size = len(head) + len(self._payload) + 1
        assert size <= frame_bytes_max, f"{type(message).__name__} of {size} bytes"
        return _HEADER.pack(size, protocol_version) + head + self._payload


# --- decoding -------------------------------------------------------------------------------------------------------


class BadFrame(TenureError):
    """What came is no frame of ours. `before` holds the good frames that came in front of it in the same piece."""

    def __init__(
        self,
        what: Literal["too_large", "empty", "version", "undecodable", "unexpected"],
        text: str,
        before: "tuple[Frame, ...]" = (),
    ) -> None:
        super().__init__(f"{what}: {text}")
        self.what = what
        self.before = before


class Decoder:
    """Cuts a byte stream into frames, however it is chopped; holds at most one unfinished frame.

    `limit` is the largest frame that is taken now; it is checked as soon as the header is here, before any buffering.
    """

    __slots__ = ("_held", "_missing", "_parts", "limit")

    def __init__(self, limit: int = frame_bytes_max) -> None:
        self.limit = limit
        self._parts: list[bytes] = []
        self._held = 0
        self._missing = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of an unfinished frame."""
        return self._held

    def feed(self, data: bytes) -> list[Frame]:
        """All frames that are complete now, in order. Raises `BadFrame`; the stream can't be used after that."""
        if self._held:
            self._parts.append(data)
            self._held += len(data)
            if len(data) < self._missing:  # pieces are joined once, when the frame is complete
                self._missing -= len(data)
                return []
            data = b"".join(self._parts)
            self._parts.clear()
            self._held = 0
        frames: list[Frame] = []
        view = memoryview(data)
        offset, end = 0, len(data)
        while end - offset >= 5:
            size, version = _HEADER.unpack_from(data, offset)
            if not 1 < size <= self.limit or version != protocol_version:
                raise self._bad_header(size, version, frames)
            stop = offset + 4 + size
            if stop > end:
                break
            try:
                frames.append(_frame_decoder.decode(view[offset + 5 : stop]))
            except _UNREADABLE as error:
                raise BadFrame("undecodable", str(error), tuple(frames)) from None
            offset = stop
        if offset < end:
            self._hold(data, offset, end)
        return frames

    def _hold(self, data: bytes, offset: int, end: int) -> None:
        self._parts.append(data[offset:end] if offset else data)
        self._held = end - offset
        size = _HEADER.unpack_from(data, offset)[0] + 4 if self._held >= 5 else 5
        self._missing = size - self._held

    def _bad_header(self, size: int, version: int, frames: list[Frame]) -> BadFrame:
        before = tuple(frames)
        if version != protocol_version and size <= frame_bytes_max:
            return BadFrame("version", f"protocol version {version}, this member speaks {protocol_version}", before)
        if size <= 1:
            return BadFrame("empty", "a frame without content", before)
        return BadFrame("too_large", f"{size} bytes announced, at most {self.limit} are taken here", before)
