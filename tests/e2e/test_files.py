"""A cluster as an operator sets it up: a TOML file a member, one secret for all; and a stranger with another secret."""

import subprocess
import sys
from pathlib import Path

import pytest

from tenure.cli.demo_processes import free_ports
from tests.e2e import files
from tests.e2e.cluster import environment, root

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_three_files_and_a_secret_on_loopback_and_a_fourth_with_another_gets_nowhere(tmp_path: Path) -> None:
    names = (*files.NAMES, "m4")
    ports = free_ports(2 * len(names))
    places = {
        name: files.Place(f"127.0.0.1:{ports[2 * at]}", f"127.0.0.1:{ports[2 * at + 1]}")
        for at, name in enumerate(names)
    }
    files.play(tmp_path, places, require_secret=True)


def test_the_same_on_three_addresses_of_a_network_beyond_loopback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.files", str(tmp_path)],
        cwd=root,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    if done.returncode == files.exit_no_namespaces:
        pytest.skip(f"NOT TESTED on addresses beyond loopback: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
