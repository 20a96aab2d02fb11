"""The agent's end of the guardian: starts it, tells it, hears it; and ends what it left if it should die first."""

import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tenure.agent import kernel, orders, tree
from tenure.agent.acts import (
    CannotExecute,
    Continued,
    Executed,
    Exited,
    GuardianLost,
    Input,
    Protected,
    Ready,
    SigtermSent,
    Stopped,
)
from tenure.agent.ladder import Rungs
from tenure.base.errors import TenureError

# `tenure/__init__` loads the SDK; the guardian's package is an empty one with the same path instead, so it stays small.
_BOOT: Final = (
    "import sys, types; package = types.ModuleType('tenure'); package.__path__ = [sys.argv[1]]; "
    "sys.modules['tenure'] = package; from tenure.agent import guardian; guardian.main(sys.argv[2:])"
)
leave_wait_ms: Final = 5_000


class GuardianFailed(TenureError):
    """The guardian can't do its work; it has said why on stderr."""


def guardian_command(agent: int, page: int, isolation: str, command: Sequence[str]) -> list[str]:
    """The guardian's command line: no site packages, nothing but what it needs."""
    package = str(Path(__file__).resolve().parent.parent)
    cgroup = "auto" if isolation != "plain" else "-"
    return [sys.executable, "-I", "-S", "-c", _BOOT, package, str(agent), str(page), isolation, cgroup, *command]


class Warden:
    """One guardian. `subreaper`: this process may adopt, and end, whatever the guardian leaves behind."""

    def __init__(self, command: Sequence[str], isolation: str, page_fd: int, subreaper: bool) -> None:
        self._spared = frozenset(tree.children(os.getpid())) if subreaper else frozenset()
        self._subreaper = subreaper
        if subreaper:
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            line = guardian_command(theirs.fileno(), page_fd, isolation, command)
            self._process = subprocess.Popen(line, pass_fds=(theirs.fileno(), page_fd))
        self._socket = ours
        self._socket.setblocking(False)
        self.pid = self._process.pid

    def fileno(self) -> int:
        """Readable when the guardian has said something, or is gone."""
        return self._socket.fileno()

    def go(self, rungs: Rungs, environment: Mapping[str, str]) -> None:
        """Start the application; only after `Ready`."""
        entries = [os.fsencode(f"{name}={value}") for name, value in environment.items()]
        self._tell(orders.go(rungs.sigterm_at, rungs.sigkill_at, entries))

    def arm(self, rungs: Rungs) -> None:
        """A renewal was confirmed."""
        self._tell(orders.arm(rungs.sigterm_at, rungs.sigkill_at))

    def terminate(self) -> None:
        """SIGTERM to the application's process group."""
        self._tell(orders.TERMINATE)

    def kill(self) -> None:
        """SIGKILL to the tree."""
        self._tell(orders.KILL)

    def _tell(self, packet: bytes) -> None:
        try:
            self._socket.send(packet)
        except OSError:
            return  # it is gone (`hear` says so), or it is stopped and its queue full: then its timers act

    def hear(self) -> tuple[Input, ...]:
        """What the guardian has said since."""
        heard: list[Input] = []
        while True:
            try:
                packet = self._socket.recv(orders.packet_bytes_max)
            except BlockingIOError:
                return tuple(heard)
            except OSError:
                packet = b""
            if not packet:
                return (*heard, self._mop_up())
            said = _decode(packet)
            heard.append(said)

    def _mop_up(self) -> Input:
        """The guardian is gone, and the application with it (death signal). End what it left, if it comes to us."""
        code = self._process.wait()
        while self._subreaper:
            left = tree.descendants(os.getpid(), self._spared)
            if not left:
                break
            tree.kill_below(os.getpid(), self._spared)
            for pid in set(tree.children(os.getpid())) - self._spared:
                os.waitpid(pid, os.WNOHANG)
            select.select([], [], [], 0.001)
        return GuardianLost(code if code >= 0 else 128 - code)

    def close(self) -> None:
        """Let it go: it ends the tree first if there still is one."""
        self._socket.close()
        try:
            self._process.wait(leave_wait_ms / 1000)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _decode(packet: bytes) -> Input:
    kind = packet[:1]
    if kind == orders.HELLO:
        return Protected(tuple(packet[1:].decode().split()))
    if kind == orders.READY:
        return Ready()
    if kind == orders.EXECUTED:
        return Executed(orders.number(packet))
    if kind == orders.CANNOT:
        return CannotExecute(orders.number(packet))
    if kind == orders.STOPPED:
        return Stopped()
    if kind == orders.CONTINUED:
        return Continued()
    if kind == orders.TERMED:
        return SigtermSent()
    assert kind == orders.EXITED, kind
    return Exited(tree.exit_code(orders.number(packet)))
