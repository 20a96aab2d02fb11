"""sd_notify: what systemd hears, and silence when it did not ask."""

import os
import socket
from pathlib import Path

from tenure.server.notify import Notifier


def heard(listener: socket.socket) -> list[str]:
    return listener.recv(4096).decode().split("\n")


def test_each_state_is_told_in_systemds_words(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        notifier = Notifier({"NOTIFY_SOCKET": address})
        notifier.ready("serving")
        assert heard(listener) == ["READY=1", "STATUS=serving"]
        notifier.reloading(12)
        assert heard(listener) == ["RELOADING=1", "MONOTONIC_USEC=12"]
        notifier.stopping()
        assert heard(listener)[0] == "STOPPING=1"
        notifier.alive()
        assert heard(listener) == ["WATCHDOG=1"]


def test_the_watchdog_is_ours_only_if_it_names_our_process() -> None:
    assert Notifier({"WATCHDOG_USEC": "3000000"}).watchdog_s == 1.0
    assert Notifier({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}).watchdog_s == 1.0
    assert Notifier({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notifier({}).watchdog_s is None


def test_a_deaf_systemd_hurts_nobody(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready("serving")
    Notifier({}).ready("serving")
