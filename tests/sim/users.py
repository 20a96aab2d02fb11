"""Who uses the cluster: clients that read and write keys, and nodes that campaign with the SDK's own keeper.

Both see the members only through requests that travel, get lost, time out and are tried again elsewhere. What a client
did is written into one history, which the linearizability checker judges at the end (S13).
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tenure.base.ids import ElectionName, NodeId, SessionId
from tenure.base.instants import Instant
from tenure.leadership.engine import (
    AnyRequest,
    AnyResult,
    Campaign,
    Campaigning,
    ClientOpened,
    CloseSession,
    Disconnected,
    Keepalive,
    Kept,
    Keyed,
    KvGet,
    KvPut,
    KvValue,
    KvWritten,
    OpenClient,
    OpenSession,
    Origin,
    Refused,
    Release,
    Sequenced,
    SessionOpened,
    Withdraw,
    Withdrawn,
)
from tenure.leadership.holder import Holder
from tests.sim.linearizability import OPEN, Operation
from tests.sim.observer import Validity
from tests.sim.plan import MS, SECOND
from tests.sim.world import Action, Clock, Host, World

if TYPE_CHECKING:
    from random import Random

KEYS = ("a", "b", "c", "d/e")
HEALED_PATIENCE_US = 3 * SECOND


@dataclass
class Pending:
    """One operation of a client, over all its tries."""

    request: KvPut | KvGet
    origin: Origin | None
    called: int
    tries: int = 0
    tag: int = 0
    doubtful: bool = False
    """An earlier try may have taken effect."""


@dataclass
class Client:
    """One client: one operation at a time, on any member, tried again elsewhere when no answer comes."""

    world: World
    name: str
    rng: "Random"
    pending: Pending | None = None
    tag: int = 0
    session: str | None = None
    sequence: int = 0
    seen: dict[str, int] = field(default_factory=dict)
    stopped: bool = False
    done: int = 0

    def wake(self) -> None:
        """Begin the next operation."""
        if self.stopped or self.pending is not None:
            return
        if self.session is None and self.rng.random() < 0.5:
            self.tag += 1
            self.world.ask(self, -self.tag, self.member(), OpenClient(f"{self.rng.getrandbits(64):016x}"), None)
        key = self.rng.choice(KEYS)
        self.sequence += 1
        if self.rng.random() < 0.5:
            request: KvPut | KvGet = KvGet(key)
            origin = None
        else:
            condition = self.seen.get(key, 0) if self.rng.random() < 0.2 else None
            request = KvPut(key, f'"{self.name}-{self.sequence}"'.encode(), if_revision=condition)
            origin = self.origin(request)
        self.pending = Pending(request, origin, self.world.tick())
        self.try_once(self.pending)

    def origin(self, request: KvPut) -> Origin | None:
        """How the write is made safe to repeat, if at all (P9)."""
        draw = self.rng.random()
        if draw < 0.2:
            return None
        if self.session is not None and draw < 0.7:
            return Sequenced(self.session, self.sequence, self.sequence)
        return Keyed(self.name, f"{self.name}-{self.sequence}", str(hash_of(request.value)))

    def member(self) -> Host:
        """Any member."""
        return self.rng.choice(self.world.hosts)

    def try_once(self, pending: Pending) -> None:
        """Ask some member; look again when patience is over. A duplicate may go to another one."""
        self.tag += 1
        pending.tag = tag = self.tag
        pending.tries += 1
        self.world.ask(self, tag, self.member(), pending.request, pending.origin)
        repeatable = pending.origin is not None or isinstance(pending.request, KvGet)
        if repeatable and not self.world.healed and self.rng.random() < 0.05:
            self.world.ask(self, tag, self.member(), pending.request, pending.origin)
            pending.doubtful = pending.doubtful or isinstance(pending.request, KvPut)
        patience = self.world.plan.patience_us if not self.world.healed else HEALED_PATIENCE_US
        self.world.later(patience, lambda: self.impatient(pending, tag))

    def retry(self, pending: Pending) -> None:
        """The pause after a failed try is over."""
        if self.pending is pending:
            self.try_once(pending)

    def impatient(self, pending: Pending, tag: int) -> None:
        """No answer in time."""
        if self.pending is pending and pending.tag == tag:
            self.again(pending)

    def again(self, pending: Pending) -> None:
        """The outcome of a try is unknown: another try if that is harmless, else give up."""
        pending.doubtful = pending.doubtful or isinstance(pending.request, KvPut)
        repeatable = pending.origin is not None or isinstance(pending.request, KvGet)
        limit = 1000 if self.world.healed else 4
        if repeatable and pending.tries < limit:
            pending.tag = 0
            pause = self.world.plan.latency_us + int(self.rng.random() * 20 * MS)
            self.world.later(pause, lambda: self.retry(pending))
            return
        self.record(pending, None)

    def answered(self, tag: int, result: AnyResult | None) -> None:
        """An answer, or the end of the connection."""
        if tag < 0:
            if isinstance(result, ClientOpened) and self.session is None:
                self.session = result.client
            return
        pending = self.pending
        if pending is None or pending.tag != tag:
            return
        if result is None or (isinstance(result, Refused) and result.code in {"no_quorum", "founding"}):
            self.again(pending)
        elif isinstance(result, Refused) and result.code == "outcome_unknown":
            self.session = None
            self.record(pending, None)
        else:
            self.record(pending, result)

    def record(self, pending: Pending, result: AnyResult | None) -> None:
        """Write the operation into the history, and think before the next."""
        request = pending.request
        operation: Operation | None = None
        returned = self.world.tick()
        called = pending.called
        match request, result:
            case KvGet(), KvValue():
                self.seen[request.key] = result.revision
                operation = Operation(
                    request.key, "get", called, returned, "ok", result.value.decode(), result.revision, None, self.name
                )
            case KvGet(), Refused(code="unknown_key"):
                operation = Operation(request.key, "get", called, returned, "ok", None, 0, None, self.name)
            case KvPut(), KvWritten():
                self.seen[request.key] = result.revision
                operation = self.put(request, called, returned, "ok", result.revision)
            case KvPut(), Refused(code="revision_mismatch"):
                operation = self.put(request, called, returned, "mismatch", None)
            case KvPut(), None:
                operation = self.put(request, called, OPEN, "unknown", None)
            case KvPut(), Refused() if pending.doubtful:
                operation = self.put(request, called, OPEN, "unknown", None)
            case _:
                pass
        if operation is not None:
            self.world.observer.history.append(operation)
        self.pending = None
        self.done += 1
        self.world.later(int(self.rng.expovariate(1 / self.world.plan.think_us)), self.wake)

    def put(
        self,
        request: KvPut,
        called: int,
        returned: int,
        outcome: Literal["ok", "mismatch", "unknown"],
        revision: int | None,
    ) -> Operation:
        """A write for the history."""
        value = request.value.decode()
        return Operation(request.key, "put", called, returned, outcome, value, revision, request.if_revision, self.name)


def hash_of(value: bytes) -> int:
    """A digest that is the same in every process."""
    return sum(place * letter for place, letter in enumerate(value, 1))


@dataclass
class Node:
    """One application node: keeps a session, stands for an election, and knows from its `Holder` whether it leads."""

    world: World
    name: str
    rng: "Random"
    clock: Clock
    ttl_ms: int
    elections: tuple[str, ...]
    process: int = 0
    session: SessionId | None = None
    holder: Holder | None = None
    standing: set[str] = field(default_factory=set)
    unanswered: int = 0
    home: int = 0
    asked: dict[int, AnyRequest] = field(default_factory=dict)
    tag: int = 0
    down: bool = False
    paused_until: int = 0
    frozen: bool = False
    writes: int = 0
    stopped: bool = False
    withdrawing: dict[str, Keyed] = field(default_factory=dict)

    # --- time -------------------------------------------------------------------------------------------------------

    def local(self) -> Instant:
        """The node's own clock."""
        return self.clock.at(self.world.now)

    def wake(self) -> None:
        """The keeper's loop."""
        if self.down or self.paused_until > self.world.now:
            return
        self.act()
        wait = self.ttl_ms * MS // 5
        self.world.later(wait // 2 + int(self.rng.random() * wait // 2), self.for_process(self.wake))

    def for_process(self, action: Action) -> Action:
        """`action`, if this process still lives then."""
        process = self.process

        def run() -> None:
            if self.process == process and not self.down:
                action()

        return run

    def act(self) -> None:
        """One thing after another: session, candidacies, keepalive, work."""
        if self.session is None or self.holder is None:
            if not any(isinstance(request, OpenSession) for request in self.asked.values()):
                self.ask(OpenSession(NodeId(self.name), self.ttl_ms, f"{self.rng.getrandbits(64):016x}"), 1 * SECOND)
            return
        self.holder.realtime(self.real_us(), self.local())
        for election in self.elections:
            self.stand(self.session, ElectionName(election))
        self.keepalive()
        self.work()
        self.whim()

    def stand(self, session: SessionId, election: ElectionName) -> None:
        """Campaign until that is answered; a withdrawal that has begun is repeated, under its key, until it is (P9)."""
        if any(
            isinstance(request, Campaign | Withdraw) and request.election == election for request in self.asked.values()
        ):
            return
        if election in self.withdrawing:
            self.ask(Withdraw(session, election), 1 * SECOND, self.withdrawing[election])
        elif election not in self.standing:
            self.ask(Campaign(session, election, self.rng.randint(0, 2)), 1 * SECOND)

    def real_us(self) -> int:
        """CLOCK_REALTIME, kept right by somebody: after a pause of the machine it is ahead of CLOCK_BOOTTIME."""
        return 1_700_000_000 * SECOND + self.world.now

    def keepalive(self) -> None:
        """A fresh number for each transmission (P3.2). After silence, another member."""
        assert self.session is not None
        assert self.holder is not None
        if self.unanswered > 2:
            self.home = self.rng.randrange(len(self.world.hosts))
            self.unanswered = 0
        number = self.holder.transmit(self.local())
        self.unanswered += 1
        self.ask(Keepalive(self.session, number), self.ttl_ms * MS)

    def work(self) -> None:
        """What a leader does: a guarded write, allowed by its own check alone."""
        for election in self.elections:
            assert self.holder is not None
            lease = self.holder.lease(ElectionName(election))
            if lease is None or self.holder.check(ElectionName(election), self.local()) != "valid":
                continue
            self.writes += 1
            value = f'"{self.name}.{self.process}-{self.writes}"'.encode()
            self.ask(KvPut(f"work/{election}", value, ElectionName(election), lease.term), 1 * SECOND)

    def whim(self) -> None:
        """Now and then it gives up what it has; validity ends before the request leaves (P3.7)."""
        if self.world.healed or self.rng.random() > 0.03:
            return
        assert self.session is not None
        assert self.holder is not None
        election = ElectionName(self.rng.choice(self.elections))
        lease = self.holder.lease(election)
        match self.rng.randrange(3):
            case 0 if lease is not None:
                self.holder.end(election, lease.term)
                self.publish()
                self.ask(Release(self.session, election, lease.term), 1 * SECOND)
            case 1 if election in self.standing:
                self.holder.withdrawing(election)
                self.publish()
                self.standing.discard(election)
                self.tag += 1
                self.withdrawing[election] = Keyed(self.name, f"{self.name}-{self.process}-{self.tag}", "same")
            case 2 if self.rng.random() < 0.3:
                self.holder.close()
                self.publish()
                session, self.session, self.holder = self.session, None, None
                self.standing.clear()
                self.withdrawing.clear()
                self.ask(CloseSession(session), 1 * SECOND)
            case _:
                pass

    # --- requests ---------------------------------------------------------------------------------------------------

    def ask(self, request: AnyRequest, patience: int, origin: Origin | None = None) -> None:
        """Ask the home member; forget the request when patience is over (the next turn asks anew)."""
        self.tag += 1
        tag = self.tag
        self.asked[tag] = request
        repeatable = isinstance(request, OpenSession | Campaign | Release | CloseSession)
        if origin is None and repeatable and self.rng.random() < 0.5:
            origin = Keyed(self.name, f"{self.name}-{self.process}-{tag}", "same")
        host = self.world.hosts[self.home]
        self.world.ask(self, tag, host, request, origin)
        if origin is not None and not self.world.healed and self.rng.random() < 0.1:
            self.world.ask(self, tag, self.rng.choice(self.world.hosts), request, origin)
        self.world.later(patience, lambda: self.forget(tag))

    def forget(self, tag: int) -> None:
        """Patience is over."""
        self.asked.pop(tag, None)

    def answered(self, tag: int, result: AnyResult | None) -> None:
        """An answer reaches the process, if it still lives and runs."""
        if self.down:
            return
        if self.paused_until > self.world.now:
            self.world.at(self.paused_until, lambda: self.answered(tag, result))
            return
        request = self.asked.pop(tag, None)
        if request is None:
            return
        if result is None:
            self.home = self.rng.randrange(len(self.world.hosts))
            return
        match result:
            case SessionOpened():
                self.opened(result)
            case Kept():
                self.kept(result)
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
            self.world.observer.ttl_us[result.session] = self.ttl_ms * MS

    def kept(self, result: Kept) -> None:
        """The only source of validity (P3.1)."""
        if self.holder is None or result.session != self.session:
            return
        self.unanswered = 0
        self.holder.realtime(self.real_us(), self.local())
        self.holder.acknowledged(result, self.local())
        self.publish()
        for demand in result.demands:
            if self.rng.random() < 0.7:  # else it is deaf, and the grace runs out
                self.holder.end(demand.election, demand.term)
                self.publish()
                self.ask(Release(result.session, demand.election, demand.term), 1 * SECOND)

    def lost_session(self) -> None:
        """The cluster no longer knows us."""
        self.session = self.holder = None
        self.standing.clear()
        self.withdrawing.clear()
        self.publish()

    def publish(self) -> None:
        """Tell the observer until when this process would pass its own check (S15)."""
        for election in self.elections:
            until = self.holder.valid_until(ElectionName(election)) if self.holder is not None else None
            lease = self.holder.lease(ElectionName(election)) if self.holder is not None else None
            if until is None or lease is None or self.session is None or self.down or self.frozen:
                self.world.observer.may_hold(election, self.name, None)
            else:
                true = self.clock.true_of(until)
                self.world.observer.may_hold(election, self.name, Validity(true, self.session, lease.term))

    # --- faults -----------------------------------------------------------------------------------------------------

    def crash(self, outage_us: int) -> None:
        """The process dies; a new one begins later, with a session of its own (P3.6)."""
        if self.down:
            return
        self.down = True
        session = self.session
        self.session = self.holder = None
        self.standing.clear()
        self.withdrawing.clear()
        self.asked.clear()
        self.publish()
        host = self.world.hosts[self.home]
        if session is not None and self.rng.random() < 0.5:
            self.world.ask(self, 0, host, Disconnected(session), None)
        self.world.later(outage_us, self.restart)

    def restart(self) -> None:
        """A new process."""
        self.down = False
        self.process += 1
        self.wake()

    def pause(self, micros: int, *, machine: bool) -> None:
        """The process stands still; with `machine`, its clock too, and only REALTIME shows it afterwards (P3.7)."""
        if self.down or self.paused_until > self.world.now:
            return
        self.paused_until = self.world.now + micros
        if machine:
            self.frozen = True
            self.publish()
        self.world.later(micros, self.for_process(lambda: self.resume(micros, machine=machine)))

    def resume(self, micros: int, *, machine: bool) -> None:
        """It goes on; the first thing that the keeper looks at is the time."""
        self.paused_until = 0
        if machine:
            self.clock.step(self.world.now, -(micros * self.clock.rate // 1_000_000))
            self.frozen = False
        if self.holder is not None:
            self.holder.realtime(self.real_us(), self.local())
        self.publish()
        self.wake()
