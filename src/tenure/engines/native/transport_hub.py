"""What both ends of a peer connection need of the transport, and every limit of it."""

import asyncio
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from tenure.base.clock import Clock
from tenure.base.ids import MemberId
from tenure.engines.native.transport_handshake import Identify
from tenure.raft.messages import Evidence
from tenure.wire.frames import Hello, PeerFrame

if TYPE_CHECKING:
    from tenure.engines.native.transport_inbound import Inbound
    from tenure.engines.native.transport_link import Link


class Limits(Struct, frozen=True):
    """Every limit of the transport, with its unit."""

    redial_first_ms: int = 20
    redial_max_ms: int = 500
    dial_timeout_ms: int = 1_000
    handshake_timeout_ms: int = 2_000
    ping_every_ms: int = 250
    silence_max_ms: int = 5_000
    """Peers ping each other, so a connection on which nothing comes for so long is half-open."""
    send_bytes_max: int = 32 * 1024 * 1024
    """More than that waiting for one peer: its connection is reset; who cares for what was lost sends it again."""
    unproved_max: int = 64
    """Connections in their handshake; the oldest goes when one more comes."""
    connections_per_peer_max: int = 8
    flush_timeout_ms: int = 500
    """How long a graceful stop waits for what is still being sent."""


class Hub(Protocol):
    """What both ends need of the transport."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    identify: Identify
    secret: bytes | None
    limits: Limits

    def judge(self, hello: Hello) -> str | None:
        """Why this peer is not taken, or None."""
        ...

    def nonce(self) -> str:
        """A fresh one."""
        ...

    def rejected(self, where: str, why: str) -> None:
        """Tell, not too often."""
        ...

    def inbound_begun(self, inbound: "Inbound") -> None:
        """A connection came in."""
        ...

    def inbound_up(self, inbound: "Inbound", hello: Hello) -> None:
        """It has proved itself."""
        ...

    def inbound_gone(self, inbound: "Inbound", evidence: Evidence) -> None:
        """It is over, in whatever state it was. Called once."""
        ...

    def received(self, peer: MemberId, frames: list[PeerFrame]) -> None:
        """Frames for the engine."""
        ...

    def link_open(self, link: "Link", hello: Hello) -> None:
        """Our own connection stands."""
        ...

    def link_lost(self, link: "Link") -> None:
        """It doesn't any more."""
        ...

    def link_refused(self, link: "Link") -> None:
        """Nobody listens at the peer's address."""
        ...

    def rtt(self, peer: MemberId, rtt_us: int) -> None:
        """One round trip."""
        ...


def address_of(transport: asyncio.BaseTransport) -> str:
    """The other end, for people."""
    name = transport.get_extra_info("peername")
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "unknown address"
