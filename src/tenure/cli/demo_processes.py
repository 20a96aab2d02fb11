"""The demo's processes: started here, ended here by their own pids, and by the kernel should the demo itself die."""

import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from tenure.agent import kernel
from tenure.base.errors import TenureError

T = TypeVar("T")
patience_s: Final = 20.0
_ports: Final = (15_000, 32_000)
_look_s: Final = 0.002
_stop_s: Final = 3.0


class Broken(TenureError):
    """Something did not happen as promised."""


def until(what: Callable[[], T | None], promise: str, seconds: float = patience_s) -> T:
    """Look again and again; `Broken` if it never comes true."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > end:
            raise Broken(f"{promise}: not within {seconds:.0f} s")
        time.sleep(_look_s)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now. Not those that the kernel hands out: an outgoing connection of
    anybody could take one before the member has it, or while it is down.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(*_ports)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found


def is_stopped(pid: int) -> bool:
    """By SIGSTOP."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] == b"T"


def _die_with_parent() -> None:
    kernel.prctl(kernel.PR_SET_PDEATHSIG, kernel.SIGKILL)


class Process:
    """One process of ours; what it writes goes to a file, JSON lines are read back."""

    def __init__(self, name: str, folder: Path, command: Sequence[str], environment: dict[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command, self._environment = list(command), environment
        self.popen = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *self._command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - the demo has no threads when it starts processes
            )

    def again(self) -> None:
        """Start it again after its end, as a service manager would."""
        self.end()
        self.popen = self._start()

    @property
    def pid(self) -> int:
        """Of the process as it runs now."""
        return self.popen.pid

    def events(self) -> list[dict[str, Any]]:
        """The JSON lines so far, complete ones."""
        lines = self.log.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def event(self, what: str, after_us: int = 0) -> dict[str, Any] | None:
        """The first event of a kind at or after an instant."""
        return next((each for each in self.events() if each.get("event") == what and each["at_us"] >= after_us), None)

    def tail(self) -> str:
        """The last lines, for whoever must find out what went wrong."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])

    def kill(self) -> None:
        """SIGKILL."""
        self.popen.kill()

    def end(self, gently: bool = False) -> None:
        """End it, if it hasn't; stopped ones too."""
        if self.popen.stdin:
            self.popen.stdin.close()
            self.popen.stdin = None
        if self.popen.poll() is None and gently:
            self.popen.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.popen.wait(_stop_s)
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()


@contextmanager
def _at_once() -> Iterator[None]:
    """Where allowed, wake before others do: else a busy machine's queue would be counted as the other's life."""
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


class Watch:
    """Tells when a process that isn't our child has died, to the wake-up."""

    def __init__(self, pid: int) -> None:
        self._fd = os.pidfd_open(pid)

    def wait(self, now: Callable[[], int], promise: str) -> int:
        """The instant of its death; `Broken` if it lives on."""
        with _at_once():
            dead, _, _ = select.select([self._fd], [], [], patience_s)
            at = now()
        os.close(self._fd)
        if not dead:
            raise Broken(promise)
        return at


def send(pid: int, number: signal.Signals) -> None:
    """A signal to a process that we started, or that our agents did."""
    os.kill(pid, number)


def stop(pids: Sequence[int]) -> None:
    """SIGSTOP to all of them, and see that they are stopped."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        until(partial(is_stopped, pid), f"process {pid} is stopped")
