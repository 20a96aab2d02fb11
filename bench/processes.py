"""Child processes of a benchmark: started here, known by pid, ended by pid."""

import os
import resource
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE_KB: Final = resource.getpagesize() // 1024


class Child:
    """One server process with its own log file."""

    def __init__(self, name: str, command: list[str], folder: Path, env: dict[str, str] | None = None) -> None:
        self.name = name
        self.command = command
        self._log = folder / f"{name}.log"
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again with the same command."""
        assert self._process is None or self._process.poll() is not None
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self._env, cwd=self._log.parent
            )

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Started and not ended."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it is alive."""
        if self.alive and self._process is not None:
            self._process.send_signal(number)

    def reap(self, timeout_s: float = 10) -> None:
        """Wait for its end."""
        if self._process is not None:
            self._process.wait(timeout_s)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after a while."""
        if not self.alive:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self.reap(5)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.reap()

    def log_tail(self, chars: int = 1500) -> str:
        """The end of what it wrote, for an error message."""
        return self._log.read_text(errors="replace")[-chars:] if self._log.exists() else ""

    def rss_mb(self) -> float:
        """Resident memory now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * _PAGE_KB / 1024

    def cpu_s(self) -> float:
        """Processor time used so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


def scratch() -> "tempfile.TemporaryDirectory[str]":
    """A temp folder for one cluster. BENCH_DIR chooses the disk."""
    return tempfile.TemporaryDirectory(
        prefix="tenure-bench-", dir=os.environ.get("BENCH_DIR"), ignore_cleanup_errors=True
    )
