"""Addresses of endpoints' host names, without ever making the keeper wait for DNS.

An address in figures is used as it is. A name is looked up in a short-lived thread; what was found once is used again
while a newer look-up is under way, so that a name server's outage hurts nobody who had found the cluster before.
"""

import socket
import threading
from collections.abc import Callable
from typing import Final

from tenure.client.endpoints import Address
from tenure.client.link import SocketAddress

Found = tuple[SocketAddress, ...]


class Resolver:
    """`wake` is called, from a look-up's thread, when one has ended."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake: Final = wake
        self._lock = threading.Lock()
        self._found: dict[str, Found] = {}
        self._turns: dict[str, int] = {}
        self._errors: dict[str, str] = {}
        self._under_way: set[str] = set()

    def next(self, address: Address) -> SocketAddress | str | None:
        """An address to connect to, in turn; what went wrong; or None: look again after the wake."""
        numeric = _lookup(address, socket.AI_NUMERICHOST)
        if not isinstance(numeric, str):
            return numeric[0]
        with self._lock:
            error = self._errors.pop(address.url, None)
            found = self._found.get(address.url)
            if address.url not in self._under_way and error is None:
                self._under_way.add(address.url)
                threading.Thread(target=self._look_up, args=(address,), name="tenure-dns", daemon=True).start()
            if found is None:
                return error
            turn = self._turns.get(address.url, 0)
            self._turns[address.url] = turn + 1
            return found[turn % len(found)]

    def _look_up(self, address: Address) -> None:
        found = _lookup(address, 0)
        with self._lock:
            self._under_way.discard(address.url)
            if isinstance(found, str):
                self._errors[address.url] = found
            else:
                self._found[address.url] = found
        self._wake()


def _lookup(address: Address, flags: int) -> Found | str:
    try:
        listed = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=flags)
    except OSError as error:
        return f"{address.url}: {error.strerror or error}"
    return tuple((family, where) for family, _, _, _, where in listed) or f"{address.url}: no address"
