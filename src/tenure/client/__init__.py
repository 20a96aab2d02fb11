"""The SDK: lead an election, watch one, ask the cluster. It loads no server.

Idea. A lease must be renewed whatever the application does, so a *keeper* (one daemon thread, no event loop) holds the
session. Inside it is a core without I/O (`keeper`, `offices`, `requests`, `dialer`) that is told what came and what
time it is, and answers what to send and what to tell; the thread (`thread`, `link`) only does as told. On top of it
stand two facades that share everything: `lead()` as `with` and as `async with`; the agent uses `Keeper` itself.

Words. *seat*: one `lead` block's place in its keeper. *stream*: a WebSocket to one endpoint; a session outlives its
streams. *demand*: the cluster asks a holder to hand over. *given back*: released in the cluster after it ended here.

Invariants. Validity comes from a keepalive's acknowledgement alone (P3.1), counted from the sending of its own number
(P3.2). A term ends here, for ever, before anything about it is sent (P3.7). A request that changes something takes
effect once, however often it is sent (P9.1). Nothing on the renewal path logs, blocks or calls the application.

Left out. Validity can't be known between a check and the write after it: that is what the resource's guard is for.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenure.client.http import Client
    from tenure.client.lease import Leadership, Lease, lead
    from tenure.client.observer import Observer, Sighting, observe
    from tenure.client.signals import Signal
    from tenure.client.thread import Keeper

_where = {
    "Client": "tenure.client.http",
    "Keeper": "tenure.client.thread",
    "Leadership": "tenure.client.lease",
    "Lease": "tenure.client.lease",
    "Observer": "tenure.client.observer",
    "Sighting": "tenure.client.observer",
    "Signal": "tenure.client.signals",
    "lead": "tenure.client.lease",
    "observe": "tenure.client.observer",
}

__all__ = ["Client", "Keeper", "Leadership", "Lease", "Observer", "Sighting", "Signal", "lead", "observe"]


def __getattr__(name: str) -> object:
    """Load a name when it is first used: who only watches needs no WebSocket."""
    if name not in _where:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_where[name]), name)
    return value
