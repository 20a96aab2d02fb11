"""Who breaks things, one at a time, as the plan's weights say; and who mends them in the end.

Each kind of fault is one `do_…`; `seen` counts them, so that a soak can tell what it has exercised.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tenure.base.ids import NodeId
from tenure.leadership.engine import AnyResult, Campaign, OpenSession, SessionOpened, Stepdown
from tests.sim import cutting, foundings
from tests.sim.cutting import Cutting
from tests.sim.disk import Disk
from tests.sim.host import Host
from tests.sim.nodes import Node
from tests.sim.operator import Operator
from tests.sim.plan import HOUR, MS, SECOND, crowds_max
from tests.sim.world import World

if TYPE_CHECKING:
    from random import Random


@dataclass
class Nemesis:
    """Strikes every now and then until the world is healed."""

    world: World
    nodes: list[Node]
    operator: Operator
    rng: "Random"
    crowds: int = 0

    def __post_init__(self) -> None:
        self.cutting = Cutting(self.world, self.rng, self.until)
        self.kinds = [(kind, weight) for kind, weight in self.world.plan.weights.items() if weight]
        self.total = sum(weight for _, weight in self.kinds)

    def wake(self) -> None:
        """Strike, and plan the next."""
        world = self.world
        if world.healed:
            return
        if self.total:
            draw = self.rng.randrange(self.total)
            for kind, weight in self.kinds:
                draw -= weight
                if draw < 0:
                    world.seen[f"fault {kind}"] += 1
                    world.tell("nemesis", kind)
                    getattr(self, f"do_{kind}")()
                    break
        world.later(int(self.rng.expovariate(1 / world.plan.nemesis_us)), self.wake)

    def answered(self, tag: int, result: AnyResult | None) -> None:
        """What comes of its requests doesn't matter; a few of a crowd campaign, and are never heard again."""
        if isinstance(result, SessionOpened) and tag % 20 == 0:
            election = self.rng.choice(self.rng.choice(self.nodes).elections)
            self.world.asking.ask(self, 0, self.some(), Campaign(result.session, election))

    def outage(self) -> int:
        """How long this one lasts."""
        return 1 + int(self.rng.expovariate(1 / self.world.plan.outage_us))

    def longer(self, most: int) -> int:
        """How long it lasts when it sometimes lasts much longer."""
        return min(self.outage() * self.rng.choice((1, 1, 10)), most)

    def some(self) -> Host:
        """A member; the leader half of the time, because there it hurts most."""
        leaders = [host for host in self.hosts() if host.led_last and host.replica is not None]
        if leaders and self.rng.random() < 0.5:
            return self.rng.choice(leaders)
        return self.rng.choice(self.hosts())

    def hosts(self) -> list[Host]:
        """Whom it may strike: everybody but those who were removed, or were never taken in."""
        return [host for host in self.world.hosts if host.joined and host.gone != "removed"]

    def others(self, host: Host) -> list[Host]:
        """All but one."""
        return [other for other in self.hosts() if other is not host]

    def two(self) -> tuple[Host, Host] | None:
        """Two members, if there are two."""
        if len(self.hosts()) < 2:
            return None
        one, other = self.rng.sample(self.hosts(), 2)
        return one, other

    def until(self, micros: int, undo: Callable[[], None]) -> None:
        """Undo it after a while, unless everything was mended before."""
        self.world.later(micros, partial(self.undo, undo))

    def undo(self, undo: Callable[[], None]) -> None:
        """The while is over."""
        if not self.world.healed:
            undo()

    # --- members ----------------------------------------------------------------------------------------------------

    def crash(self, host: Host) -> None:
        """It dies; what it was writing is there or lost."""
        self.world.crash(host, keep=self.rng.random() < 0.5)

    def do_crash(self) -> None:
        host = self.some()
        self.crash(host)
        self.until(self.outage(), partial(self.world.revive, host))

    def do_crash_all(self) -> None:
        for host in self.hosts():
            self.crash(host)
            self.until(self.outage(), partial(self.world.revive, host))

    def do_storm(self) -> None:
        """Members crash again and again, also while they are coming back."""
        for _ in range(self.rng.randint(5, 20)):
            host = self.rng.choice(self.hosts())
            when = self.rng.randrange(self.outage())
            self.until(when, partial(self.crash, host))
            self.until(when + self.rng.randrange(100 * MS), partial(self.world.revive, host))
        for host in self.hosts():
            self.until(5 * self.world.plan.outage_us, partial(self.world.revive, host))

    def do_pause(self) -> None:
        """SIGSTOP: the kernel may still finish what the disk's thread had asked for."""
        self.world.pause(self.some(), self.longer(60 * SECOND), disk_stops=self.rng.random() < 0.5)

    def do_loop_stall(self) -> None:
        """The loop alone stands still; the disk's thread works on."""
        self.world.pause(self.some(), self.rng.randint(1 * MS, 100 * MS) + self.longer(30 * SECOND) // 10)

    def do_suspend(self) -> None:
        """A virtual machine is suspended: its clock stands still too."""
        self.world.pause(self.some(), self.outage(), frozen=True, disk_stops=True)

    def do_clock_step(self) -> None:
        """CLOCK_BOOTTIME jumps ahead by more than has passed while the process doesn't run."""
        self.world.pause(self.some(), self.outage(), jump=self.outage() * self.rng.choice((1, 10)), disk_stops=True)

    def do_realtime(self) -> None:
        """Somebody sets a wall clock: nothing may depend on it."""
        step = self.rng.randint(-HOUR, HOUR)
        if self.rng.random() < 0.5:
            self.rng.choice(self.nodes).step_realtime(step)
        else:
            self.rng.choice(self.hosts()).clock.real_us += step

    # --- disks ------------------------------------------------------------------------------------------------------

    def do_stall(self) -> None:
        host = self.some()
        host.stalled_until = self.world.now + self.longer(30 * SECOND)

    def do_stall_all(self) -> None:
        """Every disk is slow: then another leader would be no better (P4.1)."""
        for host in self.hosts():
            host.stalled_until = self.world.now + self.longer(30 * SECOND)

    def do_full(self) -> None:
        host = self.some()
        host.full_until = self.world.now + self.longer(30 * SECOND)

    def do_eio(self) -> None:
        """The next write fails, if there is one before all is mended."""
        self.some().eio = True

    def do_flip(self) -> None:
        """A bit flips in what was durable, and the process ends: its store says `Corrupt`, it doesn't start again."""
        host = self.some()
        if host.gone or host.suspect or not self.world.observer.seats.may_lose(host):
            return
        self.crash(host)
        self.world.stop(host, "corrupt")

    def do_rollback(self) -> None:
        """A disk is brought back from a copy, or loses its last write in silence."""
        host = self.some()
        copy = host.disk.copy()
        delay = self.outage() if self.rng.random() < 0.5 else self.rng.randint(1, 50) * MS
        self.until(delay, partial(self.roll_back, host, copy))

    def roll_back(self, host: Host, copy: Disk) -> None:
        """Only where P1.3 promises that it is noticed: each quorum − 1 others have one who knows, durably, of more."""
        world = self.world
        if host.gone or host.suspect or not world.observer.seats.may_lose(host) or copy.number >= host.disk.number:
            return
        voters, seats = world.voters(), world.observer.seats
        stands = not self.operator.asked and len(seats.in_force()) == 1 and copy.changes() == host.disk.changes()
        if host not in voters or not stands:
            return  # quorums that change are not what P1.3 speaks of
        others = [other for other in voters if other is not host]
        unaware = [other for other in others if other.gone or other.disk.known_batches.get(host.id, 0) <= copy.number]
        if len(unaware) >= len(voters) // 2:
            return
        self.crash(host)
        copy.clean = False
        host.had, host.disk = host.disk, copy
        host.state_seen, host.suspect = copy.hard_state, True
        world.tell(host.name, f"its disk is back at batch {copy.number}")
        world.revive(host)

    def do_wipe(self) -> None:
        """A data directory is emptied and the member started with the same command: refused (S22)."""
        host = self.some()
        if host.gone or host.suspect or not self.world.observer.seats.may_lose(host):
            return
        self.crash(host)
        if host.index < self.world.plan.voters:
            foundings.refused_when_wiped(self.world, host, self.rng)
        self.world.stop(host, "wiped")

    # --- network ----------------------------------------------------------------------------------------------------

    def do_isolate(self) -> None:
        host = self.some()
        self.cutting.cut(cutting.pairs([host], self.others(host)), self.outage())

    def do_halves(self) -> None:
        self.cutting.cut(cutting.halves(self.hosts(), self.rng), self.outage())

    def do_one_way(self) -> None:
        host = self.some()
        others = [other for other in self.others(host) if self.rng.random() < 0.7]
        ways = [(host, other) for other in others]
        self.cutting.cut(ways if self.rng.random() < 0.5 else [(other, one) for one, other in ways], self.outage())

    def do_bridge(self) -> None:
        self.cutting.cut(cutting.bridge(self.hosts(), self.rng), self.outage())

    def do_chain(self) -> None:
        self.cutting.cut(cutting.chain(self.hosts(), self.rng), self.outage())

    def do_flap(self) -> None:
        two = self.two()
        if two is not None:
            self.cutting.flap_often(*two)

    def do_flap_all(self) -> None:
        """Every link of one member."""
        host = self.some()
        for other in self.others(host):
            self.cutting.flap_often(host, other)

    def do_fin(self) -> None:
        two = self.two()
        if two is not None:
            self.cutting.flap(*two)

    def do_latency(self) -> None:
        """One way becomes slow for a while."""
        two = self.two()
        if two is None:
            return
        way = two[0].ways[two[1].index]
        way.slow = self.rng.choice((3, 10, 50))

        def undo() -> None:
            way.slow = 1

        self.until(self.outage(), undo)

    # --- users ------------------------------------------------------------------------------------------------------

    def do_transfer(self) -> None:
        """To the best, to a laggard, to one who is dead or was never there."""
        names = [host.name for host in self.hosts()]
        successor = self.rng.choice((None, None, self.rng.choice(names), self.rng.choice(names), "nobody"))
        self.world.asking.ask(self, 0, self.some(), Stepdown(successor=successor))

    def do_transfer_twice(self) -> None:
        """A second one while the first is under way, from somewhere else."""
        self.do_transfer()
        self.until(self.rng.randrange(1, 4 * self.world.plan.latency_us + 2), self.do_transfer)

    def do_node_crash(self) -> None:
        self.rng.choice(self.nodes).crash(self.outage())

    def do_node_pause(self) -> None:
        self.rng.choice(self.nodes).pause(self.outage(), machine=self.rng.random() < 0.5)

    def do_node_clock(self) -> None:
        """CLOCK_BOOTTIME of a node jumps ahead while its process doesn't run."""
        self.rng.choice(self.nodes).pause(self.outage(), machine=False, jump=self.outage())

    def do_stepdown(self) -> None:
        election = self.rng.choice(self.rng.choice(self.nodes).elections)
        grace = self.world.plan.grace_ms
        successor = self.rng.choice((None, None, self.rng.choice(self.nodes).name))
        request = Stepdown(election, successor, "nemesis", grace_ms=grace, wait_ms=self.rng.choice((0, 500)))
        self.world.asking.ask(self, 0, self.some(), request)

    def do_crowd(self) -> None:
        """Many sessions open at once and fall silent together; some stand for an office."""
        self.crowds += 1
        leaders = [host for host in self.hosts() if host.is_serving]
        if self.crowds > crowds_max or not leaders:
            return
        ttl_ms = self.rng.choice((50, 300, 1_000))
        self.world.asking.ask_together(
            self,
            self.rng.choice(leaders),
            {
                number: OpenSession(NodeId(f"x{number}"), ttl_ms, f"{self.rng.getrandbits(64):016x}")
                for number in range(1, self.world.plan.crowd + 1)
            },
        )

    # --- members by request -----------------------------------------------------------------------------------------

    def do_member_add(self) -> None:
        self.operator.change("add")

    def do_member_promote(self) -> None:
        self.operator.change("promote")

    def do_member_demote(self) -> None:
        self.operator.change("demote")

    def do_member_remove(self) -> None:
        self.operator.change("remove")

    def do_member_replace(self) -> None:
        self.operator.change("replace")

    def do_member_amend(self) -> None:
        self.operator.change("amend")

    # --- the end ----------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """From now on nothing fails any more: the liveness phase. Who was lost for good stays out."""
        world, network = self.world, self.world.network
        world.tell("nemesis", "mends everything")
        world.healed, world.boundary, world.gathers, world.late_us = True, 0.0, False, 0
        network.heal()
        world.asking.heal()
        if world.plan.wild:
            for clock in [host.clock for host in world.hosts] + [node.clock for node in self.nodes]:
                clock.step(world.now, 0, 0)
            for node in self.nodes:
                node.clock_changed()
        for host in world.hosts:
            host.stalled_until = host.full_until = 0
            host.eio = False
        for host in world.hosts:
            if host.paused_until > world.now:
                host.paused_until = world.now
                world.resume((host, host.life))
            elif host.replica is not None:
                self.rouse(host)
            world.revive(host)
        for number, one in enumerate(world.hosts):
            for other in world.hosts[:number]:
                if not network.linked(one, other) or network.clogged(one, other):
                    network.renew(one, other)

    def rouse(self, host: Host) -> None:
        """What its busy loop had left lying is taken; its clock may run at another rate now."""
        host.turn_at = 0
        self.world.arm_anew(host)
        self.world.take_in(host)
