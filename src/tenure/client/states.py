"""In which state a keeper's session is: a closed union, one small type per state (see `keeper`)."""

from dataclasses import dataclass, field

from tenure.base.ids import SessionId
from tenure.base.instants import Instant
from tenure.leadership.holder import Holder


@dataclass(slots=True)
class Live:
    """A session that stands, as far as we know."""

    session: SessionId
    holder: Holder
    keep_at: Instant
    last_number: int = 0
    outstanding: dict[int, Instant] = field(default_factory=dict)
    """Numbers sent on the present stream and not acknowledged: since when."""


@dataclass(slots=True)
class Opening:
    """A client session or a session is being opened."""


@dataclass(slots=True)
class Closing:
    """Wanting only that the cluster forgets our session."""


@dataclass(slots=True)
class Finished:
    """Nothing follows."""
