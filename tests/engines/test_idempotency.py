"""One effect per request, on every engine (P9)."""

import pytest

from tenure.base.ids import NodeId
from tenure.leadership.engine import Keyed, KvGet, KvPut, OpenClient, OpenSession, Sequenced, Stepdown
from tests.engines.world import LONG_TTL_MS, ORDERS, World

pytestmark = pytest.mark.anyio
KEYED = Keyed("alice", "key-1", "digest-1")


async def test_one_key_has_one_effect(world: World) -> None:
    first = await world.get(KvPut("k", b"1"), KEYED)
    await world.get(KvPut("k", b"2"))
    assert await world.get(KvPut("k", b"1"), KEYED) == first
    assert (await world.get(KvGet("k"))).value == b"2"


async def test_another_body_under_the_same_key_is_refused(world: World) -> None:
    await world.get(KvPut("k", b"1"), KEYED)
    await world.no(KvPut("k", b"2"), "key_reused", Keyed("alice", "key-1", "digest-2"))
    assert (await world.get(KvGet("k"))).value == b"1"


async def test_another_principal_may_use_the_same_key(world: World) -> None:
    await world.get(KvPut("k", b"1"), KEYED)
    await world.get(KvPut("k", b"2"), Keyed("bob", "key-1", "digest-2"))
    assert (await world.get(KvGet("k"))).value == b"2"


async def test_a_repeated_opening_gives_the_same_session(world: World) -> None:
    request = OpenSession(NodeId("a"), LONG_TTL_MS, world.process())
    assert await world.get(request, KEYED) == await world.get(request, KEYED)


async def test_a_refusal_is_an_answer_too(world: World) -> None:
    first = await world.no(KvPut("k", b"1", if_revision=99), "revision_mismatch")
    assert await world.ask(KvPut("k", b"1", if_revision=99), KEYED) == first
    assert await world.ask(KvPut("k", b"1", if_revision=99), KEYED) == first


async def test_a_sequence_of_requests_has_each_effect_once(world: World) -> None:
    client = (await world.get(OpenClient("5" * 16))).client
    assert (await world.get(OpenClient("5" * 16))).client == client
    first = await world.get(KvPut("k", b"1"), Sequenced(client, 1, 1))
    await world.get(KvPut("k", b"2"), Sequenced(client, 2, 1))
    assert await world.get(KvPut("k", b"1"), Sequenced(client, 1, 1)) == first
    await world.get(KvPut("k", b"3"), Sequenced(client, 3, 3))
    await world.no(KvPut("k", b"1"), "outcome_unknown", Sequenced(client, 1, 1))
    await world.no(KvPut("k", b"1"), "outcome_unknown", Sequenced("1-" + "e" * 16, 1, 1))
    assert (await world.get(KvGet("k"))).value == b"3"


async def test_a_repeated_stepdown_moves_the_office_once(world: World) -> None:
    await world.leader("a")
    await world.candidate("b")
    request = Stepdown(ORDERS, wait_ms=0, fenced_off=True)
    await world.get(request, KEYED)
    granted = await world.seen("granted", node_id="b")
    await world.ask(request, KEYED)
    await world.get(KvPut("k", b"1"))
    view = await world.election()
    assert (view.node_id, view.term) == ("b", granted.term)
