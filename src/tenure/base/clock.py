"""The clock as an argument: real ones live at the rim (`server`, `client`, `agent`), simulated ones in tests."""

from typing import Protocol

from tenure.base.instants import Instant, WallMs


class Clock(Protocol):
    """Reads time; never sleeps."""

    def now(self) -> Instant:
        """Microseconds of CLOCK_BOOTTIME, which goes on while the machine is suspended (P3.7)."""
        ...

    def wall(self) -> WallMs:
        """Unix time in milliseconds: for people, never for a decision."""
        ...
