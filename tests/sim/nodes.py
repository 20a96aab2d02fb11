"""Application nodes: processes, one after the other, that stand for elections and work under what they are granted.

Common to all: clocks, faults, and the deeds of a leader, each allowed by its own check alone. How a session is
kept, and what the check is, differs: by a loop of its own (`wild`), or by the SDK's keeper (`keepers`).
"""

from dataclasses import dataclass, field
from functools import partial
from random import Random

from tenure.base.ids import ElectionName
from tenure.base.instants import Instant
from tenure.leadership.engine import (
    AnyRequest,
    AnyResult,
    Keepalive,
    Keyed,
    KvGet,
    KvPut,
    Lease,
    Origin,
    Validate,
)
from tests.sim import (
    world as worlds,
)  # first: compiled, an annotation is a value, and `resource` names the world's class
from tests.sim.clock import MILLION, Clock
from tests.sim.deeds import DEEDS, Deeds
from tests.sim.host import Action, Host
from tests.sim.leases import Validity
from tests.sim.plan import SECOND
from tests.sim.resource import Resource

SLEPT_AFTER_CHECK: int = 20
"""Per thousand: how often a process is stopped between its check and its write."""
UNCHECKED: float = 0.05
"""How often who doesn't lead any more writes all the same."""
CURIOUS: float = 0.05
"""How often a leader reads what it wrote, or asks whether its token counts."""
RESTS: float = 0.9
"""How often a leader writes nothing in the end: who comes round every few milliseconds can ask for more than a slow
disk and short queues bear, for ever.
"""
LATE: float = 0.02
"""How many writes come to the guarded resource after everything that an outage takes."""


