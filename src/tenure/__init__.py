"""Tenure: one node of your service leads; everyone finds it; a replaced leader's writes are refused by the resource.

    with tenure.lead("orders") as lease:
        write(..., token=lease.fence_token)

    for sighting in tenure.observe("orders"):
        print(sighting.node_id, sighting.term)

    tenure.Client().kv_put("config/limit", 10)

Every name is loaded when it is first used, so `import tenure` costs a few milliseconds and no server comes with it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenure.base.errors import Invalid, TenureError
    from tenure.client.errors import (
        ClientError,
        Conflict,
        Denied,
        InvalidRequest,
        LeaseLost,
        Missing,
        NodeInUse,
        NoQuorum,
        NoSuccessor,
        NotHeld,
        OutcomeUnknown,
        OverLimit,
        ProtocolError,
        StaleTerm,
        TimedOut,
        Unreachable,
    )
    from tenure.client.http import Client
    from tenure.client.lease import Leadership, Lease, lead
    from tenure.client.observer import Observer, Sighting, observe

_where = {
    "Client": "tenure.client.http",
    "Invalid": "tenure.base.errors",
    "Leadership": "tenure.client.lease",
    "Lease": "tenure.client.lease",
    "Observer": "tenure.client.observer",
    "Sighting": "tenure.client.observer",
    "TenureError": "tenure.base.errors",
    "lead": "tenure.client.lease",
    "observe": "tenure.client.observer",
}

__all__ = [
    "Client",
    "ClientError",
    "Conflict",
    "Denied",
    "Invalid",
    "InvalidRequest",
    "Leadership",
    "Lease",
    "LeaseLost",
    "Missing",
    "NoQuorum",
    "NoSuccessor",
    "NodeInUse",
    "NotHeld",
    "Observer",
    "OutcomeUnknown",
    "OverLimit",
    "ProtocolError",
    "Sighting",
    "StaleTerm",
    "TenureError",
    "TimedOut",
    "Unreachable",
    "lead",
    "observe",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_where.get(name, "tenure.client.errors")), name)
    return value


def __dir__() -> list[str]:
    return __all__
