"""`python -m bench.run`: Tenure and etcd side by side. Prints the table, or JSON with `--json`.

--rounds N      interleaved rounds (default 5)       --only kill,puts   some measurements
--sides A,B     tenure, etcd-tuned, etcd-default     --seconds S        length of each closed loop

`--only stable` takes six minutes a round: leader changes in five idle minutes and in one under load.
"""

import argparse
import asyncio
import gc
import math
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import uvloop

from bench.etcd_side import EtcdSide
from bench.rows import MEASURES, ROWS, Effort, Row, Samples, figure
from bench.sides import Side
from bench.tenure_side import TenureSide

SIDES: dict[str, Callable[[], Side]] = {
    "tenure": TenureSide,
    "etcd-tuned": lambda: EtcdSide(10, 50),
    "etcd-default": lambda: EtcdSide(100, 1_000),
}
RARE = {"stable"}
"""Takes minutes; only when it is asked for."""
ONLY_FAILOVER = {"kill", "freeze"}
"""etcd's default times matter for fail-over alone; the rest is measured with the tuned ones."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench.run", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(name for name in MEASURES if name not in RARE))
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--blows", type=int, default=5, help="kills, freezes and hand-overs per side and round")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


async def one_turn(make: Callable[[], Side], names: list[str], effort: Effort) -> tuple[str, Samples]:
    """A fresh cluster of one side, all its measurements, and its end."""
    side = make()
    samples: Samples = {}
    wanted = [name for name in names if "1000" not in side.name or name in ONLY_FAILOVER]
    try:
        await side.start()
        for name in wanted:
            samples.update(await MEASURES[name](side, effort))
            print(f"  {side.name}: {name} " + show_samples(samples, name), file=sys.stderr, flush=True)
    finally:
        await side.stop()
        side.remove()
    return side.name, samples


def show_samples(samples: Samples, measure: str) -> str:
    keys = {row.sample for row in ROWS[measure]}
    return ", ".join(f"{key}={'/'.join(f'{v:.4g}' for v in values)}" for key, values in samples.items() if key in keys)


async def rounds(args: argparse.Namespace) -> dict[str, Samples]:
    """All rounds; the order of the sides turns."""
    effort = Effort(seconds=args.seconds, blows=args.blows)
    names = [name for name in MEASURES if name in args.only.split(",")]
    sides = args.sides.split(",")
    found: dict[str, Samples] = {}
    for number in range(args.rounds):
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
        for place in range(len(sides)):
            name, samples = await one_turn(SIDES[sides[(place + number) % len(sides)]], names, effort)
            for key, values in samples.items():
                found.setdefault(name, {}).setdefault(key, []).extend(values)
    return found


def judge(row: Row, found: dict[str, Samples]) -> dict[str, object]:
    """One line of the result."""
    ours = figure(row, found.get("tenure", {}).get(row.sample, []))
    theirs = figure(row, found.get(row.etcd, {}).get(row.etcd_sample or row.sample, []))
    ratio = ours / theirs if theirs else math.nan
    kept = []
    if row.limit is not None:
        kept.append(ours <= row.limit)
    if row.ratio is not None and not math.isnan(theirs):
        kept.append(ratio <= row.ratio if row.better == "lower" else ratio >= row.ratio)
    targets = [f"≤ {row.limit:g} {row.unit}"] if row.limit is not None else []
    if row.ratio is not None:
        targets.append(f"{'≤' if row.better == 'lower' else '≥'} {row.ratio:.2g} × etcd")
    verdict = "" if not kept or math.isnan(ours) else "pass" if all(kept) else "MISS"
    return {
        "key": row.key, "title": row.title, "unit": row.unit, "tenure": ours, "etcd": theirs, "etcd_setting": row.etcd,
        "ratio": ratio, "target": " and ".join(targets), "verdict": verdict,
    }  # fmt: skip


def table(lines: list[dict[str, object]]) -> str:
    """Markdown."""

    def shown(value: object) -> str:
        if not isinstance(value, float):
            return str(value)
        return "–" if math.isnan(value) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

    rows = ["| what | unit | Tenure | etcd | ratio | target | |", "| --- | --- | ---: | ---: | ---: | --- | --- |"]
    for line in lines:
        keys = ("title", "unit", "tenure", "etcd", "ratio", "target", "verdict")
        rows.append("| " + " | ".join(shown(line[key]) for key in keys) + " |")
    return "\n".join(rows)


def machine() -> str:
    """What it ran on."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())  # fmt: skip
    cores = sum(line.startswith("processor") for line in Path("/proc/cpuinfo").read_text().splitlines())
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{cores} cores of {model}, {system}, {EtcdSide.version()}"


def main() -> None:
    args = arguments()
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(rounds(args))
    lines = [judge(row, found) for name in MEASURES if name in args.only.split(",") for row in ROWS[name]]
    if args.json:
        print(msgspec.json.encode({"machine": machine(), "rows": lines, "samples": found}).decode())
    else:
        print(f"{machine()}\n{args.rounds} rounds\n\n{table(lines)}")


if __name__ == "__main__":
    main()
