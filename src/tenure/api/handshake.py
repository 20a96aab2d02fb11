"""The WebSocket handshake of the stream (RFC 6455, 4.2): the bytes of 101, or the reply that says why not."""

import base64
import binascii
from collections.abc import Mapping
from typing import Final

from tenure.api import frames
from tenure.api.answers import Rejected, Reply, problem
from tenure.api.door import Door
from tenure.wire.bodies import stream_subprotocol

_PATH: Final = b"/v1/stream"
_VERSION: Final = ((b"sec-websocket-version", b"13"),)


def _wrong(status: int, code: str, detail: str, field: str | None = None) -> Reply:
    return problem(status, code, detail, field=field, closes=True, headers=_VERSION if status == 426 else ())


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def shake(door: Door, url: bytes, headers: Mapping[bytes, bytes]) -> Reply | bytes:
    """What to answer to an upgrade; headers in lower case."""
    if url.partition(b"?")[0] != _PATH:
        return _wrong(404, "unknown_path", f"WebSockets are spoken at {_PATH.decode()} only")
    try:
        door.access.principal(headers)
    except Rejected as rejected:
        return rejected.reply._replace(headers=(*rejected.reply.headers, (b"connection", b"close")))
    if headers.get(b"sec-websocket-version") != b"13":
        return _wrong(426, "upgrade_required", "only version 13 is spoken", "Sec-WebSocket-Version")
    key = headers.get(b"sec-websocket-key", b"")
    if not _is_key(key):
        return _wrong(400, "bad_request", "must be 16 bytes in base64", "Sec-WebSocket-Key")
    offered = [part.strip() for part in headers.get(b"sec-websocket-protocol", b"").split(b",")]
    if stream_subprotocol.encode() not in offered:
        return _wrong(400, "bad_request", f"offer the subprotocol {stream_subprotocol}", "Sec-WebSocket-Protocol")
    if door.streams >= door.limits.streams_max:
        return _wrong(503, "too_many", "too many streams")
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-accept: %s\r\nsec-websocket-protocol: %s\r\n\r\n"
    ) % (frames.accept_key(key), stream_subprotocol.encode())
