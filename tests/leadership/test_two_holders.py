"""S15 in small: whatever the network does, and however clocks run within ρ, no two holders believe at once (P3.9).

Real holders and real stewards; true time is simulated. Every node and every steward has a clock with its own offset and
rate. Messages take any time, are lost, overtake each other; consensus leaders change; nodes release, withdraw, close.
"""

import heapq
from collections.abc import Callable
from fractions import Fraction
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenure.base.chance import SplitMix64
from tenure.base.ids import ConsensusTerm, LogIndex, NodeId, Nonce, SessionId
from tenure.base.instants import MS, Instant
from tenure.leadership import commands
from tenure.leadership.commands import AnyBody
from tenure.leadership.engine import AnyResult, Keepalive, Kept, SessionOpened
from tenure.leadership.holder import Holder, validity_us
from tenure.leadership.machine import Machine
from tenure.leadership.steward import Receipt, Steward, StewardSettings
from tests.leadership.stage import ORDERS

TTL_MS: Final = 100
SLOW, FAST = Fraction(99, 100), Fraction(101, 100)


class Clock:
    """Reads `offset + rate · true time`."""

    def __init__(self, offset: int, rate: Fraction) -> None:
        self.offset = offset
        self.rate = rate

    def at(self, true_us: int) -> Instant:
        return Instant(self.offset + int(true_us * self.rate))


class Node:
    """One node: its clock, its session, and what it believes."""

    def __init__(self, world: "World", name: str, clock: Clock) -> None:
        self.world = world
        self.name = name
        self.clock = clock
        self.lives = 0
        self.quiet_until = 0
        self.open()

    def open(self) -> None:
        self.lives += 1
        self.holder = Holder(TTL_MS * MS, guard_us=0)  # no guard: the rule itself must suffice
        self.session: SessionId | None = None
        self.standing = False

    def now(self) -> Instant:
        return self.clock.at(self.world.true_us)

    def leads(self) -> bool:
        return self.holder.check(ORDERS, self.now()) == "valid"

    def act(self) -> None:
        """Do one of the things that nodes do."""
        world, chance = self.world, self.world.chance
        if world.true_us < self.quiet_until:
            return
        if chance.below(30) == 0:
            self.quiet_until = world.true_us + chance.below(3 * TTL_MS * MS)
        if self.session is None:
            process = f"{self.lives:015x}{self.name}"
            result = world.commit(commands.OpenSession(NodeId(self.name), TTL_MS, process, {}))
            if isinstance(result, SessionOpened):
                self.session = result.session
            return
        what = chance.below(40)
        lease = self.holder.lease(ORDERS)
        if not self.standing:
            world.commit(commands.Campaign(self.session, ORDERS, chance.below(3)))
            self.standing = True
        elif what == 0 and lease is not None:
            self.holder.end(ORDERS, lease.term)
            world.later(lambda s=self.session, t=lease.term: world.commit(commands.Release(s, ORDERS, t, False)))  # type: ignore[misc]
        elif what == 1:
            self.holder.withdrawing(ORDERS)
            session, holder = self.session, self.holder

            def withdraw() -> None:
                world.commit(commands.Withdraw(session, ORDERS))
                world.later(lambda: self.withdrawn(holder))

            world.later(withdraw)
        elif what == 2:
            self.holder.close()
            world.later(lambda s=self.session: world.commit(commands.CloseSession(s)))  # type: ignore[misc]
            self.open()
        else:
            self.send()

    def withdrawn(self, holder: Holder) -> None:
        holder.withdrawn(ORDERS)
        if holder is self.holder:
            self.standing = False

    def send(self) -> None:
        assert self.session is not None
        number = self.holder.transmit(self.now())
        keepalive, holder = Keepalive(self.session, number), self.holder
        self.world.later(lambda: self.world.heard(keepalive, self, holder))

    def told(self, answer: Kept, holder: Holder) -> None:
        holder.acknowledged(answer, self.now())


