"""Streams (`tenure.v1`) between keepers and members: both ends' own codec, and between them what a connection suffers.

A connection keeps its order. What is lost comes later, by a retransmission; or nothing comes any more, both ways or
one, and nobody is told; or both are told. At the member's end a message is read, checked and answered with the API's
own functions (`tenure.api.messages`), in the order of `tenure.api.stream`; there its sessions are attached, and what
becomes of them is pushed. A stream whose end a member notices is told to the steward (P3.8).
"""

from functools import partial
from typing import TYPE_CHECKING, Protocol

from tenure.api.messages import (
    Attach,
    Behind,
    decode_fields,
    decode_keep,
    decode_own,
    encode,
    keep_mark,
    keep_prefix,
    mark_of,
    origin_in,
    push_of,
    request_in,
)
from tenure.base.ids import SessionId, session_id
from tenure.engines.native.inputs import Asked, Effects
from tenure.leadership.checks import check
from tenure.leadership.engine import (
    AnyRequest,
    AnyResult,
    Disconnected,
    Keepalive,
    Kept,
    Origin,
    ReadSession,
    SessionClosed,
    SessionOpened,
    SessionView,
)
from tests.sim.host import Host
from tests.sim.plan import MS, SECOND

if TYPE_CHECKING:
    from tests.sim.world import World

RETRANSMITTED_US: int = 200 * MS
"""When the kernel sends again what was lost, at first."""
LOST_FOR_GOOD: float = 0.1
"""Of what is lost: how often the connection never recovers."""
SWEPT_US: int = 30 * SECOND
"""After so much silence a member closes a stream (`idle_timeout_ms`)."""


class Caller(Protocol):
    """The keeper's end."""

    def opened(self, stream: "Stream") -> None:
        """The stream is open."""
        ...

    def heard(self, stream: "Stream", data: bytes) -> None:
        """A message has come."""
        ...

    def broke(self, stream: "Stream") -> None:
        """It couldn't be opened, or is over; told once, and not after `close`."""
        ...


