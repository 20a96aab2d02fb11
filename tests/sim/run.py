"""One seed from its beginning to its verdict: 15 000 steps with faults, then 5 000 of healing."""

import time
import traceback
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Final

from tenure.base.ids import ElectionName, LogIndex, MemberId
from tenure.leadership.engine import AnyResult, Configure, ElectionConfig
from tenure.raft.entries import Seat
from tests.sim import foundings
from tests.sim.clock import Clock
from tests.sim.healing import Healing
from tests.sim.keepers import KeeperNode
from tests.sim.nemesis import Nemesis
from tests.sim.nodes import Node
from tests.sim.observer import Broken
from tests.sim.operator import Operator
from tests.sim.plan import MS, RHO_PPM, Plan, draw, wild_rate
from tests.sim.resource import Resource
from tests.sim.twins import Twins
from tests.sim.users import Client
from tests.sim.watchers import Watcher
from tests.sim.wild import Wild
from tests.sim.world import Teller, World

FAULTS_STEPS: Final = 15_000
HEALING_STEPS: Final = 5_000
REDERIVE_STEPS: Final = 1_000
WATCHED_US: Final = 10 * MS
"""No watcher looks oftener: what it could see in between, it is told in one batch."""


@dataclass(frozen=True)
class Outcome:
    """What came of a seed. `failure` empty: everything held."""

    seed: int
    steps: int
    """Turns of members, each of which takes whatever came in."""
    simulated_us: int
    trace: int
    operations: int
    granted: int
    elected: int
    expired: int
    failure: str = ""
    core_us: int = 0
    """Time of a core that it took."""
    events: int = 0
    """Delivered events, timers and completions of a disk, for whomever; those that were superseded don't count."""
    seen: dict[str, int] = field(default_factory=dict)


class _Nobody:
    """Asks without waiting."""

    def answered(self, tag: int, result: AnyResult | None) -> None:
        """Nothing follows."""


class Run:
    """The world of a seed with everybody in it."""

    def __init__(self, seed: int, faults_steps: int, healing_steps: int, plan: Plan | None = None) -> None:
        self.plan = plan = plan or draw(seed)
        self.faults_steps, self.healing_steps = faults_steps, healing_steps
        self.world = world = World(seed, plan)
        self.twins = Twins(world)
        rng = Random(seed ^ 0x5EED)
        names = tuple(ElectionName(f"office-{number}") for number in range(plan.elections))
        self.fenced = frozenset(name for name in names[1:] if rng.random() < 0.5)
        world.observer.leases.fenced_elections = frozenset(self.fenced)
        self.resources = {name: Resource(world, name) for name in names}
        self.clients = [Client(world, f"c{number}", Random(rng.getrandbits(64))) for number in range(plan.clients)]
        self.nodes: list[Node] = [
            (KeeperNode if plan.kept[number] else Wild)(
                world,
                f"n{number}",
                Random(rng.getrandbits(64)),
                Clock(self.rate(rng)),
                rng.choice(plan.ttls_ms),
                tuple(sorted(rng.sample(names, rng.randint(1, len(names))))),
                self.resources,
                home=rng.randrange(plan.voters),
            )
            for number in range(plan.nodes)
        ]
        self.watchers = [
            Watcher(
                world, f"w{number}", Random(rng.getrandbits(64)), max(WATCHED_US, int(1 * MS * 1_000 ** rng.random()))
            )
            for number in range(plan.watchers)
        ]
        self.operator = Operator(world, Random(rng.getrandbits(64)))
        self.nemesis = Nemesis(world, self.nodes, self.operator, Random(rng.getrandbits(64)))
        self.look_at = REDERIVE_STEPS
        self.healing = Healing(self, Random(rng.getrandbits(64)))

    def rate(self, rng: Random) -> int:
        """A node's clock."""
        if self.plan.wild:
            return wild_rate(rng)
        return rng.randint(-RHO_PPM, RHO_PPM) if self.plan.rates_ppm[0] else 0

    def found(self) -> None:
        """The cluster: founded by its members under faults, or as if they had been."""
        world, plan = self.world, self.plan
        if not plan.founding:
            seats = tuple(
                Seat(MemberId(f"{number:016x}"), one.name, one.peer)
                for number, one in enumerate(foundings.listed(plan.voters), 1)
            )
            world.seat(seats)
            return
        record, refused = foundings.Found(world.seed, plan).go()
        world.lineage, world.stamp = record.lineage, record.stamp
        assert record.configuration.index == LogIndex(0)
        world.seat(record.configuration.seats)
        world.seen["founded"] += 1
        for host in world.hosts:
            if host.name in refused:
                world.stop(host, "wiped")

    def go(self) -> None:
        """Everything; raises at the first thing that is wrong."""
        world = self.world
        self.found()
        for host in world.hosts:
            world.later(host.index * 100, partial(world.revive, host))
        for name in sorted(self.fenced):
            request = Configure(name, ElectionConfig(mode="fenced"))
            world.later(500 * MS, partial(world.asking.ask, _Nobody(), 0, world.hosts[0], request))
        for client in self.clients:
            world.later(400 * MS, client.wake)
        for node in self.nodes:
            world.later(400 * MS, node.begin)
        for watcher in self.watchers:
            world.later(400 * MS, watcher.wake)
        world.later(300 * MS, self.nemesis.wake)
        self.steps(self.faults_steps)
        self.nemesis.heal()
        end = self.faults_steps + self.healing_steps
        if world.observer.seats.stranded():
            world.seen["stranded"] += 1
            self.steps(end)
        else:
            self.healing.go(end)
        for node in self.nodes:
            node.deeds.abandon()
        self.twins.finish()

    def steps(self, limit: int) -> None:
        """Go on, with a look at everything anew each thousand steps."""
        world = self.world
        while world.steps < limit:
            world.run_until_step(min(limit, self.look_at))
            if world.steps >= self.look_at:
                self.look_at = world.steps + REDERIVE_STEPS
                self.twins.look()


def failed_outcome(seed: int, failure: str) -> Outcome:
    """The outcome of a seed of which only its failure is known."""
    return Outcome(seed, 0, 0, 0, 0, 0, 0, 0, failure)


def run(
    seed: int,
    faults_steps: int = FAULTS_STEPS,
    healing_steps: int = HEALING_STEPS,
    teller: Teller | None = None,
) -> Outcome:
    """Run a seed; what fails is in the outcome, with the way to run it again."""
    began = time.process_time()
    simulation = Run(seed, faults_steps, healing_steps)
    world = simulation.world
    world.teller = teller
    if teller is not None:
        teller.begin(world)
    failure = ""
    try:
        simulation.go()
    except (Broken, foundings.Unfounded) as error:
        failure = str(error)
    except Exception:  # noqa: BLE001 - an assertion of the code under test is a finding like any other
        failure = traceback.format_exc(limit=-6)
    observer = world.observer
    return Outcome(
        seed,
        world.steps,
        world.now,
        world.trace,
        len(observer.history),
        observer.leases.granted,
        observer.takeovers,
        observer.leases.expired,
        failure,
        int((time.process_time() - began) * 1e6),
        world.events - world.superseded,
        dict(world.seen),
    )
