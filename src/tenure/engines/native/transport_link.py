"""Our way to one peer: it dials, proves, sends, measures, and dials again."""

import asyncio
from contextlib import suppress
from socket import IPPROTO_TCP, TCP_NODELAY, TCP_USER_TIMEOUT, socket
from typing import Final, cast

from tenure.base.instants import Instant
from tenure.engines.native.transport_handshake import Dialing
from tenure.engines.native.transport_hub import Hub
from tenure.wire.frames import (
    BadFrame,
    Closing,
    Decoder,
    Frame,
    Hello,
    Ping,
    Pong,
    Reject,
    Taken,
    Welcome,
    encode,
    handshake_bytes_max,
)

_PINGS_OUT_MAX: Final = 64


class Link:
    """Our way to one peer. `label` is what the peer is expected to be: a member id, or a name before founding."""

    def __init__(self, hub: Hub, label: str, address: str) -> None:
        self._hub = hub
        self._kicked = asyncio.Event()
        self._dialed: Outbound | None = None
        self._outbound: Outbound | None = None
        self._task: asyncio.Task[None] | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._pings: dict[int, Instant] = {}
        self._number = 0
        self.label = label
        self.address = address
        self.hello: Hello | None = None

    @property
    def is_open(self) -> bool:
        """Whether what is sent now goes out."""
        return self._outbound is not None

    def start(self) -> None:
        """Dial until `stop`."""
        self._task = self._hub.loop.create_task(self._run(), name=f"tenure-link-{self.label}")

    def stop(self, say_closing: bool) -> None:
        """End; with `Closing` behind all that was sent (P5.4), or at once."""
        if self._task is not None:
            self._task.cancel()
        outbound = self._outbound
        if outbound is None:
            if self._dialed is not None:  # still in its handshake
                self._dialed.abort()
            return
        if say_closing:
            self.send(encode(Closing()))
            self.flush()
            outbound.finish()
        else:
            outbound.abort()

    async def ended(self) -> None:
        """Wait for the end of the connection after `stop`."""
        if self._task is not None:
            await asyncio.wait((self._task,))
        if self._dialed is not None:
            await asyncio.wait((self._dialed.ended,))

    def kick(self) -> None:
        """The peer is there: don't wait for the next try."""
        self._kicked.set()

    def send(self, data: bytes) -> bool:
        """Queue encoded frames; True if the queue was empty, so a flush is due."""
        if self._outbound is None:
            return False
        self._out.append(data)
        self._out_bytes += len(data)
        return len(self._out) == 1

    def flush(self) -> None:
        """Write the queue in one piece."""
        out, self._out = self._out, []
        size, self._out_bytes = self._out_bytes, 0
        outbound = self._outbound
        if outbound is None or not out:
            return
        if outbound.waiting() + size > self._hub.limits.send_bytes_max:
            self._hub.rejected(self.address, f"more than {self._hub.limits.send_bytes_max} bytes wait for it: reset")
            outbound.abort()
            return
        outbound.write(out[0] if len(out) == 1 else b"".join(out))

    def ping(self, now: Instant) -> None:
        """Measure; a peer that leaves pings unanswered for too long is half-open."""
        if self._outbound is None:
            return
        oldest = next(iter(self._pings.values()), now)
        if now - oldest > self._hub.limits.silence_max_ms * 1000 or len(self._pings) >= _PINGS_OUT_MAX:
            self._hub.rejected(self.address, "it does not answer pings: reset")
            self._outbound.abort()
            return
        self._number += 1
        self._pings[self._number] = now
        self._outbound.write(encode(Ping(self._number, now)))

    def forgive(self) -> None:
        """Our own process stood still: unanswered pings prove nothing."""
        self._pings.clear()

    def pong(self, pong: Pong) -> None:
        """One round trip, from our own memory of when it began."""
        sent = self._pings.pop(pong.number, None)
        if sent is not None and self.hello is not None:
            self._hub.rtt(self.hello.member, max(1, self._hub.clock.now() - sent))

    def opened(self, outbound: "Outbound", hello: Hello) -> None:
        """The acceptor has taken us."""
        self._outbound = outbound
        self._out, self._out_bytes = [], 0
        self.hello = hello
        self._pings.clear()
        self.ping(self._hub.clock.now())
        self._hub.link_open(self, hello)

    def closed(self, outbound: "Outbound") -> None:
        """The connection is gone."""
        if self._dialed is outbound:
            self._dialed = None
        if self._outbound is outbound:
            self._outbound = None
            self._out, self._out_bytes = [], 0
            self._hub.link_lost(self)

    def misfit(self, hello: Hello) -> str | None:
        """Why whoever answers at this address is not whom we want."""
        if self.label in {hello.member, hello.name}:
            return None
        return f"{self.address} is {hello.name} ({hello.member}), not {self.label}"

    async def _run(self) -> None:
        limits = self._hub.limits
        wait_ms = limits.redial_first_ms
        while True:
            self._kicked.clear()
            was_open = await self._dial()
            wait_ms = limits.redial_first_ms if was_open else min(wait_ms * 2, limits.redial_max_ms)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_ms / 1000):
                    await self._kicked.wait()
                wait_ms = limits.redial_first_ms

    def _begin(self) -> "Outbound":
        self._dialed = Outbound(self._hub, self)
        return self._dialed

    async def _dial(self) -> bool:
        """One connection from its beginning to its end; True if it stood."""
        host, _, port = self.address.rpartition(":")
        loop = self._hub.loop
        outbound: Outbound | None = None
        try:
            async with asyncio.timeout(self._hub.limits.dial_timeout_ms / 1000):
                _, outbound = await loop.create_connection(self._begin, host.strip("[]"), int(port))
        except ConnectionRefusedError:
            self._hub.link_refused(self)
            return False
        except (TimeoutError, OSError, ValueError):
            return False
        finally:
            if outbound is None and self._dialed is not None:
                self._dialed.give_up()
                self._dialed = None
        return await asyncio.shield(outbound.ended)


