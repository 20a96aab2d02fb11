"""A cluster of real `tenure serve` processes: free ports, folders of their own, faults by signal, logs when it fails.

Ports are drawn below the kernel's range for outgoing connections: a connection out of that range may take the port of a
member that is dead for the moment, and then it can't come back.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar

from tenure.cli.demo_processes import free_ports

root: Final = Path(__file__).resolve().parents[2]
patience_s: Final = 30.0
"""How long a test waits for what must come; only a failure ever waits so long."""
look_s: Final = 0.01

Method = Literal["GET", "PUT", "POST", "DELETE"]


def now_us() -> int:
    """CLOCK_BOOTTIME: one clock for every process of this machine."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000


def eventually(true: Callable[[], bool], what: str, patience: float = patience_s) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, f"waited {patience} s in vain: {what}"
        time.sleep(look_s)


def environment(source: Path = root / "src") -> dict[str, str]:
    """What a child of ours gets: our sources (or others), and none of the operator's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TENURE_")}
    return {**kept, "PYTHONPATH": f"{source}{os.pathsep}{root}", "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True)
class Answer:
    """What HTTP said. `data` is the JSON body, None without one."""

    status: int
    headers: Mapping[str, str]
    data: Any
    raw: bytes

    @property
    def code(self) -> str | None:
        """A problem's stable code."""
        return self.data.get("code") if isinstance(self.data, dict) else None


