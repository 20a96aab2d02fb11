"""`tenure run` from its command line, against a real member."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tenure.cli.demo_processes import free_ports
from tenure.client import Client
from tenure.client.errors import ClientError

pytestmark = pytest.mark.e2e
PATIENCE_S = 30.0


def wait_for(what: Callable[[], Any], why: str) -> Any:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"waited in vain: {why}")


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("member")
    api, peer = free_ports(2)
    command = ["serve", "--name", "m1", "--data-dir", str(folder / "data")]
    command += ["--api", f"127.0.0.1:{api}", "--peer", f"127.0.0.1:{peer}"]
    with (folder / "log").open("wb") as log:
        member = subprocess.Popen([sys.executable, "-m", "tenure", *command], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{api}"

    def serves() -> bool:
        assert member.poll() is None, (folder / "log").read_text()
        try:
            with Client(url, timeout=1.0) as client:
                return client.status().quorum
        except ClientError:
            return False

    try:
        wait_for(serves, "the member serves")
        yield url
    finally:
        member.kill()
        member.wait()


class Run:
    """One `tenure run --json`."""

    def __init__(self, log: Path, endpoint: str, election: str, options: Sequence[str], command: Sequence[str]) -> None:
        self._log = log
        words = ["run", election, "--endpoints", endpoint, "--ttl", "500ms", "--json", *options, "--", *command]
        with log.open("wb") as file:
            self.process = subprocess.Popen([sys.executable, "-m", "tenure", *words], stderr=file)

    def said(self, what: str) -> dict[str, Any] | None:
        lines = self._log.read_bytes().split(b"\n")[:-1]
        events = [json.loads(line) for line in lines if line.startswith(b"{")]
        return next((event for event in events if event["event"] == what), None)

    def wait(self, what: str) -> dict[str, Any]:
        wait_for(lambda: self.said(what) or self.process.poll() is not None, what)
        found = self.said(what)
        assert found is not None, (what, self._log.read_text())
        return found

    def code(self) -> int:
        return self.process.wait(PATIENCE_S)


Start = Callable[..., Run]


def election(request: pytest.FixtureRequest) -> str:
    """Each test has an election of its own."""
    return str(request.node.name).removeprefix("test_").split("[")[0][:60].rstrip("_")


@pytest.fixture
def start(endpoint: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Start]:
    """Runs that are ended with the test."""
    runs: list[Run] = []

    def begin(node: str, *command: str, options: Sequence[str] = (), at: str = endpoint) -> Run:
        log = tmp_path / f"{len(runs)}.log"
        runs.append(Run(log, at, election(request), ["--node", f"{node}-{os.getpid()}", *options], command))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            run.process.send_signal(signal.SIGCONT)
            run.process.kill()
        run.process.wait()


def test_the_command_s_status_is_the_run_s(start: Start) -> None:
    assert start("a", "sh", "-c", "exit 7").code() == 7
    assert start("a", "sh", "-c", "kill -15 $$").code() == 143


def test_a_child_that_dies_makes_room_for_the_next_node_without_waiting_for_the_lease(
    start: Start, endpoint: str, request: pytest.FixtureRequest
) -> None:
    first = start("a", "sleep", "300", options=["--ttl", "20s"])
    pid = int(first.wait("started")["pid"])
    second = start("b", "sh", "-c", "exit 0", options=["--ttl", "20s"])
    second.wait("standing")
    os.kill(pid, signal.SIGKILL)
    gone_at = first.wait("gone")["at_us"]
    assert second.wait("started")["at_us"] - gone_at < 15_000_000
    assert first.code() == 137
    assert second.code() == 0
    with Client(endpoint, timeout=PATIENCE_S) as client:
        newest, oldest = client.history(election(request)).holdings
    assert (newest.began, oldest.ended) == ("crash", "crash")
    assert oldest.reason == "the application ended with status 137 (signal 9, SIGKILL)"
    assert (newest.ended, newest.reason) == ("released", "the application ended with status 0")


def test_sigterm_hands_over_and_terms_rise(start: Start) -> None:
    first = start("a", "sleep", "300")
    one = first.wait("granted")["term"]
    first.wait("started")
    second = start("b", "true")
    second.wait("standing")
    first.process.terminate()
    assert first.code() == 143
    assert second.wait("granted")["term"] > one
    assert second.code() == 0


def test_try_doesnt_wait_for_an_office_that_another_holds(start: Start) -> None:
    first = start("a", "sleep", "300")
    first.wait("started")
    assert start("b", "true", options=["--try"]).code() == 3
    assert start("c", "sh", "-c", "exit 4", options=["--try"]).code() == 3


def test_a_node_that_lives_elsewhere_is_waited_for(start: Start) -> None:
    first = start("a", "sleep", "300")
    first.wait("started")
    second = start("a", "true")
    assert second.wait("waiting")["code"] == "node_in_use"
    first.process.terminate()
    assert second.code() == 0


def test_an_agent_that_was_killed_is_succeeded_when_its_lease_has_run_out(start: Start) -> None:
    first = start("a", "sleep", "300")
    first.wait("started")
    second = start("b", "true")
    second.wait("standing")
    first.process.kill()
    assert second.code() == 0


def test_a_stopped_agent_wakes_stands_again_and_leads_again(start: Start) -> None:
    first = start("a", "sleep", "300")
    started = first.wait("started")
    second = start("b", "true")
    second.wait("standing")
    first.process.send_signal(signal.SIGSTOP)
    assert second.code() == 0
    first.process.send_signal(signal.SIGCONT)
    assert first.wait("gone")["why"] == "lost"
    first.wait("released")
    pids = {started["pid"]}

    def again() -> bool:
        pids.update(json.loads(line)["pid"] for line in first._log.read_text().splitlines() if '"started"' in line)
        return len(pids) == 2

    wait_for(again, "it leads again")


def test_stepdown_moves_the_office_and_the_node_stands_again(start: Start, endpoint: str) -> None:
    first, second = start("a", "sleep", "300"), start("b", "sleep", "300")
    first.wait("standing")
    second.wait("standing")
    with Client(endpoint) as client:
        holder = wait_for(lambda: client.election(first.wait("standing")["election"]).node_id, "somebody leads")
        done = client.stepdown(first.wait("standing")["election"])
        assert done.state == "done"
        assert done.to != holder


def test_bad_options_are_named_before_anything_starts(start: Start) -> None:
    run = start("a", "true", options=["--ttl", "50ms"])
    assert run.code() == 125
    assert "ttl" in run._log.read_text()


def test_without_a_member_try_ends_with_125(start: Start) -> None:
    assert start("a", "true", options=["--try"], at=f"http://127.0.0.1:{free_ports(1)[0]}").code() == 125
