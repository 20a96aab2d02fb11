"""Fenced metadata, as every engine must keep it (API.md, kv)."""

import msgspec
import pytest

from tenure.leadership.engine import KvGet, KvList, KvPut
from tests.engines.world import ORDERS, World

pytestmark = pytest.mark.anyio


async def test_what_is_written_is_read_with_its_revision(world: World) -> None:
    written = await world.get(KvPut("app/config", b'{"a":1}'))
    found = await world.get(KvGet("app/config"))
    assert (found.value, found.revision) == (b'{"a":1}', written.revision)
    assert (await world.get(KvPut("app/config", b"2"))).revision > written.revision
    await world.no(KvGet("nothing"), "unknown_key")


async def test_a_replaced_leader_can_write_no_more(world: World) -> None:
    node, old = await world.leader("a")
    written = await world.get(KvPut("state", b"1", ORDERS, old.term))
    assert (written.election, written.term) == (ORDERS, old.term)
    await node.release(old, withdraw=True)
    await world.no(KvPut("state", b"2", ORDERS, old.term), "stale_term")
    _, new = await world.leader("b")
    refusal = await world.no(KvPut("state", b"2", ORDERS, old.term), "stale_term")
    assert refusal.current_term == new.term
    await world.no(KvPut("state", b"2"), "stale_term")
    await world.get(KvPut("state", b"3", ORDERS, new.term))
    assert (await world.get(KvGet("state"))).value == b"3"


async def test_a_write_may_depend_on_a_revision(world: World) -> None:
    first = await world.get(KvPut("k", b"1", if_revision=0))
    await world.no(KvPut("k", b"2", if_revision=0), "revision_mismatch")
    await world.get(KvPut("k", b"2", if_revision=first.revision))
    await world.no(KvPut("k", b"3", if_revision=first.revision), "revision_mismatch")


async def test_leader_status_is_readable_and_never_writable(world: World) -> None:
    _, lease = await world.leader("a")
    await world.no(KvPut("leader_status/orders", b"{}"), "reserved_key")
    status = msgspec.json.decode((await world.get(KvGet("leader_status/orders"))).value)
    assert (status["node_id"], status["term"]) == ("a", lease.term)
    assert status["lease_expiry"].endswith("Z")


async def test_a_value_has_a_bound_and_an_election_must_exist(world: World) -> None:
    await world.no(KvPut("k", b'"' + b"x" * (1 << 20) + b'"'), "too_large")
    await world.no(KvPut("k", b"1", ORDERS, 1), "unknown_election")


async def test_keys_are_listed_in_order(world: World) -> None:
    for key in ("b/2", "a", "b/1"):
        await world.get(KvPut(key, b"1"))
    assert (await world.get(KvList("b/"))).keys == ("b/1", "b/2")
    page = await world.get(KvList(limit=2))
    assert (page.keys, page.more) == (("a", "b/1"), True)