@dataclass
class Node:
    """One node and its processes. The first methods are what each kind does in its own way."""

    world: worlds.World
    name: str
    rng: Random
    clock: Clock
    ttl_ms: int
    elections: tuple[ElectionName, ...]
    resources: dict[ElectionName, Resource]
    process: int = 0
    home: int = 0
    asked: dict[int, tuple[AnyRequest, int]] = field(default_factory=dict)
    """What was asked, and until when its answer counts."""
    tag: int = 0
    down: bool = False
    paused_until: int = 0
    frozen: bool = False
    looks: bool = True
    """It looks at both clocks before each check; else it believes what it was told last."""
    writes: int = 0
    had: dict[str, Lease] = field(default_factory=dict)
    """The last lease of each election that any of its processes held: tokens outlive them, in frames and in queues."""

    def __post_init__(self) -> None:
        self.deeds = Deeds(self.world, self.name)

    # --- what each kind does ----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A process begins, or goes on after it stood still: first of all it looks at the clocks."""
        raise NotImplementedError

    def look_at_clocks(self) -> None:
        """As the SDK does before each check (P3.7)."""
        raise NotImplementedError

    def leading(self, election: ElectionName) -> Lease | None:
        """What its own check lets it act under now."""
        raise NotImplementedError

    def validity(self, election: ElectionName) -> Validity | None:
        """Until when, in true time, its own check will pass if nothing more is heard."""
        raise NotImplementedError

    def ended(self) -> None:
        """The process is gone, and with it all that it believed."""
        raise NotImplementedError

    def replied(self, request: AnyRequest, result: AnyResult) -> None:
        """An answer to what was asked (`ask`)."""
        raise NotImplementedError

    def clock_changed(self) -> None:
        """Its clock runs at another rate from now on."""

    # --- time -------------------------------------------------------------------------------------------------------

    def local(self) -> Instant:
        """The node's own clock."""
        return self.clock.at(self.world.now)

    def real_us(self) -> int:
        """CLOCK_REALTIME, kept right by somebody: after a pause of the machine it is ahead of CLOCK_BOOTTIME."""
        return 1_700_000_000 * SECOND + self.world.now + self.clock.real_us

    def for_process(self, action: Action) -> Action:
        """`action`, if this process still lives then."""
        process = self.process

        def run() -> None:
            if self.process == process and not self.down:
                action()

        return run

    # --- a leader's deeds -------------------------------------------------------------------------------------------

    def work(self) -> None:
        """What a leader does: guarded writes, allowed by its own check alone; first a look at what was left to it."""
        for election in self.elections:
            lease = self.leading(election)
            if lease is None:
                self.unchecked(election)
                continue
            if self.world.resting and self.rng.random() < RESTS:
                continue
            before = self.had.get(election)
            if before is None or before.term != lease.term:
                self.had[election] = lease
                self.ask(KvGet(f"work/{election}"), 1 * SECOND)
            elif self.rng.random() < CURIOUS:
                self.look(election, lease)
            self.writes += 1
            if not self.world.healed and self.rng.random() * 1000 < SLEPT_AFTER_CHECK:
                self.world.seen["fault slept after check"] += 1
                micros = 1 + int(self.rng.expovariate(1 / self.world.plan.outage_us))
                self.world.later(micros, self.for_process(partial(self.write, election, lease, self.writes)))
                self.pause(micros, machine=self.rng.random() < 0.3)
                return
            self.write(election, lease, self.writes)

    def write(self, election: ElectionName, lease: Lease, number: int) -> None:
        """To the fenced keys of the cluster and to the guarded resource: what the lease said when it was checked."""
        key, value = f"work/{election}", f'"{self.name}.{self.process}-{number}"'.encode()
        revision = self.deeds.seen.get(key, 0) if self.rng.random() < 0.2 else None
        origin = Keyed(self.name, f"{self.name}-w{number}", "same") if self.rng.random() < 0.2 else None
        self.ask(KvPut(key, value, election, lease.term, revision), 1 * SECOND, origin)
        resource, world = self.resources[election], self.world
        for _ in range(1 if self.rng.random() < 0.95 else 2):
            delay = world.asking.delay()
            if self.rng.random() < LATE:
                delay += int(self.rng.expovariate(1 / world.plan.outage_us))
            world.later(delay, partial(resource.write, self.name, lease.term, lease.fence_token))

    def unchecked(self, election: ElectionName) -> None:
        """Who asks nobody whether it leads, and what a process has left behind that died long ago: if somebody else has
        led since, the cluster and the resource must refuse it, whatever the clocks say (S18).
        """
        lease = self.had.get(election)
        if lease is None or self.rng.random() >= UNCHECKED:
            return
        self.world.seen["fault wrote unchecked"] += 1
        if self.rng.random() < 0.5:
            self.look(election, lease)
        self.writes += 1
        self.write(election, lease, self.writes)

    def look(self, election: ElectionName, lease: Lease) -> None:
        """Reads what stands there, or lets its token be checked, as a resource does that asks any member."""
        request: AnyRequest = KvGet(f"work/{election}")
        if self.rng.random() < 0.5:
            request = Validate(election, lease.term)
        self.ask(request, 1 * SECOND, at=self.rng.choice(self.world.seated()))

    # --- requests ---------------------------------------------------------------------------------------------------

    def ask(self, request: AnyRequest, patience: int, origin: Origin | None = None, at: Host | None = None) -> None:
        """Ask the home member, or another; the request is forgotten when patience is over."""
        world = self.world
        self.tag = tag = self.tag + 1
        self.asked[tag] = (request, world.now + patience)
        kind = type(request)
        if kind in DEEDS:
            self.deeds.began(tag, request, origin)
        elif origin is None and kind is not Keepalive and self.rng.random() < 0.5:
            origin = Keyed(self.name, f"{self.name}-{self.process}-{tag}", "same")
        world.asking.ask(self, tag, at or world.hosts[self.home], request, origin)
        if origin is not None and not world.healed and self.rng.random() < 0.1:
            world.asking.ask(self, tag, self.rng.choice(world.seated()), request, origin)

    def overdue(self) -> None:
        """Patience is over with what was asked; what still matters is asked anew."""
        now = self.world.now
        for tag in [tag for tag, (_, until) in self.asked.items() if until <= now]:
            del self.asked[tag]
            self.deeds.ended(tag, None)

    def answered(self, tag: int, result: AnyResult | None) -> None:
        """An answer reaches the process, if it still lives and runs."""
        if self.down:
            return
        if self.paused_until > self.world.now:
            self.world.at(self.paused_until, partial(self.answered, tag, result))
            return
        asked = self.asked.pop(tag, None)
        if asked is None:
            return
        self.deeds.ended(tag, result)
        if result is None:
            self.home = self.rng.choice(self.world.seated()).index
            return
        self.replied(asked[0], result)

    def publish(self) -> None:
        """Tell the observer until when this process would pass its own check (S15)."""
        runs = not self.down and not self.frozen
        if runs and self.looks:
            self.look_at_clocks()
        leases = self.world.observer.leases
        for election in self.elections:
            leases.may_hold(election, self.name, self.validity(election) if runs else None)

    # --- faults -----------------------------------------------------------------------------------------------------

    def crash(self, outage_us: int) -> None:
        """The process dies; a new one begins later, with a session of its own (P3.6)."""
        if self.down:
            return
        self.down = True
        self.asked.clear()
        self.deeds.abandon()
        self.ended()
        self.publish()
        self.world.later(outage_us, self.restart)

    def restart(self) -> None:
        """A new process."""
        self.down = self.frozen = False
        self.process += 1
        self.paused_until = 0
        self.begin()

    def pause(self, micros: int, *, machine: bool, jump: int = 0) -> None:
        """The process stands still. With `machine`, its clock too, and only REALTIME shows it afterwards (P3.7); with
        `jump` CLOCK_BOOTTIME is ahead by so much when it goes on.
        """
        if self.down or self.paused_until > self.world.now:
            return
        self.paused_until = self.world.now + micros + 1  # what comes at the very end waits until the clock is set
        if machine:
            self.frozen = True
            self.publish()
        self.world.later(micros, self.for_process(partial(self.resume, micros, machine=machine, jump=jump)))

    def step_realtime(self, micros: int) -> None:
        """Somebody sets CLOCK_REALTIME. Read once before anything else happens: who suspends a machine and sets its
        clock back by as much at the same moment leaves nothing to see, and only guards help (P3.7).
        """
        if self.frozen:
            return
        self.clock.real_us += micros
        if not self.down:
            self.look_at_clocks()
        self.publish()

    def resume(self, micros: int, *, machine: bool, jump: int) -> None:
        """It goes on; the first thing that the keeper looks at is the time."""
        self.paused_until = 0
        if machine:
            self.clock.step(self.world.now, -(micros * self.clock.rate // MILLION))
            self.frozen = False
        elif jump:
            self.clock.step(self.world.now, jump)
        self.begin()