class Outbound(asyncio.Protocol):
    """One connection that we dialed. The peer says little here: handshake, pongs, a rejection."""

    def __init__(self, hub: Hub, link: Link) -> None:
        self._hub = hub
        self._link = link
        self._decoder = Decoder(handshake_bytes_max)
        self._dialing: Dialing | None = Dialing(hub.identify, hub.secret, hub.nonce())
        self._hello: Hello | None = None
        self._transport: asyncio.Transport | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self._stood = False
        self.ended: asyncio.Future[bool] = hub.loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's: it begins."""
        self._transport = cast("asyncio.Transport", transport)
        plain: socket | None = transport.get_extra_info("socket")
        limits = self._hub.limits
        if plain is not None:
            plain.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
            plain.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, limits.silence_max_ms)
        self._timeout = self._hub.loop.call_later(
            limits.handshake_timeout_ms / 1000, self._refuse, "no answer to the handshake in time"
        )
        assert self._dialing is not None
        self.write(encode(self._dialing.introduce()))

    def data_received(self, data: bytes) -> None:
        """Asyncio's."""
        try:
            frames = self._decoder.feed(data)
            for frame in frames:
                self._take(frame)
        except BadFrame as bad:
            self._refuse(f"what it says is not this protocol: {bad}")

    def eof_received(self) -> None:
        """Asyncio's: the peer is done."""
        self._finish()

    def connection_lost(self, error: Exception | None) -> None:
        """Asyncio's: the end, however it came."""
        self._finish()
        if not self.ended.done():
            self.ended.set_result(self._stood)

    def write(self, data: bytes) -> None:
        """Straight to the socket's buffer."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def waiting(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def finish(self) -> None:
        """End behind what was written: half-close, and wait for the peer's end.

        A plain close with a pong unread would reset the connection, and a reset takes away what the peer has not read.
        """
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()
            self._hub.loop.call_later(self._hub.limits.flush_timeout_ms / 1000, self.abort)

    def close(self) -> None:
        """End; what was written may still arrive."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End now."""
        if self._transport is not None:
            self._transport.abort()
        self._finish()

    def give_up(self) -> None:
        """The dial has failed. If that was at the moment in which it succeeded (our process stood still meanwhile),
        uvloop closes the transport and never tells of its end.
        """
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
        self._transport = None

    def _finish(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
        self._link.closed(self)

    def _refuse(self, why: str) -> None:
        self._hub.rejected(self._link.address, why)
        self.write(encode(Reject(why[:500])))
        self.close()
        self._finish()

    def _take(self, frame: Frame) -> None:
        if isinstance(frame, Pong):
            self._link.pong(frame)
        elif isinstance(frame, Reject):
            self._hub.rejected(self._link.address, f"it refused this member: {frame.reason}")
            self.abort()
        elif isinstance(frame, Welcome) and self._dialing is not None:
            answer = self._dialing.welcomed(frame, self._judge)
            self._dialing = None
            if isinstance(answer, Reject):
                self._refuse(answer.reason)
                return
            self._hello, proof = answer
            self.write(encode(proof))
        elif isinstance(frame, Taken) and self._hello is not None and not self._stood:
            self._stood = True
            if self._timeout is not None:
                self._timeout.cancel()
            self._link.opened(self, self._hello)
        else:
            self._refuse(f"{type(frame).__name__} is not expected here")

    def _judge(self, hello: Hello) -> str | None:
        return self._link.misfit(hello) or self._hub.judge(hello)
