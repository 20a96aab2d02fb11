"""`python tools/mutants.py [NAME…] [--jobs 2]`: plant each deliberate bug in a copy of src and see that a test kills it.

The bugs stand in tests/mutants/catalogue.py, each with the rule that it breaks and the killer that must notice. A bug
whose old text no longer stands in its file exactly once is an error: the code has moved, and the bug must move with it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.mutants.catalogue import MUTANTS, Mutant  # noqa: E402 - the path comes first

killer_seconds_max: Final = 300
"""A killer that hangs has noticed too."""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: `killed`, `survived`, or `error` (of the catalogue, not of the code)."""

    mutant: Mutant
    what: str
    text: str
    seconds: float


def command(killer: str) -> list[str]:
    """The command line of a killer."""
    kind, _, rest = killer.partition(":")
    if kind == "sim":
        return [sys.executable, "-m", "tests.sim", "--seeds", rest, "--jobs", "1", "--stop"]
    target = ["tests/raft/test_golden.py", "-k", rest] if kind == "golden" else [killer]
    options = ["-q", "-x", "--no-header", "-p", "no:cacheprovider", "-o", "pythonpath=", "-o", "addopts="]
    return [sys.executable, "-m", "pytest", *options, *target]


def judge(mutant: Mutant) -> Verdict:
    """Plant one bug and run its killers until one notices."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        shutil.copytree(ROOT / "src", Path(folder) / "src", ignore=shutil.ignore_patterns("__pycache__"))
        path = Path(folder) / "src" / "tenure" / mutant.file
        text = path.read_text(encoding="utf-8")
        if text.count(mutant.old) != 1:
            what = f"its old text stands {text.count(mutant.old)} times in {mutant.file}"
            return Verdict(mutant, "error", what, time.monotonic() - began)
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        environment = dict(os.environ, PYTHONPATH=f"{folder}/src:{ROOT}", PYTHONDONTWRITEBYTECODE="1")
        for killer in mutant.killers:
            what, said = strike(killer, environment)
            if what != "survived":
                return Verdict(mutant, what, f"{killer}: {said}", time.monotonic() - began)
    return Verdict(mutant, "survived", ", ".join(mutant.killers), time.monotonic() - began)


def strike(killer: str, environment: dict[str, str]) -> tuple[str, str]:
    """Run one killer: did it notice, and by what?"""
    try:
        done = subprocess.run(
            command(killer),
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=killer_seconds_max,
        )
    except subprocess.TimeoutExpired:
        return "killed", "no end in time"
    if done.returncode == 0:
        return "survived", ""
    lines = (done.stdout + done.stderr).splitlines()
    if done.returncode != 1:
        return "error", f"exit {done.returncode}: {lines[-1:] or ''}"
    found = [line for line in lines if line.startswith(("E  ", "seed "))]
    return "killed", (found or lines or [""])[0].strip()[:160]


def main(arguments: Sequence[str]) -> int:
    """Judge all mutants, or those whose names are given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    chosen = [one for one in MUTANTS if not options.names or any(name in one.name for name in options.names)]
    began = time.monotonic()
    alive = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for verdict in pool.map(judge, chosen):
            alive += verdict.what != "killed"
            mutant = verdict.mutant
            print(
                f"{verdict.what:8} {mutant.rule:5} {mutant.name} ({verdict.seconds:.0f} s) {verdict.text}", flush=True
            )
    print(f"{len(chosen)} mutants, {len(chosen) - alive} killed, {time.monotonic() - began:.0f} s")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
