"""Nodes whose session the SDK's own keeper keeps: `KeeperCore` and `Dialer`, with streams to members (`streams`).

What is written here is what `client.thread` does around the core (turns, streams, timers), and the application above
it: its own loop, on a thread of its own. Half of the processes ask before each deed whether the lease is still valid,
which looks at both clocks; the others believe what they were told last, as a `tenure run` and its page do.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Final

from tenure.base.chance import SplitMix64
from tenure.base.ids import ElectionName, NodeId, SessionId, Term
from tenure.base.instants import NEVER, Instant
from tenure.client import events as told
from tenure.client.dialer import Dialer
from tenure.client.keeper import KeeperCore, Output, Settings
from tenure.client.offices import Leading, Over
from tenure.leadership.engine import AnyRequest, AnyResult, Lease
from tests.sim.host import Action
from tests.sim.leases import Validity
from tests.sim.nodes import Node
from tests.sim.plan import MS, SECOND
from tests.sim.streams import Stream

STOPPED_BEFORE_SENDING: Final = 2
"""Per thousand: how often the keeper is stopped between what it decided and the sending of it."""
DEAF: Final = 0.3
"""How often an application doesn't answer a demand."""
GOODBYE_US: Final = 1 * SECOND
"""Who closes waits so long for the cluster to say that it knows."""
ENDPOINTS: Final = 3
ACTS_US: Final = 10 * MS
"""An application acts no more often."""


@dataclass
class Believed:
    """A holding as it was told."""

    lease: Lease
    until: Instant
    counts: bool = True


