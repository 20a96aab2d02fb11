"""Instants and durations as integers of microseconds.

An `Instant` counts microseconds of CLOCK_BOOTTIME on one machine; two machines' instants are never compared.
`WallMs` is unix time in milliseconds, for people and for the history only.
"""

from typing import Final, NewType

Instant = NewType("Instant", int)
Micros = NewType("Micros", int)
"""A duration in microseconds."""
WallMs = NewType("WallMs", int)

MS: Final = 1_000
"""Microseconds in a millisecond."""
SECOND: Final = 1_000_000
NEVER: Final = Instant(2**62)


def after(start: Instant, micros: int) -> Instant:
    """The instant `micros` later."""
    return Instant(start + micros)
