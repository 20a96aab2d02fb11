"""The SDK against the real API on the memory engine."""

import asyncio
from collections.abc import Iterator

import pytest

from tenure.client import errors
from tenure.client.http import Client
from tenure.client.lease import Leadership, lead
from tenure.client.observer import Observer, observe
from tenure.engines.memory import MemoryEngine
from tenure.leadership.engine import Refused
from tests.api.scripted import Scripted, serving

PATIENCE = 30.0


@pytest.fixture
def url() -> Iterator[str]:
    with serving(MemoryEngine()) as server:
        yield f"http://127.0.0.1:{server.port}"


def stand(url: str, node: str, election: str = "orders", priority: int = 0) -> Leadership:
    return lead(election, endpoints=url, node=node, ttl_ms=20_000, timeout=PATIENCE, priority=priority)


def test_leading_validating_and_a_stale_write(url: str) -> None:
    with Client(url) as client:
        with stand(url, "a") as lease:
            assert client.validate(lease.fence_token).valid
            assert client.validate(election="orders", term=lease.term).reason == "current"
            client.kv_put("cursor", {"row": 7}, election="orders", term=lease.term)
            assert client.kv_get("cursor").value == {"row": 7}
            assert client.status().elections["orders"].node_id == "a"
            with stand(url, "b", "billing"):
                assert set(client.status().nodes) == {"a", "b"}
        with stand(url, "b") as newer:
            assert newer.term > lease.term
            with pytest.raises(errors.StaleTerm) as stale:
                client.kv_put("cursor", {"row": 8}, election="orders", term=lease.term)
            assert stale.value.current_term == newer.term
            assert client.validate(lease.fence_token).reason == "stale"
        assert client.kv_list("cur").keys == ("cursor",)
        assert [holding.node_id for holding in client.history("orders").holdings] == ["b", "a"]


def test_a_stepdown_hands_over_as_soon_as_the_block_ends(url: str) -> None:
    async def serve(node: str, priority: int, started: asyncio.Event) -> int:
        async with stand(url, node, priority=priority) as lease:
            started.set()
            await lease.lost
            return lease.term

    async def story() -> None:
        started, taken = asyncio.Event(), asyncio.Event()
        first = asyncio.create_task(serve("a", 1, started))
        await started.wait()
        second = asyncio.create_task(serve("b", 0, taken))
        with Client(url) as client:
            while "b" not in [each.node_id for each in client.election("orders").candidates]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            stepped = await asyncio.to_thread(client.stepdown, "orders", successor="b", grace_ms=int(PATIENCE * 1_000))
        assert (stepped.state, stepped.from_, stepped.to) == ("done", "a", "b")
        await taken.wait()
        assert stepped.term is not None
        assert await first < stepped.term
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)

    asyncio.run(asyncio.wait_for(story(), PATIENCE))


def test_a_stepdown_without_a_successor_changes_nothing(url: str) -> None:
    with stand(url, "a") as lease, Client(url) as client:
        with pytest.raises(errors.NoSuccessor):
            client.stepdown("orders")
        lease.check()


def test_watching_tells_the_present_and_every_change(url: str) -> None:
    with observe("orders", endpoints=url) as watch:
        sightings = iter(watch)
        assert next(sightings).node_id is None
        with stand(url, "a") as lease:
            seen = next(each for each in sightings if each.node_id == "a")
            assert seen.term == lease.term
        assert next(each for each in sightings if each.node_id is None).term == lease.term
        assert watch.trouble is None
        age = watch.age()
        assert age is not None


def test_a_watch_notices_that_the_quorum_is_gone_and_is_back() -> None:
    engine = Scripted()
    with (
        serving(engine) as server,
        Client(f"http://127.0.0.1:{server.port}", timeout=0.1) as client,
        Observer("orders", client, poll_ms=20) as watch,
    ):
        assert next(iter(watch)).node_id == "a"
        engine.script = lambda _: Refused("no_quorum", "no consensus leader is known", retry_after_ms=200)
        server.until(lambda: watch.trouble == "no consensus leader is known")
        engine.script = lambda _: None
        server.until(lambda: watch.trouble is None)


def test_watching_from_a_coroutine(url: str) -> None:
    async def story() -> list[str | None]:
        seen: list[str | None] = []
        async with observe("orders", endpoints=url) as watch, stand(url, "a"):
            async for sighting in watch:
                seen.append(sighting.node_id)
                if sighting.node_id == "a":
                    break
        return seen

    assert asyncio.run(asyncio.wait_for(story(), PATIENCE))[-1] == "a"


def test_who_watches_with_a_wrong_secret_is_told() -> None:
    from dataclasses import replace

    from tests.api.scripted import INFO

    with serving(MemoryEngine(), replace(INFO, secret=b"x" * 32)) as server:
        watch = observe("orders", endpoints=f"http://127.0.0.1:{server.port}", secret="wrong")
        with pytest.raises(errors.Denied):
            next(iter(watch))
