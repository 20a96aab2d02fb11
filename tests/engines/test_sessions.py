"""Sessions, as every engine must keep them (P3.1, P3.6, API.md)."""

import pytest

from tenure.base.ids import NodeId, SessionId
from tenure.leadership.engine import CloseSession, Keepalive, OpenSession, ReadSession, Status
from tests.engines.world import LONG_TTL_MS, ORDERS, World, assert_gone

pytestmark = pytest.mark.anyio
NEVER_OPENED = SessionId("999999999-" + "f" * 16)


async def test_a_session_can_be_read_back(world: World) -> None:
    opened = await world.get(OpenSession(NodeId("a"), LONG_TTL_MS, world.process(), {"zone": "z1"}))
    view = await world.get(ReadSession(opened.session))
    assert (view.node, view.ttl_ms, view.meta) == ("a", LONG_TTL_MS, {"zone": "z1"})
    assert (view.candidate_of, view.holds) == ((), ())


async def test_a_node_has_one_session_and_nobody_takes_it_over(world: World) -> None:
    node = await world.node("a")
    refusal = await world.no(OpenSession(NodeId("a"), LONG_TTL_MS, world.process()), "node_in_use")
    assert refusal.retry_after_ms is not None
    await node.keep()
    await world.get(CloseSession(node.session))
    again = await world.node("a")
    assert again.session != node.session, "a session's id is never used again"


async def test_closing_is_harmless_to_repeat(world: World) -> None:
    node = await world.node("a")
    first = await world.get(CloseSession(node.session))
    assert await world.get(CloseSession(node.session)) == first
    assert_gone(await node.try_keep())


async def test_what_was_never_opened_is_unknown(world: World) -> None:
    await world.no(Keepalive(NEVER_OPENED, 1), "unknown_session")
    await world.no(ReadSession(NEVER_OPENED), "unknown_session")
    await world.no(CloseSession(NEVER_OPENED), "unknown_session")


async def test_every_keepalive_is_acknowledged_under_its_own_number(world: World) -> None:
    node = await world.node("a")
    numbers = [(await node.keep()).number for _ in range(5)]
    assert numbers == [1, 2, 3, 4, 5]


async def test_a_number_that_is_not_fresh_is_refused(world: World) -> None:
    node = await world.node("a")
    await world.get(Keepalive(node.session, 7))
    await world.get(Keepalive(node.session, 7))  # a resend is answered
    assert (await world.no(Keepalive(node.session, 6), "invalid")).field == "number"


async def test_a_session_that_falls_silent_expires_with_all_it_held(world: World) -> None:
    node, lease = await world.leader("a", ttl_ms=200)
    await world.pass_ms(200)
    ended = await world.seen("ended", election=ORDERS)
    assert (ended.term, ended.cause, ended.node_id) == (lease.term, "expired", "a")
    await world.seen("session_expired", session=node.session)
    assert_gone(await node.try_keep())
    assert (await world.election()).state == "vacant"


async def test_status_shows_nodes_and_elections(world: World) -> None:
    node, lease = await world.leader("a")
    await node.keep(health=70, lag=3)
    status = await world.get(Status())
    assert status.quorum
    assert status.members[status.member].state
    view = status.nodes["a"]
    assert (view.session, view.health, view.lag, view.holds) == (node.session, 70, 3, (ORDERS,))
    assert status.elections[ORDERS].term == lease.term
