"""The ladder of deadlines of `tenure run` (P3.7), from the end of a lease's validity backwards."""

from dataclasses import dataclass
from typing import Final

from tenure.base.errors import Invalid
from tenure.base.instants import MS, Instant, Micros
from tenure.leadership.holder import guard_divisor, guard_us_min, validity_us

sigterm_before_us_min: Final = Micros(100 * MS)
sigkill_before_us: Final = Micros(20 * MS)
rho_permille: Final = 10
"""P3.7: clocks differ in rate by at most 1 %."""
renewals_lost_min: Final = 2
"""A lease must survive the loss of this many renewals in a row before its application is told to end."""


@dataclass(frozen=True, slots=True)
class Rungs:
    """The instants that follow from one confirmed renewal."""

    sigterm_at: Instant
    sigkill_at: Instant
    valid_until: Instant


@dataclass(frozen=True, slots=True)
class Ladder:
    """Durations that follow from the TTL; `of` refuses those that leave no room."""

    ttl_us: Micros
    renew_us: Micros
    validity_us: Micros
    sigterm_before_us: Micros

    def rungs(self, valid_until: Instant) -> Rungs:
        """When to act on a lease that ends at `valid_until`."""
        return Rungs(
            sigterm_at=Instant(valid_until - self.sigterm_before_us),
            sigkill_at=Instant(valid_until - sigkill_before_us),
            valid_until=valid_until,
        )


def of(ttl_us: Micros) -> Ladder:
    """The ladder of a TTL. `Invalid` if SIGTERM would come before two lost renewals (so the least TTL is 243 ms)."""
    renew = ttl_us // 5
    validity = validity_us(ttl_us, max(guard_us_min, ttl_us // guard_divisor), rho_permille)
    before = max(sigterm_before_us_min, ttl_us // 5)
    if validity - before < renewals_lost_min * renew + renew // 2:
        raise Invalid(
            "ttl", f"{ttl_us // MS} ms leave no room for {renewals_lost_min} lost renewals; take 250ms or more"
        )
    return Ladder(Micros(ttl_us), Micros(renew), Micros(validity), Micros(before))
