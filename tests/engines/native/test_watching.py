"""Watchers: no loss, no duplicate, no reorder, or an explicit `Compacted` (S20)."""

import asyncio

from tenure.engines.native.watching import Watchers, queued_max
from tenure.leadership.engine import Compacted, Transition
from tests.engines.native.members import run


def transitions(first: int, last: int) -> tuple[Transition, ...]:
    return tuple(Transition(number, number, "kv", 0, key=f"k{number}") for number in range(first, last + 1))


def test_what_was_kept_comes_first_then_what_happens_without_a_gap() -> None:
    async def story() -> None:
        watchers = Watchers(asyncio.get_running_loop())
        watch = watchers.watch(0, lambda: 5, lambda after: transitions(after + 1, 5))
        first = await anext(watch)
        watchers.publish(transitions(6, 8))
        second = await anext(watch)
        assert not isinstance(first, Compacted)
        assert not isinstance(second, Compacted)
        assert [one.number for one in (*first, *second)] == list(range(1, 9))
        await watch.aclose()  # type: ignore[attr-defined]

    run(story())


def test_from_now_on_means_nothing_of_before() -> None:
    async def story() -> None:
        watchers = Watchers(asyncio.get_running_loop())
        watch = watchers.watch(None, lambda: 5, lambda after: ())
        next_one = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        watchers.publish(transitions(5, 6))
        batch = await next_one
        assert not isinstance(batch, Compacted)
        assert [one.number for one in batch] == [6]
        await watch.aclose()  # type: ignore[attr-defined]

    run(story())


def test_a_watcher_that_is_too_slow_is_told_so_and_goes_on_behind_the_gap() -> None:
    async def story() -> None:
        watchers = Watchers(asyncio.get_running_loop())
        newest = 0
        watch = watchers.watch(None, lambda: newest, lambda after: ())
        first = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        watchers.publish(transitions(1, 1))
        await first
        watchers.publish(transitions(2, queued_max + 10))
        newest = queued_max + 10
        assert await anext(watch) == Compacted(newest + 1)
        watchers.publish(transitions(newest + 1, newest + 1))
        batch = await anext(watch)
        assert not isinstance(batch, Compacted)
        assert [one.number for one in batch] == [newest + 1]
        await watch.aclose()  # type: ignore[attr-defined]

    run(story())


def test_a_state_replaced_by_a_snapshot_is_a_gap_for_everybody() -> None:
    async def story() -> None:
        watchers = Watchers(asyncio.get_running_loop())
        watch = watchers.watch(0, lambda: 900, lambda after: transitions(1, 1) if after == 0 else ())
        await anext(watch)
        watchers.skipped()
        assert await anext(watch) == Compacted(901)
        await watch.aclose()  # type: ignore[attr-defined]

    run(story())


def test_closing_ends_every_watch() -> None:
    async def story() -> None:
        watchers = Watchers(asyncio.get_running_loop())
        watch = watchers.watch(None, lambda: 0, lambda after: ())
        waiting = asyncio.ensure_future(anext(watch, None))
        await asyncio.sleep(0)
        watchers.close()
        assert await waiting is None

    run(story())


def test_a_watcher_that_has_seen_more_than_a_laggard_is_not_sent_back_by_its_snapshot() -> None:
    async def story() -> None:
        watchers = Watchers(asyncio.get_running_loop())
        newest = 50
        watch = watchers.watch(100, lambda: newest, lambda after: ())
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        newest = 80
        watchers.skipped()
        await asyncio.sleep(0)
        assert not waiting.done()
        watchers.publish(transitions(81, 102))
        batch = await waiting
        assert not isinstance(batch, Compacted)
        assert [one.number for one in batch] == [101, 102]
        newest = 200
        watchers.skipped()
        assert await anext(watch) == Compacted(201)
        await watch.aclose()  # type: ignore[attr-defined]

    run(story())
