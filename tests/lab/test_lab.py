"""A short run of the lab with real members. Times are printed, not held to: `make lab` does that where it is quiet.

Skipped, and said so, only where the machine allows no network namespaces or TUN devices.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from lab import accuracy, failover, partitions, report
from lab.network import Network, Weather
from tests.e2e.cluster import environment, root
from tests.lab.conftest import refusal

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
seed: Final = 11


@pytest.mark.usefixtures("permitted")
def test_packets_meet_what_was_asked_for() -> None:
    with Network(3, seed) as network:
        network.set_weather(Weather(20))
        errors = accuracy.errors_us(network, (1, 2), 50)
        print(f"RTT 20 ms + {errors[len(errors) // 2] / 1_000:.2f} ms, at most {errors[-1] / 1_000:.2f} ms")
        assert len(errors) == 50, "nothing was lost"
        assert errors[0] >= 0, "nothing came too early"
        network.cut_only([(2, 1)])
        assert accuracy.errors_us(network, (1, 2), 5) == [], "no way back"
        assert len(accuracy.errors_us(network, (1, 3), 5)) == 5
        network.heal()
        network.set_weather(Weather(0, loss=0.5))
        network.tell()
        accuracy.errors_us(network, (1, 2), 100)
        counts = network.tell()
        assert 0 < counts.lost < counts.taken
        assert counts.lost + counts.delivered + counts.strange == counts.taken


@pytest.mark.usefixtures("permitted")
def test_a_killed_leader_20_ms_away_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    series = failover.run("kill", 3, Weather(20), 3, tmp_path, seed)
    print(report.failover_table([series]))
    assert len(series.strikes) == 3
    assert series.written > 0
    assert series.lost == []
    assert series.two_leaders == []


@pytest.mark.usefixtures("permitted")
def test_one_way_cuts_and_bridges_never_make_two_leaders_that_commit_or_two_holders_of_an_office(
    tmp_path: Path,
) -> None:
    names = ["leader-mute", "leader-deaf-to-one", "bridge-follows"]
    outcomes = partitions.run(names, 3, Weather(20), 3.0, tmp_path, seed)
    print(report.partition_table(outcomes))
    print(report.office_table(outcomes))
    for outcome in outcomes:
        assert outcome.wrong == [], outcome.nemesis
        assert outcome.operations > 0
        assert outcome.offices > 0
        assert outcome.guarded > 0


def test_without_the_right_to_it_the_lab_says_loudly_that_nothing_was_checked() -> None:
    command = [sys.executable, "-m", "lab", "--only", "accuracy"]
    if refusal() is None:
        gone = "-sys_admin,-net_admin"
        command = ["setpriv", f"--inh-caps={gone}", f"--bounding-set={gone}", *command]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment(), check=False)
    assert done.returncode == 77, done.stderr
    for told in (done.stdout, done.stderr):
        assert "LAB SKIPPED, NOTHING WAS CHECKED: this machine can't " in told
        assert "CAP_SYS_ADMIN" in told
