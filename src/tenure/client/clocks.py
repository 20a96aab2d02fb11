"""The real clocks, and the real source of chance. CLOCK_BOOTTIME goes on while the machine is suspended (P3.7)."""

import secrets
import time

from tenure.base.chance import SplitMix64
from tenure.base.instants import Instant, WallMs


class BootClock:
    """CLOCK_BOOTTIME for decisions, CLOCK_REALTIME beside it to notice a resume."""

    def now(self) -> Instant:
        """Microseconds of CLOCK_BOOTTIME."""
        return Instant(time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000)

    def wall(self) -> WallMs:
        """Unix time in milliseconds."""
        return WallMs(time.time_ns() // 1_000_000)

    def real_us(self) -> int:
        """Microseconds of CLOCK_REALTIME; only its steps against `now` mean something."""
        return time.time_ns() // 1_000


def fresh_rng() -> SplitMix64:
    """Chance that no other process has, forked ones included."""
    return SplitMix64(secrets.randbits(64))
