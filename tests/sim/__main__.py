"""`python -m tests.sim --seeds A..B --jobs 2 [--budget-seconds N] [--shard K/N] [--progress FILE]`: many seeds.

`python -m tests.sim --summary FILE…`: what all these files of progress hold together.

`python -m tests.sim --seed N [--about m1,t7] [--since SECONDS] [--turns]`: one, with what happened in it.

With `--compiled yes` the seeds run in machine code (`compiled`), with `auto` if they are many.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from tests.sim import compiled
from tests.sim.run import run
from tests.sim.soak import ROOT, Progress, shard, state_of_code
from tests.sim.telling import Telling
from tests.sim.workers import Job, spread, watched

SEEDS_FILE: Final = Path(__file__).parent / "seeds.txt"


def kept_seeds() -> list[int]:
    """Seeds that once failed, for ever."""
    lines = SEEDS_FILE.read_text(encoding="utf-8").splitlines()
    return [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]


def parse_seeds(text: str, state: str) -> Sequence[int]:
    """`A..B` (B excluded), `A,B,C,` just these, or a number of seeds that begin where no other run has begun; `code:N`
    begins where no other state of the code has: fresh with each change, and the same again when the same commit is
    tested again. Raises ValueError for anything else.
    """
    try:
        if "," in text:
            return [int(seed) for seed in text.split(",") if seed]
        if ".." in text:
            begin, _, end = text.partition("..")
            return range(int(begin), int(end))
        of_code, _, count = text.rpartition(":")
        if of_code not in ("", "code"):
            raise ValueError(of_code)
        drawn = bytes.fromhex(state)[:4] if of_code else os.urandom(4)
        fresh = int.from_bytes(drawn, "big") * 1000
        return range(fresh, fresh + int(count))
    except ValueError:
        raise ValueError(f"seeds are A..B, A,B,C, a number of fresh ones, or code:N, not {text!r}") from None


def again(seed: int) -> str:
    """The line that repeats a seed and tells what happened."""
    return f"make sim SEED={seed}"


def report(
    seeds: Iterable[int], jobs: int, budget: float, progress: Progress, job: Job = run, *, stop: bool = False
) -> bool:
    """Run seeds and print what came of them; whether all held."""
    began = time.monotonic()
    held = True
    try:
        for outcome in spread(job, progress.left(seeds), jobs, budget):
            progress.add(outcome)
            if outcome.failure:
                held = False
                print(f"seed {outcome.seed} failed after {outcome.steps} steps: {outcome.failure}")
                print(f"  again: {again(outcome.seed)}", flush=True)
                if stop:
                    break
    except KeyboardInterrupt:
        held = False
        print("interrupted: with a file of progress the same command goes on from here")
    finally:
        progress.close()
    for line in progress.summary():
        print(line)
    print(f"  {time.monotonic() - began:.1f} s of this run, on {jobs} processes")
    return held


def summarize(paths: Iterable[Path]) -> bool:
    """Print what files of progress hold; whether every seed held when it was last run."""
    progress = Progress(None)
    for path in paths:
        progress.read(path)
    for line in progress.summary():
        print(line)
    return all(held for _, held in progress.last.values())


def tell(seed: int, about: str, since_s: float, *, turns: bool) -> bool:
    """Run one seed and print what happens; whether it held."""
    telling = Telling(print, about.split(",") if about else (), int(since_s * 1e6), turns=turns)
    outcome = watched(lambda number: run(number, teller=telling), seed)
    print(
        f"seed {seed}: {outcome.steps} steps, {outcome.simulated_us / 1e6:.3f} simulated seconds, {outcome.operations} "
        f"operations, {outcome.elected} elections, {outcome.granted} grants, {outcome.expired} expiries, "
        f"trace {outcome.trace:08x}"
    )
    print(f"FAILED: {outcome.failure}" if outcome.failure else "everything held")
    print(f"again: {again(seed)}   (less: ABOUT=m1,elected; more: python -m tests.sim --seed {seed} --turns --since …)")
    return not outcome.failure


def go_on_compiled(state: str, *, must: bool) -> None:
    """Compile what isn't compiled yet and go on there; if that can't be, say why, and return unless it `must` be."""
    try:
        if why := compiled.obstacle():
            raise compiled.NotCompiled(why)
        print(f"code {state} runs compiled (the first time compiling takes some minutes)", flush=True)
        compiled.continue_compiled(compiled.build(ROOT, state), ROOT, sys.argv[1:])
    except compiled.NotCompiled as error:
        if must:
            sys.exit(f"not compiled: {error}")
        print(f"not compiled, so it takes longer: {error}", flush=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument(
        "--seeds", default="100", help="A..B, A,B,C, how many fresh ones, or code:N: fresh for this state"
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--budget-seconds", type=float, default=float("inf"))
    parser.add_argument("--kept", action="store_true", help="the seeds of seeds.txt first")
    parser.add_argument("--stop", action="store_true", help="end at the first failure")
    parser.add_argument("--shard", default="1/1", help="K/N: the K-th of N parts of the seeds")
    parser.add_argument("--progress", type=Path, help="a file of what is done; started again, a run goes on behind it")
    parser.add_argument("--summary", type=Path, nargs="+", help="print what these files of progress hold, run nothing")
    parser.add_argument("--seed", type=int, help="just this one, told in words")
    parser.add_argument("--about", default="", help="only lines with one of these words: m1,t7,snapshot")
    parser.add_argument("--since", type=float, default=0.0, help="only from this virtual second on")
    parser.add_argument("--turns", action="store_true", help="every turn, with what came in and what went out")
    parser.add_argument("--outcome", action="store_true", help="of the one seed only what came of it, as JSON")
    parser.add_argument("--compiled", choices=("no", "auto", "yes"), default="no", help="run in machine code")
    parser.add_argument("--compiled-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.seed is not None and options.outcome:
        print(json.dumps(vars(watched(run, options.seed))))
        return 0
    if options.seed is not None:
        return 0 if tell(options.seed, options.about, options.since, turns=options.turns) else 1
    if options.summary is not None:
        return 0 if summarize(options.summary) else 1
    root, job = options.compiled_of or ROOT, run
    state = state_of_code(root)
    try:
        seeds = parse_seeds(options.seeds, state)
        sharded = shard(seeds, options.shard)
    except ValueError as error:
        parser.error(str(error))
    if options.compiled_of is not None:
        job = partial(compiled.judged, root=root)
    elif options.compiled == "yes" or (options.compiled == "auto" and len(seeds) >= compiled.WORTH_SEEDS):
        go_on_compiled(state, must=options.compiled == "yes")
    held = True
    if options.kept:
        held = report(kept_seeds(), options.jobs, options.budget_seconds, Progress(None, state), job)
    progress = Progress(options.progress, state)
    return 0 if report(sharded, options.jobs, options.budget_seconds, progress, job, stop=options.stop) and held else 1


if __name__ == "__main__":
    sys.exit(main())
