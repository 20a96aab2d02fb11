"""The HTTP API of a member (DESIGN 7, API.md) on top of any engine.

Idea: everything is parsed and checked before the engine is asked, so a bad request changes nothing; what the engine
answers is a typed result, and only here does it become a status code. One table of operations (`routes`) makes
starlette's routes and `/openapi.json`.

Three ways in, one port, one HTTP parser. Cold calls go through uvicorn and starlette (`app`, `calls`, `events`). The
hot ones, kv and keepalives, are answered by uvicorn's HTTP protocol itself (`hot`, ADR 0008): no task, future or ASGI
message stands between the socket and the engine. The stream (`stream`) stands on the sans-I/O half of `websockets`;
only its usual frame is read here (`frames`, ADR 0007): a keepalive costs one decode and one encode.

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