class World:
    """True time, a log that commits at once, and whoever leads."""

    def __init__(self, seed: int, rates: list[Fraction], delay_ms: int, loss: int) -> None:
        self.chance = SplitMix64(seed)
        self.true_us = 0
        self.delay_ms = delay_ms
        self.loss = loss
        self.queue: list[tuple[int, int, Callable[[], object]]] = []
        self.count = 0
        self.machine = Machine.founded(Nonce("a" * 16), 1)
        self.index = 0
        self.term = 0
        self.rates = rates
        self.held = 0
        self.win()
        self.nodes = [Node(self, f"{number}", self.clock()) for number in range(3)]

    def clock(self) -> Clock:
        return Clock(self.chance.below(10**9), self.rates[self.chance.below(len(self.rates))])

    def win(self) -> None:
        self.term += 1
        self.steward_clock = self.clock()
        now = self.steward_clock.at(self.true_us)
        self.steward = Steward(ConsensusTerm(self.term), now, self.machine, StewardSettings(), now)
        self.steward.on_serving(now)

    def later(self, what: Callable[[], object]) -> None:
        if self.chance.below(100) >= self.loss:
            self.count += 1
            when = self.true_us + self.chance.below(self.delay_ms * MS + 1)
            heapq.heappush(self.queue, (when, self.count, what))

    def commit(self, body: AnyBody) -> AnyResult:
        return self.apply(commands.encode(body, 0))

    def apply(self, data: bytes) -> AnyResult:
        self.index += 1
        now = self.steward_clock.at(self.true_us)
        applied = self.machine.apply(LogIndex(self.index), ConsensusTerm(self.term), data)
        self.steward.on_applied(LogIndex(self.index), ConsensusTerm(self.term), applied, now)
        return applied.result

    def heard(self, keepalive: Keepalive, node: Node, holder: Holder) -> None:
        steward = self.steward
        receipt = steward.receive(keepalive, self.steward_clock.at(self.true_us))
        if isinstance(receipt, Receipt):
            self.later(lambda: self.round_over(steward, receipt, node, holder))

    def round_over(self, steward: Steward, receipt: Receipt, node: Node, holder: Holder) -> None:
        if steward is not self.steward:
            return  # P3.3: any change of term drops pending keepalives
        answer = steward.acknowledge(receipt, self.steward_clock.at(self.true_us))
        if isinstance(answer, Kept):
            self.later(lambda: node.told(answer, holder))

    def settle(self) -> None:
        while decided := self.steward.decide(self.steward_clock.at(self.true_us), 0):
            for data in decided:
                if self.chance.below(10):
                    self.apply(data)
                else:
                    self.steward.dropped(data)

    def step(self) -> None:
        """To the next message, or a little further; then somebody does something."""
        to = self.true_us + self.chance.below(8 * MS)
        while self.queue and self.queue[0][0] <= to:
            when, _, what = heapq.heappop(self.queue)
            self.true_us = max(self.true_us, when)
            what()
            self.look()
        self.true_us = to
        if self.chance.below(60) == 0:
            self.win()
        self.settle()
        self.nodes[self.chance.below(len(self.nodes))].act()
        self.look()

    def look(self) -> None:
        leading = [node.name for node in self.nodes if node.leads()]
        assert len(leading) <= 1, f"{leading} lead at once at {self.true_us} µs"
        self.held += len(leading)


@pytest.mark.slow
@given(
    seed=st.integers(0, 2**32),
    rates=st.lists(st.sampled_from([SLOW, Fraction(1), FAST]), min_size=1, max_size=4),
    delay_ms=st.sampled_from([0, 5, 40, 150]),
    loss=st.sampled_from([0, 10, 40]),
)
@settings(max_examples=100, deadline=None)
def test_no_two_nodes_believe_at_once_that_they_lead(
    seed: int, rates: list[Fraction], delay_ms: int, loss: int
) -> None:
    world = World(seed, rates, delay_ms, loss)
    for _ in range(400):
        world.step()


@given(
    ttl_us=st.integers(5 * MS, 60_000 * MS),
    holder_rate=st.fractions(SLOW, FAST, max_denominator=1000),
    steward_rate=st.fractions(SLOW, FAST, max_denominator=1000),
)
def test_a_lease_ends_at_its_holder_before_any_steward_may_take_it(
    ttl_us: int, holder_rate: Fraction, steward_rate: Fraction
) -> None:  # P3.9, the arithmetic alone, with no guard and no delay at all
    believes_us = validity_us(ttl_us, 0, rho_permille=10) / holder_rate
    assert believes_us <= ttl_us / steward_rate


def test_that_world_is_not_an_empty_one() -> None:
    world = World(7, [SLOW, FAST], delay_ms=5, loss=5)
    for _ in range(3_000):
        world.step()
    assert world.held > 200
    assert world.term > 10
    grants = world.machine.state.elections[ORDERS].last_term
    assert grants > 20
