"""Which endpoint to dial, and when. Pure: the thread does as it is told and reports what became of it.

As "happy eyeballs" (RFC 8305): the best endpoint first; the next as soon as one fails, or after `stagger_us` while
none has answered, since a dead host doesn't even refuse. The first that opens wins. Who failed waits, longer each time.
To be open is no merit: a member that was removed, or has no quorum, opens too and serves nobody. So failures are
forgotten with the first good answer, and among endpoints that failed whoever was tried longest ago comes first.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from tenure.base.chance import Rng
from tenure.base.instants import MS, NEVER, SECOND, Instant, Micros, after

stagger_us: Final = Micros(50 * MS)
attempt_us_max: Final = Micros(2 * SECOND)
attempts_max: Final = 3
"""Attempts under way at once."""
backoff_us_min: Final = 20 * MS
backoff_us_max: Final = 1 * SECOND
endpoints_max: Final = 64
failures_counted_max: Final = 3
"""More make nobody worse: else one that was down for long would never come before those that only open."""
_AT_ONCE: Final = Instant(0)


@dataclass(slots=True)
class _Endpoint:
    rank: int
    failures: int = 0
    retry_at: Instant = _AT_ONCE
    tried_at: Instant = _AT_ONCE


@dataclass(slots=True)
class Dialer:
    """The endpoints, how they fared, and the attempts under way."""

    rng: Rng
    endpoints: dict[str, _Endpoint] = field(default_factory=dict)
    attempts: dict[str, Instant] = field(default_factory=dict)
    """Invariant: only known endpoints, at most `attempts_max`; the value is when the attempt began."""
    stagger_at: Instant = _AT_ONCE

    def learn(self, endpoints: Iterable[str]) -> None:
        """Add endpoints behind those already known; beyond `endpoints_max` they are not taken."""
        for endpoint in endpoints:
            if endpoint not in self.endpoints and len(self.endpoints) < endpoints_max:
                self.endpoints[endpoint] = _Endpoint(rank=len(self.endpoints))

    def known(self) -> tuple[str, ...]:
        """All endpoints, configured ones first."""
        return tuple(self.endpoints)

    def dial(self, now: Instant, avoid: str | None = None) -> tuple[str, ...]:
        """Begin what is due now; `avoid`, the endpoint that we want to get away from, only if there is no other."""
        begun: list[str] = []
        while len(self.attempts) < attempts_max and (not self.attempts or now >= self.stagger_at):
            ready = [name for name in self._choice(avoid) if self.endpoints[name].retry_at <= now]
            if not ready:
                break
            best = min(ready, key=self._worth)
            self.attempts[best] = self.endpoints[best].tried_at = now
            self.stagger_at = after(now, stagger_us)
            begun.append(best)
        return tuple(begun)

    def _worth(self, name: str) -> tuple[int, Instant, int]:
        known = self.endpoints[name]
        failures = min(known.failures, failures_counted_max)
        return failures, known.tried_at if failures else _AT_ONCE, known.rank

    def _choice(self, avoid: str | None) -> list[str]:
        return [name for name in self.endpoints if name not in self.attempts and (name != avoid or self._is_only(name))]

    def _is_only(self, name: str) -> bool:
        return tuple(self.endpoints) == (name,)

    def failed(self, endpoint: str, now: Instant) -> None:
        """An attempt failed, or an open connection broke: it waits, the next is dialled at once."""
        self.attempts.pop(endpoint, None)
        self.stagger_at = now
        known = self.endpoints[endpoint]
        wait = min(backoff_us_max, backoff_us_min << min(known.failures, 8))
        known.failures += 1
        known.retry_at = after(now, Micros(wait // 2 + self.rng.below(wait // 2 + 1)))

    def opened(self, endpoint: str) -> tuple[str, ...]:
        """This one is open: the other attempts, which are to be dropped."""
        others = tuple(name for name in self.attempts if name != endpoint)
        self.attempts.clear()
        return others

    def served(self, endpoint: str) -> None:
        """A good answer came from it."""
        self.endpoints[endpoint].failures = 0

    def overdue(self, now: Instant) -> tuple[str, ...]:
        """Attempts that took too long; report them as `failed`."""
        return tuple(name for name, began in self.attempts.items() if now >= began + attempt_us_max)

    def deadline(self, avoid: str | None = None) -> Instant:
        """When to look again while a connection is wanted; `avoid` as for `dial`, or the wait would end at once."""
        instants = [Instant(began + attempt_us_max) for began in self.attempts.values()]
        waiting = [self.endpoints[name].retry_at for name in self._choice(avoid)]
        if waiting and len(self.attempts) < attempts_max:
            soonest = min(waiting)
            instants.append(max(soonest, self.stagger_at) if self.attempts else soonest)
        return min(instants, default=NEVER)
