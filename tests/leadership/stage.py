"""A state machine and its steward on a table: time, terms and the fate of every proposal are in the test's hand."""

from typing import TypeVar

from tenure.base.ids import ConsensusTerm, ElectionName, LogIndex, NodeId, Nonce, SessionId, Term
from tenure.base.instants import MS, Instant
from tenure.leadership import commands
from tenure.leadership.commands import AnyBody, Campaign, Decision, OpenSession
from tenure.leadership.engine import AnyResult, Keepalive, Kept, Lease, Origin, Refused, SessionOpened, Transition
from tenure.leadership.machine import Machine
from tenure.leadership.state import Election
from tenure.leadership.steward import Steward, StewardSettings

ORDERS = ElectionName("orders")
R = TypeVar("R")


def process(number: int) -> str:
    return f"{number:016x}"


def good(result: R | Refused) -> R:
    assert not isinstance(result, Refused), result
    return result


class Stage:
    """Time in ms since the start of the world; wall time runs beside it."""

    def __init__(self, settings: StewardSettings | None = None, machine: Machine | None = None) -> None:
        self.machine = machine or Machine.founded(Nonce("a" * 16), 1000)
        self.settings = settings or StewardSettings()
        self.now = Instant(1_000 * MS)
        self.wall_ms = 1_800_000_000_000
        self.term = ConsensusTerm(1)
        self.index = self.machine.state.applied
        self.transitions: list[Transition] = []
        self._numbers = 0
        self._processes = 0
        self.steward = Steward(self.term, self.now, self.machine, self.settings, self.now)
        self.steward.on_serving(self.now)

    # --- time and terms ---------------------------------------------------------------------------------------------

    def after(self, ms: int) -> None:
        self.now = Instant(self.now + ms * MS)
        self.wall_ms += ms

    def take_over(self, serving: bool = True) -> None:
        """Another member wins: a new steward on the same applied state."""
        self.term = ConsensusTerm(self.term + 1)
        self.steward = Steward(self.term, self.now, self.machine, self.settings, self.now)
        if serving:
            self.steward.on_serving(self.now)

    # --- the log ----------------------------------------------------------------------------------------------------

    def apply(self, data: bytes, entry_term: ConsensusTerm | None = None) -> AnyResult:
        self.index = LogIndex(self.index + 1)
        term = entry_term if entry_term is not None else self.term
        applied = self.machine.apply(self.index, term, data)
        self.steward.on_applied(self.index, term, applied, self.now)
        self.transitions.extend(applied.transitions)
        return applied.result

    def do(self, body: AnyBody, origin: Origin | None = None) -> AnyResult:
        return self.apply(commands.encode(body, self.wall_ms, origin))

    def decide(self) -> list[bytes]:
        """One call of the steward: what it proposes, not applied."""
        return list(self.steward.decide(self.now, self.wall_ms))

    def settle(self) -> list[Decision]:
        """Apply what the steward proposes until it has nothing more to say."""
        done: list[Decision] = []
        while proposals := self.decide():
            for data in proposals:
                done.append(decision(data))
                self.apply(data)
        return done

    # --- people -----------------------------------------------------------------------------------------------------

    def open(self, node: str, ttl_ms: int = 1_000) -> SessionId:
        self._processes += 1
        result = self.do(OpenSession(NodeId(node), ttl_ms, process(self._processes), {}))
        assert isinstance(result, SessionOpened), result
        return result.session

    def campaign(self, session: SessionId, priority: int = 0, election: ElectionName = ORDERS) -> AnyResult:
        return self.do(Campaign(session, election, priority))

    def stand(self, node: str, ttl_ms: int = 1_000, priority: int = 0) -> SessionId:
        """Open a session, campaign for `orders`, and let the steward decide."""
        session = self.open(node, ttl_ms)
        self.campaign(session, priority)
        self.settle()
        return session

    def keep(self, session: SessionId, health: int = 100, lag: int | None = None) -> Kept | Refused:
        """A keepalive that is heard and acknowledged at once."""
        self._numbers += 1
        receipt = self.steward.receive(Keepalive(session, self._numbers, health, lag), self.now)
        if isinstance(receipt, Refused):
            return receipt
        return self.steward.acknowledge(receipt, self.now)

    def keep_all(self, *sessions: SessionId, until_ms: int, every_ms: int = 100) -> None:
        """Let time pass while these sessions are kept, settling on the way."""
        for _ in range(until_ms // every_ms):
            self.after(every_ms)
            for session in sessions:
                self.keep(session)
            self.settle()

    # --- looking ----------------------------------------------------------------------------------------------------

    def election(self, name: ElectionName = ORDERS) -> Election:
        return self.machine.state.elections[name]

    def holder(self, name: ElectionName = ORDERS) -> str | None:
        holder = self.machine.holder(name)
        return holder.node if holder is not None else None

    def term_of(self, name: ElectionName = ORDERS) -> Term:
        return self.election(name).last_term


def decision(data: bytes) -> Decision:
    body = commands.decode(data).body
    assert isinstance(body, Decision)
    return body


def leases(answer: Kept | Refused) -> tuple[Lease, ...]:
    return good(answer).leases
