"""How the app is served: the arguments of `uvicorn.Config` that this API is measured and tested with."""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from tenure.api.app import App

if TYPE_CHECKING:
    from uvicorn import Server


def serve_config(app: App, *, host: str = "127.0.0.1", port: int = 0, graceful_ms: int = 2_000) -> dict[str, Any]:
    """Arguments for `uvicorn.Config(**…)`. uvicorn sets up no logging and takes no proxy's word for addresses."""
    from tenure.api.hot import HotProtocol  # late: uvicorn is loaded only where it serves

    return {
        "app": app,
        "host": host,
        "port": port,
        "loop": "uvloop",
        "http": partial(HotProtocol, door=app.door),
        "ws": HotProtocol,  # never made by uvicorn: HotProtocol hands upgrades to the stream itself
        "lifespan": "on",
        "interface": "asgi3",
        "log_config": None,
        "log_level": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "date_header": False,
        "backlog": 2_048,
        "timeout_keep_alive": app.door.limits.idle_timeout_ms // 1_000,
        "timeout_graceful_shutdown": max(1, graceful_ms // 1_000),
    }


def server_of(app: App, *, graceful_ms: int = 2_000) -> "Server":
    """A uvicorn server that leaves signals to its owner (SIGTERM transfers leadership first, DESIGN 4).

    `await server.serve([bound socket])` serves until `server.should_exit` is set.
    """
    import uvicorn  # late, as above

    class Quiet(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return Quiet(uvicorn.Config(**serve_config(app, graceful_ms=graceful_ms)))
