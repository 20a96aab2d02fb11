"""The HTTP API of a member (DESIGN 7, API.md) on top of any engine.

Idea: everything is parsed and checked before the engine is asked, so a bad request changes nothing; what the engine
answers is a typed result, and only here does it become a status code. One table of routes (`routes`) feeds the router
and `/openapi.json`.

Three ways in, one port. Cold calls are ASGI (`app`, `calls`). The hot ones, kv and keepalives, are answered by the
HTTP protocol itself (`hot`): a strict parser takes only requests that it understands to the last byte, and leaves all
else to uvicorn's; no task, future or ASGI message stands between the socket and the engine. The stream (`stream`) is a
WebSocket of our own on a sans-I/O frame reader (`frames`): a keepalive costs one decode and one encode.

Words: a *call* is one request of a client; the *hub* follows the engine's transitions once for all who wait here;
*telemetry* is what the driver counts and `/metrics` shows.

Invariants: a client that has gone never raises into the engine; every queue has a named limit (`limits`); no answer
holds a stack trace. Left out: TLS and per-client credentials, which come with certificates.
"""

from tenure.api.app import App, build
from tenure.api.door import Door, Served
from tenure.api.info import ServerInfo
from tenure.api.limits import Limits
from tenure.api.serve import serve_config, server_of
from tenure.api.telemetry import Telemetry

__all__ = ["App", "Door", "Limits", "Served", "ServerInfo", "Telemetry", "build", "serve_config", "server_of"]