@dataclass
class KeeperNode(Node):
    """See the module."""

    core: KeeperCore | None = None
    dialer: Dialer | None = None
    current: Stream | None = None
    dialling: dict[str, Stream] = field(default_factory=dict)
    moving: bool = False
    inbox: list[Action] = field(default_factory=list)
    """What came in while the process stood still, or is being read."""
    reading: bool = False
    unsent: tuple[Stream, tuple[bytes, ...]] | None = None
    """What it was about to send when it was stopped."""
    timer: int = 0
    acts: int = 0
    closing: bool = False
    believed: dict[ElectionName, Believed] = field(default_factory=dict)

    # --- the process ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A new process with a keeper of its own, or the old one goes on: with what it was about to do first."""
        if self.core is None:
            self.core = KeeperCore(Settings(NodeId(self.name), self.ttl_ms), SplitMix64(self.rng.getrandbits(64)))
            self.dialer = Dialer(SplitMix64(self.rng.getrandbits(64)))
            self.dialer.learn(self.written_down())
            self.looks = self.rng.random() < 0.5
        elif self.unsent is not None:
            stream, frames = self.unsent
            self.unsent = None
            if stream is self.current:
                self.send(stream, frames)
        elif self.rng.random() < 0.5:
            self.turn()
        self.read()
        self.turn()
        self.publish()
        self.act()

    def written_down(self) -> list[str]:
        """Endpoints in its configuration: founders, who may have left long ago, and somebody who belongs there now."""
        founders = [host.api for host in self.world.hosts[: self.world.plan.voters]]
        return [*self.rng.sample(founders, min(ENDPOINTS, len(founders))), self.rng.choice(self.world.seated()).api]

    def ended(self) -> None:
        """The process dies. The kernel ends its connections, unless the machine has died with it."""
        gone = not self.closing and self.rng.random() < 0.5
        for stream in self.streams():
            if gone:
                stream.vanish()
            else:
                stream.close()
        self.core = self.dialer = self.current = self.unsent = None
        self.moving = self.closing = False
        self.dialling.clear()
        self.inbox.clear()
        self.believed.clear()

    def streams(self) -> list[Stream]:
        """All of them, also those that aren't open yet."""
        return [*self.dialling.values(), *([] if self.current is None else [self.current])]

    # --- the application --------------------------------------------------------------------------------------------

    def act(self) -> None:
        """Its own loop: it stands for what it wants, works, and now and then has a whim."""
        self.acts += 1
        wait = max(ACTS_US, self.ttl_ms * MS // 5)
        self.world.post(self.world.now + wait // 2 + int(self.rng.random() * wait // 2), self.act_again, self.acts)
        self.overdue()
        core = self.core
        if core is None or self.closing:
            return
        wished = False
        for election in self.elections:
            wished = self.stand(core, election) or wished
        self.work()
        if not self.world.healed and self.rng.random() < 0.03:
            self.whim(core)
            wished = True
        if wished:
            self.turn()

    def act_again(self, acts: int) -> None:
        """Unless it has died, stands still, or something else has woken it meanwhile."""
        if self.acts == acts and not self.down and self.paused_until <= self.world.now:
            self.act()
        else:
            self.world.superseded += 1

    def stand(self, core: KeeperCore, election: ElectionName) -> bool:
        """Campaign for what is neither held nor asked for; after an end, once everything under it has stopped."""
        office = core.offices.all.get(election)
        if office is None or (isinstance(office, Over) and self.rng.random() < 0.5):
            core.campaign(election, self.rng.randint(0, 2))
            return True
        return False

    def whim(self, core: KeeperCore) -> None:
        """What owners may do at any time."""
        election = self.rng.choice(self.elections)
        office = core.offices.all.get(election)
        match self.rng.randrange(6):
            case 0 if isinstance(office, Leading | Over):
                core.release(election, office.term, "released", "a whim")
            case 1:
                core.withdraw(election)
            case 2:
                core.withdraw(election)
                core.campaign(election, self.rng.randint(0, 2))
            case 3:
                core.campaign(election, self.rng.randint(0, 2))
            case 4:
                core.report(self.rng.randint(0, 100), self.rng.choice((None, 0, 1_000)))
            case 5 if self.rng.random() < 0.3:
                self.closing = True
                core.close()
                self.world.later(GOODBYE_US, self.for_process(partial(self.crash, 1 * MS)))
            case _:
                pass

    def hear(self, core: KeeperCore, event: told.Event) -> None:
        """What the keeper tells, each thing in its order."""
        require = self.world.observer.require
        said = getattr(event, "code", "")
        self.world.seen[f"keeper {type(event).__name__} {said}".strip()] += 1
        match event:
            case told.Granted(election, term, fence_token, until):
                require(election not in self.believed, "keeper", f"{self.name} hears {event} while it leads")
                self.believed[election] = Believed(Lease(election, term, fence_token, self.ttl_ms), until)
            case told.Renewed(election, term, until):
                self.leads(event, election, term).until = until
                self.believed[election].counts = True
            case told.Unconfirmed(election, term):
                self.leads(event, election, term).counts = False
            case told.Demanded(election, term):
                self.leads(event, election, term)
                if self.rng.random() >= DEAF:
                    self.world.later(self.rng.randrange(10 * MS), self.for_process(partial(self.give, election, term)))
            case told.Ended(election, term):
                self.leads(event, election, term)
                del self.believed[election]
                if self.rng.random() < 0.5:  # it stops at once, and says so; else it stands again a little later
                    self.world.later(self.rng.randrange(10 * MS), self.for_process(partial(self.give, election, term)))
            case told.Rejected():  # at which `tenure run` ends: nothing that is asked here is wrong
                self.world.observer.fail("keeper", f"{self.name} hears {event}")
            case told.SessionLost():
                require(not self.believed, "keeper", f"{self.name} hears {event} and leads {self.believed}")
            case _:
                pass

    def leads(self, event: told.Event, election: ElectionName, term: Term) -> Believed:
        """What it was told of this holding, which must be the one that it was told of last."""
        known = self.believed.get(election)
        if known is None or known.lease.term != term:
            self.world.observer.fail("keeper", f"{self.name} hears {event} and knows {known}")
        assert known is not None
        return known

    def give(self, election: ElectionName, term: Term) -> None:
        """It has stopped, and gives back what it held."""
        if self.core is not None and self.paused_until <= self.world.now:
            self.core.release(election, term)
            self.turn()

    # --- what it believes -------------------------------------------------------------------------------------------

    def look_at_clocks(self) -> None:
        """P3.7."""
        if self.core is not None:
            self.core.look_at_clocks(self.local(), self.real_us())

    def until(self, core: KeeperCore, election: ElectionName) -> tuple[Instant, Lease] | None:
        """The end of validity, by the way in which this process knows it."""
        known = self.believed.get(election)
        if known is None:
            return None
        if not self.looks:
            return (known.until, known.lease) if known.counts else None
        until = core.valid_until(election)
        office = core.offices.all.get(election)
        held = isinstance(office, Leading) and office.term == known.lease.term
        return (until, known.lease) if until is not None and held else None

    def leading(self, election: ElectionName) -> Lease | None:
        """The lease that it may act under now."""
        core = self.core
        if core is None:
            return None
        if self.looks:
            self.look_at_clocks()
        found = self.until(core, election)
        return found[1] if found is not None and self.local() < found[0] else None

    def validity(self, election: ElectionName) -> Validity | None:
        """The same for the observer."""
        core = self.core
        if core is None:
            return None
        found, session = self.until(core, election), core.session()
        if found is None:
            return None
        return Validity(self.clock.true_of(found[0]), session or "", found[1].term)

    def session(self) -> SessionId | None:
        """As it stands."""
        return None if self.core is None else self.core.session()

    def replied(self, request: AnyRequest, result: AnyResult) -> None:
        """The deeds' answers are the deeds' matter."""

    # --- the thread: turns ------------------------------------------------------------------------------------------

    def runs(self) -> bool:
        """Whether it can do anything now."""
        return not self.down and self.paused_until <= self.world.now

    def turn(self) -> None:
        """Decide and act, and plan the next turn; what the application decides meanwhile makes one more."""
        core, world = self.core, self.world
        if core is None or not self.runs() or self.reading:
            return
        output = core.turn(self.local(), self.real_us())
        for event in output.events:
            self.hear(core, event)
        if output.finished:
            self.closing = True
            self.crash(1 + int(self.rng.random() * 10 * MS))
            return
        if output.events or self.closing:
            self.publish()
        self.act_on(output)
        if not self.runs():
            return  # it was stopped there
        if self.current is None or self.moving:
            self.dial()
        deadline = output.deadline
        if self.dialer is not None and (self.current is None or self.moving):
            deadline = min(deadline, self.dialer.deadline(self.avoided()))
        self.timer += 1
        if deadline != NEVER:
            when = max(world.now, self.clock.true_of(deadline))
            if world.late_us:
                when += int(self.rng.random() * world.late_us)
            world.post(when, self.due, self.timer)

    def due(self, timer: int) -> None:
        """A timer goes off."""
        if self.timer == timer:
            self.turn()
        else:
            self.world.superseded += 1

    def clock_changed(self) -> None:
        """What was planned by the old clock counts no more."""
        self.turn()

    def act_on(self, output: Output) -> None:
        """What a turn decided."""
        stream, world = self.current, self.world
        assert self.dialer is not None
        self.dialer.learn(api for api in output.learnt if api in world.streams.endpoints)
        if stream is None:
            return
        if output.fault is not None:
            world.seen["keeper fault"] += 1
            stream.close()
            self.broken(stream)
            return
        if output.served:
            self.dialer.served(stream.endpoint)
        if output.move:
            world.seen["keeper moves"] += 1
            self.moving = True
        if not output.frames:
            return
        if not world.healed and self.rng.random() * 1000 < STOPPED_BEFORE_SENDING:
            world.seen["fault stopped before sending"] += 1
            self.unsent = (stream, output.frames)
            self.pause(1 + int(self.rng.expovariate(1 / world.plan.outage_us)), machine=self.rng.random() < 0.3)
            return
        self.send(stream, output.frames)

    def send(self, stream: Stream, frames: tuple[bytes, ...]) -> None:
        """Up."""
        for frame in frames:
            stream.send(frame)

    def read(self) -> None:
        """What waits in its sockets, all before the next turn."""
        waiting, self.inbox = self.inbox, []
        self.reading = True
        for action in waiting:
            action()
        self.reading = False

    # --- the thread: streams ----------------------------------------------------------------------------------------

    def dial(self) -> None:
        """Begin what the dialer says, give up what took too long."""
        dialer, now = self.dialer, self.local()
        assert dialer is not None
        for endpoint in dialer.overdue(now):
            self.drop(endpoint)
            dialer.failed(endpoint, now)
        for endpoint in dialer.dial(now, self.avoided()):
            self.drop(endpoint)
            self.dialling[endpoint] = self.world.streams.dial(self, endpoint)

    def avoided(self) -> str | None:
        """Who wants another stream wants another endpoint."""
        return None if self.current is None else self.current.endpoint

    def drop(self, endpoint: str) -> None:
        """An attempt that isn't wanted any more."""
        stream = self.dialling.pop(endpoint, None)
        if stream is not None:
            stream.close()

    def opened(self, stream: Stream) -> None:
        """The first that opens wins."""
        if not self.runs():
            self.inbox.append(partial(self.opened, stream))
            return
        core, dialer = self.core, self.dialer
        if core is None or dialer is None or self.dialling.get(stream.endpoint) is not stream:
            return
        del self.dialling[stream.endpoint]
        for other in dialer.opened(stream.endpoint):
            self.drop(other)
        old, self.current = self.current, stream
        self.moving = False
        if old is not None:
            old.close()
            if old.endpoint != stream.endpoint:
                dialer.failed(old.endpoint, self.local())
        core.connected(stream.endpoint, self.local())
        self.turn()

    def heard(self, stream: Stream, data: bytes) -> None:
        """A message, if it came on the stream that counts."""
        if not self.runs():
            self.inbox.append(partial(self.heard, stream, data))
            return
        if stream is self.current and self.core is not None:
            self.core.received(data, self.local())
            self.turn()

    def broke(self, stream: Stream) -> None:
        """The connection is over."""
        if not self.runs():
            self.inbox.append(partial(self.broke, stream))
            return
        self.broken(stream)
        self.turn()

    def broken(self, stream: Stream) -> None:
        """Another is dialled by the next turn."""
        core, dialer = self.core, self.dialer
        if core is None or dialer is None:
            return
        if stream is self.current:
            self.current = None
            core.disconnected("the connection was closed")
        elif self.dialling.get(stream.endpoint) is stream:
            del self.dialling[stream.endpoint]
        else:
            return
        dialer.failed(stream.endpoint, self.local())
