"""What only the steward can say in views: expiry, health, lag, who is eligible. For people, never decided on."""

from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct

from tenure.base.ids import ElectionName, SessionId
from tenure.base.instants import MS
from tenure.leadership.choosing import Obstacle
from tenure.leadership.slots import Frozen, Slot
from tenure.leadership.state import Election


class LeaseHint(Struct, frozen=True):
    """A holding as the steward sees it; the remaining time is None until an acknowledgement has named it."""

    state: Literal["granted", "held", "expiring"]
    remaining_ms: int | None
    expiry_wall_ms: int | None


class NodeHint(Struct, frozen=True):
    """A node as the steward heard it; None before its first keepalive."""

    health: int | None
    lag: int | None
    last_seen_ms: int | None


class Hints:
    """Reads the steward that made it: use it at once, it is no copy."""

    __slots__ = ("_frozen", "_now", "_obstacles", "_slots", "_wall_ms")

    def __init__(
        self,
        slots: Mapping[SessionId, Slot],
        frozen: Mapping[ElectionName, Frozen],
        obstacles: Callable[[Election], Mapping[SessionId, Obstacle | None]],
        now: int,
        wall_ms: int,
    ) -> None:
        self._slots = slots
        self._frozen = frozen
        self._obstacles = obstacles
        self._now = now
        self._wall_ms = wall_ms

    def lease(self, election: Election) -> LeaseHint | None:
        """The holding of an election; None if vacant."""
        holder = election.holder
        slot = self._slots.get(holder.session) if holder is not None else None
        if slot is None:
            return None
        confirmed = election.name not in slot.unconfirmed
        remaining = max(0, slot.lease_deadline(election.name) - self._now) // MS if confirmed else None
        expiry = self._wall_ms + remaining if remaining is not None else None
        if slot.frozen or election.name in self._frozen or (confirmed and slot.silent(self._now)):
            return LeaseHint("expiring", remaining, expiry)
        return LeaseHint("held" if confirmed else "granted", remaining, expiry)

    def obstacles(self, election: Election) -> Mapping[SessionId, Obstacle | None]:
        """Of each candidate, why it may not be chosen now."""
        return self._obstacles(election)

    def node(self, session: SessionId) -> NodeHint:
        """Health, lag and last sign of life."""
        slot = self._slots.get(session)
        if slot is None or slot.number == 0:
            return NodeHint(None, None, None)
        return NodeHint(slot.health, slot.lag, max(0, self._now - slot.heard) // MS)
