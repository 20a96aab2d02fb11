"""Network namespaces and their TUN devices, made without tools: they live as long as somebody holds their file."""

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

CLONE_NEWNET: Final = 0x40000000
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_IFF_UP: Final = 0x0001
_SIOCSIFFLAGS: Final = 0x8914
_SIOCSIFADDR: Final = 0x8916
_SIOCSIFNETMASK: Final = 0x891C
_SIOCSIFMTU: Final = 0x8922
_SIOCSIFTXQLEN: Final = 0x8943
_IFREQ_BYTES: Final = 40
_congestion: Final = Path("/proc/sys/net/ipv4/tcp_congestion_control")
"""Of the namespace that the reading thread is in."""

mtu_bytes: Final = 1_500
queue_packets: Final = 1_000
congestion_controls: Final = ("cubic", "reno")
"""Figures under loss depend on it, and the machine may prefer one that shrugs losses off (bbr): Linux's usual one, or,
where a namespace may not choose that, the one that suffers as much from loss. The report says which it became."""
subnet: Final = "10.99.0"
nodes_max: Final = 250


class NotPermitted(Exception):
    """This machine doesn't let us make namespaces or TUN devices; the text says what failed and what would help."""


class Node:
    """One namespace. `number` counts from 1 and is the last part of its address."""

    def __init__(self, number: int, namespace: int, tun: int) -> None:
        self.number = number
        self.address = address_of(number)
        self.namespace = namespace
        self.tun = tun
        with inside(namespace):
            self.congestion = _congestion.read_text(encoding="ascii").strip()

    def socket(self, kind: socket.SocketKind = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        """A socket that belongs to this namespace, whoever uses it."""
        with inside(self.namespace):
            return socket.socket(socket.AF_INET, kind, protocol)

    def close(self) -> None:
        """Let go: device and namespace end with the last process in it."""
        os.close(self.tun)
        os.close(self.namespace)


def address_of(number: int) -> str:
    """The address of a node."""
    assert 1 <= number <= nodes_max
    return f"{subnet}.{number}"


def make(count: int) -> list[Node]:
    """So many nodes, or `NotPermitted`."""
    made: list[Node] = []
    with ExitStack() as undo:
        for number in range(1, count + 1):
            made.append(_make_one(number))
            undo.callback(made[-1].close)
        undo.pop_all()
    return made


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """What this thread opens or starts within belongs to the namespace. Nothing may be awaited in here."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _call("setns", namespace, CLONE_NEWNET)
        try:
            yield
        finally:
            _call("setns", home, CLONE_NEWNET)
    finally:
        os.close(home)


def _make_one(number: int) -> Node:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    namespace = tun = -1
    doing = "make a network namespace"
    try:
        _call("unshare", CLONE_NEWNET)
        try:
            doing = "open its namespace"
            namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            doing = "open /dev/net/tun"
            tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            doing = "make a TUN device"
            fcntl.ioctl(tun, _TUNSETIFF, _ifreq("t0", struct.pack("H", _IFF_TUN | _IFF_NO_PI)))
            doing = "configure a TUN device"
            _configure(address_of(number))
        finally:
            _call("setns", home, CLONE_NEWNET)
    except OSError as error:
        for opened in (namespace, tun):
            if opened >= 0:
                os.close(opened)
        text = f"can't {doing}: {error.strerror or error}. The lab needs CAP_SYS_ADMIN, CAP_NET_ADMIN and /dev/net/tun"
        raise NotPermitted(f"{text} (run it as root; in a container: --privileged --device /dev/net/tun)") from None
    finally:
        os.close(home)
    return Node(number, namespace, tun)


def _configure(address: str) -> None:
    """Addresses, sizes, up; of the namespace that this thread is in."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        fcntl.ioctl(asked, _SIOCSIFFLAGS, _ifreq("lo", struct.pack("h", _IFF_UP)))
        fcntl.ioctl(asked, _SIOCSIFADDR, _ifreq("t0", _sockaddr(address)))
        fcntl.ioctl(asked, _SIOCSIFNETMASK, _ifreq("t0", _sockaddr("255.255.255.0")))
        fcntl.ioctl(asked, _SIOCSIFMTU, _ifreq("t0", struct.pack("i", mtu_bytes)))
        fcntl.ioctl(asked, _SIOCSIFTXQLEN, _ifreq("t0", struct.pack("i", queue_packets)))
        fcntl.ioctl(asked, _SIOCSIFFLAGS, _ifreq("t0", struct.pack("h", _IFF_UP)))
    for wanted in congestion_controls:
        with suppress(OSError):  # not allowed in a namespace, or /proc/sys is read-only
            _congestion.write_text(wanted, encoding="ascii")
            break


def _ifreq(name: str, value: bytes) -> bytes:
    return struct.pack("16s", name.encode()) + value.ljust(_IFREQ_BYTES - 16, b"\0")


def _sockaddr(address: str) -> bytes:
    return struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))


_libc: Final = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: int) -> None:
    """A system call that Python 3.11 doesn't have."""
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
