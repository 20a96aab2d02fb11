"""What watchers and readers of the history see, on every engine (S20, DESIGN 6)."""

import asyncio

import pytest

from tenure.base.instants import wall_ms_of
from tenure.leadership import limits
from tenure.leadership.engine import CloseSession, Compacted, History, KvPut, Transition
from tests.engines.world import ORDERS, Batches, World

pytestmark = pytest.mark.anyio


async def take(batches: Batches, count: int) -> list[Transition]:
    found: list[Transition] = []
    while len(found) < count:
        batch = await anext(batches)
        assert not isinstance(batch, Compacted)
        found.extend(batch)
    return found


async def test_a_watcher_sees_everything_once_and_in_order(world: World) -> None:
    node, lease = await world.leader("a")
    await world.get(KvPut("k", b"1"))
    await node.release(lease, withdraw=True)
    await world.get(CloseSession(node.session))
    await world.seen("session_closed")
    found = await take(world.engine.watch(0), world.engine.last_transition())
    assert [one.kind for one in found] == [
        "session_opened",
        "candidate",
        "granted",
        "kv",
        "ended",
        "withdrawn",
        "session_closed",
    ]
    assert [one.number for one in found] == list(range(1, len(found) + 1))
    revisions = [one.revision for one in found]
    assert revisions == sorted(revisions)
    assert found[2].fence_token == lease.fence_token


async def test_a_watcher_resumes_where_it_left(world: World) -> None:
    await world.leader("a")
    newest = world.engine.last_transition()
    everything = await take(world.engine.watch(0), newest)
    for number in range(newest):
        assert await take(world.engine.watch(number), newest - number) == everything[number:]


async def test_a_watcher_from_now_on_sees_only_what_is_new(world: World) -> None:
    await world.get(KvPut("k", b"1"))
    async for told in world.engine.watch(0):  # a follower may apply it after it was answered
        assert not isinstance(told, Compacted)
        if any(transition.key == "k" for transition in told):
            break
    watch = world.engine.watch(None)
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    await world.get(KvPut("new", b"1"))
    batch = await waiting
    assert not isinstance(batch, Compacted)
    assert batch[0].key == "new"


async def test_a_watcher_that_comes_too_late_is_told_so_and_can_go_on(world: World) -> None:
    rest = limits.transitions_max + 1
    while rest > 0:
        await asyncio.gather(*(world.get(KvPut("k", b"1")) for _ in range(min(rest, 128))))
        rest -= 128
    watch = world.engine.watch(0)
    compacted = await anext(watch)
    assert isinstance(compacted, Compacted)
    assert compacted.next_number == world.engine.last_transition() + 1
    await world.get(KvPut("last", b"1"))
    (last,) = await take(watch, 1)
    assert (last.number, last.key) == (compacted.next_number, "last")


async def test_the_history_tells_who_led_why_it_ended_and_when(world: World) -> None:
    node, first = await world.leader("a")
    await world.candidate("b")
    await node.release(first, withdraw=True)
    granted = await world.seen("granted", node_id="b")
    newest, oldest = await world.history()
    assert (newest.node_id, newest.term, newest.began, newest.ended) == ("b", granted.term, "released", None)
    assert (oldest.node_id, oldest.term, oldest.began, oldest.ended) == ("a", first.term, "first", "released")
    assert [phase.name for phase in oldest.phases] == ["granted", "released"]
    assert [phase.name for phase in newest.phases] == ["vacant", "granted"]
    times = [wall_ms_of(phase.at) for phase in (*oldest.phases, *newest.phases)]
    assert times == sorted(times)
    assert (await world.get(History(ORDERS, limit=1))).holdings == (newest,)


async def test_a_crash_leaves_when_the_node_was_last_heard(world: World) -> None:
    node, _ = await world.leader("a", ttl_ms=200)
    await node.keep()
    await world.pass_ms(200)
    await world.seen("ended", cause="expired")
    (holding,) = await world.history()
    assert [phase.name for phase in holding.phases] == ["granted", "last_heard", "expired"]
    _, heard, expired = holding.phases
    assert wall_ms_of(expired.at) - wall_ms_of(heard.at) >= 190
