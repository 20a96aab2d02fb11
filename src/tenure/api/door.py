"""What every way into the API shares: the engine, the limits, who may ask, and the count of what is in flight."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tenure.api.hub import Hub
from tenure.api.info import ServerInfo
from tenure.api.limits import Limits
from tenure.api.taking import Access
from tenure.api.telemetry import Telemetry
from tenure.base.lineages import shown
from tenure.leadership.engine import Engine, Refused, Submitter


class Served(Engine, Submitter, Protocol):
    """An engine with a hot path."""

    def unserving(self) -> Refused | None:
        """Why nobody is served here at all: a witness, or a member that joins. None where requests are worth asking."""
        ...


class Speaker(Protocol):
    """A connection that has something to write."""

    def flush(self) -> None:
        """Write it. Must not raise."""
        ...


class Guest(Protocol):
    """A connection that the sweep looks at."""

    def sweep(self, now: float) -> None:
        """Close what has been idle or unfinished for too long; ping what may be dead."""
        ...


@dataclass(slots=True)
class Door:
    """One per server."""

    engine: Served
    info: ServerInfo
    limits: Limits
    telemetry: Telemetry
    access: Access
    hub: Hub
    guests: set[Guest] = field(default_factory=set)
    streams: int = 0
    watchers: int = 0
    snapshots: int = 0
    in_flight: int = 0
    """Requests that the engine was asked and hasn't answered; never more than `limits.requests_in_flight_max`."""
    closing: bool = False
    """The server goes: broken streams are our own doing now and no engine hears `Disconnected` (P3.8)."""
    _lineage: bytes = b""
    speakers: list[Speaker] = field(default_factory=list)
    """Who has something to write in this turn of the loop."""
    leaving: set[Callable[[], object]] = field(default_factory=set)
    """Of calls that wait for something: called when they should end."""

    def close(self) -> None:
        """Whoever waits is answered now; a second call does nothing."""
        if not self.closing:
            self.closing = True
            for leave in list(self.leaving):
                leave()

    def flush_soon(self, speaker: Speaker) -> None:
        """Behind what runs now, all who have something to say write it: one callback of the loop for all of them."""
        if not self.speakers:
            asyncio.get_running_loop().call_soon(self._flush)
        self.speakers.append(speaker)

    def _flush(self) -> None:
        speakers, self.speakers = self.speakers, []
        for speaker in speakers:
            speaker.flush()

    @property
    def lineage(self) -> bytes:
        """As in the header; empty before the cluster is founded, and then the same for life (P1.4)."""
        if not self._lineage:
            self._lineage = shown(self.engine.lineage()).encode()
        return self._lineage

    @property
    def is_full(self) -> bool:
        """No more requests until some are answered."""
        return self.in_flight >= self.limits.requests_in_flight_max
