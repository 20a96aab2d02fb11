"""The real clock (P3.7: CLOCK_BOOTTIME goes on while the machine is suspended)."""

import time

from tenure.base.instants import Instant, WallMs


class RealClock:
    """`base.clock.Clock` of this machine."""

    __slots__ = ()

    def now(self) -> Instant:
        """Microseconds of CLOCK_BOOTTIME."""
        return Instant(time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000)

    def wall(self) -> WallMs:
        """Unix time in milliseconds."""
        return WallMs(time.time_ns() // 1_000_000)
