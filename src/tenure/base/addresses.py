"""`HOST:PORT` as people write it: one reading for flags, files and requests."""

import unicodedata
from ipaddress import IPv6Address
from typing import Final

port_max: Final = 65_535
_shown_chars_max: Final = 80
_ends_host: Final = "/?#@[]\\<>^|"


def host_port(text: str, default: int | None = None) -> tuple[str, int]:
    """Host (of version six without its brackets) and port. A `ValueError` says what is wrong: somebody must be able to
    come to an address, so port 0 (any that is free) is none, and digits are those of ASCII. Whether the host has a
    machine only the resolver knows; what can be none is refused.

    `default`: the port where it may be left out. A bare `fe80::1:80` could then be read in two ways, so version six
    must stand in brackets.
    """
    host, colon, port = text.rpartition(":")
    if default is not None and ":" not in text.rpartition("]")[2]:
        host, colon, port = text, ":", str(default)
    if not colon or not host:
        raise ValueError(f"must be HOST:PORT, got {_shown(text)}")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    in_brackets = bare != host
    is_six = (in_brackets or default is None) and _is_version_six(bare)
    if not _may_be_host(bare) or ((in_brackets or ":" in bare) and not is_six):
        wanted = "a host that is a name or an address, of version six in brackets"
        raise ValueError(f"must be HOST:PORT with {wanted}, got {_shown(text)}")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= port_max):
        raise ValueError(f"must be HOST:PORT with a port from 1 to {port_max}, got {_shown(text)}")
    return bare, int(port)


def _may_be_host(text: str) -> bool:
    """No blank of any script and nothing that a terminal hides or obeys: it is shown to people, and compared. Nor what
    ends a host, or means something else, in a URL (WHATWG URL, forbidden domain code points): it is put into one.
    """
    ends = _ends_host if ":" in text else _ends_host + "%"  # which stands before an interface, in version six alone
    return text != "" and not any(mark in ends or unicodedata.category(mark)[0] in "CZ" for mark in text)


def _is_version_six(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _shown(text: str) -> str:
    return repr(text[:_shown_chars_max])
