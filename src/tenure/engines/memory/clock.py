"""Clocks for the memory engine: the machine's, and one that a test moves."""

import time
from typing import Final

from tenure.base.instants import MS, Instant, WallMs

_START_WALL_MS: Final = 1_800_000_000_000
"""2027-01-15: where a manual clock's wall time begins unless it is told otherwise."""


class SystemClock:
    """CLOCK_BOOTTIME and CLOCK_REALTIME of this machine."""

    def now(self) -> Instant:
        """Microseconds of CLOCK_BOOTTIME."""
        return Instant(time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000)

    def wall(self) -> WallMs:
        """Unix time in milliseconds."""
        return WallMs(time.time_ns() // 1_000_000)


class ManualClock:
    """Stands still until it is moved. Wall time follows, unless it is set apart to show that nothing depends on it."""

    def __init__(self, start_us: int = 1_000_000, wall_ms: int = _START_WALL_MS) -> None:
        self._now = start_us
        self._wall_offset_ms = wall_ms - start_us // MS

    def now(self) -> Instant:
        """Where it stands."""
        return Instant(self._now)

    def wall(self) -> WallMs:
        """The wall time that goes with it."""
        return WallMs(self._now // MS + self._wall_offset_ms)

    def move_to(self, instant: Instant) -> None:
        """Move forward; time never goes back."""
        assert instant >= self._now
        self._now = instant

    def step_wall(self, ms: int) -> None:
        """Step the wall clock alone, as NTP or an operator would."""
        self._wall_offset_ms += ms
