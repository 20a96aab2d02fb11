"""The rows of the result: what is measured, for which side, and the target that Tenure has to reach."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Literal

from msgspec import Struct

from bench import measure
from bench.sides import Side

hand_over_s_max: Final = 15
hand_over_tries_max: Final = 4

Samples = dict[str, list[float]]
Measure = Callable[[Side, "Effort"], Awaitable[Samples]]


class Effort(Struct, frozen=True):
    """How long and how often, per side and round."""

    seconds: float = 3
    blows: int = 5
    connections: int = 64
    idle_s: float = 300


class Row(Struct, frozen=True):
    """One line. `figure` picks from a side's samples; the target is absolute (`limit`) or a ratio to an etcd row."""

    key: str
    title: str
    unit: str
    sample: str
    figure: Literal["p50", "p95", "max"] = "p50"
    limit: float | None = None
    etcd: Literal["etcd 10/50", "etcd 100/1000"] = "etcd 10/50"
    etcd_sample: str | None = None
    ratio: float | None = None
    better: Literal["lower", "higher"] = "lower"


async def _kill(side: Side, effort: Effort) -> Samples:
    office = await side.office(await side.settled())
    try:
        times = [await measure.failover_ms(side, "kill") for _ in range(effort.blows)]
        return {"kill": times, "lost": [await office.lost()]}
    finally:
        await office.close()


async def _freeze(side: Side, effort: Effort) -> Samples:
    return {"freeze": [await measure.failover_ms(side, "freeze") for _ in range(effort.blows)]}


async def _puts(side: Side, effort: Effort) -> Samples:
    rates = {n: await measure.throughput(side, "put", n, effort.seconds) for n in (1, 16, effort.connections)}
    return {f"puts{n}": [rate.per_s] for n, rate in rates.items()}


async def _reads(side: Side, effort: Effort) -> Samples:
    rate = await measure.throughput(side, "get", effort.connections, effort.seconds)
    return {"reads": [rate.per_s]}


async def _keepalives(side: Side, effort: Effort) -> Samples:
    leader = await side.settled()
    once = await measure.keepalives(await side.once_lanes(leader, effort.connections), effort.seconds)
    single = await measure.keepalives(await side.stream_lanes(leader, effort.connections, 1), effort.seconds)
    many = await measure.keepalives(await side.stream_lanes(leader, 1, effort.connections), effort.seconds)
    each = await measure.keepalives(await side.stream_lanes(leader, 1, effort.connections, True), effort.seconds)
    return {"keep_once": [once], "keep_single": [single], "keep_many": [many], "keep_each": [each]}


async def _idle(side: Side, effort: Effort) -> Samples:
    rss, cpu = await measure.idle(side, effort.seconds * 3)
    return {"rss": [rss], "cpu": [cpu]}


async def _stable(side: Side, effort: Effort) -> Samples:
    """Five idle minutes, then one at 64 writing connections."""
    await side.settled()
    terms = [await side.consensus_term()]
    await asyncio.sleep(effort.idle_s)
    terms.append(await side.consensus_term())
    await measure.throughput(side, "put", effort.connections, effort.idle_s / 5)
    terms.append(await side.consensus_term())
    return {"changes_idle": [float(terms[1] - terms[0])], "changes_load": [float(terms[2] - terms[1])]}


async def _office(side: Side, effort: Effort) -> Samples:
    samples: Samples = {"stepdown": [], "crash": []}
    leader = await side.settled()
    for _ in range(effort.blows):
        for name in samples:
            samples[name].append(await _hand_over(side, leader, name))
    return samples


async def _hand_over(side: Side, leader: int, name: str) -> float:
    """One hand-over. A side that lost its own leader meanwhile (etcd tuned to 10/50 ms does, here) is asked again, and
    that is printed; `TimeoutError` after the last try.
    """
    for _ in range(hand_over_tries_max):
        office = await side.office(leader)
        try:
            async with asyncio.timeout(hand_over_s_max):
                return await (office.stepdown_ms() if name == "stepdown" else office.crash_ms())
        except (TimeoutError, OSError) as error:
            print(f"  {name}: no hand-over within {hand_over_s_max} s ({error!r}), once more", flush=True)
            leader = await side.settled()
        finally:
            await office.close()
    raise TimeoutError(f"no {name} in {hand_over_tries_max} tries")


MEASURES: dict[str, Measure] = {
    "idle": _idle,
    "puts": _puts,
    "reads": _reads,
    "keepalives": _keepalives,
    "office": _office,
    "kill": _kill,
    "freeze": _freeze,
    "stable": _stable,
}

ROWS: dict[str, tuple[Row, ...]] = {
    "kill": (
        Row("kill_p50", "kill -9 of the leader → next acknowledged write, p50", "ms", "kill", limit=20, ratio=1 / 3),
        Row("kill_p95", "… p95", "ms", "kill", "p95", limit=60),
        Row("kill_default", "… p50, etcd with its default times", "ms", "kill", etcd="etcd 100/1000"),
        Row("lost", "application leases (TTL 500 ms) lost over these kills", "", "lost", "max", limit=0),
    ),
    "stable": (
        Row("changes_idle", "leader changes in 5 idle minutes", "", "changes_idle", "max", limit=0),
        Row("changes_load", "leader changes in 1 minute at 64 writing connections", "", "changes_load", "max", limit=0),
    ),
    "freeze": (
        Row("freeze_p50", "leader frozen (SIGSTOP) → next acknowledged write, p50", "ms", "freeze", limit=120),
        Row("freeze_p95", "… p95", "ms", "freeze", "p95", limit=300),
    ),
    "office": (
        Row("stepdown", "stepdown of an election → next leader knows, p50", "ms", "stepdown", limit=10),
        Row("crash", "leading child killed → next node's child started, p50", "ms", "crash", limit=30),
    ),
    "puts": tuple(
        Row(f"puts{n}", f"durable puts, {n} connections", "/s", f"puts{n}", ratio=1, better="higher")
        for n in (1, 16, 64)
    ),
    "reads": (Row("reads", "linearizable reads, 64 connections", "/s", "reads", better="higher"),),
    "keepalives": (
        Row("keep_rest", "keepalives, a request each, 64 connections", "/s", "keep_once", better="higher"),
        Row(
            "keep_single",
            "keepalives, stream, one session a connection; etcd: KeepAliveOnce",
            "/s",
            "keep_single",
            etcd_sample="keep_once",
            ratio=3,
            better="higher",
        ),
        Row("keep_long", "… etcd: a long-lived stream a connection", "/s", "keep_single", better="higher"),
        Row(
            "keep_many",
            "keepalives, 64 sessions on one connection; etcd: one stream for all",
            "/s",
            "keep_many",
            ratio=1.5,
            better="higher",
        ),
        Row("keep_each", "… etcd: 64 streams", "/s", "keep_many", etcd_sample="keep_each", ratio=1.5, better="higher"),
    ),
    "idle": (
        Row("rss", "resident memory of an idle member", "MB", "rss", "max", limit=60),
        Row("cpu", "processor of an idle member, share of a core", "%", "cpu", "max", limit=2),
    ),
}


def figure(row: Row, values: list[float]) -> float:
    """The figure that the row shows."""
    if row.figure == "max":
        return max(values, default=float("nan"))
    return measure.middle(values) if row.figure == "p50" else measure.quantile(values, 0.95)