class Stream:
    """One connection of a keeper with one life of a member."""

    __slots__ = ("caller", "endpoint", "host", "last_down", "last_up", "life", "lives", "stands", "streams", "ways")

    def __init__(self, streams: "Streams", caller: Caller, host: Host, endpoint: str) -> None:
        self.streams = streams
        self.caller = caller
        self.host = host
        self.endpoint = endpoint
        self.life = 0
        self.lives = True
        """At the keeper's end: it hasn't closed it, and wasn't told that it is over."""
        self.stands = False
        """At the member's end."""
        self.ways = [True, True]
        """Whether anything passes up, and down."""
        self.last_up = self.last_down = 0
        """When what was sent last arrives."""

    # --- the keeper's end -------------------------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Up."""
        self.last_up = max(self.last_up, self.streams.arrival(self))
        if self.ways[0]:
            self.streams.world.post(self.last_up, self.arrived, frame)

    def close(self) -> None:
        """The process closes it, or the kernel does when that has died: the member hears it behind all else."""
        self.lives = False
        if self.ways[0]:
            self.last_up = max(self.last_up, self.streams.arrival(self))
            self.streams.world.post(self.last_up, self.lost, None)

    def vanish(self) -> None:
        """The machine has died: nobody tells the member anything."""
        self.lives = False
        self.silence()

    def silence(self) -> None:
        """Nothing passes any more; the member notices some day."""
        self.ways = [False, False]
        self.streams.world.post(self.streams.world.now + SWEPT_US, self.lost, None)

    def told_over(self, _: None) -> None:
        """The keeper's end hears that the connection is over."""
        if self.lives:
            self.lives = False
            self.caller.broke(self)

    # --- the member's end -------------------------------------------------------------------------------------------

    def knock(self, _: None) -> None:
        """The handshake comes to the member; one that stands still answers later."""
        host, world = self.host, self.streams.world
        if not self.lives:
            return
        if host.replica is None:
            world.post(world.now + world.plan.latency_us, self.told_over, None)
        elif host.paused_until > world.now:
            world.post(host.paused_until, self.knock, None)
        else:
            self.life, self.stands = host.life, True
            self.streams.at(host).open.append(self)
            self.last_down = max(self.last_down, self.streams.arrival(self))
            world.post(self.last_down, self.welcomed, None)

    def welcomed(self, _: None) -> None:
        """The answer to the handshake."""
        if self.lives and self.ways[1]:
            self.caller.opened(self)

    def arrived(self, frame: bytes) -> None:
        """A message for the member. Of a connection that it doesn't know (any more) the kernel says so."""
        host, world = self.host, self.streams.world
        if self.stands and host.replica is not None and host.life == self.life:
            self.take(frame)
        elif host.replica is not None:
            world.post(world.now + world.plan.latency_us, self.told_over, None)

    def take(self, message: bytes) -> None:
        """As `api.stream.Stream` takes it. What no keeper sends (nonsense, observing) fails here."""
        if message.startswith(keep_prefix):
            keep = decode_keep(message)
            self.streams.world.observer.leases.heard(self.host, keep.session, keep.number)
            self.submit(keep, None, None)
            return
        fields = decode_fields(message)
        mark = mark_of(fields)
        origin = origin_in(fields)
        kind = bytes(fields.get("type", b""))
        if kind == b'"attach"':
            own = decode_own(encode(fields))
            assert isinstance(own, Attach)
            self.submit(ReadSession(session_id(own.session)), None, mark)
            return
        request = request_in(kind, fields)
        refusal = check(request, origin)
        if refusal is None:
            self.submit(request, origin, mark)
        else:
            self.say(mark, encode(refusal))

    def submit(self, request: AnyRequest, origin: Origin | None, mark: bytes | None) -> None:
        """Ask the engine."""
        self.streams.submit(self, request, origin, mark)

    def answer(self, request: AnyRequest, mark: bytes | None, result: AnyResult) -> None:
        """The engine's answer, as `api.stream.Stream` passes it on."""
        if type(request) is Keepalive:
            self.say(b"" if type(result) is Kept else keep_mark(request), encode(result))
            return
        match result:
            case SessionOpened(session):
                self.attach(session)
            case SessionView(session) if type(request) is ReadSession:
                self.attach(session)
            case SessionClosed(session):
                self.streams.at(self.host).detach(session, self)
            case _:
                pass
        self.say(mark or b"", encode(result))

    def attach(self, session: SessionId) -> None:
        """Pushes for a session come here; if this stream is gone, its loss is what the steward hears of (P3.8)."""
        if self.stands:
            self.streams.at(self.host).attached[session] = self
        else:  # we are in the middle of a turn of the member, which takes this in the next
            self.streams.world.later(0, partial(self.gone, session))

    def gone(self, session: SessionId) -> None:
        """The member tells its steward that nobody listens for this session, if it lives yet."""
        if self.host.replica is not None and self.host.life == self.life:
            self.submit(Disconnected(session), None, None)

    def say(self, mark: bytes, encoded: bytes) -> None:
        """Down, with what marks it as an answer in front."""
        if not self.stands:
            return
        self.last_down = max(self.last_down, self.streams.arrival(self))
        if self.ways[1]:
            text = b"{" + mark + encoded[1:] if mark else encoded
            self.streams.world.post(self.last_down, self.came, text)

    def came(self, text: bytes) -> None:
        """A message for the keeper."""
        if self.lives:
            self.caller.heard(self, text)

    def lost(self, _: None) -> None:
        """The member notices that the connection is over: its sessions live on, and the steward is told (P3.8)."""
        host, world = self.host, self.streams.world
        if not self.stands or host.replica is None or host.life != self.life:
            return
        if host.paused_until > world.now:
            world.post(host.paused_until, self.lost, None)
            return
        self.stands = False
        place = self.streams.at(host)
        place.open.remove(self)
        for session in sorted(name for name, stream in place.attached.items() if stream is self):
            del place.attached[session]
            self.submit(Disconnected(session), None, None)

    def answered(self, tag: int, result: AnyResult | None) -> None:
        """The member has died, of which the stream hears another way (`Streams.died`); so do answers (`answer`)."""
        self.streams.forget(tag)


