"""What a story needs to talk about an engine: nodes, events, and time that passes. The same for every engine."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

from tenure.base.ids import ElectionName, NodeId, SessionId
from tenure.leadership.engine import (
    Campaign,
    Compacted,
    ElectionView,
    Engine,
    History,
    HoldingView,
    Keepalive,
    Kept,
    Lease,
    OpenSession,
    Origin,
    ReadElection,
    Refused,
    Release,
    Request,
    Transition,
    Withdraw,
)

R = TypeVar("R")
ORDERS = ElectionName("orders")
LONG_TTL_MS = 60_000
"""Longer than any test: sessions of this TTL don't end by themselves, however noisy the machine."""


class Harness(Protocol):
    """An engine under test. `pass_ms` returns when at least so much of the engine's time has passed."""

    @property
    def engine(self) -> Engine:
        """The engine, ready to answer."""
        ...

    async def pass_ms(self, ms: int) -> None:
        """Let time pass."""
        ...


Factory = Callable[[], AbstractAsyncContextManager[Harness]]


def good(result: R | Refused) -> R:
    assert not isinstance(result, Refused), result
    return result


def assert_gone(answer: Kept | Refused) -> None:
    assert isinstance(answer, Refused), answer
    assert answer.code == "unknown_session", answer


class World:
    """A harness with people in it."""

    def __init__(self, harness: Harness) -> None:
        self.engine = harness.engine
        self._harness = harness
        self._processes = 0

    async def ask(self, request: Request[R], origin: Origin | None = None) -> R | Refused:
        return await self.engine.ask(request, origin)

    async def get(self, request: Request[R], origin: Origin | None = None) -> R:
        """Ask for what must not be refused."""
        result: R | Refused = await self.engine.ask(request, origin)
        return good(result)

    async def no(self, request: Request[Any], code: str, origin: Origin | None = None) -> Refused:
        """Ask for what must be refused, with just this code."""
        result: object = await self.engine.ask(request, origin)
        assert isinstance(result, Refused), result
        assert result.code == code, result
        return result

    async def pass_ms(self, ms: int) -> None:
        await self._harness.pass_ms(ms)

    async def seen(self, kind: str, after: int = 0, **fields: object) -> Transition:
        """The first transition with these fields after number `after`; waits until it has happened."""
        async for batch in self.engine.watch(after):
            assert not isinstance(batch, Compacted)
            for transition in batch:
                if transition.kind == kind and all(getattr(transition, name) == fields[name] for name in fields):
                    return transition
        raise AssertionError(f"the watch ended without {kind} {fields}")

    async def until_seen(
        self, kind: str, after: int, *nodes: "Node", every_ms: int = 20, **fields: object
    ) -> Transition:
        """Like `seen`, while these nodes are kept alive and time passes."""
        number = after
        while True:
            if self.engine.last_transition() > number:
                async for batch in self.engine.watch(number):
                    assert not isinstance(batch, Compacted)
                    for transition in batch:
                        number = transition.number
                        if transition.kind == kind and all(
                            getattr(transition, name) == fields[name] for name in fields
                        ):
                            return transition
                    break
            for node in nodes:
                await node.try_keep()
            await self.pass_ms(every_ms)

    def process(self) -> str:
        self._processes += 1
        return f"{self._processes:016x}"

    async def node(self, name: str, ttl_ms: int = LONG_TTL_MS) -> "Node":
        """Open a session for a node."""
        opened = await self.get(OpenSession(NodeId(name), ttl_ms, self.process()))
        assert (opened.node, opened.ttl_ms) == (name, ttl_ms)
        return Node(self, name, opened.session)

    async def leader(
        self, name: str, ttl_ms: int = LONG_TTL_MS, election: ElectionName = ORDERS
    ) -> tuple["Node", Lease]:
        """A node that stands, is granted, and has had it confirmed."""
        node = await self.node(name, ttl_ms)
        await node.campaign(election=election)
        await self.seen("granted", session=node.session, election=election)
        return node, await node.lease(election)

    async def candidate(self, name: str, priority: int = 0, ttl_ms: int = LONG_TTL_MS) -> "Node":
        """A node that stands for `orders`."""
        node = await self.node(name, ttl_ms)
        await node.campaign(priority)
        return node

    async def election(self, name: ElectionName = ORDERS) -> ElectionView:
        return await self.get(ReadElection(name))

    async def history(self, name: ElectionName = ORDERS) -> tuple[HoldingView, ...]:
        return (await self.get(History(name))).holdings


class Node:
    """One node with its session."""

    def __init__(self, world: World, name: str, session: SessionId) -> None:
        self.world = world
        self.name = name
        self.session = session
        self._number = 0

    async def try_keep(self, health: int = 100, lag: int | None = None) -> Kept | Refused:
        self._number += 1
        return await self.world.ask(Keepalive(self.session, self._number, health, lag))

    async def keep(self, health: int = 100, lag: int | None = None) -> Kept:
        kept = good(await self.try_keep(health, lag))
        assert (kept.session, kept.number) == (self.session, self._number)
        return kept

    async def campaign(self, priority: int = 0, election: ElectionName = ORDERS) -> None:
        await self.world.get(Campaign(self.session, election, priority))

    async def lease(self, election: ElectionName = ORDERS) -> Lease:
        (lease,) = [lease for lease in (await self.keep()).leases if lease.election == election]
        return lease

    async def release(self, lease: Lease, withdraw: bool = False) -> None:
        await self.world.get(Release(self.session, lease.election, lease.term, withdraw))

    async def withdraw(self, election: ElectionName = ORDERS) -> None:
        await self.world.get(Withdraw(self.session, election))


Batches = AsyncIterator[tuple[Transition, ...] | Compacted]
