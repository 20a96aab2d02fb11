"""Nodes whose keeper is a loop of their own around the SDK's `Holder`: they do what the SDK never does.

They ask any member, without a stream, twice or under no key, answer demands late or never, and let answers overtake
one another; so they try what the cluster and the holder's rules bear from any client.
"""

from dataclasses import dataclass, field

from tenure.base.ids import ElectionName, NodeId, SessionId
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
    Lease,
    OpenSession,
    Refused,
    Release,
    SessionOpened,
    Withdraw,
    Withdrawn,
)
from tenure.leadership.holder import Holder
from tests.sim.leases import Validity
from tests.sim.nodes import Node
from tests.sim.plan import MS, SECOND


@dataclass
class Wild(Node):
    """See the module."""

    session: SessionId | None = None
    holder: Holder | None = None
    standing: set[str] = field(default_factory=set)
    unanswered: int = 0
    wakes: int = 0
    withdrawing: dict[str, Keyed] = field(default_factory=dict)

    # --- the loop ---------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The loop comes round, for the first time or again."""
        self.publish()
        self.wake()

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

    def act(self) -> None:
        """One thing after another: session, candidacies, keepalive, work."""
        self.overdue()
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
        self.work()
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

    # --- what comes back --------------------------------------------------------------------------------------------

    def replied(self, request: AnyRequest, result: AnyResult) -> None:
        """What an answer changes."""
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
            case Refused() if isinstance(request, OpenSession):
                self.home = self.rng.choice(self.world.seated()).index  # it may have been removed
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

    def ended(self) -> None:
        """The process dies; half of the time somebody sees its connection end."""
        session = self.session
        self.lost_session()
        if session is not None and self.rng.random() < 0.5:
            self.world.asking.ask(self, 0, self.world.hosts[self.home], Disconnected(session))

    # --- what it believes -------------------------------------------------------------------------------------------

    def look_at_clocks(self) -> None:
        """P3.7."""
        if self.holder is not None:
            self.holder.realtime(self.real_us(), self.local())

    def leading(self, election: ElectionName) -> Lease | None:
        """The lease, if the holder's check passes."""
        holder = self.holder
        if holder is None or holder.check(election, self.local()) != "valid":
            return None
        return holder.lease(election)

    def validity(self, election: ElectionName) -> Validity | None:
        """As the holder says."""
        holder, session = self.holder, self.session
        if holder is None or session is None:
            return None
        until, lease = holder.valid_until(election), holder.lease(election)
        if until is None or lease is None:
            return None
        return Validity(self.clock.true_of(until), session, lease.term)
