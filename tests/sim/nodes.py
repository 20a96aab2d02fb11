"""Application nodes: they keep a session, stand for elections, and ask the SDK's own `Holder` whether they lead."""

from dataclasses import dataclass, field
from functools import partial
from random import Random

from tenure.base.ids import ElectionName, NodeId, SessionId
from tenure.base.instants import Instant
from tenure.leadership.engine import (
    AnyRequest,
    AnyResult,
    Campaign,
    Campaigning,
    CloseSession,
    Disconnected,
    Keepalive,
    Kept,
    Keyed,
    KvGet,
    KvPut,
    Lease,
    OpenSession,
    Origin,
    Refused,
    Release,
    SessionOpened,
    Validate,
    Withdraw,
    Withdrawn,
)
from tenure.leadership.holder import Holder
from tests.sim.clock import MILLION, Clock
from tests.sim.deeds import DEEDS, Deeds
from tests.sim.host import Action, Host
from tests.sim.leases import Validity
from tests.sim.plan import MS, SECOND
from tests.sim.resource import Resource
from tests.sim.world import World

SLEPT_AFTER_CHECK: int = 20
"""Per thousand: how often a process is stopped between its check and its write."""
UNCHECKED: float = 0.05
"""How often who doesn't lead any more writes all the same."""
CURIOUS: float = 0.05
"""How often a leader reads what it wrote, or asks whether its token counts."""
LATE: float = 0.02
"""How many writes come to the guarded resource after everything that an outage takes."""


