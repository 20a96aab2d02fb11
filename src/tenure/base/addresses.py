"""`HOST:PORT` as people write it: one reading for flags, files and requests."""

from typing import Final

port_max: Final = 65_535


def host_port(text: str) -> tuple[str, int]:
    """Host (of version six without its brackets) and port. A `ValueError` says what is wrong: somebody must be able to
    come to an address, so port 0 (any that is free) is none, and digits are those of ASCII.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f"must be HOST:PORT, got {text[:80]!r}")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= port_max):
        raise ValueError(f"must be HOST:PORT with a port from 1 to {port_max}, got {text[:80]!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)
