"""`python tools/mutants.py [NAME…] [--jobs 2] [--table FILE]`: plant bugs in a copy; tests must kill them.

The bugs stand in tests/mutants, each with the rule that it breaks and the killers that must notice. Everything runs on
a copy taken at the beginning, so work that goes on meanwhile changes nothing. A bug whose old text doesn't stand in
its file exactly once is an error, and so is one that doesn't even load, or whose killer fails without it.
"""

import argparse
import compileall
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.mutants.catalogue import MUTANTS  # noqa: E402 - the path comes first
from tests.mutants.mutant import Mutant  # noqa: E402

test_seconds_max: Final = 20
killer_seconds_max: Final = 120
"""A killer that hangs has noticed too."""
baseline_seconds_max: Final = 600
wrong_copy: Final = 90
"""Exit code of a run that imported another tenure than the copy's."""

_STUB: Final = f"""
import runpy, sys, tenure
source, module, *rest = sys.argv[1:]
if not tenure.__file__.startswith(source):
    print(f"imported {{tenure.__file__}} instead of {{source}}")
    sys.exit({wrong_copy})
sys.argv[1:] = rest
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: `error` is one of the catalogue, not of the code. `by`: what kind of killer noticed."""

    mutant: Mutant
    what: Literal["killed", "survived", "error"]
    text: str
    seconds: float = 0.0
    by: str = ""


@dataclass(frozen=True)
class Strike:
    """How a run of killers ended."""

    code: int | None
    """None: no end in time."""
    output: str


class Workshop:
    """The copy of the repository in which the killers run. The sources come from wherever `strike` is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(ROOT / "pyproject.toml", folder)
        sys.pycache_prefix = None  # compiled files are copied with their sources
        compileall.compile_dir(folder, quiet=2, workers=0)

    def strike(self, source: Path, module: str, arguments: Sequence[str], seconds: float) -> Strike:
        """Run a module of tests on the sources in `source`."""
        path = f"{source}{os.pathsep}{self.folder}"
        environment = dict(os.environ, PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1", CI="1")
        environment.pop("PYTHONPYCACHEPREFIX", None)
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # a run is a second of plugins and a tenth of tests
        try:
            done = subprocess.run(
                [sys.executable, "-c", _STUB, str(source), module, *arguments],
                cwd=self.folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            return Strike(None, "")
        return Strike(done.returncode, done.stdout + done.stderr)

    def test(self, source: Path, tests: Iterable[str], *options: str, seconds: float = killer_seconds_max) -> Strike:
        """Run tests by their names."""
        plain = ["-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", "-p", "pytest_timeout"]
        limit = ["-o", "pythonpath=", "-o", "addopts=", "-o", f"timeout={test_seconds_max}"]
        return self.strike(source, "pytest", [*plain, *limit, *options, *tests], seconds)

    def simulate(self, source: Path, seeds: str, seconds: float = killer_seconds_max) -> Strike:
        """Run seeds of the simulator."""
        return self.strike(source, "tests.sim", ["--seeds", seeds, "--jobs", "1", "--stop"], seconds)

    def plant(self, mutant: Mutant, source: Path) -> str | None:
        """Copy the sources to `source` with the bug in them, or say why that can't be."""
        shutil.copytree(self.folder / "src", source)
        path = source / "tenure" / mutant.file
        text = path.read_text(encoding="utf-8")
        for old, new in ((mutant.old, mutant.new), *mutant.more):
            if text.count(old) != 1:
                return f"{old!r} stands {text.count(old)} times in {mutant.file}: the code has moved, move the bug too"
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()
        ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", "--select", "E9,F821", str(path)]
        found = subprocess.run(ruff, capture_output=True, text=True, check=False)
        return f"the bug doesn't load: {found.stdout.strip()[:200]}" if found.returncode else None


def place(killer: str) -> str:
    """A killer as pytest names it."""
    kind, _, rest = killer.partition(":")
    return f"tests/raft/test_golden.py::test_script[{rest}]" if kind == "golden" else f"tests/{killer}"


def tests_of(mutant: Mutant) -> list[str]:
    """The scripts and stories among its killers."""
    return [place(killer) for killer in mutant.killers if not killer.startswith("sim:")]


def seeds_of(mutant: Mutant) -> list[str]:
    """The simulations among its killers."""
    return [killer.removeprefix("sim:") for killer in mutant.killers if killer.startswith("sim:")]


