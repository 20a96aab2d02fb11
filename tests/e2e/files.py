"""Three members from three TOML files with a secret, and a fourth with another: on loopback or in a network of its own.

As a program, it makes itself a network namespace with three addresses that aren't loopback, and plays the story there:

    python -m tests.e2e.files FOLDER
"""

import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tenure.client import errors
from tenure.client.http import Client
from tests.e2e.cluster import environment, eventually

NAMES: Final = ("m1", "m2", "m3")
HOSTS: Final = tuple(f"10.77.0.{number}" for number in (1, 2, 3, 4))
SECRET: Final = "one secret for all three of them"
OTHER: Final = "another, of which nobody has heard"
exit_no_namespaces: Final = 77
_NEWUSER, _NEWNET = 0x10000000, 0x40000000
_SIOCSIFADDR, _SIOCSIFFLAGS, _IFF_UP = 0x8916, 0x8914, 0x1


@dataclass(frozen=True)
class Place:
    """Where a member listens."""

    api: str
    peer: str


class Started:
    """One `tenure serve --config FILE`."""

    def __init__(self, folder: Path, name: str, places: dict[str, Place], secret: Path, is_asked_for: bool) -> None:
        self.log = folder / f"{name}.log"
        file = folder / f"{name}.toml"
        cluster = "".join(f'{other} = "{place.peer}"\n' for other, place in places.items())
        file.write_text(
            f'name = "{name}"\ndata_dir = "{folder / name}"\napi = "{places[name].api}"\npeer = "{places[name].peer}"\n'
            f'cluster_secret_file = "{secret}"\nrequire_secret = {str(is_asked_for).lower()}\n\n[cluster]\n{cluster}'
        )
        with self.log.open("w") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "tenure", "serve", "--config", str(file)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, env=environment(),
            )  # fmt: skip

    def words(self) -> str:
        """Its log."""
        return self.log.read_text()

    def end(self) -> int:
        """As by the init system; the exit code."""
        self._child.send_signal(signal.SIGTERM)
        return self._child.wait(30)

    def kill(self) -> None:
        """However it goes."""
        self._child.kill()
        self._child.wait()


def secret_file(folder: Path, name: str, secret: str) -> Path:
    """A file that only its owner can read."""
    path = folder / name
    path.touch(0o600)
    path.write_text(secret + "\n")
    return path


def play(folder: Path, places: dict[str, Place], *, require_secret: bool) -> None:
    """`places` has the three members and a fourth, `m4`."""
    three = {name: places[name] for name in NAMES}
    right, wrong = secret_file(folder, "right", SECRET), secret_file(folder, "wrong", OTHER)
    endpoints = [f"http://{place.api}" for place in three.values()]
    with ExitStack() as ends:
        members = {}
        for name in NAMES:
            members[name] = Started(folder, name, three, right, require_secret)
            ends.callback(members[name].kill)
        client = ends.enter_context(Client(endpoints, secret=SECRET, timeout=30))
        eventually(lambda: client.status().quorum, "the three have founded a cluster")
        client.kv_put("a", "with the secret")
        for endpoint in endpoints:
            with Client(endpoint, secret=SECRET) as one:
                assert one.kv_get("a").value == "with the secret"
            for secret in (None, OTHER):
                with Client(endpoint, secret=secret) as stranger:
                    denied = refusal(stranger)
                    assert isinstance(denied, errors.Denied), denied
        term = client.status().consensus.term
        fourth = Started(folder, "m4", places, wrong, require_secret)
        ends.callback(fourth.kill)
        eventually(lambda: "another cluster secret" in fourth.words(), "the fourth says why it gets nowhere")
        turned_away = [name for name in NAMES if "another cluster secret" in members[name].words()]
        assert turned_away, "and those who turned it away do too"
        with Client(f"http://{places['m4'].api}", secret=OTHER, timeout=5) as outside:
            report = outside.status()
            assert (report.quorum, report.cluster_id, report.elections) == (False, None, {})
            unserved = refusal(outside)
            assert isinstance(unserved, errors.NoQuorum), unserved
        status = client.status()
        assert set(status.members) == set(NAMES)
        assert status.consensus.term == term, "nobody was disturbed"
        client.kv_put("a", "still")
        assert [member.end() for member in (fourth, *members.values())] == [0, 0, 0, 0]


def refusal(client: Client) -> errors.ClientError | None:
    """How a read is refused."""
    try:
        client.kv_get("a")
    except errors.ClientError as error:
        return error
    return None


def own_network() -> None:
    """Leave for a network namespace with `HOSTS` on its loopback device."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _NEWNET if os.geteuid() == 0 else _NEWNET | _NEWUSER
    if libc.unshare(flags) != 0:
        code = ctypes.get_errno()
        print(f"no network namespace: {errno.errorcode.get(code, code)}", file=sys.stderr)
        sys.exit(exit_no_namespaces)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        fcntl.ioctl(device, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
        for number, host in enumerate(HOSTS):
            address = struct.pack("H2x4s8x", socket.AF_INET, socket.inet_aton(host))
            fcntl.ioctl(device, _SIOCSIFADDR, struct.pack("16s", f"lo:{number}".encode()) + address + bytes(8))


def main() -> None:
    """In a network of our own."""
    own_network()
    names = (*NAMES, "m4")
    places = {name: Place(f"{host}:8368", f"{host}:8369") for name, host in zip(names, HOSTS, strict=True)}
    play(Path(sys.argv[1]), places, require_secret=False)


if __name__ == "__main__":
    main()
