"""Frames between members over TCP. Each member dials every other; a connection carries frames one way.

Why one way: the end of the connection that carries the leader's frames comes in order behind them, so it is a sign
that can be believed (P5.4), and a cable that is broken in one direction shows as just that. Pings and their answers
share a connection, and give the round trip from application to application (P5.6).

Words: a *link* is our way to a peer and dials for ever; an *inbound* is a connection that a peer dialed. A peer is
*up* from its first inbound that stands to the loss of its last one. What is sent while a link is down is dropped:
consensus sends again what matters, and old frames help nobody.

Works on asyncio's own loop and on uvloop. No task per frame: frames of one turn are written in one piece, and all
frames of one read are handed up in one call.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

from tenure.base.clock import Clock
from tenure.base.ids import Boot, MemberId
from tenure.base.instants import MS, SECOND, Instant
from tenure.engines.native.transport_handshake import Identify
from tenure.engines.native.transport_hub import Limits
from tenure.engines.native.transport_inbound import Inbound
from tenure.engines.native.transport_link import Link
from tenure.raft.messages import Envelope, Evidence
from tenure.wire.frames import EnvelopeEncoder, Hello, PeerFrame, encode

told_again_us: Final = 10 * SECOND
"""The same rejection of the same address is told once in that time."""
_TOLD_MAX: Final = 256
default_limits: Final = Limits()


class Listener(Protocol):
    """Who uses the transport. All calls come in the loop; none may raise or block."""

    def judge(self, hello: Hello) -> str | None:
        """Why we don't talk to this peer (its lineage, …), or None. Asked on both sides, after the secret is proved."""
        ...

    def on_frames(self, peer: MemberId, frames: list[PeerFrame]) -> None:
        """Frames in the order in which they were sent."""
        ...

    def on_up(self, peer: MemberId, hello: Hello) -> None:
        """The first connection from this life of `peer` stands; `hello.told` is what it knows of our batches."""
        ...

    def on_open(self, peer: MemberId, hello: Hello) -> None:
        """Our own connection to `peer` stands: what is sent to it from now on goes out."""
        ...

    def on_lost(self, peer: MemberId, boot: Boot, evidence: Evidence, closing: bool) -> None:
        """The last connection from this life of `peer` is gone; `refused` may follow a `timeout`, once."""
        ...

    def on_rtt(self, peer: MemberId, rtt_us: int) -> None:
        """One round trip, from our loop through the peer's and back."""
        ...

    def on_rejected(self, text: str) -> None:
        """Somebody was turned away, or turned us away: for the operator, address and reason."""
        ...


