"""A member as a process: how it starts, what it says, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import tenure
from tenure.cli.demo_processes import free_ports

pytestmark = pytest.mark.e2e

patience_s = 20.0
RUN = "import sys; from tenure.server.serve import main; sys.exit(main(dict(a.split('=', 1) for a in sys.argv[1:])))"
SOURCES = str(Path(tenure.__path__[0]).parent)


class Process:
    """One member of its own, with what it wrote."""

    def __init__(self, folder: Path, *before: str, **flags: str) -> None:
        self.port = free_ports(1)[0]
        self.log = folder / "member.log"
        self._from = 0
        self._from = len(self.said())
        given = {
            "data_dir": str(folder / "data"),
            "api": f"127.0.0.1:{self.port}",
            "peer": f"127.0.0.1:{free_ports(1)[0]}",
            **flags,
        }
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TENURE_")}
        with self.log.open("a") as errors:
            self.child = subprocess.Popen(
                [*before, sys.executable, "-c", RUN, *(f"{key}={value}" for key, value in given.items())],
                stderr=errors,
                cwd=folder,
                env={**environment, "PYTHONPATH": SOURCES},
            )

    def said(self) -> str:
        """Everything that this life wrote on standard error so far."""
        return self.log.read_text()[self._from :] if self.log.exists() else ""

    def until(self, text: str) -> None:
        """Wait until it has said something."""
        end = time.monotonic() + patience_s
        while text not in self.said():
            assert time.monotonic() < end, f"never said {text!r}:\n{self.said()}"
            assert self.child.poll() is None, f"ended with {self.child.returncode}:\n{self.said()}"
            time.sleep(0.01)

    def ended(self) -> int:
        """Its exit status."""
        return self.child.wait(patience_s)

    def put(self, key: str, value: object) -> int:
        """One write; the HTTP status."""
        return self.send("PUT", f"/v1/kv/{key}", {"value": value})

    def send(self, method: str, path: str, body: object) -> int:
        """One change; the HTTP status."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=patience_s) as answer:
            status: int = answer.status
            return status

    def get(self, path: str) -> str:
        """What a GET answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=patience_s) as answer:
            text: str = answer.read().decode()
            return text


@contextmanager
def process(folder: Path, *before: str, **flags: str) -> Iterator[Process]:
    """A member that is gone when the test is."""
    one = Process(folder, *before, **flags)
    try:
        yield one
    finally:
        if one.child.poll() is None:
            one.child.kill()
            one.child.wait()


def test_a_planned_stop_ends_with_zero_and_a_clean_mark(tmp_path: Path) -> None:
    with process(tmp_path) as member:
        member.until("leader_serves")
        assert member.put("a", 1) == 200
        member.child.send_signal(signal.SIGTERM)
        assert member.ended() == 0
    with process(tmp_path) as again:
        again.until("leader_serves")
        assert "created=False clean=True" in again.said()


def test_after_a_kill_the_next_start_says_so_and_has_everything(tmp_path: Path) -> None:
    with process(tmp_path) as member:
        member.until("leader_serves")
        assert member.put("a", 1) == 200
        member.child.kill()
        member.ended()
    with process(tmp_path, api=f"127.0.0.1:{member.port}") as again:
        again.until("the last stop was not clean")
        again.until("serving api")
        with urllib.request.urlopen(f"http://127.0.0.1:{member.port}/v1/kv/a", timeout=patience_s) as answer:
            assert json.load(answer)["value"] == 1


def test_a_wrong_option_ends_with_two_and_names_it(tmp_path: Path) -> None:
    with process(tmp_path, heartbeat_ms="fast") as member:
        assert member.ended() == 2
        assert "heartbeat_ms (--heartbeat-ms): must be an integer" in member.said()


def test_where_a_recovery_was_interrupted_no_member_begins(tmp_path: Path) -> None:
    """It would found a cluster of its own, in the place of the one that is to be recovered. Nor does it come back under
    a new id: what was put aside is sound.
    """
    aside = tmp_path / f"data.before-recovery-{'0' * 16}"
    aside.mkdir()
    (tmp_path / f".data.recovered-{'0' * 16}").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"  # whoever got as far as this would say so, and end
        for more in ({}, {"rejoin": "http://127.0.0.1:1"}):
            with process(tmp_path, api=address, **more) as member:
                assert member.ended() == 65
                assert f"The member's directory is {aside} now" in member.said()
                assert f"Next step: tell it again, `tenure recover --data-dir {tmp_path}/data`" in member.said()
                assert not (tmp_path / "data").exists()


def test_an_address_in_use_ends_with_one_before_the_directory_is_touched(tmp_path: Path) -> None:
    for key in ("api", "peer"):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            with process(tmp_path, **{key: address}) as member:
                assert member.ended() == 1
                assert f"{key} ({address}): can't listen" in member.said()
                assert "Next step" in member.said()
                assert "Traceback" not in member.said()
                assert not (tmp_path / "data").exists()


def test_a_member_keeps_the_name_that_it_was_made_with(tmp_path: Path) -> None:
    with process(tmp_path) as member:
        member.until("serving api")
    with process(tmp_path, name="other") as renamed:
        assert renamed.ended() == 2
        assert "give --name m1" in renamed.said()


def test_a_data_directory_that_is_none_is_no_failing_disk(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with process(tmp_path) as member:
        assert member.ended() == 65
        assert "--data-dir" in member.said()
        assert "disk" not in member.said()


def test_a_directory_in_use_ends_with_one_and_names_the_process(tmp_path: Path) -> None:
    with process(tmp_path) as first:
        first.until("serving api")
        with process(tmp_path) as second:
            assert second.ended() == 1
        assert f"in use by process {first.child.pid}" in second.said()


def test_a_damaged_directory_ends_with_sixty_five_and_the_next_step(tmp_path: Path) -> None:
    with process(tmp_path) as member:
        member.until("leader_serves")
        member.child.send_signal(signal.SIGTERM)
        assert member.ended() == 0
    database = tmp_path / "data" / "tenure.db"
    damaged = bytearray(database.read_bytes())
    damaged[2 * 4096 + 100 : 2 * 4096 + 4000] = bytes(3900)
    database.write_bytes(damaged)
    with process(tmp_path) as again:
        assert again.ended() == 65
        assert "Next step" in again.said()


def test_a_restart_counts_no_leader_change_again(tmp_path: Path) -> None:
    def lead(member: Process, node: str) -> None:
        process = f"{ord(node):016x}"
        member.send("POST", "/v1/sessions", {"node": node, "ttl_ms": 60_000, "process": process})
        session = json.loads(member.get("/status"))["nodes"][node]["session"]
        member.send("POST", "/v1/elections/" + node + "/campaign", {"session": session})
        while f'tenure_election_holders{{election="{node}"}} 1.0' not in member.get("/metrics"):
            time.sleep(0.01)

    with process(tmp_path) as member:
        member.until("leader_serves")
        lead(member, "a")
        assert 'tenure_leader_changes_total{cause="first"} 1.0' in member.get("/metrics")
        member.child.kill()
        member.ended()
    with process(tmp_path) as again:
        again.until("leader_serves")
        lead(again, "b")
        metrics = again.get("/metrics")
        assert 'tenure_election_holders{election="a"} 1.0' in metrics
        assert 'tenure_leader_changes_total{cause="first"} 1.0' in metrics


@pytest.mark.parametrize("asked", ["false", "true"])
def test_a_real_time_class_only_where_it_is_asked_for_and_status_says_what_the_kernel_gave(
    tmp_path: Path, asked: str
) -> None:
    """P6.4: it may starve a machine, so it is the operator's choice, and no child inherits it."""
    with process(tmp_path, realtime=asked) as member:
        member.until("leader_serves")
        told = json.loads(member.get("/status"))["protection"]["scheduling"]
        given = os.sched_getscheduler(member.child.pid)
        refused = "no_real_time_class" in member.said()
    if asked == "true" and not refused:
        assert (given, told) == (os.SCHED_RR | os.SCHED_RESET_ON_FORK, "real-time (SCHED_RR)")
    else:
        assert (given, told) == (os.SCHED_OTHER, "ordinary")


def test_sighup_takes_what_can_change_and_names_what_needs_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "tenure.toml"
    file.write_text('log_level = "info"\n')
    with process(tmp_path) as member:
        member.until("serving api")
        file.write_text('log_level = "debug"\nheartbeat_ms = 20\n')
        member.child.send_signal(signal.SIGHUP)
        member.until("these change only with a restart: heartbeat_ms")
        member.until("reloaded log_level=debug")
        file.write_text("log_levle = 3\n")
        member.child.send_signal(signal.SIGHUP)
        member.until("reload_failed")
        assert member.put("a", 1) == 200


@pytest.mark.integration
def test_a_failed_sync_ends_the_member_at_once_with_seventy_four(tmp_path: Path) -> None:
    inject = ("strace", "-f", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO:when=40+", "--")
    with process(tmp_path, *inject) as member:
        end = time.monotonic() + patience_s
        number = 0
        while member.child.poll() is None and time.monotonic() < end:
            number += 1
            try:
                member.put(f"k{number}", number)
            except OSError:
                time.sleep(0.05)
        assert member.ended() == 74
        assert "disk_failed" in member.said()