def judge(shop: Workshop, mutant: Mutant, broken: dict[str, str]) -> Verdict:
    """Plant one bug and run its killers: one script or story must notice, and the simulation too if it is named."""
    began = time.monotonic()
    for killer in mutant.killers:
        if killer in broken:
            return Verdict(mutant, "error", f"{killer} fails without the bug: {broken[killer]}")
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        source = Path(folder) / "src"
        wrong = shop.plant(mutant, source)
        if wrong is not None:
            return Verdict(mutant, "error", wrong)
        said: dict[str, str] = {}
        for by, strike in _strikes(shop, mutant, source):
            seconds = time.monotonic() - began
            if strike.code == 0:
                return Verdict(mutant, "survived", f"{by}: {', '.join(mutant.killers)}", seconds)
            if strike.code not in {None, 1}:
                return Verdict(mutant, "error", f"exit {strike.code}: {strike.output.strip()[-300:]}", seconds)
            said[by] = told(strike.output) if strike.code is not None else "no end in time"
    seconds = time.monotonic() - began
    if not said:
        return Verdict(mutant, "error", "it names no killer", seconds)
    return Verdict(mutant, "killed", " · ".join(said.values()), seconds, " and ".join(said))


def _strikes(shop: Workshop, mutant: Mutant, source: Path) -> Iterator[tuple[str, Strike]]:
    tests = tests_of(mutant)
    if tests:
        yield "scripts and stories", shop.test(source, tests, "-x")
    for seeds in seeds_of(mutant):
        yield "simulation", shop.simulate(source, seeds)


def told(output: str) -> str:
    """The line in which a killer says what it noticed."""
    lines = output.splitlines()
    found = [line for line in lines if line.startswith(("FAILED ", "ERROR ", "seed "))] or lines
    return (found or [""])[0].removeprefix("FAILED tests/").strip()[:170]


def baseline(shop: Workshop, chosen: Sequence[Mutant]) -> dict[str, str]:
    """Run every killer once without any bug; those that fail, with what they say."""
    source = shop.folder / "src"
    killers = {killer for mutant in chosen for killer in mutant.killers}
    tests = {place(killer): killer for killer in sorted(killers) if not killer.startswith("sim:")}
    broken: dict[str, str] = {}
    if tests:
        strike = shop.test(source, tests, seconds=baseline_seconds_max)
        for line in strike.output.splitlines():
            name, _, why = line.removeprefix("FAILED ").removeprefix("ERROR ").partition(" - ")
            if line.startswith(("FAILED ", "ERROR ")) and name in tests:
                broken[tests[name]] = why
        if strike.code not in {0, 1} or (strike.code == 1 and not broken):
            print(strike.output[-2_000:])
            raise SystemExit(f"the killers don't run (exit {strike.code})")
    for killer in sorted(killers - set(tests.values())):
        strike = shop.simulate(source, killer.removeprefix("sim:"), baseline_seconds_max)
        if strike.code != 0:
            broken[killer] = told(strike.output)
    return broken


def main(arguments: Sequence[str]) -> int:
    """Judge all mutants, or those whose names hold one of the given texts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--table", type=Path, help="write what killed each of them, if all were killed")
    options = parser.parse_args(arguments)
    chosen = [one for one in MUTANTS if not options.names or any(name in one.name for name in options.names)]
    began = time.monotonic()
    count: Counter[str] = Counter()
    by: Counter[str] = Counter()
    rows: list[str] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        shop = Workshop(Path(folder))
        broken = baseline(shop, chosen)
        print(
            f"every killer was run without a bug, {len(broken)} failed ({time.monotonic() - began:.0f} s)", flush=True
        )
        for verdict in pool.map(lambda mutant: judge(shop, mutant, broken), chosen):
            count[verdict.what] += 1
            by[verdict.by] += verdict.what == "killed"
            mutant = verdict.mutant
            rows.append(row(verdict))
            print(
                f"{verdict.what:8} {mutant.rule:5} {mutant.name}: {mutant.reason} "
                f"({verdict.seconds:.1f} s) · {verdict.text}",
                flush=True,
            )
    kinds = ", ".join(f"{number} by {kind}" for kind, number in sorted(by.items()) if number)
    took = time.monotonic() - began
    print(
        f"{len(chosen)} mutants: {count['killed']} killed ({kinds}), {count['survived']} survived, "
        f"{count['error']} in error; {took:.0f} s"
    )
    well = bool(chosen) and count["killed"] == len(chosen)
    if options.table is not None and well and len(chosen) == len(MUTANTS):
        options.table.write_text(table(rows, kinds), encoding="utf-8")
    return 0 if well else 1


def row(verdict: Verdict) -> str:
    """One line of the table: what was broken, and who noticed first."""
    mutant = verdict.mutant
    killers = " · ".join(told.partition(" - ")[0] for told in verdict.text.split(" · "))
    return f"| {mutant.rule} | `{mutant.name}` | {mutant.reason} | {killers.replace('|', '/')} |"


def table(rows: Sequence[str], kinds: str) -> str:
    """The report of a whole run, as a document."""
    head = (
        "# The mutants and what killed them\n\n"
        "Written by `make mutants TABLE=docs/mutants.md` in a run in which each was killed. Of a simulation the\n"
        "first seed that failed is named.\n\n"
        f"{len(rows)} mutants, {kinds}.\n\n"
        "| rule | bug | what it does | first noticed by |\n| --- | --- | --- | --- |\n"
    )
    return head + "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
