"""Who breaks things, one at a time, as the plan's weights say; and who mends them in the end."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tenure.base.ids import ElectionName, NodeId
from tenure.leadership.engine import AnyResult, Campaign, OpenSession, SessionOpened, Stepdown
from tests.sim.plan import MS, SECOND, crowds_max
from tests.sim.users import Node
from tests.sim.world import Host, World

if TYPE_CHECKING:
    from random import Random


@dataclass
class Nemesis:
    """Strikes every now and then until the world is healed."""

    world: World
    nodes: list[Node]
    rng: "Random"
    crowds: int = 0

    def wake(self) -> None:
        """Strike, and plan the next."""
        world = self.world
        if world.healed:
            return
        kinds = sorted(world.plan.weights.items())
        total = sum(weight for _, weight in kinds)
        if total:
            draw = self.rng.randrange(total)
            for kind, weight in kinds:
                draw -= weight
                if draw < 0:
                    getattr(self, f"do_{kind}")()
                    break
        world.later(int(self.rng.expovariate(1 / world.plan.nemesis_us)), self.wake)

    def answered(self, tag: int, result: AnyResult | None) -> None:
        """What comes of its requests doesn't matter; a few of a crowd campaign, and are never heard again."""
        if isinstance(result, SessionOpened):
            self.world.observer.ttl_us[result.session] = result.ttl_ms * MS
            if tag % 20 == 0:
                election = ElectionName(self.rng.choice(self.nodes).elections[0])
                self.world.ask(self, 0, self.some(), Campaign(result.session, election), None)

    def outage(self) -> int:
        """How long this one lasts."""
        return 1 + int(self.rng.expovariate(1 / self.world.plan.outage_us))

    def some(self) -> Host:
        """A member; the leader half of the time, because there it hurts most."""
        leaders = [host for host in self.world.hosts if host.replica is not None and host.raft.role == "leader"]
        if leaders and self.rng.random() < 0.5:
            return self.rng.choice(leaders)
        return self.rng.choice(self.world.hosts)

    def until(self, micros: int, undo: Callable[[], None]) -> None:
        """Undo it after a while, unless everything was mended before."""
        self.world.later(micros, lambda: None if self.world.healed else undo())

    # --- members ----------------------------------------------------------------------------------------------------

    def do_crash(self) -> None:
        host = self.some()
        self.world.crash(host, keep=self.rng.random() < 0.5)
        self.until(self.outage(), lambda: self.world.revive(host))

    def do_crash_all(self) -> None:
        for host in self.world.hosts:
            self.world.crash(host, keep=self.rng.random() < 0.5)
            self.until(self.outage(), partial(self.world.revive, host))

    def do_pause(self) -> None:
        host = self.some()
        self.world.pause(host, min(self.outage() * self.rng.choice((1, 1, 10)), 60 * SECOND))

    def do_stall(self) -> None:
        host = self.some()
        host.stalled_until = self.world.now + min(self.outage() * self.rng.choice((1, 1, 10)), 30 * SECOND)

    def do_suspend(self) -> None:
        """A virtual machine is suspended: its clock stands still too."""
        self.world.pause(self.some(), self.outage(), frozen=True)

    def do_clock_step(self) -> None:
        """CLOCK_BOOTTIME jumps ahead by more than has passed while the process doesn't run."""
        self.world.pause(self.some(), self.outage(), jump=self.outage() * self.rng.choice((1, 10)))

    def do_storm(self) -> None:
        """Members crash again and again, also while they are coming back."""
        for _ in range(self.rng.randint(5, 20)):
            host = self.rng.choice(self.world.hosts)
            when = self.rng.randrange(self.outage())
            self.until(when, partial(self.world.crash, host, keep=self.rng.random() < 0.5))
            self.until(when + self.rng.randrange(100 * MS), partial(self.world.revive, host))
        for host in self.world.hosts:
            self.until(5 * self.world.plan.outage_us, partial(self.world.revive, host))

    def do_transfer(self) -> None:
        host = self.some()
        self.world.ask(self, 0, host, Stepdown(), None)

    # --- network ----------------------------------------------------------------------------------------------------

    def cut(self, ways: list[tuple[Host, Host]]) -> None:
        """Nothing passes these ways for a while; later both ends notice, and after that they connect again."""
        world = self.world
        for one, other in ways:
            world.cut[one.index][other.index] = True
        micros = self.outage()
        notice = self.rng.random() < 0.5
        if notice:
            for one, other in ways:
                self.until(self.rng.randrange(1, 2 * micros + 2), partial(self.break_link, one, other))
        self.until(micros, lambda: self.mend(ways))

    def break_link(self, one: Host, other: Host) -> None:
        """The connection is given up by both ends."""
        world = self.world
        if one.replica is None or other.replica is None or not world.cut[one.index][other.index]:
            return
        world.disconnect(one, other)
        world.lose(one, other, "timeout", 0)
        world.lose(other, one, "timeout", 0)

    def mend(self, ways: list[tuple[Host, Host]]) -> None:
        """Frames pass again."""
        world = self.world
        for one, other in ways:
            world.cut[one.index][other.index] = False
        for one, other in ways:
            if one.replica is not None and other.replica is not None and world.reachable(one, other):
                world.connect(one, other, world.delay(one, other))

    def pairs(self, left: list[Host], right: list[Host]) -> list[tuple[Host, Host]]:
        """Both ways between two groups."""
        return [way for one in left for other in right for way in ((one, other), (other, one))]

    def do_isolate(self) -> None:
        host = self.some()
        self.cut(self.pairs([host], [other for other in self.world.hosts if other is not host]))

    def do_halves(self) -> None:
        hosts = self.rng.sample(self.world.hosts, len(self.world.hosts))
        middle = self.rng.randint(0, len(hosts))
        self.cut(self.pairs(hosts[:middle], hosts[middle:]))

    def do_one_way(self) -> None:
        host = self.some()
        others = [other for other in self.world.hosts if other is not host and self.rng.random() < 0.7]
        ways = [(host, other) for other in others]
        self.cut(ways if self.rng.random() < 0.5 else [(other, one) for one, other in ways])

    def do_bridge(self) -> None:
        """Two groups that see each other only through one member."""
        hosts = self.rng.sample(self.world.hosts, len(self.world.hosts))
        rest = hosts[1:]
        middle = len(rest) // 2
        self.cut(self.pairs(rest[:middle], rest[middle:]))

    def do_flap(self) -> None:
        """One link that breaks and comes back, again and again."""
        if len(self.world.hosts) < 2:
            return
        one, other = self.rng.sample(self.world.hosts, 2)
        for number in range(self.rng.randint(2, 8)):
            self.until(number * self.rng.randint(5, 50) * MS, lambda: self.flap(one, other))

    def flap(self, one: Host, other: Host) -> None:
        """FIN without death."""
        world = self.world
        if one.replica is None or other.replica is None or not world.linked[one.index][other.index]:
            return
        world.disconnect(one, other)
        world.lose(one, other, "fin", world.delay(one, other))
        world.lose(other, one, "fin", world.delay(one, other))
        world.connect(one, other, 2 * world.delay(one, other) + self.rng.randrange(20 * MS))

    def do_fin(self) -> None:
        if len(self.world.hosts) > 1:
            self.flap(*self.rng.sample(self.world.hosts, 2))

    def do_latency(self) -> None:
        """One way becomes slow for a while."""
        if len(self.world.hosts) < 2:
            return
        one, other = self.rng.sample(self.world.hosts, 2)
        slow = self.world.slow
        slow[one.index][other.index] = self.rng.choice((3, 10, 50))

        def undo() -> None:
            slow[one.index][other.index] = 1

        self.until(self.outage(), undo)

    # --- users ------------------------------------------------------------------------------------------------------

    def do_node_crash(self) -> None:
        self.rng.choice(self.nodes).crash(self.outage())

    def do_node_pause(self) -> None:
        self.rng.choice(self.nodes).pause(self.outage(), machine=self.rng.random() < 0.5)

    def do_stepdown(self) -> None:
        node = self.rng.choice(self.nodes)
        election = ElectionName(self.rng.choice(node.elections))
        grace = self.world.plan.grace_ms
        successor = self.rng.choice((None, None, self.rng.choice(self.nodes).name))
        request = Stepdown(election, successor, "nemesis", grace_ms=grace, wait_ms=self.rng.choice((0, 500)))
        self.world.ask(self, 0, self.some(), request, None)

    def do_crowd(self) -> None:
        """Many sessions open at once and fall silent together; some stand for an office."""
        self.crowds += 1
        leaders = [host for host in self.world.hosts if host.replica is not None and host.raft.is_serving]
        if self.crowds > crowds_max or not leaders:
            return
        ttl_ms = self.rng.choice((50, 300, 1_000))
        self.world.ask_together(
            self,
            self.rng.choice(leaders),
            {
                number: OpenSession(NodeId(f"x{number}"), ttl_ms, f"{self.rng.getrandbits(64):016x}")
                for number in range(1, self.world.plan.crowd + 1)
            },
        )

    # --- the end ----------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """From now on nothing fails any more: the liveness phase."""
        world = self.world
        world.healed = True
        for row in world.cut:
            row[:] = [False] * len(row)
        for slow in world.slow:
            slow[:] = [1] * len(slow)
        if world.plan.wild:
            for clock in [host.clock for host in world.hosts] + [node.clock for node in self.nodes]:
                clock.step(world.now, 0, 0)
        for host in world.hosts:
            host.stalled_until = 0
            if host.paused_until > world.now:
                world.later(0, world.for_life(host, lambda host=host: world.resume(host)))  # type: ignore[misc]
            elif host.replica is not None and world.plan.wild:
                world.later(0, world.for_life(host, lambda host=host: world.turn(host, [])))  # type: ignore[misc]
            world.revive(host)
        for number, one in enumerate(world.hosts):
            for other in world.hosts[:number]:
                if not (world.linked[one.index][other.index] and world.linked[other.index][one.index]):
                    world.disconnect(one, other)
                    world.connect(one, other, 2 * world.plan.latency_us + 1 * MS)
