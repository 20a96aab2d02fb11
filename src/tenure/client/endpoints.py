"""Where the cluster is: endpoints, names and secrets as people and environments give them."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from tenure.base.addresses import host_port
from tenure.base.errors import Invalid
from tenure.base.ids import NodeId, node_id

default_endpoint: Final = "http://127.0.0.1:8368"
_default_port: Final = 8368
_shown_chars_max: Final = 120


class Address(Struct, frozen=True):
    """A parsed endpoint."""

    url: str
    """Scheme, host and port, no slash at the end: what endpoints are compared by."""
    host: str
    port: int
    secure: bool


def address(endpoint: str) -> Address:
    """Read `http://host:port`, `https://host:port` or `host:port`; `Invalid` says what is wrong."""
    scheme, separator, rest = endpoint.strip().rpartition("://")
    scheme = scheme.lower() if separator else "http"
    if scheme not in {"http", "https"}:
        raise Invalid("endpoints", f"must look like http://host:port, got {endpoint[:_shown_chars_max]!r}")
    try:
        host, port = host_port(rest.removesuffix("/"), _default_port)
    except ValueError as error:
        raise Invalid("endpoints", str(error)) from None
    name, percent, interface = host.partition("%")
    host = name.lower() + percent + interface  # of names the case says nothing, of an interface's it does
    shown = f"[{host}]" if ":" in host else host
    return Address(f"{scheme}://{shown}:{port}", host, port, scheme == "https")


def endpoints(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """The endpoints given, or those of TENURE_ENDPOINTS, or a member on this machine; each once, in order."""
    if given is None:
        given = os.environ.get("TENURE_ENDPOINTS") or default_endpoint
    listed = given.split(",") if isinstance(given, str) else list(given)
    parsed = [address(each).url for each in listed if each.strip()]
    if not parsed:
        raise Invalid("endpoints", "must name at least one endpoint")
    return tuple(dict.fromkeys(parsed))


def node_name(given: str | None) -> NodeId:
    """The node's name: given, or TENURE_NODE, or the host's."""
    return node_id(given or os.environ.get("TENURE_NODE") or socket.gethostname())


def secret_of(given: str | None) -> str | None:
    """The credential: given, or read from the file that TENURE_SECRET_FILE names."""
    if given is not None:
        return given
    path = os.environ.get("TENURE_SECRET_FILE")
    return None if not path else read_secret(Path(path))


def read_secret(path: Path) -> str:
    """The first line of a secret file; `Invalid` if it can't be read or is empty."""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Invalid("secret_file", f"can't read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise Invalid("secret_file", f"{path} isn't text") from None
    if not secret:
        raise Invalid("secret_file", f"{path} is empty")
    return secret
