"""What can't be: every engine refuses it with the field at fault, whoever asks (`leadership.checks`, API.md)."""

import pytest

from tenure.base.ids import ElectionName, NodeId, SessionId
from tenure.leadership.engine import Campaign, Keepalive, KvPut, OpenSession
from tests.engines.world import ORDERS, World

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (OpenSession(NodeId("not a name"), 1_000, "0" * 16), "node"),
        (OpenSession(NodeId("a"), 0, "0" * 16), "ttl_ms"),
        (OpenSession(NodeId("a"), 1_000, "short"), "process"),
        (OpenSession(NodeId("a"), 1_000, "0" * 16, {"k": "v" * 5_000}), "meta"),
        (Keepalive(SessionId("nonsense"), 0), "number"),
        (Keepalive(SessionId("1-" + "0" * 16), 1, health=101), "health"),
    ],
)
async def test_bad_shapes_are_refused_with_the_field(
    world: World, request_: OpenSession | Keepalive, field: str
) -> None:
    assert (await world.no(request_, "invalid")).field == field


async def test_a_name_that_cannot_be_one_is_refused_with_the_field(world: World) -> None:
    node = await world.node("a")
    bad = Campaign(node.session, ElectionName("Not A Name"))
    assert (await world.no(bad, "invalid")).field == "election"


async def test_shapes_and_sizes_are_checked(world: World) -> None:
    assert (await world.no(KvPut("", b"1"), "invalid")).field == "key"
    assert (await world.no(KvPut("a\x00b", b"1"), "invalid")).field == "key"
    assert (await world.no(KvPut("k" * 600, b"1"), "invalid")).field == "key"
    assert (await world.no(KvPut("k", b"1", ORDERS), "invalid")).field == "term"
