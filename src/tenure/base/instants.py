"""Instants and durations as integers of microseconds.

An `Instant` counts microseconds of CLOCK_BOOTTIME on one machine; two machines' instants are never compared.
`WallMs` is unix time in milliseconds, for people and for the history only.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, NewType

Instant = NewType("Instant", int)
Micros = NewType("Micros", int)
"""A duration in microseconds."""
WallMs = NewType("WallMs", int)

MS: Final = 1_000
"""Microseconds in a millisecond."""
SECOND: Final = 1_000_000
NEVER: Final = Instant(2**62)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def after(start: Instant, micros: int) -> Instant:
    """The instant `micros` later."""
    return Instant(start + micros)


def rfc3339(wall_ms: int) -> str:
    """UTC with milliseconds: how an instant is written wherever others read it (API.md, Values)."""
    text = (_EPOCH + timedelta(milliseconds=wall_ms)).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def wall_ms_of(text: str) -> WallMs:
    """What `rfc3339` wrote; ValueError if it didn't."""
    return WallMs((datetime.fromisoformat(text) - _EPOCH) // timedelta(milliseconds=1))
