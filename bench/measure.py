"""The measurements, written once for both sides."""

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from bench.sides import KeepLane, Lane, Side

write_every_ms: Final = 2
failover_s_max: Final = 15
_WARM_S: Final = 0.4


class Rate(Struct, frozen=True):
    """What a closed loop reached."""

    per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


def quantile(values: list[float], share: float) -> float:
    """The value at `share` of the ordered list; nan for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


async def closed_loop(lanes: list[Lane], encode: Callable[[int], bytes], seconds: float) -> Rate:
    """Every lane asks, waits for its answer, and asks again."""
    requests = [encode(number) for number in range(1_000)]
    times: list[float] = []
    failed = 0
    number = 0
    running = True
    clock = time.perf_counter

    def ask(lane: Lane) -> None:
        nonlocal number
        number += 1
        start = clock()

        def answered(body: bytes | None) -> None:
            nonlocal failed
            if body is None:
                failed += 1
                return  # a lane that failed is not asked again: a closed socket would spin
            times.append(clock() - start)
            if running:
                ask(lane)

        lane.ask(requests[number % 1_000], answered)

    for lane in lanes:
        ask(lane)
    await asyncio.sleep(_WARM_S)
    times.clear()
    begin = clock()
    await asyncio.sleep(seconds)
    count, elapsed = len(times), clock() - begin
    running = False
    ms = [each * 1e3 for each in times]
    return Rate(count / elapsed, quantile(ms, 0.5), quantile(ms, 0.99), failed)


async def keepalives(lanes: list[KeepLane], seconds: float) -> float:
    """Acknowledged keepalives per second."""
    for lane in lanes:
        lane.begin()
    await asyncio.sleep(_WARM_S)
    before, begin = sum(lane.count for lane in lanes), time.perf_counter()
    await asyncio.sleep(seconds)
    rate = (sum(lane.count for lane in lanes) - before) / (time.perf_counter() - begin)
    for lane in lanes:
        lane.close()
    return rate


class OpenLoop:
    """A client that writes every 2 ms through the survivors in turn and never waits for an answer."""

    def __init__(self, lanes: list[Lane], encode: Callable[[int], bytes]) -> None:
        self._lanes = lanes
        self._encode = encode
        self._count = 0
        self._struck = float("inf")
        self._first: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            lane = self._lanes[self._count % len(self._lanes)]
            self._count += 1
            sent = time.perf_counter()
            lane.ask(self._encode(self._count), lambda body, sent=sent: self._answered(body, sent))  # type: ignore[misc]
            due += write_every_ms / 1e3
            await asyncio.sleep(max(0.0, due - loop.time()))

    def _answered(self, body: bytes | None, sent: float) -> None:
        if body is not None and sent >= self._struck and not self._first.done():
            self._first.set_result((time.perf_counter() - self._struck) * 1e3)

    async def strike_ms(self, strike: Callable[[], None]) -> float:
        """Milliseconds from the blow to the first acknowledgement of a write that was sent after it."""
        self._task = asyncio.create_task(self._write())
        try:
            await asyncio.sleep(_WARM_S)
            self._struck = time.perf_counter()
            strike()
            async with asyncio.timeout(failover_s_max):
                return await self._first
        finally:
            self._task.cancel()


async def failover_ms(side: Side, how: str) -> float:
    """Kill (-9) or freeze (SIGSTOP) the leader under a client's writes; then mend it."""
    leader = await side.settled()
    await asyncio.sleep(1)
    lanes = [await side.open_loop_lane(member) for member in range(3) if member != leader]
    try:
        return await OpenLoop(lanes, side.put).strike_ms(
            lambda: side.kill(leader) if how == "kill" else side.freeze(leader)
        )
    finally:
        for lane in lanes:
            lane.close()
        await side.mend(leader)


async def throughput(side: Side, what: str, connections: int, seconds: float) -> Rate:
    """Writes or linearizable reads against the leader."""
    leader = await side.settled()
    opening = side.put_lane if what == "put" else side.get_lane
    lanes = [await opening(leader) for _ in range(connections)]
    try:
        return await closed_loop(lanes, side.put if what == "put" else side.get, seconds)
    finally:
        for lane in lanes:
            lane.close()


async def idle(side: Side, seconds: float) -> tuple[float, float]:
    """(resident MB, share of a core in percent) of the hungriest member while nothing is asked."""
    await side.settled()
    await asyncio.sleep(1)
    before, begin = side.cpu_s(), time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - begin
    share = max(after - earlier for after, earlier in zip(side.cpu_s(), before, strict=True)) / elapsed
    return max(side.rss_mb()), share * 100


def middle(values: list[float]) -> float:
    """The median; nan for none."""
    return statistics.median(values) if values else float("nan")
