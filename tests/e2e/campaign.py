"""Hundreds of rounds of every kind of fault, in shards that can be resumed: `python -m tests.e2e.campaign`.

The kinds are those of `nemesis`, and `partition`: the lab's, half of them in one direction only.

A shard is one cluster and some rounds of one kind. What is done stands in FOLDER/results.jsonl; started again, only
what is missing is done. A failed shard keeps its log and its data directories; `--only NAME` repeats its faults.
"""

import argparse
import contextlib
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
from msgspec import Struct

from lab import nemeses, partitions
from lab.network import Weather
from tests.e2e import nemesis
from tests.e2e.story import Outcome, play

KINDS: Final = (*nemesis.KINDS, "partition")
partition_s: Final = 2.0
"""Eight times as long as a leader that nobody hears may go on (P6.2)."""
weather: Final = Weather(rtt_ms=5.0)
one_way: Final = ("leader-mute", "leader-deaf", "leader-mute-to-one", "leader-deaf-to-one")


class Shard(Struct, frozen=True):
    """One cluster's worth; the seed chooses its faults."""

    members: int
    kind: str
    number: int
    rounds: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.members}-{self.number}"


class Result(Struct, frozen=True):
    """How it ended."""

    shard: Shard
    outcome: Outcome | None
    failure: str | None


class Asked(Struct, frozen=True):
    """What the command line says."""

    rounds: int
    members: list[int]
    kinds: list[str]
    size: int
    folder: Path
    seed: int
    minutes: float | None
    only: str | None


