"""The simulator in machine code: the same sources through mypyc, for runs of many seeds.

A copy of the sources is compiled once for each state of the code and kept beside the packages. What was compiled isn't
what ships, so it has the last word on nothing: a seed that fails there is run again from the sources, whose verdict
counts, and of every `COMPARED_EVERY` seeds one is run both ways and must leave the same trace (S23).

Classes whose fields msgspec lays out aren't for mypyc: modules that define any are taken apart (`parting`), and these
stay for the interpreter.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.sim.parting import PART, has_records, part
from tests.sim.run import Outcome, failed_outcome, run

COMPARED_EVERY: Final = 50
WORTH_SEEDS: Final = 1_000
"""From so many seeds on the compilation, some two minutes, is won back."""
COMPILED_ONLY: Final = "failed compiled only"
"""So are seeds counted that only the compiled code has failed, which is its own fault."""
KEPT: Final = "compiled"
KEPT_STATES: Final = 2
"""So many older ones stay, as they may be running."""

_PACKAGES: Final = ("tenure/base", "tenure/raft", "tenure/leadership")
_MODULES: Final = {
    "tenure/engines/native": (
        "autopilot", "changes", "desk", "forwarding", "images", "pending", "pilot", "replica", "rounds", "views",
    ),
    "tenure/client": ("dialer", "keeper", "messages", "offices", "patience", "requests", "states"),
    "tenure/api": ("messages",),
    "tests/sim": (
        "asking", "boundaries", "clock", "deeds", "disk", "executions", "host", "keepers", "leases", "linearizability",
        "network", "nodes", "observer", "operations", "resource", "search", "seats", "streams", "twins", "users",
        "watchers", "wild", "world",
    ),
}  # fmt: skip
"""Whatever runs in each step; of `watching` the awaitables are written for the interpreter."""
_REWRITTEN: Final = (
    (re.compile(r"^@dataclass\((.*)slots=True\)$", re.MULTILINE), r"@dataclass(\1)"),
    (
        re.compile(r"^    name: ClassVar\[RoleName\] = (\"\w+\")$", re.MULTILINE),
        r"    @property\n    def name(self) -> RoleName:\n        return \1",
    ),
)
"""What mypyc 2.4 takes otherwise than it is meant: compiled classes have slots already, and a `ClassVar` of a
dataclass becomes a field.
"""


class NotCompiled(Exception):
    """The sources weren't compiled; the text says why."""


def obstacle() -> str:
    """Why nothing can be compiled here; empty: it can."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler})"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "the headers of this Python are missing (python3-dev)"
    return ""


def build(root: Path, state: str) -> Path:
    """The folder of the compiled copy of `state`, built if it isn't there, by one process at a time."""
    kept = root / ".venv" / KEPT
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = kept / state
        if not (folder / "done").exists():
            older = sorted((path for path in kept.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
            for path in {folder, *older[:-KEPT_STATES]}:
                shutil.rmtree(path, ignore_errors=True)
            _compile(root, folder)
    return folder


def _compile(root: Path, folder: Path) -> None:
    copy_sources(root, folder)
    modules = [str(path) for path in sorted(to_compile(folder))]
    environment = {**os.environ, "PYTHONPATH": str(folder), "MYPYPATH": str(folder), "MYPYC_OPT_LEVEL": "1"}
    environment["MYPYC_DEBUG_LEVEL"] = "0"
    command = [sys.executable, "-m", "mypyc", *modules]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotCompiled(f"mypyc failed:\n{done.stdout[-2_000:]}{done.stderr[-2_000:]}")
    shutil.rmtree(folder / "build")
    (folder / "done").touch()


def copy_sources(root: Path, folder: Path) -> None:
    """What a simulation imports, rewritten where mypyc needs it."""
    for source, name in ((root / "src" / "tenure", "tenure"), (root / "tests" / "sim", "tests/sim")):
        for path in sorted([*source.rglob("*.py"), *source.rglob("seeds.txt")]):
            copied = folder / name / path.relative_to(source)
            copied.parent.mkdir(parents=True, exist_ok=True)
            text = path.read_text(encoding="utf-8")
            for pattern, replacement in _REWRITTEN:
                text = pattern.sub(replacement, text)
            copied.write_text(text, encoding="utf-8")
    shutil.copy(root / "tests" / "__init__.py", folder / "tests")
    take_apart(folder)


def take_apart(folder: Path) -> None:
    """Of a copy, the modules that can only be compiled in part."""
    for path in _candidates(folder):
        source = path.read_text(encoding="utf-8")
        parts = part(source, ".".join(path.relative_to(folder).with_suffix("").parts)) if has_records(source) else None
        if parts is not None:
            path.with_stem(path.stem + PART).write_text(parts.records, encoding="utf-8")
            path.write_text(parts.rest, encoding="utf-8")


def to_compile(folder: Path) -> Iterator[Path]:
    """Of a copy, relative to it."""
    for path in _candidates(folder):
        if not has_records(path.read_text(encoding="utf-8")):
            yield path.relative_to(folder)


def _candidates(folder: Path) -> list[Path]:
    found = [path for package in _PACKAGES for path in (folder / package).glob("*.py")]
    found += [folder / package / f"{name}.py" for package, names in _MODULES.items() for name in names]
    return [path for path in found if path.name != "__init__.py"]


def continue_compiled(folder: Path, root: Path, arguments: list[str]) -> None:
    """This process becomes the compiled simulator, with the same arguments. Doesn't return."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-P", "-m", "tests.sim", *arguments, "--compiled-of", str(root)]
    os.execve(sys.executable, command, environment)


def from_sources(seed: int, root: Path) -> Outcome:
    """What the interpreted simulator says of a seed."""
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    command = [sys.executable, "-m", "tests.sim", "--seed", str(seed), "--outcome"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    try:
        return Outcome(**json.loads(done.stdout))
    except ValueError:
        return failed_outcome(seed, f"no outcome from the sources:\n{done.stderr[-2_000:]}")


def judged(seed: int, root: Path) -> Outcome:
    """A seed, compiled; from the sources at `root` too if it failed or its turn has come."""
    outcome = run(seed)
    return judge(outcome, from_sources(seed, root)) if must_be_told(outcome) else outcome


def must_be_told(outcome: Outcome) -> bool:
    """Whether the sources have to say what they make of this seed."""
    return bool(outcome.failure) or outcome.seed % COMPARED_EVERY == 0


def judge(outcome: Outcome, told: Outcome) -> Outcome:
    """What counts of a seed that ran compiled and then from the sources."""
    if told.failure:
        return told
    if outcome.failure:
        return replace(told, seen={**told.seen, COMPILED_ONLY: 1})
    if outcome.trace != told.trace:
        return failed_outcome(told.seed, f"S23: compiled {outcome.trace:08x}, from the sources {told.trace:08x}")
    return outcome
