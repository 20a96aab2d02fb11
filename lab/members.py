"""Real members, one a node: `tenure serve` as an operator would start it, with a secret, on addresses of its own."""

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from lab.ground import Node, inside
from lab.network import Network
from lab.traces import Event, parse
from tests.e2e.cluster import Answer, Connection, Method, broken, environment, eventually

api_port: Final = 8368
peer_port: Final = 8369
patience_s: Final = 60.0
"""How long the lab waits for what must come; only a failure ever waits so long."""
look_s: Final = 0.02
ask_s_max: Final = 5.0


class NodeConnection(Connection):
    """A client's connection to the member of its own node, from within the node."""

    def __init__(self, node: Node, secret: str, timeout: float) -> None:
        super().__init__(api_port, timeout)
        self.credentials = {"Authorization": f"Bearer {secret}"}
        self._node = node

    def dial(self) -> http.client.HTTPConnection:
        """Connect in the namespace."""
        opened = self._node.socket()
        opened.settimeout(self.timeout)
        try:
            opened.connect((self._node.address, self.port))
        except OSError:
            opened.close()
            raise
        connection = http.client.HTTPConnection(self._node.address, self.port, timeout=self.timeout)
        connection.sock = opened
        return connection


class LabMember:
    """One member and, while it has one, its process."""

    def __init__(self, node: Node, folder: Path, command: list[str], secret: str) -> None:
        self.node = node
        self.number = node.number
        self.name = name_of(node.number)
        self.secret = secret
        self._command = command
        self._folder = folder
        self._log = folder / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.frozen = False

    @property
    def alive(self) -> bool:
        """Its process runs, perhaps frozen."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, or start it again. It ends with the lab, however the lab ends."""
        assert not self.alive
        with self._log.open("ab") as log, inside(self.node.namespace):
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder, env=environment(),
            )  # fmt: skip
        self.frozen = False

    def signal(self, number: signal.Signals) -> None:
        """To this process alone."""
        os.kill(self.pid, number)
        self.frozen = number == signal.SIGSTOP or (self.frozen and number != signal.SIGCONT)

    def reap(self) -> None:
        """Wait for its end."""
        assert self._process is not None
        self._process.wait(patience_s)
        self._process = None

    def connection(self, timeout: float = ask_s_max) -> NodeConnection:
        """A client's, beside the member."""
        return NodeConnection(self.node, self.secret, timeout)

    def ask(self, method: Method, path: str, body: object = None, timeout: float = ask_s_max) -> Answer:
        """One request on a connection of its own."""
        connection = self.connection(timeout)
        try:
            return connection.ask(method, path, body)
        finally:
            connection.close()

    def status(self) -> dict[str, Any] | None:
        """What it says of the cluster by itself; None when it says nothing."""
        with suppress(*broken):
            answer = self.ask("GET", "/status?consistency=stale", timeout=1.0)
            if isinstance(answer.data, dict):
                return answer.data
        return None

    def events(self) -> list[Event]:
        """All that it has told, in all its lives."""
        return parse(self._log.read_bytes()) if self._log.exists() else []

    def words(self, lines: int) -> str:
        """The end of its log."""
        text = self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


class LabCluster:
    """One member on every node of a network. The last `observers` of them don't found the cluster, they join it."""

    def __init__(self, network: Network, folder: Path, level: str = "info", observers: int = 0) -> None:
        self.network = network
        secret = secrets.token_hex(16)
        self.secret_file = folder / "secret"
        self.secret_file.write_text(secret + "\n", encoding="ascii")
        self.secret_file.chmod(0o600)
        founders = network.nodes[: len(network.nodes) - observers]
        founding = ["--cluster", ",".join(f"{name_of(node.number)}={node.address}:{peer_port}" for node in founders)]
        joining = ["--join", ",".join(f"http://{node.address}:{api_port}" for node in founders)]
        self.members = [
            LabMember(node, folder, _command(node, folder, belonging, self.secret_file, level), secret)
            for node in network.nodes
            for belonging in [founding if node in founders else joining]
        ]
        self.founders = self.members[: len(founders)]
        self.by_name = {member.name: member for member in self.members}

    @property
    def running(self) -> list[LabMember]:
        """Members that can answer."""
        return [member for member in self.members if member.alive and not member.frozen]

    def start(self) -> LabMember:
        """Start everybody; the leader, once all follow it."""
        for member in self.members:
            member.start()  # who joins asks until somebody answers
        return self.settled()

    def leader_now(self) -> LabMember | None:
        """Whom all running members follow; None while they differ."""
        reports = [member.status() for member in self.running]
        told = {str(report["consensus"]["leader"]) if report is not None else "nobody" for report in reports}
        return self.by_name.get(told.pop()) if len(told) == 1 else None

    def settled(self) -> LabMember:
        """Wait until all running members follow one leader, which takes writes, and have applied the same."""
        found: list[LabMember] = []

        def same() -> bool:
            leader = self.leader_now()
            if leader is None or leader.frozen:
                return False
            with suppress(*broken):
                if any(member.ask("PUT", "/v1/kv/settled", {"value": 1}).status != 200 for member in self.running):
                    return False
                time.sleep(2 * self.network.weather.rtt_ms / 1_000)
                reports = [member.status() for member in self.running]
                applied = {-1 if report is None else report["consensus"]["applied_index"] for report in reports}
                found[:] = [leader]
                return len(applied) == 1 and -1 not in applied and self.leader_now() is leader
            return False

        eventually(same, "all members follow one leader and apply the same", patience_s)
        return found[0]

    def events(self) -> list[Event]:
        """What all members have told, in the order of time."""
        return sorted((event for member in self.members for event in member.events()), key=lambda event: event.at_us)

    def stop(self) -> None:
        """End every member."""
        for member in self.members:
            if member.alive:
                with suppress(ProcessLookupError):
                    member.signal(signal.SIGKILL)
                member.reap()


@contextmanager
def cluster(network: Network, folder: Path, level: str = "info", observers: int = 0) -> Iterator[LabCluster]:
    """A running cluster; its logs are shown when an experiment fails."""
    made = LabCluster(network, folder, level, observers)
    try:
        made.start()
        yield made
    except BaseException:
        for member in made.members:
            print(f"--- {member.name}\n{member.words(60)}", file=sys.stderr)
        raise
    finally:
        made.stop()


def name_of(number: int) -> str:
    """A member's name."""
    return f"m{number}"


def _command(node: Node, folder: Path, belonging: list[str], secret_file: Path, level: str) -> list[str]:
    name = name_of(node.number)
    line = [sys.executable, "-m", "tenure", "serve", "--name", name, "--data-dir", str(folder / name)]
    line += ["--api", f"{node.address}:{api_port}", "--peer", f"{node.address}:{peer_port}", *belonging]
    return [*line, "--cluster-secret-file", str(secret_file), "--log-format", "json", "--log-level", level]


def body(value: str) -> bytes:
    """Of a put."""
    return json.dumps({"value": value}).encode()
