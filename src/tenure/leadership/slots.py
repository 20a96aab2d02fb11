"""What the steward remembers of each live session, and when things fall due.

All instants are the steward's own clock (`steward`), in microseconds.
"""

import heapq
from typing import Final

from msgspec import Struct

from tenure.base.ids import ElectionName, NodeId, SessionId, Term
from tenure.base.instants import MS
from tenure.leadership.choosing import FOR_EVER
from tenure.leadership.engine import Cause, Demand, Lease
from tenure.leadership.state import Session

SESSION: Final = 0
ELECTION: Final = 1
EVICTION: Final = 2

nobody: Final = SessionId("")


class Asked(Struct, frozen=True):
    """A demand to hand over, and when its grace ends."""

    election: ElectionName
    term: Term
    successor: NodeId | None
    until: int

    def demand(self, now: int) -> Demand:
        """As an acknowledgement says it."""
        return Demand(self.election, self.term, self.successor, max(0, self.until - now) // MS)


class Slot:
    """One session. `deadline` and `lease_deadline` are P3.4."""

    __slots__ = (
        "acked",
        "asked",
        "connected",
        "floor",
        "frozen",
        "granted",
        "health",
        "heard",
        "lag",
        "leases",
        "node",
        "number",
        "session",
        "silent_us",
        "ttl_us",
        "unconfirmed",
    )

    def __init__(self, session: Session, floor: int, heard: int) -> None:
        self.session = session.id
        self.node = session.node
        self.ttl_us = session.ttl_ms * MS
        self.silent_us = self.ttl_us * 3 // 4
        """No sign of life for so long: don't choose it, it is probably dying."""
        self.floor = floor
        """Never earlier than this steward's term was won, nor than the newest grant to this session was applied."""
        self.acked = FOR_EVER
        """Receipt of the last acknowledged keepalive."""
        self.heard = heard
        """Last sign of life that this steward saw, acknowledged or not."""
        self.number = 0
        self.health = 100
        self.lag: int | None = None
        self.connected = True
        self.frozen = False
        """An expiry was decided: no acknowledgement of any kind any more (P3.4)."""
        self.granted: dict[ElectionName, int] = {}
        """When each holding was applied, as seen here."""
        self.unconfirmed: set[ElectionName] = set()
        """Held, but no acknowledgement has named it yet."""
        self.leases: tuple[Lease, ...] = ()
        """What an acknowledgement names: holdings without the frozen ones (P3.3)."""
        self.asked: tuple[Asked, ...] = ()

    def deadline(self) -> int:
        """When the session may be expired. What was heard but not acknowledged counts too: later is always safe."""
        return max(self.floor, self.acked, self.heard) + self.ttl_us

    def lease_deadline(self, election: ElectionName) -> int:
        """P3.4: when a holding may be taken away: max(T won, grant applied, last acknowledged receipt) + ttl."""
        return max(self.granted.get(election, self.floor), self.acked) + self.ttl_us

    def silent(self, now: int) -> bool:
        """Whether it has missed so many keepalives that it is probably dying."""
        return now - self.heard > self.silent_us


class Frozen(Struct, frozen=True):
    """P3.4: a holding that is being taken away; no acknowledgement names it. Revoked from `not_before` on."""

    session: SessionId
    term: Term
    cause: Cause
    not_before: int


class Agenda:
    """What falls due when, lazily: an entry may be early, never late. One heap for all; what is due is looked at again,
    so renewals only move a session's true deadline and cost nothing here.
    """

    __slots__ = ("_heap", "_planned")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, str]] = []
        self._planned: dict[tuple[int, str], int] = {}

    def add(self, when: int, kind: int, name: str) -> None:
        """Look at `name` at `when` or earlier."""
        planned = self._planned.get((kind, name))
        if planned is None or when < planned:
            self._planned[(kind, name)] = when
            heapq.heappush(self._heap, (when, kind, name))

    def next(self) -> int | None:
        """When the next entry is due."""
        return self._heap[0][0] if self._heap else None

    def due(self, now: int) -> list[tuple[int, str]]:
        """Take out what is due."""
        found: list[tuple[int, str]] = []
        while self._heap and self._heap[0][0] <= now:
            when, kind, name = heapq.heappop(self._heap)
            if self._planned.get((kind, name)) == when:
                del self._planned[(kind, name)]
                found.append((kind, name))
        return found
