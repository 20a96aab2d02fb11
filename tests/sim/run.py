"""One seed from its beginning to its verdict: 15 000 steps with faults, then 5 000 of healing."""

import traceback
from dataclasses import dataclass, field
from random import Random
from typing import Final

from tenure.base.ids import ElectionName
from tenure.leadership.engine import AnyResult, Configure, ElectionConfig
from tests.sim.nemesis import Nemesis
from tests.sim.observer import Broken
from tests.sim.plan import RHO_PPM, draw, wild_rate
from tests.sim.users import HEALED_PATIENCE_US, Client, Node
from tests.sim.world import Clock, User, World

FAULTS_STEPS: Final = 15_000
HEALING_STEPS: Final = 5_000
REDERIVE_STEPS: Final = 1_000
QUIET_STEPS_MAX: Final = 20_000
"""How many steps more the last operations may take before that is a failure of its own …"""
QUIET_PATIENCES: Final = 3
"""… if a client has had the time to lose its patience so often."""


@dataclass(frozen=True)
class Outcome:
    """What came of a seed. `failure` empty: everything held."""

    seed: int
    steps: int
    simulated_us: int
    trace: int
    operations: int
    granted: int
    elected: int
    expired: int
    failure: str = ""
    seen: dict[str, int] = field(default_factory=dict)


class _Nobody:
    """Asks without waiting."""

    def answered(self, tag: int, result: AnyResult | None) -> None:
        """Nothing follows."""

    def wake(self) -> None:
        """Never."""


class Run:
    """The world of a seed with everybody in it."""

    def __init__(self, seed: int, faults_steps: int, healing_steps: int) -> None:
        plan = draw(seed)
        self.world = world = World(seed, plan)
        self.faults_steps, self.healing_steps = faults_steps, healing_steps
        rng = Random(seed ^ 0x5EED)
        names = tuple(f"office-{number}" for number in range(plan.elections))
        self.fenced = frozenset(name for name in names[1:] if rng.random() < 0.5)
        world.observer.fenced_elections = self.fenced
        self.clients = [Client(world, f"c{number}", Random(rng.getrandbits(64))) for number in range(plan.clients)]
        self.nodes = [
            Node(
                world,
                f"n{number}",
                Random(rng.getrandbits(64)),
                Clock(self.rate(rng)),
                rng.choice(plan.ttls_ms),
                tuple(sorted(rng.sample(names, rng.randint(1, len(names))))),
                home=rng.randrange(plan.voters),
            )
            for number in range(plan.nodes)
        ]
        self.nemesis = Nemesis(world, self.nodes, Random(rng.getrandbits(64)))

    def rate(self, rng: Random) -> int:
        """A node's clock."""
        plan = self.world.plan
        if plan.wild:
            return wild_rate(rng)
        return rng.randint(-RHO_PPM, RHO_PPM) if plan.rates_ppm[0] else 0

    def go(self) -> None:
        """Everything; raises at the first thing that is wrong."""
        world = self.world
        for host in world.hosts:
            world.later(host.index * 100, lambda host=host: world.revive(host))  # type: ignore[misc]
        for name in sorted(self.fenced):
            request = Configure(ElectionName(name), ElectionConfig(mode="fenced"))
            world.later(500_000, lambda request=request: world.ask(_Nobody(), 0, world.hosts[0], request, None))  # type: ignore[misc]
        users: list[User] = [*self.clients, *self.nodes]
        for user in users:
            world.later(400_000, user.wake)
        world.later(300_000, self.nemesis.wake)
        self.steps(self.faults_steps)
        self.nemesis.heal()
        self.steps(self.faults_steps + self.healing_steps * 3 // 5)
        for client in self.clients:
            client.stopped = True
        self.steps(self.faults_steps + self.healing_steps)
        self.come_to_rest()
        world.observer.finish()

    def steps(self, limit: int) -> None:
        """Go on, with a look at everything anew each thousand steps."""
        world = self.world
        while world.steps < limit:
            world.run_until_step(min(limit, (world.steps // REDERIVE_STEPS + 1) * REDERIVE_STEPS))
            world.observer.rederive()

    def come_to_rest(self) -> None:
        """L1, L2, L4: a leader, no operation open, everybody caught up."""
        world = self.world
        end = world.steps + QUIET_STEPS_MAX
        # Who asked a member that died waits for its own patience; TTLs of 20 ms make 10 000 steps of a second.
        end_us = world.now + QUIET_PATIENCES * max(world.plan.patience_us, HEALED_PATIENCE_US)
        while (text := self.unrest()) and (world.steps < end or (world.now < end_us and world.steps < 20 * end)):
            world.run_until_step(world.steps + 200)
        world.observer.require(not text, "liveness", text)

    def unrest(self) -> str:
        """What is still missing."""
        world = self.world
        serving = [host for host in world.hosts if host.raft.is_serving]
        if len(serving) != 1:
            return f"{len(serving)} members serve as leader: " + ", ".join(
                f"{host.name} {host.raft.role} t{host.raft.term}" for host in world.hosts
            )
        if any(client.pending is not None for client in self.clients):
            return f"operations without an end: {[client.pending for client in self.clients]}"
        top = world.observer.commit_top
        behind = {host.name: host.raft.commit for host in world.hosts if host.raft.commit < top - 50}
        return f"not caught up with {top}: {behind}" if behind else ""


def failed_outcome(seed: int, failure: str) -> Outcome:
    """The outcome of a seed of which only its failure is known."""
    return Outcome(seed, 0, 0, 0, 0, 0, 0, 0, failure)


def run(seed: int, faults_steps: int = FAULTS_STEPS, healing_steps: int = HEALING_STEPS) -> Outcome:
    """Run a seed; what fails is in the outcome, with the way to run it again."""
    simulation = Run(seed, faults_steps, healing_steps)
    failure = ""
    try:
        simulation.go()
    except Broken as error:
        failure = str(error)
    except Exception:  # noqa: BLE001 - an assertion of the code under test is a finding like any other
        failure = traceback.format_exc(limit=-6)
    world = simulation.world
    observer = world.observer
    return Outcome(
        seed,
        world.steps,
        world.now,
        world.trace,
        len(observer.history),
        observer.granted,
        observer.takeovers,
        observer.expired,
        failure,
        dict(world.seen),
    )
