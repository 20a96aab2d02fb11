"""`HOST:PORT` as people write it: one reading for flags, files and requests."""

import unicodedata
from ipaddress import IPv6Address
from typing import Final

port_max: Final = 65_535
_shown_chars_max: Final = 80


def host_port(text: str) -> tuple[str, int]:
    """Host (of version six without its brackets) and port. A `ValueError` says what is wrong: somebody must be able to
    come to an address, so port 0 (any that is free) is none, and digits are those of ASCII. Whether the host has a
    machine only the resolver knows; what can be none is refused.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f"must be HOST:PORT, got {_shown(text)}")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not _may_be_host(bare) or ((bare != host or ":" in bare) and not _is_version_six(bare)):
        wanted = "a host that is a name or an address, of version six in brackets"
        raise ValueError(f"must be HOST:PORT with {wanted}, got {_shown(text)}")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= port_max):
        raise ValueError(f"must be HOST:PORT with a port from 1 to {port_max}, got {_shown(text)}")
    return bare, int(port)


def _may_be_host(text: str) -> bool:
    """No blank of any script and nothing that a terminal hides or obeys: it is shown to people, and compared."""
    return text != "" and not any(mark in "/[]" or unicodedata.category(mark)[0] in "CZ" for mark in text)


def _is_version_six(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _shown(text: str) -> str:
    return repr(text[:_shown_chars_max])
