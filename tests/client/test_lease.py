"""`lead()` as applications use it: both facades, one keeper, and what happens at its ends."""

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tenure.base.errors import Invalid
from tenure.client.errors import Denied, LeaseLost, NodeInUse, TimedOut, Unreachable
from tenure.client.lease import Leadership, Lease, lead
from tests.client.cluster import Cluster, Member, members

PATIENCE = 30.0


@pytest.fixture
def one() -> Iterator[tuple[Cluster, Member]]:
    with members(1) as (cluster, (member,)):
        yield cluster, member


def stand(member: Member, election: str = "orders", node: str = "a", **more: Any) -> Leadership:
    return lead(election, endpoints=member.endpoint, node=node, ttl_ms=60_000, **{"timeout": PATIENCE, **more})


def test_a_with_block_leads_under_a_term_and_gives_it_back(one: tuple[Cluster, Member]) -> None:
    cluster, member = one
    with stand(member) as lease:
        assert lease.term == cluster.terms
        assert lease.fence_token.startswith(f"t1.orders.{lease.term}.")
        assert 0 < lease.remaining() <= 60
        lease.check()
        assert not lease.lost
    assert lease.remaining() == 0
    assert lease.lost.is_set()
    with pytest.raises(LeaseLost, match="released") as lost:
        lease.check()
    assert lost.value.cause == "released"
    assert cluster.held == {}
    assert cluster.sessions == {}


def test_an_async_with_block_does_the_same(one: tuple[Cluster, Member]) -> None:
    cluster, member = one

    async def work() -> None:
        async with stand(member) as lease:
            lease.check()
            assert cluster.held["orders"][1] == lease.term
        assert lease.lost.is_set()

    asyncio.run(work())
    assert cluster.sessions == {}


def test_leadership_object_can_be_entered_again_but_not_twice_at_once(one: tuple[Cluster, Member]) -> None:
    _, member = one
    leadership = stand(member)
    with leadership as first:
        with pytest.raises(RuntimeError, match="entered already"), leadership:
            pass
        first.check()
    with leadership as second:
        assert second.term > first.term


def test_the_office_is_given_back_when_the_block_raises(one: tuple[Cluster, Member]) -> None:
    cluster, member = one
    with pytest.raises(ZeroDivisionError), stand(member):
        _ = 1 / 0
    assert cluster.held == {}
    assert cluster.causes == [("crash", "ZeroDivisionError")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError, LeaseLost])
def test_to_be_interrupted_or_to_hear_of_the_end_is_no_crash(one: tuple[Cluster, Member], error: Any) -> None:
    cluster, member = one
    raised = error("over", "expired") if error is LeaseLost else error()
    with pytest.raises(error), stand(member):
        raise raised
    with stand(member):
        pass
    name = {"LeaseLost": "tenure.client.errors.LeaseLost", "CancelledError": "asyncio.exceptions.CancelledError"}
    assert cluster.causes == [("released", name.get(error.__name__, error.__name__)), ("released", None)]


def wait(lease: Lease, heard: threading.Event) -> None:
    lease.lost.wait()
    heard.set()


def test_lost_wakes_threads_and_coroutines(one: tuple[Cluster, Member]) -> None:
    cluster, member = one

    async def work() -> str | None:
        async with stand(member) as lease:
            session = cluster.held["orders"][0]
            heard = threading.Event()
            threading.Thread(target=wait, args=(lease, heard)).start()
            cluster.expire(session)
            cluster.push(session, type="session_gone", cause="expired")
            async with asyncio.timeout(PATIENCE):
                await lease.lost
            assert await asyncio.to_thread(heard.wait, PATIENCE)
            with pytest.raises(LeaseLost, match="session"):
                lease.check()
            return lease.cause

    assert asyncio.run(work()) == "session_lost"


def test_a_loop_that_blocks_does_not_stop_the_renewals(one: tuple[Cluster, Member]) -> None:
    cluster, member = one

    async def work() -> None:
        async with lead("orders", endpoints=member.endpoint, node="a", ttl_ms=1_000, timeout=PATIENCE) as lease:
            session = cluster.held["orders"][0]
            renewed = len(cluster.numbers[session]) + 5
            while len(cluster.numbers[session]) < renewed:  # never lets the loop run
                pass
            lease.check()

    asyncio.run(work())


def test_a_demand_sets_lost_while_the_lease_is_still_valid(one: tuple[Cluster, Member]) -> None:
    cluster, member = one
    with stand(member) as lease:
        session = cluster.held["orders"][0]
        cluster.push(session, type="stepdown", election="orders", term=lease.term, successor="b", grace_ms=5_000)
        assert lease.lost.wait(PATIENCE)
        assert lease.demand is not None
        assert lease.demand.successor == "b"
        assert lease.cause == "stepdown"
        assert not lease.ended
        lease.check()


def test_two_elections_of_one_process_share_one_session(one: tuple[Cluster, Member]) -> None:
    cluster, member = one
    with stand(member) as orders, stand(member, "billing") as billing:
        assert orders.term != billing.term
        assert len(cluster.sessions) == 1
    assert cluster.sessions == {}


def test_one_election_twice_in_one_process_is_refused(one: tuple[Cluster, Member]) -> None:
    _, member = one
    with stand(member), pytest.raises(Invalid, match="already stands"), stand(member):
        pass


def test_another_ttl_needs_another_node(one: tuple[Cluster, Member]) -> None:
    _, member = one
    with stand(member), pytest.raises(Invalid, match="ttl_ms"):
        lead("billing", endpoints=member.endpoint, node="a", ttl_ms=5_000).__enter__()


def test_without_the_office_in_time_it_says_so(one: tuple[Cluster, Member]) -> None:
    cluster, member = one
    with stand(member), pytest.raises(TimedOut, match="somebody else leads"), stand(member, node="b", timeout=0.3):
        pass
    assert cluster.sessions == {}


def test_waiting_for_the_office_can_be_cancelled(one: tuple[Cluster, Member]) -> None:
    cluster, member = one

    async def wait() -> None:
        async with asyncio.timeout(0.2), stand(member, node="b"):
            pass

    async def work() -> None:
        async with stand(member):
            with pytest.raises(TimeoutError):
                await wait()

    asyncio.run(work())
    assert cluster.sessions == {}


def test_a_name_in_use_is_named(one: tuple[Cluster, Member]) -> None:
    cluster, member = one
    cluster.refuse_open = {"code": "node_in_use", "reason": "node 'a' has the live session 5", "retry_after_ms": 20}
    with pytest.raises(NodeInUse, match="give this one a name of its own"), stand(member, timeout=0.3):
        pass


def test_nobody_there_is_named() -> None:
    gone = Member(Cluster())
    gone.die()
    with pytest.raises(Unreachable, match="TENURE_ENDPOINTS"), stand(gone, timeout=0.3):
        pass


def test_a_wrong_secret_ends_the_waiting_at_once() -> None:
    with (
        members(1, secret="right") as (_, (member,)),
        pytest.raises(Denied, match="TENURE_SECRET_FILE"),
        stand(member, secret="wrong"),
    ):
        pass


def test_a_forked_child_fails_the_check_and_leaves_the_block_alone(one: tuple[Cluster, Member]) -> None:
    cluster, member = one
    with stand(member) as lease:
        child = os.fork()
        if child == 0:
            try:
                lease.check()
            except LeaseLost as lost:
                os._exit(0 if lost.cause == "forked" else 2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        lease.check()
        assert "orders" in cluster.held