class Connection:
    """One kept-alive connection to one member; made anew when it broke."""

    credentials: Mapping[str, str] = MappingProxyType({})

    def __init__(self, port: int, timeout: float = 5.0) -> None:
        self.port = port
        self.timeout = timeout
        self._http: http.client.HTTPConnection | None = None

    def dial(self) -> http.client.HTTPConnection:
        """Connect; members may live elsewhere (`lab`)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
        connection.connect()
        return connection

    def ask(self, method: Method, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Raises `OSError` or `http.client.HTTPException` when there is no whole answer: the outcome is unknown."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if self._http is None:
            self._http = self.dial()
            self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._http.request(method, path, data, {**self.credentials, **(headers or {})})
            response = self._http.getresponse()
            raw = response.read()
        except BaseException:
            self.close()
            raise
        kind = response.headers.get_content_type()
        told = json.loads(raw) if raw and kind in {"application/json", "application/problem+json"} else None
        if response.will_close:
            self.close()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, told, raw)

    def close(self) -> None:
        """May be called twice."""
        if self._http is not None:
            self._http.close()
            self._http = None


broken: Final = (OSError, http.client.HTTPException)
"""No whole answer came."""


@dataclass
class Member:
    """One member: how to start it, and its process while it has one."""

    name: str
    folder: Path
    api: int
    peer: int
    flags: dict[str, object]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    source: Path = root / "src"
    """The program that its next life runs."""
    stopped: bool = False
    logged: int = 0
    """Where this life's log begins."""
    lives: int = 0
    exits: list[int] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    """Stands in front of its command, in every life: a namespace."""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self.process is not None, f"{self.name} does not run"
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Its process runs, perhaps frozen."""
        return self.process is not None and self.process.poll() is None

    def ask(
        self,
        method: Method,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
    ) -> Answer:
        """One request on a connection of its own."""
        connection = Connection(self.api, timeout)
        try:
            return connection.ask(method, path, body, headers)
        finally:
            connection.close()

    def status(self, *, stale: bool = True) -> dict[str, Any] | None:
        """What it says of the cluster; None when it says nothing. Short of patience: it may be frozen."""
        with suppress(*broken):
            answer = self.ask("GET", "/status" + ("?consistency=stale" if stale else ""), timeout=1.0)
            if isinstance(answer.data, dict):
                return answer.data
        return None

    def ready(self) -> bool:
        """It can answer, in touch with a leader."""
        with suppress(*broken):
            return self.ask("GET", "/readyz").status == 200
        return False

    def words(self, *, all_lives: bool = False) -> str:
        """The log of this life."""
        text = self.log.read_bytes()[0 if all_lives else self.logged :] if self.log.exists() else b""
        return text.decode(errors="replace")


class Cluster:
    """Members under one folder. Everything started here is ended by its own pid."""

    def __init__(self, folder: Path, size: int = 3, **flags: object) -> None:
        self.folder = folder
        names = [f"m{number + 1}" for number in range(size)]
        ports = free_ports(2 * size)
        self.listed = ",".join(f"{name}=127.0.0.1:{port}" for name, port in zip(names, ports[size:], strict=True))
        self.members: dict[str, Member] = {
            name: Member(name, folder / name, ports[at], ports[size + at], dict(flags), folder / f"{name}.log")
            for at, name in enumerate(names)
        }

    def __getitem__(self, name: str) -> Member:
        return self.members[name]

    @property
    def endpoints(self) -> list[str]:
        """As `--endpoints` wants them."""
        return [f"http://127.0.0.1:{member.api}" for member in self.members.values()]

    @property
    def running(self) -> list[Member]:
        """Members that can answer."""
        return [member for member in self.members.values() if member.alive and not member.stopped]

    def others(self, name: str) -> list[Member]:
        """Running members but this one."""
        return [member for member in self.running if member.name != name]

    # --- lives -------------------------------------------------------------------------------------------------------

    def command(self, name: str) -> list[str]:
        """The command line of a member, as an operator would write it."""
        member = self.members[name]
        line = [sys.executable, "-m", "tenure", "serve", "--name", name, "--data-dir", str(member.folder)]
        line += ["--api", f"127.0.0.1:{member.api}", "--peer", f"127.0.0.1:{member.peer}"]
        line += [] if "join" in member.flags else ["--cluster", self.listed]
        for flag, value in member.flags.items():
            line += ["--" + flag.replace("_", "-")] + ([] if value is True else [str(value)])
        return line

    def start(self, name: str, *, before: Sequence[str] = ()) -> Member:
        """Start a member; `before` stands in front of its command (strace)."""
        member = self.members[name]
        assert not member.alive, f"{name} runs already"
        member.logged = member.log.stat().st_size if member.log.exists() else 0
        with open(member.log, "ab") as log:
            member.process = subprocess.Popen(
                [*member.before, *before, *self.command(name)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**environment(member.source), **member.environment},
                start_new_session=True,
            )
        member.stopped = False
        member.lives += 1
        return member

    def joins(self, name: str, source: Path = root / "src", **flags: object) -> Member:
        """One more member starts and joins."""
        api, peer = free_ports(2)
        given = {"join": ",".join(self.endpoints), **flags}
        log = self.folder / f"{name}.log"
        self.members[name] = Member(name, self.folder / name, api, peer, given, log, source=source)
        return self.start(name)

    def start_all(self) -> str:
        """Start everybody; the consensus leader's name, once it serves and all can answer: two may lead and follow
        before the third listens.
        """
        for name in self.members:
            self.start(name)
        for member in self.running:
            eventually(member.ready, f"{member.name} can answer")
        return self.leader()

    def kill(self, name: str) -> None:
        """As by `kill -9`; its last words are the kernel's."""
        self.signal(name, signal.SIGKILL)
        self.ended(name)

    def pause(self, name: str) -> None:
        """Freeze it: it neither answers nor dies."""
        self.signal(name, signal.SIGSTOP)
        self.members[name].stopped = True

    def resume(self, name: str) -> None:
        """Let it go on, unaware."""
        self.signal(name, signal.SIGCONT)
        self.members[name].stopped = False

    def terminate(self, name: str) -> int:
        """As by the init system; the exit code."""
        self.signal(name, signal.SIGTERM)
        return self.ended(name)

    def signal(self, name: str, number: signal.Signals) -> None:
        """To this process alone."""
        os.kill(self.members[name].pid, number)

    def ended(self, name: str, patience: float = patience_s) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        member = self.members[name]
        assert member.process is not None
        code = member.process.wait(patience)
        member.exits.append(code)
        member.process = None
        member.stopped = False
        return code

    def stop(self) -> None:
        """End everything, however it goes; whatever was started in a member's session ends with it."""
        for member in self.members.values():
            if member.process is not None:
                with suppress(ProcessLookupError):
                    os.killpg(member.process.pid, signal.SIGKILL)
                member.process.wait()
                member.process = None

    # --- looks -------------------------------------------------------------------------------------------------------

    def leader_now(self) -> str | None:
        """Who leads and is followed by a majority of all, as the members say; None while they don't."""
        told: dict[str, set[str]] = {}
        for member in self.running:
            report = member.status()
            if report is not None and report["consensus"]["leader"] is not None:
                told.setdefault(report["consensus"]["leader"], set()).add(member.name)
        for leader, by in told.items():
            if leader in by and len(by) > len(self.members) // 2:
                return leader
        return None

    def leader(self, but: str | None = None) -> str:
        """The consensus leader, once a write went through and there is one (other than `but`)."""
        deadline = time.monotonic() + patience_s
        while True:
            gone = [member.name for member in self.members.values() if member.process is not None and not member.alive]
            assert not gone, f"{gone} ended by themselves: {self[gone[0]].words()[-2_000:]}"
            name = self.leader_now()
            if name is not None and name != but:
                with suppress(*broken):
                    if self[name].ask("GET", "/readyz").status == 200:
                        return name
            assert time.monotonic() < deadline, f"no leader within {patience_s} s"
            time.sleep(look_s)

    def followers(self) -> list[str]:
        """Running members that don't lead."""
        leader = self.leader()
        return [member.name for member in self.running if member.name != leader]

    def term(self) -> int:
        """The newest consensus term that anybody knows."""
        return max(
            int(report["consensus"]["term"]) for member in self.running if (report := member.status()) is not None
        )

    def settled(self, patience: float = patience_s) -> None:
        """Wait until every running member has applied the same."""

        def same() -> bool:
            reports = [member.status() for member in self.running]
            applied = {-1 if report is None else report["consensus"]["applied_index"] for report in reports}
            return len(applied) == 1 and -1 not in applied

        eventually(same, "all members apply the same", patience)

    def tell(self) -> None:
        """All logs, for whoever reads a failure."""
        for member in self.members.values():
            print(f"--- {member.name} ({member.lives} lives, exits {member.exits})")
            print("\n".join(member.words(all_lives=True).splitlines()[-120:]))


AnyCluster = TypeVar("AnyCluster", bound=Cluster)


@contextmanager
def started(made: AnyCluster) -> Iterator[AnyCluster]:
    """It runs and has a leader; its logs are shown when the story fails."""
    try:
        made.start_all()
        yield made
    except BaseException:
        made.tell()
        raise
    finally:
        made.stop()


def cluster(folder: Path, size: int = 3, **flags: object) -> AbstractContextManager[Cluster]:
    """A running cluster with a leader."""
    return started(Cluster(folder, size, **flags))


def value_of(words: str, what: str, name: str) -> str | None:
    """The last value `name=` in the log lines of kind `what`."""
    found = re.findall(rf"^\S+ \S+ +\S+ {what} .*?\b{name}=(\"[^\"]*\"|\S+)", words, re.MULTILINE)
    return found[-1] if found else None
