"""The network between members: what they send travels, is late, lost, doubled, or comes again as old mail.

Connections are pairs of ways. What a connection carried is gone with it when the network is `ordered` (TCP); else
frames change places, and old ones, from earlier lives too, come again.
"""

from typing import TYPE_CHECKING, Final

from tenure.base.ids import BatchNumber
from tenure.engines.native.inputs import PeerCall, PeerFrame, PeerReply
from tenure.leadership.engine import Keepalive
from tenure.raft.events import LinkLost, LinkUp, Received, RttSample
from tenure.raft.messages import Envelope, Evidence
from tenure.wire.frames import Call
from tests.sim.host import Host, Way
from tests.sim.plan import MS, SECOND

if TYPE_CHECKING:
    from tests.sim.world import World

OLD_FRAMES: Final = 200
RTT_SAMPLED: Final = 0.05

Parcel = tuple[Way, int, Host, Host, PeerFrame, int]
"""The way, its generation when the frame left, who sent it to whom, the frame, and how long it travels."""


class Network:
    """All ways of one world."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.plan = plan = world.plan
        self.rng = world.rng
        self.random = world.rng.random
        self.latency_us, self.jitter_us = plan.latency_us, plan.jitter_us
        self.ordered = plan.ordered
        self.loss = plan.loss / 1000
        self.duplicate = plan.duplicate / 1000
        self.replay = plan.replay / 1000
        self.spike = plan.spike / 1000
        self.late_until = 0
        """When the last frame from before everything was mended has arrived."""
        self.old: list[tuple[Host, Host, PeerFrame]] = []

    def heal(self) -> None:
        """Only what L3 allows is left of its faults."""
        slowest = max(way.slow for host in self.world.hosts for way in host.ways) if len(self.world.hosts) > 1 else 1
        late = self.latency_us * slowest + self.jitter_us + (self.world.plan.spike_us if self.spike else 0)
        self.late_until = self.world.now + late
        self.loss = self.world.plan.healed_loss / 1000
        self.duplicate = self.replay = self.spike = 0.0
        for host in self.world.hosts:
            for way in host.ways:
                way.cut, way.slow = False, 1

    def add(self, host: Host) -> None:
        """A member comes: ways to everybody and back."""
        for other in self.world.hosts:
            if other is not host:
                other.ways.append(Way())
        host.ways.extend(Way() for _ in self.world.hosts)

    # --- connections ------------------------------------------------------------------------------------------------

    def reachable(self, one: Host, other: Host) -> bool:
        """Frames pass both ways: a handshake can succeed."""
        return not one.ways[other.index].cut and not other.ways[one.index].cut

    def linked(self, one: Host, other: Host) -> bool:
        """Whether both have a connection from each other."""
        return one.ways[other.index].linked and other.ways[one.index].linked

    def disconnect(self, one: Host, other: Host) -> None:
        """No connection either way; what is under way belongs to the past."""
        for way in (one.ways[other.index], other.ways[one.index]):
            way.linked = False
            way.generation += 1

    def clogged(self, one: Host, other: Host) -> bool:
        """Whether a frame that was held up still holds up all behind it."""
        soon = self.world.now + 2 * (self.world.plan.latency_us + self.world.plan.jitter_us)
        return any(way.last_arrival > soon for way in (one.ways[other.index], other.ways[one.index]))

    def renew(self, one: Host, other: Host) -> None:
        """A new connection in place of what there was, if anything."""
        if self.linked(one, other):
            self.lose(one, other, "fin", 0)
            self.lose(other, one, "fin", 0)
        self.disconnect(one, other)
        one.ways[other.index].last_arrival = other.ways[one.index].last_arrival = 0
        self.connect(one, other, 2 * self.world.plan.latency_us + 1 * MS)

    def connect(self, one: Host, other: Host, delay: int) -> None:
        """A handshake that ends `delay` from now, if both still live then."""
        lives = (one.life, other.life)

        def stand() -> None:
            if (one.life, other.life) != lives or not self.reachable(one, other):
                return
            if self.bids_farewell(one, other) or self.bids_farewell(other, one):
                return
            for here, there in ((one, other), (other, one)):
                if there.ways[here.index].linked or here.core is None or there.core is None:
                    continue  # the first to hear of it may have died of it
                there.ways[here.index].linked = True
                if here.replica is not None:
                    here.replica.apis[there.id] = there.api  # `PeerKnown`, without a turn of its own
                told = there.core.known_batches.get(here.id, BatchNumber(0))
                self.world.arrive(here, LinkUp(there.id, there.boot, told, there.core.settings.feature_max))
                self.measure(here, there)

        self.world.later(delay, stand)

    def measure(self, here: Host, there: Host) -> None:
        """A new connection is measured at once, as the transport does it."""
        way, life = there.ways[here.index], here.life
        generation = way.generation
        took = self.delay(way) + self.delay(here.ways[there.index]) + 50

        def measured() -> None:
            if here.replica is not None and here.life == life and way.generation == generation:
                self.world.arrive(here, RttSample(there.id, took))

        self.world.later(took, measured)

    def bids_farewell(self, here: Host, there: Host) -> bool:
        """Who has left for certain is told so where it may connect, and takes no part (`native.member.on_open`). Not by
        a removal that may be rolled back: it may be of the leader who is to roll it back (seed 111).
        """
        said = here.raft.farewell(there.id) if here.replica is not None and not here.replica.stopped else None
        if said is not None and there.replica is not None and not there.replica.stopped:
            self.world.arrive(there, Received(said))
        return said is not None

    def lose(self, host: Host, peer: Host, evidence: Evidence, delay: int) -> None:
        """`host` will notice that its connection from this life of `peer` is gone, if that is the last one (P5.4)."""
        boot, life, way = peer.boot, host.life, peer.ways[host.index]

        def notice() -> None:
            if host.replica is not None and host.life == life and not way.linked:
                self.world.arrive(host, LinkLost(peer.id, boot, evidence))

        self.world.later(delay, notice)

    def meet(self, host: Host) -> None:
        """A member that has started connects with everybody in reach."""
        for other in self.world.hosts:
            if other is not host and other.replica is not None and self.reachable(host, other):
                self.connect(host, other, self.delay(host.ways[other.index]))

    def died(self, host: Host, *, silent: bool) -> None:
        """Its connections end: the others see the end of the stream, or only silence."""
        for other in self.world.hosts:
            if other is host:
                continue
            self.disconnect(host, other)
            if other.replica is not None and not host.ways[other.index].cut:
                delay = self.rng.randint(1, 5) * SECOND if silent else self.delay(host.ways[other.index])
                self.lose(other, host, "timeout" if silent else "fin", delay)

    # --- frames -----------------------------------------------------------------------------------------------------

    def delay(self, way: Way) -> int:
        """How long one frame travels."""
        plan, random = self.plan, self.rng.random
        delay = plan.latency_us * way.slow
        if plan.jitter_us:
            delay += int(random() * plan.jitter_us)
        if self.spike and random() < self.spike:
            delay += int(random() * plan.spike_us)
        return delay

    def send(self, sender: Host, to: Host, frame: PeerFrame) -> None:
        """A frame leaves; what becomes of it is drawn now."""
        way = sender.ways[to.index]
        if not way.linked or way.cut:
            return
        random = self.random
        if self.loss and random() < self.loss:
            return
        world, now = self.world, self.world.now
        delay = self.latency_us * way.slow
        if self.jitter_us:
            delay += int(random() * self.jitter_us)
        if self.spike and random() < self.spike:
            delay += int(random() * self.plan.spike_us)
        if self.ordered:
            if now + delay < way.last_arrival:
                delay = way.last_arrival - now
            else:
                way.last_arrival = now + delay
        else:
            if self.duplicate and random() < self.duplicate:
                self.deliver(way, sender, to, frame, delay + self.delay(way))
            if self.replay:
                self.replay_old(sender, to, frame)
        world.post(now + delay, self.arrived, (way, way.generation, sender, to, frame, delay))

    def replay_old(self, sender: Host, to: Host, frame: PeerFrame) -> None:
        """Old frames come again: from this life or an earlier one, in this term or a later one."""
        if len(self.old) < OLD_FRAMES:
            self.old.append((sender, to, frame))
        elif self.rng.random() < 0.02:
            self.old[self.rng.randrange(OLD_FRAMES)] = (sender, to, frame)
        if self.rng.random() < self.replay:
            one, other, old = self.rng.choice(self.old)
            way = one.ways[other.index]
            self.deliver(way, one, other, old, self.delay(way))

    def deliver(self, way: Way, sender: Host, to: Host, frame: PeerFrame, delay: int) -> None:
        """It will arrive after `delay`."""
        self.world.post(self.world.now + delay, self.arrived, (way, way.generation, sender, to, frame, delay))

    def arrived(self, parcel: Parcel) -> None:
        """A frame is there, unless the connection it went by is gone (on an ordered network)."""
        way, generation, sender, to, frame, delay = parcel
        if to.replica is None or way.cut or (generation != way.generation and self.ordered):
            return
        world = self.world
        kind = type(frame)
        if kind is Envelope:
            world.arrive(to, Received(frame))  # type: ignore[arg-type]
            if self.random() < RTT_SAMPLED:
                world.arrive(to, RttSample(sender.id, 2 * delay + 50))
        elif kind is Call:
            assert isinstance(frame, Call)
            if type(frame.request) is Keepalive:
                world.observer.leases.heard(to, frame.request.session, frame.request.number)
            world.arrive(to, PeerCall(sender.id, frame))
        else:
            world.arrive(to, PeerReply(sender.id, frame))  # type: ignore[arg-type]