@dataclass
class Node:
    """One node and its processes, one after the other."""

    world: World
    name: str
    rng: Random
    clock: Clock
    ttl_ms: int
    elections: tuple[ElectionName, ...]
    resources: dict[ElectionName, Resource]
    process: int = 0
    session: SessionId | None = None
    holder: Holder | None = None
    standing: set[str] = field(default_factory=set)
    unanswered: int = 0
    home: int = 0
    asked: dict[int, tuple[AnyRequest, int]] = field(default_factory=dict)
    """What was asked, and until when its answer counts."""
    tag: int = 0
    down: bool = False
    paused_until: int = 0
    frozen: bool = False
    writes: int = 0
    wakes: int = 0
    withdrawing: dict[str, Keyed] = field(default_factory=dict)
    had: dict[str, Lease] = field(default_factory=dict)
    """The last lease of each election that any of its processes held: tokens outlive them, in frames and in queues."""

    def __post_init__(self) -> None:
        self.deeds = Deeds(self.world, self.name)

    # --- time -------------------------------------------------------------------------------------------------------

    def local(self) -> Instant:
        """The node's own clock."""
        return self.clock.at(self.world.now)

    def real_us(self) -> int:
        """CLOCK_REALTIME, kept right by somebody: after a pause of the machine it is ahead of CLOCK_BOOTTIME."""
        return 1_700_000_000 * SECOND + self.world.now + self.clock.real_us

    def wake(self) -> None:
        """The keeper's loop."""
        if self.down or self.paused_until > self.world.now:
            return
        self.wakes += 1
        self.act()
        wait = self.ttl_ms * MS // 5
        self.world.post(self.world.now + wait // 2 + int(self.rng.random() * wait // 2), self.woken, self.wakes)

    def woken(self, wakes: int) -> None:
        """The keeper's loop comes round, if nothing else has woken it meanwhile."""
        if self.wakes == wakes:
            self.wake()

    def for_process(self, action: Action) -> Action:
        """`action`, if this process still lives then."""
        process = self.process

        def run() -> None:
            if self.process == process and not self.down:
                action()

        return run

    def act(self) -> None:
        """One thing after another: session, candidacies, keepalive, work."""
        now = self.world.now
        for tag in [tag for tag, (_, until) in self.asked.items() if until <= now]:
            del self.asked[tag]  # patience is over; what still matters is asked anew
            self.deeds.ended(tag, None)
        session, holder = self.session, self.holder
        if session is None or holder is None:
            if not any(type(request) is OpenSession for request, _ in self.asked.values()):
                self.ask(OpenSession(NodeId(self.name), self.ttl_ms, f"{self.rng.getrandbits(64):016x}"), 1 * SECOND)
            return
        holder.realtime(self.real_us(), self.local())
        for election in self.elections:
            if election in self.withdrawing or election not in self.standing:
                self.stand(session, election)
        self.keepalive(session, holder)
        self.work(holder)
        self.whim(session, holder)

    def stand(self, session: SessionId, election: ElectionName) -> None:
        """Campaign until that is answered; a withdrawal that has begun is repeated, under its key, until it is (P9)."""
        for request, _ in self.asked.values():
            if isinstance(request, Campaign | Withdraw) and request.election == election:
                return
        if election in self.withdrawing:
            self.ask(Withdraw(session, election), 1 * SECOND, self.withdrawing[election])
        else:
            self.ask(Campaign(session, election, self.rng.randint(0, 2)), 1 * SECOND)

    def keepalive(self, session: SessionId, holder: Holder) -> None:
        """A fresh number for each transmission (P3.2). After silence, another member."""
        if self.unanswered > 2:
            self.home = self.rng.choice(self.world.seated()).index
            self.unanswered = 0
        number = holder.transmit(self.local())
        self.unanswered += 1
        self.ask(Keepalive(session, number), self.ttl_ms * MS)

    def work(self, holder: Holder) -> None:
        """What a leader does: guarded writes, allowed by its own check alone; first a look at what was left to it."""
        for election in self.elections:
            lease = holder.lease(election)
            if lease is None or holder.check(election, self.local()) != "valid":
                self.unchecked(election)
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

    def whim(self, session: SessionId, holder: Holder) -> None:
        """Now and then it gives up what it has; validity ends before the request leaves (P3.7)."""
        if self.world.healed or self.rng.random() > 0.03:
            return
        election = self.rng.choice(self.elections)
        lease = holder.lease(election)
        match self.rng.randrange(3):
            case 0 if lease is not None:
                holder.end(election, lease.term)
                self.publish()
                self.ask(Release(session, election, lease.term), 1 * SECOND)
            case 1 if election in self.standing:
                holder.withdrawing(election)
                self.publish()
                self.standing.discard(election)
                self.tag += 1
                self.withdrawing[election] = Keyed(self.name, f"{self.name}-{self.process}-{self.tag}", "same")
            case 2 if self.rng.random() < 0.3:
                holder.close()
                self.lost_session()
                self.ask(CloseSession(session), 1 * SECOND)
            case _:
                pass

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
        request = asked[0]
        match result:
            case Kept():
                self.kept(result)
            case SessionOpened():
                self.opened(result)
            case Campaigning():
                self.standing.add(result.election)
            case Withdrawn() if self.holder is not None and result.session == self.session:
                self.withdrawing.pop(result.election, None)
                self.holder.withdrawn(result.election)
            case Refused(code="unknown_session") if not isinstance(request, CloseSession):
                if getattr(request, "session", None) == self.session:
                    self.lost_session()
            case _:
                pass

    def opened(self, result: SessionOpened) -> None:
        """A session stands; a late answer to an earlier opening is left to run out."""
        if self.session is None:
            self.session = result.session
            self.holder = Holder(self.ttl_ms * MS)
            self.unanswered = 0

    def kept(self, result: Kept) -> None:
        """The only source of validity (P3.1)."""
        holder = self.holder
        if holder is None or result.session != self.session:
            return
        self.unanswered = 0
        holder.realtime(self.real_us(), self.local())
        holder.acknowledged(result, self.local())
        self.publish()
        for demand in result.demands:
            if self.rng.random() < 0.7:  # else it is deaf, and the grace runs out
                holder.end(demand.election, demand.term)
                self.publish()
                self.ask(Release(result.session, demand.election, demand.term), 1 * SECOND)

    def lost_session(self) -> None:
        """The cluster no longer knows us, or we are about to say goodbye."""
        self.session = self.holder = None
        self.standing.clear()
        self.withdrawing.clear()
        self.publish()

    def publish(self) -> None:
        """Tell the observer until when this process would pass its own check (S15)."""
        holder, session = self.holder, self.session
        leases = self.world.observer.leases
        if holder is not None:
            holder.realtime(self.real_us(), self.local())  # as before each check
        for election in self.elections:
            until = holder.valid_until(election) if holder is not None else None
            lease = holder.lease(election) if holder is not None else None
            if until is None or lease is None or session is None or self.down or self.frozen:
                leases.may_hold(election, self.name, None)
            else:
                leases.may_hold(election, self.name, Validity(self.clock.true_of(until), session, lease.term))

    # --- faults -----------------------------------------------------------------------------------------------------

    def crash(self, outage_us: int) -> None:
        """The process dies; a new one begins later, with a session of its own (P3.6)."""
        if self.down:
            return
        self.down = True
        session = self.session
        self.asked.clear()
        self.deeds.abandon()
        self.lost_session()
        if session is not None and self.rng.random() < 0.5:
            self.world.asking.ask(self, 0, self.world.hosts[self.home], Disconnected(session))
        self.world.later(outage_us, self.restart)

    def restart(self) -> None:
        """A new process."""
        self.down = False
        self.process += 1
        self.paused_until = 0
        self.wake()

    def pause(self, micros: int, *, machine: bool, jump: int = 0) -> None:
        """The process stands still. With `machine`, its clock too, and only REALTIME shows it afterwards (P3.7); with
        `jump` CLOCK_BOOTTIME is ahead by so much when it goes on.
        """
        if self.down or self.paused_until > self.world.now:
            return
        self.paused_until = self.world.now + micros
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
        if self.holder is not None:
            self.holder.realtime(self.real_us(), self.local())
            self.publish()

    def resume(self, micros: int, *, machine: bool, jump: int) -> None:
        """It goes on; the first thing that the keeper looks at is the time."""
        self.paused_until = 0
        if machine:
            self.clock.step(self.world.now, -(micros * self.clock.rate // MILLION))
            self.frozen = False
        elif jump:
            self.clock.step(self.world.now, jump)
        if self.holder is not None:
            self.holder.realtime(self.real_us(), self.local())
        self.publish()
        self.wake()
