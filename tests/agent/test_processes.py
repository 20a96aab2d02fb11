"""The agent, its guardian and real applications: who ends whom, and in which order.

Bounds are orders of events, or so wide that only a hang misses them. Whoever is stopped here stays stopped: nothing of
it can have helped.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tenure.agent import tree

pytestmark = pytest.mark.e2e
PATIENCE_S = 20.0
TREE = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
folder = sys.argv[1]
def tell(name):
    with open(f"{folder}/{name}.new", "w") as file:
        file.write(f"{os.getpid()} {os.environ['TENURE_TERM']}")
    os.rename(f"{folder}/{name}.new", f"{folder}/{name}")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        tell("daemon")
        time.sleep(300)
    os._exit(0)
if os.fork() == 0:
    tell("child")
    time.sleep(300)
tell("main")
time.sleep(300)
"""
"""An application that ignores SIGTERM, with a child and a daemon that has left session and parent."""


def wait_for(what: Callable[[], Any], why: str) -> Any:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(f"waited in vain: {why}")


def gone(pid: int) -> bool:
    """Dead, reaped or not: no line of it runs any more."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in {b"Z", b"X"}
    except (FileNotFoundError, ProcessLookupError):
        return True


class Agent:
    """One puppet, its events as they come, and the pids below it."""

    def __init__(self, folder: Path, script: str, options: list[str], command: list[str]) -> None:
        self.folder = folder
        self._log = (folder / "events").open("wb+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.agent.puppet", script, *options, "--", *command],
            stderr=self._log,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": "src"},
        )

    def events(self) -> list[dict[str, Any]]:
        lines = (self.folder / "events").read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def said(self, what: str) -> dict[str, Any] | None:
        return next((event for event in self.events() if event["event"] == what), None)

    def wait(self, what: str) -> dict[str, Any]:
        found = wait_for(lambda: self.said(what) or self.process.poll() is not None, what)
        found = self.said(what)
        assert found is not None, (what, self.events(), (self.folder / "events").read_text())
        return found

    def pid(self, name: str) -> int:
        path = self.folder / name
        return int(wait_for(lambda: path.exists() and path.read_text().split(), f"the application's {name}")[0])

    def guardian(self) -> int:
        return wait_for(lambda: tree.children(self.process.pid), "the guardian")[0]  # type: ignore[no-any-return]

    def code(self) -> int:
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        below = tree.descendants(self.process.pid)
        for pid in (self.process.pid, *below):
            tree.kill(pid)
        self.process.wait()
        self._log.close()


Start = Callable[..., Agent]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    agents: list[Agent] = []

    def begin(script: str, *command: str, options: tuple[str, ...] = ()) -> Agent:
        folder = tmp_path / str(len(agents))
        folder.mkdir()
        words = [word.replace("FOLDER", str(folder)) for word in command]
        agents.append(Agent(folder, script, list(options), words))
        return agents[-1]

    yield begin
    for agent in agents:
        agent.close()


def of_tree() -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", TREE, "FOLDER")


def pids_of_tree(agent: Agent) -> list[int]:
    return [agent.pid(name) for name in ("main", "child", "daemon")]


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


ISOLATIONS = ["tree=auto", "tree=plain"]


# --- exit codes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "command", "options", "code"),
    [
        ("k", ("sh", "-c", "exit 7"), (), 7),
        ("k", ("true",), (), 0),
        ("k", ("sh", "-c", "kill -9 $$"), (), 137),
        ("k", ("no-such-command",), (), 127),
        ("k", ("/etc/passwd",), (), 126),
        ("l", ("sleep", "300"), ("once=yes",), 124),
        ("n", ("true",), ("try=yes",), 3),
        ("kk", ("sh", "-c", "exit 4"), ("restart=on-failure", "restart-limit=1", "once=yes"), 4),
    ],
)
def test_exit_codes(start: Start, script: str, command: tuple[str, ...], options: tuple[str, ...], code: int) -> None:
    assert start(script, *command, options=options).code() == code


def test_the_application_knows_its_office(start: Start) -> None:
    names = "$TENURE_ELECTION $TENURE_NODE $TENURE_TERM $TENURE_FENCE_TOKEN $TENURE_ENDPOINTS"
    agent = start("k", "sh", "-c", f'echo "{names}" > FOLDER/env')
    assert agent.code() == 0
    zeros = "0" * 32
    assert (agent.folder / "env").read_text().split() == [
        "orders", "a", "7", f"t1.orders.7.{zeros}", "http://127.0.0.1:8368",
    ]  # fmt: skip


READS_PAGE = """
import os, sys
sys.path.insert(0, "src")
from tenure.agent.page import of_environment
view = of_environment()
del os.environ["TENURE_LEASE_FD"]
other = of_environment()
term = int(os.environ["TENURE_TERM"])
assert 0 < view.remaining_us(term) <= 600_000, view.read()
assert view.remaining_us(term + 1) == 0
assert 0 < other.remaining_us(term) <= 600_000
"""


def test_the_application_reads_the_end_of_its_lease_from_memory(start: Start) -> None:
    assert start("k", sys.executable, "-c", READS_PAGE).code() == 0


# --- the ordinary ways to end -----------------------------------------------------------------------------------------


def test_sigterm_to_the_agent_lets_the_application_end_with_its_own_code(start: Start) -> None:
    agent = start("k", "sh", "-c", "trap 'exit 5' TERM; echo $$ > FOLDER/main; while :; do sleep 0.02; done")
    agent.pid("main")
    agent.wait("started")
    agent.process.terminate()
    assert agent.code() == 5


def test_an_application_that_ignores_sigterm_is_killed_with_its_whole_tree_after_the_grace(start: Start) -> None:
    agent = start("k", *of_tree(), options=("grace=200ms",))
    pids = pids_of_tree(agent)
    agent.wait("started")
    agent.process.terminate()
    assert agent.code() == 137
    assert all(gone(pid) for pid in pids)


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_what_the_application_leaves_behind_is_gone_before_the_office_is(start: Start, isolation: str) -> None:
    agent = start("k", *of_tree(), options=(isolation,))
    main, child, daemon = pids_of_tree(agent)
    agent.wait("started")
    os.kill(main, signal.SIGKILL)
    assert agent.wait("gone")["code"] == 137
    assert gone(child)
    assert gone(daemon)
    assert agent.code() == 137


def test_a_demand_ends_the_application_and_the_node_stands_again(start: Start) -> None:
    agent = start("dn", "sleep", "300")
    agent.wait("demanded")
    agent.wait("released")
    assert agent.process.poll() is None


def test_a_lost_lease_ends_the_application_before_its_end_and_the_next_grant_starts_it_under_the_new_term(
    start: Start,
) -> None:
    agent = start("lk", *of_tree(), options=("ttl=3s",))  # 140 ms lie between SIGKILL and the TTL's end
    pids = pids_of_tree(agent)
    gone_at = agent.wait("gone")["at_us"]
    assert gone_at < agent.wait("granted")["at_us"] + 3_000_000
    assert all(gone(pid) for pid in pids)
    wait_for(lambda: (agent.folder / "main").read_text().endswith(" 8"), "the application under term 8")


def test_restart_in_place_keeps_the_term(start: Start) -> None:
    command = "echo $TENURE_TERM >> FOLDER/terms; test $(wc -l < FOLDER/terms) -ge 3"
    agent = start("k", "sh", "-c", command, options=("restart=on-failure",))
    assert agent.code() == 0
    assert (agent.folder / "terms").read_text().split() == ["7", "7", "7"]


# --- the deadman ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_stopped_agent_cant_keep_its_application_alive(start: Start, isolation: str) -> None:
    agent = start("k", *of_tree(), options=(isolation,))
    pids = pids_of_tree(agent)
    stop(agent.process.pid)
    for pid in pids:
        wait_for(partial(gone, pid), "the tree's end under a stopped agent")


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_stopped_agent_and_a_stopped_tree_end_all_the_same(start: Start, isolation: str) -> None:
    agent = start("k", *of_tree(), options=(isolation,))
    pids = pids_of_tree(agent)
    for pid in (agent.process.pid, *pids):
        stop(pid)
    for pid in pids:
        wait_for(partial(gone, pid), "a stopped tree's end under a stopped agent")


def test_when_agent_guardian_and_application_are_all_stopped_the_kernel_ends_the_application(start: Start) -> None:
    agent = start("k", *of_tree())
    main = pids_of_tree(agent)[0]
    guardian = agent.guardian()
    for pid in (agent.process.pid, guardian, main):
        stop(pid)
    wait_for(lambda: gone(main), "the kernel's timer")
    assert gone(guardian)


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_killed_agent_takes_the_whole_tree_with_it(start: Start, isolation: str) -> None:
    agent = start("k", *of_tree(), options=(isolation,))
    pids = [*pids_of_tree(agent), agent.guardian()]
    agent.process.kill()
    for pid in pids:
        wait_for(partial(gone, pid), "the tree's end after kill -9 of the agent")


def test_a_killed_guardian_takes_the_application_with_it_and_the_agent_ends_the_rest(start: Start) -> None:
    agent = start("kk", *of_tree(), options=("restart=always",))
    pids = pids_of_tree(agent)
    agent.wait("started")
    os.kill(agent.guardian(), signal.SIGKILL)
    agent.wait("gone")
    assert all(gone(pid) for pid in pids)
    wait_for(lambda: agent.pid("main") not in pids, "a new guardian's application")


def test_a_stopped_application_ends_though_its_agent_is_well(start: Start) -> None:
    agent = start("k", *of_tree())
    pids = pids_of_tree(agent)
    agent.wait("started")
    stop(pids[0])
    frozen_at = agent.wait("frozen")["at_us"]
    assert agent.wait("gone")["at_us"] < frozen_at + 600_000 + 2_000_000
    assert all(gone(pid) for pid in pids)
    assert agent.code() == 137


def test_an_application_that_was_stopped_for_a_moment_goes_on(start: Start) -> None:
    agent = start("k", "sleep", "300", options=("ttl=5s",))
    agent.wait("started")
    pid = int(agent.wait("started")["pid"])
    stop(pid)
    agent.wait("frozen")
    os.kill(pid, signal.SIGCONT)
    agent.process.terminate()
    assert agent.code() == 143


def can_make_namespaces() -> bool:
    return subprocess.run(["unshare", "-p", "-f", "-m", "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_make_namespaces(), reason="SKIPPED, NOTHING WAS CHECKED: PID namespaces need CAP_SYS_ADMIN")
def test_in_a_namespace_the_kernel_alone_ends_the_whole_tree(start: Start) -> None:
    agent = start("k", *of_tree(), options=("tree=namespace",))
    agent.pid("daemon")
    agent.wait("started")
    guardian = agent.guardian()
    everything = tree.descendants(guardian)
    assert len(everything) >= 4
    for pid in (agent.process.pid, guardian, *everything):
        stop(pid)
    for pid in everything:
        wait_for(partial(gone, pid), "the end of a stopped namespace")


@pytest.mark.skipif(not can_make_namespaces(), reason="SKIPPED, NOTHING WAS CHECKED: PID namespaces need CAP_SYS_ADMIN")
def test_in_a_namespace_the_application_ends_and_reports_as_elsewhere(start: Start) -> None:
    assert start("k", "sh", "-c", "test $$ -lt 10 || exit 1; exit 9", options=("tree=namespace",)).code() == 9
    agent = start("k", *of_tree(), options=("tree=namespace", "grace=100ms"))
    agent.pid("daemon")
    agent.wait("started")
    stop(tree.children(tree.children(agent.guardian())[0])[0])
    agent.wait("frozen")
    assert agent.code() == 137


@pytest.mark.skipif(not can_make_namespaces(), reason="SKIPPED, NOTHING WAS CHECKED: PID namespaces need CAP_SYS_ADMIN")
def test_in_a_namespace_the_guardian_outlives_an_init_that_ends_after_its_application(start: Start) -> None:
    """The init writes the application's end down before its own, and may be reaped at any instant between the
    guardian's look for what is left and its end: 32 ends, eight at a time, met that window several times.
    """
    options = ("tree=namespace", "once=yes", "restart=always", "restart-limit=3")
    agents = [start("k", "sh", "-c", "exit 9", options=options) for _ in range(8)]
    assert [agent.code() for agent in agents] == [9] * 8
    ends = [event for agent in agents for event in agent.events() if event["event"] == "gone"]
    assert [event["code"] for event in ends] == [9] * 32
    assert [agent.said("unguarded") for agent in agents] == [None] * 8


def test_an_agent_whose_stderr_nobody_reads_goes_on() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    options = ["restart=always", "restart-limit=3", "once=yes"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.agent.puppet", "k", *options, "--", "false"],
        stderr=writing,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": "src"},
    )
    try:
        assert process.wait(PATIENCE_S) == 1
    finally:
        process.kill()
        os.close(reading)
        os.close(writing)


def test_the_agent_says_what_protects(start: Start) -> None:
    agent = start("k", "true")
    agent.code()
    kinds = agent.wait("protected")["by"].split(",")
    assert {"kernel-timer", "death-signal", "subreaper"} <= set(kinds)


def test_the_guardian_stays_small(start: Start) -> None:
    agent = start("k", "sleep", "300")
    agent.wait("started")
    with open(f"/proc/{agent.guardian()}/status", encoding="utf-8") as file:
        sizes = {line.split()[0]: int(line.split()[1]) for line in file if line.startswith("Rss")}
    assert sizes["RssAnon:"] < 8_000, sizes
