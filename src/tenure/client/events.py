"""What a keeper tells: small frozen values, in the order in which they came true.

A `Granted` is only ever built from a keepalive's acknowledgement (P3.1), so whoever sees one may lead until
`valid_until`, an instant of CLOCK_BOOTTIME in microseconds. `Renewed` moves that instant, mostly ahead; a deadman is
re-armed by it and by nothing else. After `Ended` the term is over for ever on this side (P3.7) and the keeper stands
for the election again only when it is asked to: `campaign()`.
"""

from typing import Literal

from msgspec import Struct

from tenure.base.ids import ElectionName, NodeId, SessionId, Term
from tenure.base.instants import Instant
from tenure.leadership.engine import Code

EndCause = Literal[
    "expired",  # validity ran out without a renewal
    "revoked",  # an acknowledgement sent for later did not name the lease any more
    "session_lost",  # the cluster doesn't know the session, so it holds nothing
    "released",  # we gave it back
    "withdrawn",  # we stopped standing, and gave it back with that
    "closed",  # the keeper was closed
]


class Connected(Struct, frozen=True, tag="connected"):
    """The stream to this endpoint is open."""

    endpoint: str


class Disconnected(Struct, frozen=True, tag="disconnected"):
    """No stream is open; the keeper is already on its way to the next endpoint. Leases stay valid for their time."""

    endpoint: str | None
    reason: str


class SessionOpened(Struct, frozen=True, tag="session_opened"):
    """A session stands. Everything that was campaigned for is campaigned for again."""

    session: SessionId


class SessionLost(Struct, frozen=True, tag="session_lost"):
    """The session is gone; an `Ended` for each of its leases came before. The keeper opens a new one by itself."""

    session: SessionId
    reason: str


class Waiting(Struct, frozen=True, tag="waiting"):
    """Nothing is wrong with us, but it can't go on now: `node_in_use` (another process leads under our name),
    `no_quorum`, `founding`, `too_many`. It is tried again after `retry_after_ms`.
    """

    code: Code
    reason: str
    retry_after_ms: int


class Rejected(Struct, frozen=True, tag="rejected"):
    """The cluster refuses what we ask, and will again: credential, name, range. Retried slowly; a person must act."""

    code: Code
    reason: str
    election: ElectionName | None = None


class Campaigning(Struct, frozen=True, tag="campaigning"):
    """The candidacy stands in the cluster. Says nothing about who leads (P3.1)."""

    election: ElectionName


class Granted(Struct, frozen=True, tag="granted"):
    """We lead until `valid_until` at least."""

    election: ElectionName
    term: Term
    fence_token: str
    valid_until: Instant


class Renewed(Struct, frozen=True, tag="renewed"):
    """An acknowledgement moved the end of validity; or CLOCK_REALTIME has gone ahead, as on a machine that stood still
    for a moment, and it ends so much earlier (P3.7, ADR 0036). A waiting one of the same lease is replaced, not queued.
    """

    election: ElectionName
    term: Term
    valid_until: Instant


class Unconfirmed(Struct, frozen=True, tag="unconfirmed"):
    """The machine was probably asleep (P3.7): the lease doesn't count until the next `Renewed` of it."""

    election: ElectionName
    term: Term


class Demanded(Struct, frozen=True, tag="demanded"):
    """We are asked to hand over: demote, then `release(election, term)`, before `until`."""

    election: ElectionName
    term: Term
    successor: NodeId | None
    grace_ms: int
    until: Instant


class Ended(Struct, frozen=True, tag="ended"):
    """The holding of `term` is over for us. Whatever still runs under it must stop; until it has, don't campaign.

    On `revoked` and `session_lost` the cluster may already have a new leader. Call `release(election, term)` once
    everything has stopped: it lets the next candidate in before the TTL. The keeper does so by itself at `valid_until`.
    """

    election: ElectionName
    term: Term
    cause: EndCause
    valid_until: Instant


class Closed(Struct, frozen=True, tag="closed"):
    """The keeper has ended; nothing follows. `told` says whether the cluster confirmed the closing of the session."""

    told: bool


Event = (
    Connected
    | Disconnected
    | SessionOpened
    | SessionLost
    | Waiting
    | Rejected
    | Campaigning
    | Granted
    | Renewed
    | Unconfirmed
    | Demanded
    | Ended
    | Closed
)
