"""What a member counts for `/metrics`. The driver calls these methods; nothing here knows Prometheus (see `metrics`).

A call costs a few hundred nanoseconds and never allocates for long: counters and histograms with fixed buckets.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from tenure.base.ids import ElectionName
from tenure.leadership.engine import Cause, Transition

_DISK: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_LATENESS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_FAILOVER: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

ElectionPhase = Literal["stepdown", "vacant"]
"""From the begin of a stepdown to the end of the holding, and from there to the next grant; by the commands (P10)."""
RejectionSurface = Literal["validate", "kv"]
"""Where a stale fencing token was refused."""


@dataclass(slots=True)
class Histogram:
    """Counts per bucket (not cumulative); `bounds` are upper bounds in seconds, one more bucket lies above the last."""

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    sum_s: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe_us(self, micros: int) -> None:
        """Count one duration."""
        seconds = micros / 1_000_000
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum_s += seconds


@dataclass(frozen=True, slots=True)
class Gauge:
    """A figure read when somebody scrapes."""

    name: str
    text: str
    read: Callable[[], float]


@dataclass(slots=True)
class Telemetry:
    """One per member; made by the assembly, filled by the driver and the API, shown by `/metrics`."""

    since_ms: int = 0
    """Unix ms from which on transitions count. A restarted member applies the log anew; counted again, what happened
    before would look like a burst of fail-overs at each restart (counters that begin at 0 are taken for reset ones)."""
    disk_sync: Histogram = field(default_factory=lambda: Histogram(_DISK))
    loop_lateness: Histogram = field(default_factory=lambda: Histogram(_LATENESS))
    failover_phases: dict[str, Histogram] = field(
        default_factory=lambda: {"stepdown": Histogram(_FAILOVER), "vacant": Histogram(_FAILOVER)}
    )
    phase_began: dict[ElectionName, tuple[ElectionPhase, int]] = field(default_factory=dict)
    """Elections that are between two holdings, with the time in unix ms."""
    leader_changes: dict[Cause, int] = field(default_factory=dict)
    consensus_changes: int = 0
    fence_rejections: dict[RejectionSurface, int] = field(default_factory=dict)
    gauges: dict[str, Gauge] = field(default_factory=dict)
    streams: int = 0
    watchers: int = 0
    requests_in_flight: int = 0

    def disk_synced(self, micros: int) -> None:
        """A durable write took this long."""
        self.disk_sync.observe_us(micros)

    def loop_late(self, micros: int) -> None:
        """A deadline was served this much too late."""
        self.loop_lateness.observe_us(micros)

    def failover_phase(self, phase: str, micros: int) -> None:
        """One phase of a fail-over (`detected`, `elected`, `granted`, …) took this long."""
        histogram = self.failover_phases.get(phase)
        if histogram is None:
            histogram = self.failover_phases[phase] = Histogram(_FAILOVER)
        histogram.observe_us(micros)

    def consensus_changed(self) -> None:
        """This member saw a new consensus leader."""
        self.consensus_changes += 1

    def fence_rejected(self, surface: RejectionSurface) -> None:
        """A stale term was refused."""
        self.fence_rejections[surface] = self.fence_rejections.get(surface, 0) + 1

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Show `read()` under `name` (without prefix or unit added) at every scrape."""
        assert name.startswith("tenure_")
        self.gauges[name] = Gauge(name, text, read)

    def saw(self, transition: Transition) -> None:
        """The hub tells every transition once."""
        if transition.at_ms < self.since_ms:
            return
        if transition.kind == "granted" and transition.cause is not None:
            self.leader_changes[transition.cause] = self.leader_changes.get(transition.cause, 0) + 1
        if transition.election is None or transition.kind not in {"stepdown", "ended", "granted"}:
            return
        began = self.phase_began.get(transition.election)
        if began is not None and transition.kind != "stepdown":  # a stepdown is sharpened without a new begin
            self.failover_phase(began[0], max(0, transition.at_ms - began[1]) * 1_000)
        match transition.kind:
            case "stepdown":
                self.phase_began.setdefault(transition.election, ("stepdown", transition.at_ms))
            case "ended":
                self.phase_began[transition.election] = ("vacant", transition.at_ms)
            case _:
                self.phase_began.pop(transition.election, None)
