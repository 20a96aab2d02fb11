"""`python -m tests.sim --seeds A..B --jobs 2 [--budget-seconds N]`, or `--seed N` for one with its numbers."""

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

from tests.sim.run import Outcome, run
from tests.sim.workers import spread, watched

SEEDS_FILE: Final = Path(__file__).parent / "seeds.txt"


def kept_seeds() -> list[int]:
    """Seeds that once failed, for ever."""
    lines = SEEDS_FILE.read_text(encoding="utf-8").splitlines()
    return [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]


def parse_seeds(text: str) -> range:
    """`A..B` (B excluded), or a number of seeds that begin where no other run has begun."""
    if ".." in text:
        begin, _, end = text.partition("..")
        return range(int(begin), int(end))
    fresh = int.from_bytes(os.urandom(4), "big") * 1000
    return range(fresh, fresh + int(text))


def report(seeds: range | list[int], jobs: int, budget: float, *, stop: bool = False) -> list[Outcome]:
    """Run seeds and print what came of them; the failures are returned."""
    began = time.monotonic()
    failed: list[Outcome] = []
    seen: Counter[str] = Counter()
    done = simulated = steps = operations = granted = elected = expired = 0
    for outcome in spread(run, seeds, jobs, budget):
        done += 1
        seen.update(outcome.seen)
        simulated += outcome.simulated_us
        steps += outcome.steps
        operations += outcome.operations
        granted += outcome.granted
        elected += outcome.elected
        expired += outcome.expired
        if outcome.failure:
            failed.append(outcome)
            print(f"seed {outcome.seed} failed after {outcome.steps} steps: {outcome.failure}")
            print(f"  again: python -m tests.sim --seed {outcome.seed}", flush=True)
            if stop:
                break
    took = time.monotonic() - began
    print(
        f"{done} seeds, {len(failed)} failed, {took:.1f} s real, {simulated / 1e6:.0f} s simulated, {steps} steps "
        f"({1e6 * took * jobs / max(steps, 1):.0f} µs of a core each), {operations} operations, {elected} elections, "
        f"{granted} grants, {expired} expiries"
    )
    print("  seen: " + ", ".join(f"{what} {count}" for what, count in sorted(seen.items())))
    return failed


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", default="100", help="A..B, or how many fresh ones")
    parser.add_argument("--seed", type=int, help="just this one")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--budget-seconds", type=float, default=float("inf"))
    parser.add_argument("--kept", action="store_true", help="the seeds of seeds.txt first")
    parser.add_argument("--stop", action="store_true", help="end at the first failure")
    options = parser.parse_args()
    if options.seed is not None:
        outcome = watched(run, options.seed)
        print(outcome)
        return 1 if outcome.failure else 0
    failed = report(kept_seeds(), options.jobs, options.budget_seconds) if options.kept else []
    failed += report(parse_seeds(options.seeds), options.jobs, options.budget_seconds, stop=options.stop)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
