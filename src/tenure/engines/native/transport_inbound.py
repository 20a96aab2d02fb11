"""One connection that a peer dialed to us: its frames come in here, in order, and its end is a sign (P5.4)."""

import asyncio
from typing import Final, Literal, TypeAlias, cast

from tenure.base.ids import Boot, MemberId
from tenure.engines.native.transport_handshake import Accepting
from tenure.engines.native.transport_hub import Hub, address_of
from tenure.raft.messages import Envelope, Evidence
from tenure.wire.frames import (
    BadFrame,
    Closing,
    Decoder,
    Frame,
    Hello,
    Introduce,
    PeerFrame,
    Ping,
    Pong,
    Proof,
    Reject,
    Taken,
    Welcome,
    encode,
    frame_bytes_max,
    handshake_bytes_max,
)

_CONTROL: Final = frozenset({Introduce, Welcome, Proof, Taken, Reject, Ping, Pong, Closing})
InboundState: TypeAlias = Literal["introduce", "proof", "live", "over"]


class Inbound(asyncio.Protocol):
    """One connection from a peer. Garbage ends it, with a reason for both sides; the member goes on."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._decoder = Decoder(handshake_bytes_max)
        self._accepting: Accepting | None = None
        self._transport: asyncio.Transport | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self._evidence: Evidence | None = None
        self._gone = False
        self.state: InboundState = "introduce"
        self.address = "unknown address"
        self.peer = MemberId("")
        self.boot = Boot("")
        self.closing = False
        self.heard = False
        self.silent_ticks = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's: it begins."""
        self._transport = cast("asyncio.Transport", transport)
        self.address = address_of(transport)
        delay_s = self._hub.limits.handshake_timeout_ms / 1000
        self._timeout = self._hub.loop.call_later(delay_s, self.drop, "no handshake in time")
        self._hub.inbound_begun(self)

    def data_received(self, data: bytes) -> None:
        """Asyncio's: the hot path."""
        if self.state == "over":
            return
        self.heard = True
        try:
            frames = self._decoder.feed(data)
        except BadFrame as bad:
            self._take(bad.before)
            self.drop(str(bad))
            return
        self._take(frames)

    def eof_received(self) -> None:
        """Asyncio's: the peer is done. Told now, one turn of the loop before `connection_lost`."""
        self._over("fin")

    def connection_lost(self, error: Exception | None) -> None:
        """Asyncio's: the end, however it came."""
        self._over("timeout" if isinstance(error, TimeoutError) else "fin")

    def drop(self, why: str) -> None:
        """Say why, to both sides, and end it."""
        if self.state == "over" or self._transport is None:
            return
        self._hub.rejected(self.address, why)
        self._transport.write(encode(Reject(why[:500])))
        self._transport.close()
        self._over("fin")

    def end(self, evidence: Evidence = "fin") -> None:
        """End it without a word; `timeout` for a half-open one."""
        if self._transport is not None:
            self._transport.abort()
        self._over(evidence)

    def _over(self, evidence: Evidence) -> None:
        if self._gone:
            return
        self._gone = True
        if self._timeout is not None:
            self._timeout.cancel()
        self._hub.inbound_gone(self, evidence)
        self.state = "over"

    def _take(self, frames: "list[Frame] | tuple[Frame, ...]") -> None:
        if self.state != "live":
            for frame in frames:
                self._handshake(frame)
            return
        up: list[PeerFrame] = []
        peer = self.peer
        wrong: str | None = None
        for frame in frames:
            kind = type(frame)
            if kind is Envelope:
                if frame.sender != peer:  # type: ignore[union-attr]
                    wrong = f"a frame in the name of {frame.sender} from {peer}"  # type: ignore[union-attr]
                    break
                up.append(frame)  # type: ignore[arg-type]
            elif kind not in _CONTROL:
                up.append(frame)  # type: ignore[arg-type]
            elif isinstance(frame, Ping):
                self._say(Pong(frame.number, frame.sent_us))
            elif isinstance(frame, Closing):
                self.closing = True
            else:
                wrong = f"{kind.__name__} is not expected on a connection that stands"
                break
        if up:
            self._hub.received(peer, up)
        if wrong is not None:
            self.drop(wrong)

    def _handshake(self, frame: Frame) -> None:
        if isinstance(frame, Reject):
            if self.state != "over":
                self._hub.rejected(self.address, f"the dialer refused this member: {frame.reason}")
                self.end()
        elif self.state == "introduce" and isinstance(frame, Introduce):
            try:
                self._accepting = Accepting(frame, self._hub.identify, self._hub.secret, self._hub.nonce())
            except BadFrame as bad:
                self.drop(str(bad))
                return
            self.state = "proof"
            self._say(self._accepting.welcome)
        elif self.state == "proof" and isinstance(frame, Proof) and self._accepting is not None:
            answer = self._accepting.proved(frame, self._hub.judge, self._hub.identify(None))
            self._accepting = None
            if isinstance(answer, Reject):
                self.drop(answer.reason)
                return
            self._live(answer)
        elif self.state != "over":
            self.drop(f"{type(frame).__name__} is not expected in state `{self.state}` of the handshake")

    def _live(self, hello: Hello) -> None:
        self.state = "live"
        self.peer, self.boot = hello.member, hello.boot
        self._decoder.limit = frame_bytes_max
        if self._timeout is not None:
            self._timeout.cancel()
        self._say(Taken())
        self._hub.inbound_up(self, hello)

    def _say(self, frame: Welcome | Taken | Pong) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(frame))