def shards(asked: Asked) -> Iterator[Shard]:
    """All of them, a little of everything first."""
    for number in range(-(-asked.rounds // asked.size)):
        rounds = min(asked.size, asked.rounds - number * asked.size)
        for members in asked.members:
            for kind in asked.kinds:
                rng = random.Random(f"{asked.seed}:{members}:{kind}:{number}")
                shard = Shard(members, kind, number, rounds, rng.randrange(1, 2**32))
                if asked.only in {None, shard.name}:
                    yield shard


def run(shard: Shard, folder: Path) -> Result:
    """Play it; its words go to a file."""
    log = folder / f"{shard.name}.log"
    place = Path(tempfile.mkdtemp(prefix=f"tenure-{shard.name}-"))
    with (
        open(log, "w", encoding="utf-8") as told,
        contextlib.redirect_stdout(told),
        contextlib.redirect_stderr(told),
    ):
        try:
            outcome = suffered(shard, place)
        except Exception:  # noqa: BLE001 - whatever it is, the other shards go on
            failure = traceback.format_exc()
            told.write(failure)
            return Result(shard, None, f"{failure.splitlines()[-1][:300]} (log {log}, data {place})")
    shutil.rmtree(place)
    log.unlink()
    return Result(shard, outcome, None)


def suffered(shard: Shard, place: Path) -> Outcome:
    """Raises whatever is wrong."""
    rng = random.Random(shard.seed)
    if shard.kind == "partition":
        return partitioned(shard, place, rng)
    plan = nemesis.planned([shard.kind], shard.rounds, rng)
    return play(place, shard.members, plan, nemesis.ALL, shard.seed, clocked=shard.kind == "clock")


def partitioned(shard: Shard, place: Path, rng: random.Random) -> Outcome:
    """One after the other on one cluster in namespaces."""
    both_ways = sorted(set(nemeses.NEMESES) - set(one_way))
    names = [rng.choice(both_ways if number % 2 else one_way) for number in range(shard.rounds)]
    begun = time.monotonic()
    found = partitions.run(names, shard.members, weather, partition_s, place, shard.seed)
    wrong = [f"{each.nemesis}: {one}" for each in found for one in each.wrong]
    assert not wrong, f"{wrong[:5]} ({len(wrong)} in all)"
    waits: dict[str, list[int]] = {}
    for each in found:
        waits.setdefault(each.nemesis, []).append(int(each.healed_s * 1_000))
    operations = sum(each.operations for each in found)
    leaders = sum(each.changes for each in found)
    return Outcome(time.monotonic() - begun, operations, None, None, leaders, waits)


def main() -> int:
    asked = _asked()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started is ended first
    asked.folder.mkdir(parents=True, exist_ok=True)
    file = asked.folder / "results.jsonl"
    lines = file.read_bytes().splitlines() if file.exists() and asked.only is None else []
    results = {result.shard: result for result in (msgspec.json.decode(line, type=Result) for line in lines)}
    wanted = list(shards(asked))
    ends = time.monotonic() + 60 * asked.minutes if asked.minutes is not None else None
    for at, shard in enumerate(wanted):
        if shard in results:
            continue
        if ends is not None and time.monotonic() > ends:
            print(f"the time is over; {len(wanted) - at} shards are left, the same command goes on")
            break
        results[shard] = result = run(shard, asked.folder)
        if asked.only is None:
            with open(file, "ab") as out:
                out.write(msgspec.json.encode(result) + b"\n")
        print(_line(result, at + 1, len(wanted)), flush=True)
    mine = [results[shard] for shard in wanted if shard in results]
    summary(mine)
    return 1 if any(result.failure for result in mine) else 0


def _asked() -> Asked:
    parser = argparse.ArgumentParser(prog="tests.e2e.campaign", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="of each kind and each number of members")
    parser.add_argument("--members", default="3,5")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--size", type=int, default=20, help="rounds of one shard")
    parser.add_argument("--folder", type=Path, default=Path(".faults"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=None, help="begin no shard later than this")
    parser.add_argument("--only", default=None, help="one shard, by its name, whatever is done already")
    given = parser.parse_args()
    kinds = given.kinds.split(",")
    unknown = set(kinds) - set(KINDS)
    if unknown:
        parser.error(f"unknown kinds {sorted(unknown)}; known: {', '.join(KINDS)}")
    members = [int(each) for each in given.members.split(",")]
    return Asked(given.rounds, members, kinds, given.size, given.folder, given.seed, given.minutes, given.only)


def _line(result: Result, at: int, of: int) -> str:
    shard, outcome = result.shard, result.outcome
    if outcome is None:
        return f"[{at}/{of}] {shard.name}: FAILED: {result.failure}"
    return f"[{at}/{of}] {shard.name}: {shard.rounds} rounds in {outcome.seconds:.0f} s"


def summary(results: list[Result]) -> None:
    """By kind and number of members, then by fault."""
    table: Final = "{:>7}  {:<10}{:>7}{:>8}{:>12}{:>9}{:>8}{:>9}{:>7}"
    print(table.format("members", "kind", "rounds", "failed", "operations", "unknown", "terms", "leaders", "hours"))
    for members, kind in sorted({(result.shard.members, result.shard.kind) for result in results}):
        these = [each for each in results if (each.shard.members, each.shard.kind) == (members, kind)]
        good = [each.outcome for each in these if each.outcome is not None]
        print(
            table.format(
                members,
                kind,
                sum(each.shard.rounds for each in these),
                sum(each.failure is not None for each in these),
                sum(each.operations for each in good),
                _total([each.unknown for each in good]),
                _total([each.terms for each in good]),
                sum(each.leaders for each in good),
                f"{sum(each.seconds for each in good) / 3600:.2f}",
            )
        )
    waits: dict[tuple[int, str], list[int]] = {}
    for result in results:
        for what, these_ms in result.outcome.waits_ms.items() if result.outcome is not None else ():
            waits.setdefault((result.shard.members, what), []).extend(these_ms)
    print("\nuntil all clients had been served again:                rounds   median ms  longest ms")
    for (members, what), found in sorted(waits.items()):
        print(f"  {members} members, {what:<40}{len(found):>9}{median(found):>12.0f}{max(found):>12}")
    for result in results:
        if result.failure is not None:
            print(f"FAILED {result.shard}: {result.failure}")


def _total(figures: list[int | None]) -> str:
    known = [each for each in figures if each is not None]
    return str(sum(known)) if known else "-"


if __name__ == "__main__":
    sys.exit(main())
