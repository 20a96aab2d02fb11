"""Watchers of transitions: each once, in order, or an explicit `Compacted` for one that is too slow (S20)."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from tenure.leadership.engine import Compacted, Transition

queued_max: Final = 4096
"""Transitions that may wait for one watcher; above that it is told `Compacted`."""

After = Callable[[int], tuple[Transition, ...] | Compacted]


class _Watcher:
    __slots__ = ("overrun", "queue", "wake")

    def __init__(self) -> None:
        self.queue: deque[Transition] = deque()
        self.overrun = False
        self.wake: asyncio.Future[None] | None = None

    def rouse(self) -> None:
        if self.wake is not None and not self.wake.done():
            self.wake.set_result(None)


class Watchers:
    """Everybody who watches at this member."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int = queued_max) -> None:
        self._loop = loop
        self._limit = limit
        self._watchers: set[_Watcher] = set()
        self._closed = False

    def publish(self, transitions: Sequence[Transition]) -> None:
        """These were just applied."""
        for watcher in self._watchers:
            if watcher.overrun:
                continue
            if len(watcher.queue) + len(transitions) > self._limit:
                watcher.queue.clear()
                watcher.overrun = True
            else:
                watcher.queue.extend(transitions)
            watcher.rouse()

    def skipped(self) -> None:
        """A snapshot replaced the state: nobody can be told what lies between."""
        for watcher in self._watchers:
            watcher.queue.clear()
            watcher.overrun = True
            watcher.rouse()

    def close(self) -> None:
        """Every watch ends."""
        self._closed = True
        for watcher in self._watchers:
            watcher.rouse()

    async def watch(
        self, after: int | None, last: Callable[[], int], read: After
    ) -> AsyncIterator[tuple[Transition, ...] | Compacted]:
        """Batches with `number > after`; None: from now on."""
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            seen = last() if after is None else after
            if after is not None:
                kept = read(after)
                if isinstance(kept, Compacted):
                    seen = kept.next_number - 1
                    yield kept
                elif kept:
                    seen = kept[-1].number
                    yield kept
            while not self._closed:
                if watcher.overrun:
                    watcher.overrun = False
                    watcher.queue.clear()
                    if last() > seen:  # else a member that lagged behind this watcher has left out what it had seen
                        seen = last()
                        yield Compacted(seen + 1)
                    continue
                batch = tuple(item for item in watcher.queue if item.number > seen)
                watcher.queue.clear()
                if batch:
                    seen = batch[-1].number
                    yield batch
                    continue
                watcher.wake = self._loop.create_future()
                await watcher.wake
        finally:
            self._watchers.discard(watcher)
