"""How long an endpoint may stay silent before the keeper gets another stream beside it.

Suspicion begins after a quarter of the TTL, or three round trips where that is longer; each move in vain doubles it, so
that a cluster which is slow as a whole isn't made slower by connections.
"""

from dataclasses import dataclass
from typing import Final

from tenure.base.instants import MS, NEVER, Instant

suspicion_us_max: Final = 250 * MS
"""Silence of an endpoint after which another is dialled, for long TTLs; a quarter of the TTL for short ones."""
patience_doublings_max: Final = 4


@dataclass(slots=True)
class Patience:
    """With the endpoint of the present stream."""

    ttl_us: int
    _owing_since: Instant | None = None
    """Since when this endpoint owes us a good answer."""
    _doublings: int = 0
    _rtt_us: int = 0

    def fresh(self) -> None:
        """Another stream, or none: nothing is owed."""
        self._owing_since = None

    def asked(self, now: Instant) -> None:
        """Something was sent."""
        if self._owing_since is None:
            self._owing_since = now

    def measured(self, sample_us: int) -> None:
        """A keepalive's acknowledgement took this long."""
        self._rtt_us = sample_us if self._rtt_us == 0 else (7 * self._rtt_us + sample_us) // 8

    def good_answer(self, now: Instant, *, more: bool) -> None:
        """It answers. `more`: something else is unanswered still."""
        self._doublings = 0
        self._owing_since = now if more else None

    def runs_out(self, now: Instant) -> bool:
        """Whether it is time to move; if so, the next time is later."""
        if now < self.suspect_at():
            return False
        self._doublings = min(self._doublings + 1, patience_doublings_max)
        self._owing_since = now
        return True

    def suspect_at(self) -> Instant:
        """When the silence of this endpoint is long enough to get another stream beside it."""
        limit = max(min(suspicion_us_max, self.ttl_us // 4), 3 * self._rtt_us)
        return NEVER if self._owing_since is None else Instant(self._owing_since + (limit << self._doublings))
