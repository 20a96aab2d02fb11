"""What the API knows about its own member."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


def _system_wall_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """`member` is the name under which `StatusReport.member` and `consensus.leader` speak of this member."""

    member: str
    version: str
    secret: bytes | None = field(default=None, repr=False)
    """The cluster secret; when set, callers prove it as `Authorization: Bearer …` (all but `/livez`)."""
    wall_ms: Callable[[], int] = _system_wall_ms
    """Unix ms, for people."""
