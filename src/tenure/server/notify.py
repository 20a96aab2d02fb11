"""sd_notify(3): tell systemd how we are, one datagram, no library."""

import os
import socket
from typing import Final

watchdog_share: Final = 3
"""WATCHDOG=1 is sent this many times per interval that systemd waits."""


class Notifier:
    """Does nothing when systemd did not ask for it."""

    def __init__(self, environment: "os._Environ[str] | dict[str, str]") -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        micros = environment.get("WATCHDOG_USEC", "")
        pid = environment.get("WATCHDOG_PID", "")
        mine = not pid or pid == str(os.getpid())
        self.watchdog_s: float | None = int(micros) / 1e6 / watchdog_share if micros.isdigit() and mine else None

    def ready(self, status: str) -> None:
        """We serve."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={status}")

    def reloading(self, monotonic_us: int) -> None:
        """SIGHUP came; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_us}")

    def stopping(self) -> None:
        """SIGTERM came."""
        self._send("STOPPING=1\nSTATUS=handing over")

    def alive(self) -> None:
        """The loop goes round."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
                connection.sendto(text.encode(), address)
        except OSError:
            pass  # systemd restarting is no reason for us to fall