class Transport:
    """Links to all peers and the port that they dial. `identify(member | None)` is our hello towards that member."""

    def __init__(
        self,
        identify: Identify,
        secret: bytes | None,
        listener: Listener,
        clock: Clock,
        limits: Limits = default_limits,
        nonce: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self.identify = identify
        self.secret = secret
        self.clock = clock
        self.limits = limits
        self.nonce = nonce
        self.loop = asyncio.get_running_loop()
        self._listener = listener
        self._server: asyncio.Server | None = None
        self._links: dict[str, Link] = {}
        self._routes: dict[str, Link] = {}
        self._unproved: dict[Inbound, None] = {}
        self._live: dict[MemberId, list[Inbound]] = {}
        self._lost: dict[MemberId, tuple[Boot, Evidence]] = {}
        self._encoder = EnvelopeEncoder()
        self._dirty: list[Link] = []
        self._told: dict[tuple[str, str], Instant] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tick_due = Instant(0)
        self._stopping = False

    # --- for its user -----------------------------------------------------------------------------------------------

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; port 0 takes a free one. Returns where. Raises `OSError`."""
        self._server = await self.loop.create_server(lambda: Inbound(self), host, port, backlog=128)
        self._arm()
        name = self._server.sockets[0].getsockname()
        return str(name[0]), int(name[1])

    def set_peers(self, peers: Mapping[str, str]) -> None:
        """Whom to dial: `{member id, or name before founding: "host:port"}`. A link stays if peer and address do."""
        if self._stopping:
            return
        wanted = dict(peers)
        kept: dict[str, Link] = {}
        for link in self._links.values():
            label = next((label for label in wanted if wanted[label] == link.address and self._fits(link, label)), None)
            if label is None:
                link.stop(say_closing=True)
            else:
                link.label = label
                kept[label] = link
                del wanted[label]
        for label, address in wanted.items():
            kept[label] = Link(self, label, address)
            kept[label].start()
        self._links = kept
        self._reroute()

    def send(self, peer: str, frame: PeerFrame) -> None:
        """Queue a frame for a member id or name; it leaves with this turn of the loop; dropped if the link is down."""
        if not self._dirty:
            self.loop.call_soon(self.flush)
        self._queue(peer, frame)

    def send_now(self, frames: Sequence[tuple[str, PeerFrame]]) -> None:
        """The same for all frames of a turn, which are written at once: no second turn of the loop for it."""
        for peer, frame in frames:
            self._queue(peer, frame)
        self.flush()

    def send_encoded(self, peer: str, data: bytes) -> None:
        """The same for bytes from `wire.frames.encode`."""
        link = self._routes.get(peer)
        if link is not None and link.send(data):
            if not self._dirty:
                self.loop.call_soon(self.flush)
            self._dirty.append(link)

    def flush(self) -> None:
        """Write all queues now instead of at the end of this turn."""
        dirty, self._dirty = self._dirty, []
        for link in dirty:
            link.flush()

    def is_open(self, peer: str) -> bool:
        """Whether our own connection to the peer stands."""
        return peer in self._routes

    def is_up(self, peer: MemberId) -> bool:
        """Whether a connection from the peer stands."""
        return peer in self._live

    async def stop(self, say_closing: bool = True) -> None:
        """Stop listening, end all connections; with `Closing` behind what was sent, or as a crash would."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        if self._server is not None:
            self._server.close()
        self.flush()
        links = list(self._links.values())
        for link in links:
            link.stop(say_closing)
        if say_closing:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.limits.flush_timeout_ms / 1000):
                    for link in links:
                        await link.ended()
        for link in links:
            link.stop(say_closing=False)
        for inbound in [*self._unproved, *(one for some in self._live.values() for one in some)]:
            inbound.end()
        self._links, self._routes = {}, {}
        if self._server is not None:
            await self._server.wait_closed()

    # --- sending ----------------------------------------------------------------------------------------------------

    def _queue(self, peer: str, frame: PeerFrame) -> None:
        link = self._routes.get(peer)
        if link is not None:
            data = self._encoder.encode(frame) if type(frame) is Envelope else encode(frame)
            if link.send(data):
                self._dirty.append(link)

    @staticmethod
    def _fits(link: Link, label: str) -> bool:
        return label == link.label or (link.hello is not None and label in {link.hello.member, link.hello.name})

    def _reroute(self) -> None:
        self._routes = {}
        for link in self._links.values():
            if link.is_open and link.hello is not None:
                self._routes[link.label] = self._routes[link.hello.member] = self._routes[link.hello.name] = link

    # --- time -------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        self._tick_due = Instant(self.clock.now() + self.limits.ping_every_ms * MS)
        self._timer = self.loop.call_later(self.limits.ping_every_ms / 1000, self._tick)

    def _tick(self) -> None:
        """Pings out, half-open connections away; after an own stall nobody is judged, their frames may be unread."""
        now = self.clock.now()
        stalled = now - self._tick_due > SECOND
        for link in self._links.values():
            if stalled:
                link.forgive()
            link.ping(now)
        silent_ticks_max = self.limits.silence_max_ms // self.limits.ping_every_ms
        for inbound in [one for some in self._live.values() for one in some]:
            if inbound.heard or stalled:
                inbound.heard, inbound.silent_ticks = False, 0
                continue
            inbound.silent_ticks += 1
            if inbound.silent_ticks > silent_ticks_max:
                inbound.end("timeout")
        self._arm()

    # --- what links and inbounds say (Hub) --------------------------------------------------------------------------

    def judge(self, hello: Hello) -> str | None:
        """Ask the listener."""
        return self._listener.judge(hello)

    def rejected(self, where: str, why: str) -> None:
        """Tell the listener, once in a while per address and reason (the port of a dialer is another each time)."""
        now = self.clock.now()
        key = (where.rpartition(":")[0], why)
        if now - self._told.get(key, Instant(-told_again_us)) < told_again_us:
            return
        if len(self._told) >= _TOLD_MAX:
            self._told.clear()
        self._told[key] = now
        self._listener.on_rejected(f"{where}: {why}")

    def received(self, peer: MemberId, frames: list[PeerFrame]) -> None:
        """Hand up."""
        self._listener.on_frames(peer, frames)

    def inbound_begun(self, inbound: Inbound) -> None:
        """Who doesn't prove himself must not keep others out: the oldest of too many goes."""
        if self._stopping:
            inbound.end()
            return
        if len(self._unproved) >= self.limits.unproved_max:
            next(iter(self._unproved)).drop("too many connections in their handshake")
        self._unproved[inbound] = None

    def inbound_up(self, inbound: Inbound, hello: Hello) -> None:
        """A peer is up with its first connection; a new life of it ends the old one."""
        self._unproved.pop(inbound, None)
        peer = inbound.peer
        for old in self._of_other_lives(inbound):
            old.end()
        standing = self._live.setdefault(peer, [])
        standing.append(inbound)
        if len(standing) == 1:
            self._lost.pop(peer, None)
            self._listener.on_up(peer, hello)
        elif len(standing) > self.limits.connections_per_peer_max:
            standing[0].drop("too many connections of one member")
        for link in self._links.values():
            if self._fits(link, peer) or link.label == hello.name:
                link.kick()

    def _of_other_lives(self, inbound: Inbound) -> Iterator[Inbound]:
        yield from [one for one in self._live.get(inbound.peer, ()) if one.boot != inbound.boot]

    def inbound_gone(self, inbound: Inbound, evidence: Evidence) -> None:
        """A peer is lost with its last connection (P5.4)."""
        self._unproved.pop(inbound, None)
        standing = self._live.get(inbound.peer, [])
        if inbound not in standing:
            return
        standing.remove(inbound)
        if standing:
            return
        del self._live[inbound.peer]
        if not self._stopping:
            self._lost[inbound.peer] = (inbound.boot, evidence)
            self._listener.on_lost(inbound.peer, inbound.boot, evidence, inbound.closing)

    def link_open(self, link: Link, hello: Hello) -> None:
        """Frames may go out."""
        self._reroute()
        self._listener.on_open(hello.member, hello)

    def link_lost(self, link: Link) -> None:
        """Frames may not."""
        self._reroute()

    def link_refused(self, link: Link) -> None:
        """Nobody listens there: a peer that had fallen silent is dead. With a live connection it proves nothing."""
        peer = link.hello.member if link.hello is not None else MemberId(link.label)
        boot, evidence = self._lost.get(peer, (Boot(""), "fin"))
        if evidence == "timeout" and peer not in self._live:
            self._lost[peer] = (boot, "refused")
            self._listener.on_lost(peer, boot, "refused", closing=False)

    def rtt(self, peer: MemberId, rtt_us: int) -> None:
        """Hand up."""
        self._listener.on_rtt(peer, rtt_us)
