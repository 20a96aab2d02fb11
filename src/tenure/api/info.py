"""What the API knows about its own member."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """`member` is the name under which `StatusReport.member` and `consensus.leader` speak of this member."""

    member: str
    version: str
    secret: bytes | None = field(default=None, repr=False)
    """The cluster secret; when set, callers prove it as `Authorization: Bearer …` (all but `/livez`)."""