class Place:
    """What one life of a member knows of its streams (`api.hub`)."""

    __slots__ = ("attached", "open")

    def __init__(self) -> None:
        self.open: list[Stream] = []
        self.attached: dict[SessionId, Stream] = {}

    def detach(self, session: SessionId, stream: Stream) -> None:
        """No more pushes, if it was still this stream that got them."""
        if self.attached.get(session) is stream:
            del self.attached[session]


class Streams:
    """All of one world."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.rng = world.rng
        self.endpoints: dict[str, Host] = {}
        self._places: dict[str, Place] = {}
        """By the boot of the member's process."""
        self._asked: dict[int, tuple[AnyRequest, bytes | None]] = {}
        """By tag."""
        self._tag = 0

    def at(self, host: Host) -> Place:
        """The streams of the process that lives there now."""
        place = self._places.get(host.boot)
        if place is None:
            place = self._places[host.boot] = Place()
        return place

    def dial(self, caller: Caller, endpoint: str) -> Stream:
        """Begin a connection; the caller will hear what became of it, or nothing."""
        world = self.world
        stream = Stream(self, caller, self.endpoints[endpoint], endpoint)
        stream.last_up = self.arrival(stream) + 2 * world.plan.latency_us  # the kernels' handshake, then the upgrade
        if stream.ways[0]:
            world.post(stream.last_up, stream.knock, None)
        return stream

    def arrival(self, stream: Stream) -> int:
        """When something sent now arrives. Here a connection's faults strike."""
        asking, world = self.world.asking, self.world
        when = world.now + asking.delay()
        if asking.loss and self.rng.random() < asking.loss:
            if not world.healed and self.rng.random() < LOST_FOR_GOOD:
                world.seen["fault stream silent"] += 1
                stream.silence()
            when += RETRANSMITTED_US
        elif world.chance(world.plan.stream_faults):
            self.strike(stream)
        return when

    def strike(self, stream: Stream) -> None:
        """A middle box forgets it, one way or both, or resets it."""
        world = self.world
        match self.rng.randrange(4):
            case 0:
                world.seen["fault stream silent"] += 1
                stream.silence()
            case 1:
                world.seen["fault stream one way"] += 1
                stream.ways[self.rng.randrange(2)] = False
            case _:
                world.seen["fault stream reset"] += 1
                stream.ways = [False, False]
                world.later(world.plan.latency_us, partial(stream.lost, None))
                world.later(world.plan.latency_us, partial(stream.told_over, None))

    def submit(self, stream: Stream, request: AnyRequest, origin: Origin | None, mark: bytes | None) -> None:
        """A member's engine is asked."""
        host = stream.host
        self._tag += 1
        self._asked[self._tag] = (request, mark)
        token = self.world.asking.token(host, stream, self._tag)
        self.world.arrive(host, Asked(token, request, origin))

    def answer(self, stream: Stream, tag: int, result: AnyResult) -> None:
        """It answers."""
        request, mark = self._asked.pop(tag)
        if type(request) is not Disconnected:
            stream.answer(request, mark, result)

    def forget(self, tag: int) -> None:
        """No answer will come."""
        self._asked.pop(tag, None)

    def publish(self, host: Host, effects: Effects) -> None:
        """What a turn has changed, to the streams of the sessions that it names."""
        place = self._places.get(host.boot)
        if place is None or not place.attached:
            return
        if effects.replaced:
            missed = encode(Behind(host.machine.last_transition + 1))
            for stream in dict.fromkeys(place.attached.values()):
                stream.say(b"", missed)
            return
        for transition in effects.transitions:
            session = transition.session
            listener = place.attached.get(session) if session is not None else None
            if listener is None:
                continue
            push = push_of(transition)
            if push is None:
                continue
            if transition.kind in {"session_closed", "session_expired"}:
                place.detach(SessionId(session or ""), listener)
            listener.say(b"", encode(push))

    def died(self, host: Host, *, silent: bool) -> None:
        """A member's process is gone: the kernel ends its connections, behind what they carried, if it lives."""
        place = self._places.pop(host.boot, None)
        for stream in place.open if place is not None else ():
            stream.stands = False
            if not silent and stream.ways[1]:
                stream.last_down = max(stream.last_down, self.arrival(stream))
                self.world.post(stream.last_down, stream.told_over, None)
