"""The demo as a user runs it."""

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tenure.agent import tree

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_the_demo_keeps_every_promise_within_a_minute_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    command = [sys.executable, "-m", "tenure", "demo", "--json", "--keep", str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    told = lines(ran.stdout)
    broken = [line for line in told if line.get("kept") is False]
    assert not broken, (broken, ran.stderr)
    assert ran.returncode == 0, ran.stderr
    assert len([line for line in told if "kept" in line]) >= 12
    chapters = [line for line in told if "phase" in line and "fact" not in line]
    assert len(chapters) == 7
    assert chapters[-1]["at_us"] - chapters[1]["at_us"] < 60_000_000
    assert not processes_with(str(folder))


def test_a_demo_that_is_killed_takes_its_processes_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    command = [sys.executable, "-m", "tenure", "demo", "--json", "--keep", str(folder)]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert demo.stdout is not None
    for line in demo.stdout:
        if "1. kill -9" in line:
            break
    below = tree.descendants(demo.pid)
    assert len(below) >= 9
    demo.kill()
    demo.wait()
    demo.stdout.close()
    for pid in below:
        wait_until_gone(pid)


def processes_with(word: str) -> list[str]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if word in command:
                found.append(command)
    return found


def wait_until_gone(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    dead, _, _ = select.select([fd], [], [], 20)
    os.close(fd)
    assert dead, pid
