"""A process that dies at any of the system calls with which a store is made, written and closed.

TENURE_TEST_ROUNDS   how many places are tried, 12 unless given, spread evenly; `all` are some 250
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.storage.histories import entries, opened

pytestmark = [pytest.mark.e2e, pytest.mark.integration, pytest.mark.timeout(900)]
calls: Final = ("pwrite64", "fdatasync", "fsync", "write", "ftruncate", "rename", "unlink")
"""All that change something on the disk."""


def life(directory: Path, told: Path, *fault: str) -> int:
    tool = shutil.which("strace")
    assert tool, "this test needs strace (tools/setup.sh test installs it)"
    path = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}  # that would be calls of its own
    trace = [tool, "-f", "-qq", "-y", "-o", str(told.with_suffix(".strace")), "-e", f"trace={','.join(calls)}"]
    command = [*trace, *fault, sys.executable, "-m", "tests.storage.life", str(directory), str(told)]
    return subprocess.run(command, env=environment, check=False, capture_output=True).returncode


def places(told: Path) -> list[tuple[str, int]]:
    """Every call on the store's own files in a whole life, by its number among its kind."""
    count: Counter[str] = Counter()
    found = []
    for line in told.with_suffix(".strace").read_text(encoding="utf-8").splitlines():
        call = re.match(r"\d+ +(\w+)\(", line)
        if call is not None:
            count[call.group(1)] += 1
            if "store/" in line or "store>" in line:
                found.append((call.group(1), count[call.group(1)]))
    return found


def spread(every: list[tuple[str, int]]) -> list[tuple[str, int]]:
    wanted = os.environ.get("TENURE_TEST_ROUNDS", "12")
    if wanted == "all" or int(wanted) >= len(every):
        return every
    closing = every[-4:]  # the shortest way, and the one that was wrong once
    step = (len(every) - 4) / (int(wanted) - 4)
    return [*(every[int(at * step)] for at in range(int(wanted) - 4)), *closing]


def test_a_store_whose_process_died_at_any_call_opens_with_all_that_was_durable(tmp_path: Path) -> None:
    """Made anew, and gone on with: each place in a first life and, from where that one came, in a second."""
    assert life(tmp_path / "store", tmp_path / "told") == 0
    every = places(tmp_path / "told")
    kinds = {call for call, _ in every}
    assert kinds == set(calls), f"the store is expected to use each of these calls: {kinds}"
    for call, number in spread(every):
        folder = tmp_path / f"{call}.{number}"
        told = folder / "told"
        folder.mkdir()
        fault = ("-e", f"inject={call}:signal=KILL:when={number}")
        assert life(folder / "store", told, *fault) != 0, f"it should have died at {call} {number}"
        judge(folder / "store", told, f"killed at {call} {number}")
        life(folder / "store", told, *fault)  # a second life has fewer calls, and may come through
        judge(folder / "store", told, f"killed at {call} {number} twice")


def judge(directory: Path, told: Path, what: str) -> None:
    said = told.read_text(encoding="ascii").split()
    durable = max((int(line) for line in said if line.isdigit()), default=0)
    found = opened(directory)
    state = found.store.restored()
    assert state.batch in {durable, durable + 1}, f"{what}: {said}, found {state.batch}"
    assert "sealed" not in said or found.store.identity.founding == "sealed", what
    if said[-1:] == ["closed"]:
        assert found.clean, what
    if state.entries:
        assert state.entries[-1].index == state.batch * 3, what
        assert state.entries == entries(state.entries[0].index, state.batch * 3), what
    found.store.close(clean=False)
