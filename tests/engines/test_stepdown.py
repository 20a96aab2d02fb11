"""Stepdown, switchover and forced failover, as every engine must do them (P3.6, API.md)."""

import asyncio

import pytest

from tenure.leadership.engine import ReadElection, Release, Stepdown
from tests.engines.world import ORDERS, World

pytestmark = pytest.mark.anyio


async def test_the_holder_is_asked_releases_and_the_asker_hears_of_the_successor(world: World) -> None:
    node, lease = await world.leader("a")
    await world.candidate("b")
    asked = asyncio.create_task(world.get(Stepdown(ORDERS, reason="upgrade")))
    begun = await world.seen("stepdown", election=ORDERS)
    assert (begun.session, begun.term, begun.cause) == (node.session, lease.term, "stepdown")
    (demand,) = (await node.keep()).demands
    assert (demand.election, demand.term, demand.successor) == (ORDERS, lease.term, None)
    assert 0 < demand.grace_ms <= 5_000
    assert (await world.election()).state == "stepping_down"
    await node.release(lease)
    done = await asked
    assert (done.state, done.from_, done.to) == ("done", "a", "b")
    assert done.term is not None
    assert done.term > lease.term


async def test_a_switchover_goes_to_the_named_node(world: World) -> None:
    node, lease = await world.leader("a")
    await world.candidate("b", priority=9)
    await world.candidate("c")
    asked = asyncio.create_task(world.get(Stepdown(ORDERS, successor="c")))
    begun = await world.seen("stepdown")
    assert (begun.cause, begun.successor) == ("switchover", "c")
    await node.release(lease)
    assert (await asked).to == "c"
    newest, older = await world.history()
    assert (newest.began, older.ended) == ("switchover", "switchover")


async def test_with_no_time_to_wait_the_answer_is_under_way(world: World) -> None:
    _, lease = await world.leader("a")
    await world.candidate("b")
    answer = await world.get(Stepdown(ORDERS, wait_ms=0))
    assert (answer.state, answer.from_, answer.to, answer.term) == ("under_way", "a", None, lease.term)
    assert await world.get(Stepdown(ORDERS, wait_ms=0)) == answer, "it is under way already"


async def test_an_asker_whose_time_is_over_is_told_that_it_is_under_way(world: World) -> None:
    await world.leader("a")
    await world.candidate("b")
    asked = asyncio.create_task(world.get(Stepdown(ORDERS, wait_ms=100)))
    await world.seen("stepdown")
    await world.pass_ms(100)
    assert (await asked).state == "under_way"


async def test_without_an_eligible_successor_nothing_changes(world: World) -> None:
    await world.no(Stepdown(ORDERS), "unknown_election")
    node, lease = await world.leader("a")
    before = await world.get(ReadElection(ORDERS))
    await world.no(Stepdown(ORDERS), "no_eligible_successor")
    await world.no(Stepdown(ORDERS, successor="nobody"), "no_eligible_successor")
    await world.no(Stepdown(ORDERS, successor="a"), "no_eligible_successor")
    sick = await world.candidate("b")
    await sick.keep(health=0)
    assert "unhealthy" in (await world.no(Stepdown(ORDERS), "no_eligible_successor")).reason
    kept = await node.keep()
    assert (kept.leases, kept.demands) == ((lease,), ())
    after = await world.get(ReadElection(ORDERS))
    assert (after.term, after.state) == (before.term, before.state)


async def test_a_vacant_election_has_nobody_to_step_down(world: World) -> None:
    node, lease = await world.leader("a")
    await node.release(lease, withdraw=True)
    await world.no(Stepdown(ORDERS), "not_held")


async def test_who_stepped_down_is_not_eligible_until_the_successor_was_granted(world: World) -> None:
    node, lease = await world.leader("a")
    other = await world.candidate("b")
    await world.get(Stepdown(ORDERS, wait_ms=0))
    await other.withdraw()
    await node.release(lease)
    view = await world.election()
    assert (view.state, [(one.node_id, one.reason) for one in view.candidates]) == ("vacant", [("a", "stepped_down")])
    await other.campaign()
    await world.seen("granted", node_id="b")
    second = await other.lease()
    await other.release(second, withdraw=True)
    await world.seen("granted", after=2, node_id="a", cause="released")


async def test_a_holder_that_does_not_answer_loses_its_lease_after_grace_and_ttl(world: World) -> None:
    node, lease = await world.leader("a", ttl_ms=1_000)
    standby = await world.candidate("b")
    await world.get(Stepdown(ORDERS, grace_ms=100, wait_ms=0))
    begun = await world.seen("stepdown")
    # It goes on sending keepalives and never releases.
    ended = await world.until_seen("ended", begun.number, node, election=ORDERS)
    assert (ended.term, ended.cause) == (lease.term, "stepdown")
    await world.seen("granted", after=ended.number, node_id="b")
    assert (await standby.lease()).term > lease.term
    phases = [phase.name for phase in (await world.history())[-1].phases]
    assert phases[-1] in {"revoked", "expired"}  # "expired": a noisy machine kept it from renewing


async def test_fenced_off_does_not_wait_for_the_lease(world: World) -> None:
    node, lease = await world.leader("a")  # its TTL is far longer than this test
    standby = await world.candidate("b")
    done = await world.get(Stepdown(ORDERS, reason="power cut", fenced_off=True))
    assert (done.state, done.to) == ("done", "b")
    assert (await standby.lease()).term == done.term
    assert (await node.keep()).leases == ()
    await world.no(Release(node.session, ORDERS, lease.term), "not_held")
    ended = (await world.history())[-1]
    assert (ended.ended, ended.reason) == ("stepdown", "power cut")
    assert "fenced_off" in [phase.name for phase in ended.phases]
