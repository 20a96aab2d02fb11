"""Clocks that differ in rate, stand still, and step; and the wall clock that somebody else may set."""

from typing import Final

from tenure.base.instants import Instant
from tests.sim.plan import SECOND

MILLION: Final = 1_000_000


class Clock:
    """A clock that runs at its own rate, may stand still for a while, and may step forward."""

    __slots__ = ("local", "rate", "real_us", "true")

    def __init__(self, rate_ppm: int) -> None:
        self.rate = MILLION + rate_ppm
        self.true = 0
        self.local = 10 * SECOND
        self.real_us = 0
        """How far this machine's CLOCK_REALTIME is off."""

    def at(self, true: int) -> Instant:
        """What it shows at a true time."""
        return Instant(self.local + (true - self.true) * self.rate // MILLION)

    def true_of(self, local: int) -> int:
        """The first true time at which it shows `local`."""
        return self.true + -((self.local - local) * MILLION // self.rate)

    def step(self, true: int, forward: int, rate_ppm: int | None = None) -> None:
        """From `true` on it shows `forward` more (or less, if it stood still), and may run at another rate."""
        self.local, self.true = self.at(true) + forward, true
        if rate_ppm is not None:
            self.rate = MILLION + rate_ppm
