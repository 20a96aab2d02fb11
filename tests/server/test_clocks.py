"""P3.7: whatever counts leases reads CLOCK_BOOTTIME, which goes on while the machine sleeps."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.e2e import harm

CLOCKS: Final = {
    "member": "from tenure.server.clock import RealClock as Clock",
    "holder": "from tenure.client.clocks import BootClock as Clock",
    "agent": "from tenure.agent.main import BootClock as Clock",
    "memory": "from tenure.engines.memory.clock import SystemClock as Clock",
}
ASLEEP_S: Final = 1_000


@pytest.fixture(scope="module")
def time_namespaces() -> None:
    try:
        harm.check_elsewhen()
    except harm.NotPermitted as why:
        pytest.skip(f"SKIPPED, NOTHING WAS CHECKED: {why}")


@pytest.mark.usefixtures("time_namespaces")
@pytest.mark.parametrize("who", sorted(CLOCKS))
def test_sleep_counts(who: str) -> None:
    """In a time namespace that has slept 1000 s longer than it was awake."""
    told = "import time; print(Clock().now() / 1e6, time.clock_gettime(time.CLOCK_MONOTONIC))"
    program = [sys.executable, "-c", f"{CLOCKS[who]}; {told}"]
    done = subprocess.run([*harm.elsewhen(ASLEEP_S, 0), *program], check=True, capture_output=True, text=True)
    now, awake = (float(word) for word in done.stdout.split())
    assert ASLEEP_S * 0.99 < now - awake < ASLEEP_S * 1_000


@pytest.mark.parametrize("who", sorted(CLOCKS))
def test_the_clock_is_the_one_that_the_kernel_keeps_through_sleep(who: str) -> None:
    """The same where there are no time namespaces, told by the number that the clock asks the kernel for."""
    module = CLOCKS[who].split()[1]
    source = Path(importlib.import_module(module).__file__ or "").read_text(encoding="utf-8")
    assert set(re.findall(r"clock_gettime_ns\(([\w.]+)\)", source)) == {"time.CLOCK_BOOTTIME"}
