"""The WebSocket handshake of the stream: may this client, and the library's word on the rest (RFC 6455, 4.2)."""

import logging
from collections.abc import Sequence
from typing import Final

from starlette.responses import Response
from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from tenure.api import lineage
from tenure.api.answers import Rejected, from_refusal, problem
from tenure.api.door import Door
from tenure.wire.bodies import lineage_header, stream_subprotocol

_log: Final = logging.getLogger("tenure.api.http")
_PATH: Final = b"/v1/stream"
_VERSION: Final = "Sec-WebSocket-Version"


def shake(door: Door, method: bytes, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Response | bytes:
    """What to answer to an upgrade: the bytes of 101, or the response that says why not; then the connection ends."""
    if url.partition(b"?")[0] != _PATH:
        return problem(404, "unknown_path", f"WebSockets are spoken at {_PATH.decode()} only", closes=True)
    try:
        door.access.principal(dict(headers))
    except Rejected as rejected:
        rejected.response.headers["connection"] = "close"
        return rejected.response
    asked = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers])
    if asked.get_all(_VERSION) != ["13"]:  # 4.4: the library says 400 and not what we speak
        detail = "only version 13 is spoken"
        return problem(426, "upgrade_required", detail, field=_VERSION, headers={_VERSION: "13"}, closes=True)
    library = ServerProtocol(subprotocols=[Subprotocol(stream_subprotocol)], logger=_log)
    answer = library.accept(Request(url.decode("latin-1"), asked, method.decode("latin-1")))
    if answer.status_code != 101:
        field = getattr(library.handshake_exc, "name", None)
        return problem(answer.status_code, "bad_request", str(library.handshake_exc), field=field, closes=True)
    unserving = door.engine.unserving()
    if unserving is not None:  # said here, so that a client never takes an open stream for one that is of use
        response = from_refusal(unserving)
        response.headers["connection"] = "close"
        return response
    said = dict(headers).get(lineage.header)
    if said is not None and (wrong := lineage.refusal(door, said)) is not None:
        wrong.headers["connection"] = "close"
        return wrong
    if door.streams >= door.limits.streams_max:
        return problem(503, "too_many", "too many streams", closes=True)
    if said is not None and door.lineage:
        answer.headers[lineage_header] = door.lineage.decode()
    return answer.serialize()
