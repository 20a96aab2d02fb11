"""Estimators of round trips, disk and gaps, and the timeouts made of them (P5.6, P6).

Wrong values cost time, never safety.
"""

from collections import deque
from typing import Final

from tenure.base.ids import MemberId
from tenure.base.instants import MS, SECOND, Instant
from tenure.raft.settings import Settings

_WINDOW: Final = 256
_HALF_LIFE_US: Final = 30 * SECOND
_RTT_DEFAULT_US: Final = 1 * MS
_SYNC_DEFAULT_US: Final = 5 * MS
_RECOMPUTE_EVERY: Final = 16
_LATENESS_WINDOW_US: Final = 60 * SECOND
_LATENESS_SAMPLES_MAX: Final = 256
_BELIEVED_AFTER_US: Final = 1 * SECOND
"""So long must round trips be strange before they are taken for the path's."""


class Window:
    """The last samples, with a percentile that is computed anew every few of them."""

    __slots__ = ("_fresh", "_next", "_part", "_samples", "value")

    def __init__(self, part: float, default: int) -> None:
        self._samples: list[int] = []
        self._next = 0
        self._fresh = 0
        self._part = part
        self.value = default
        """The percentile, or the default before any sample."""

    def add(self, sample: int) -> None:
        """Take one sample."""
        if len(self._samples) < _WINDOW:
            self._samples.append(sample)
        else:
            self._samples[self._next] = sample
            self._next = (self._next + 1) % _WINDOW
        self._fresh += 1
        if self._fresh >= _RECOMPUTE_EVERY or len(self._samples) <= _RECOMPUTE_EVERY:
            self._fresh = 0
            ordered = sorted(self._samples)
            self.value = ordered[min(len(ordered) - 1, int(len(ordered) * self._part))]


class Tail:
    """p99.9 of how late the beats of the last minute were. Only the late ones are told, so the others are counted by
    the time that has passed: one stall in a minute of 25 ms beats is p99.96, and three are p99.9.
    """

    __slots__ = ("_cached", "_every_us", "_samples", "_since", "_stale_at")

    def __init__(self, every_us: int) -> None:
        self._every_us = every_us
        self._since: Instant | None = None
        self._samples: deque[tuple[Instant, int]] = deque()
        self._cached = 0
        self._stale_at = Instant(0)

    def add(self, sample: int, now: Instant) -> None:
        """Take one sample."""
        self._since = now if self._since is None else self._since
        self._samples.append((now, sample))
        if len(self._samples) > _LATENESS_SAMPLES_MAX:
            self._since = max(self._since, self._samples.popleft()[0])
        if sample > self._cached:
            self._stale_at = now

    def value(self, now: Instant) -> int:
        """The percentile; computed anew behind each sample above it, and once a second as they grow old."""
        if now >= self._stale_at:
            self._stale_at = Instant(now + SECOND)
            self._since = max(now if self._since is None else self._since, Instant(now - _LATENESS_WINDOW_US))
            while self._samples and self._samples[0][0] < self._since:
                self._samples.popleft()
            exceeded = (now - self._since) // self._every_us // 1000
            ordered = sorted((late for _, late in self._samples), reverse=True)
            self._cached = ordered[exceeded] if exceeded < len(ordered) else 0
        return self._cached


class Smooth:
    """Mean and deviation as TCP keeps them (RFC 6298 §2)."""

    __slots__ = ("dev", "mean")

    def __init__(self) -> None:
        self.mean = 0
        self.dev = 0

    def add(self, sample: int) -> None:
        """Take one sample."""
        if self.mean == 0 and self.dev == 0:
            self.mean, self.dev = sample, sample // 2
            return
        self.dev += (abs(sample - self.mean) - self.dev) // 4
        self.mean += (sample - self.mean) // 8


class Timing:
    """What one member has measured."""

    __slots__ = (
        "_gap_max",
        "_gap_max_at",
        "_gaps",
        "_lateness",
        "_rtts",
        "_settings",
        "_strange",
        "_syncs",
        "_timeout",
        "leader_lateness",
        "rtt",
    )

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rtts = Window(0.99, _RTT_DEFAULT_US)
        self._syncs = Window(0.99, _SYNC_DEFAULT_US)
        self._lateness = Tail(settings.heartbeat_us)
        self._gaps = Smooth()
        self._gap_max = 0
        self._gap_max_at = Instant(0)
        self._timeout = 0
        self._strange: dict[MemberId, tuple[Instant, Instant]] = {}
        """When the first and the last of a row of strange round trips came."""
        self.rtt: dict[MemberId, Smooth] = {}
        self.leader_lateness = 0

    def rtt_sample(self, peer: MemberId, rtt_us: int, now: Instant, *, counts: bool = True) -> None:
        """One application-to-application round trip. `counts`: with a voter; what no quorum waits for makes no step
        and no vote round longer (an observer on another continent).

        What a frozen peer answers in one burst when it wakes is none (as P6.2 says of gaps): counted, it made A and
        srtt, and with them every step and T, seconds long. A path that did become so long goes on being it.
        """
        if self._is_stall(peer, rtt_us, now):
            return
        self.rtt.setdefault(peer, Smooth()).add(rtt_us)
        if counts:
            self._rtts.add(rtt_us)

    def _is_stall(self, peer: MemberId, rtt_us: int, now: Instant) -> bool:
        row = self._strange.get(peer)
        if rtt_us > max(self._settings.timeout_max_us, 10 * self.srtt(peer)):
            first = now if row is None else row[0]
            self._strange[peer] = (first, now)
            return now - first < _BELIEVED_AFTER_US
        if row is None:
            return False
        if now - rtt_us < row[1]:
            return True  # asked before the stall was over: the end of the same burst
        del self._strange[peer]
        return False

    def sync_sample(self, sync_us: int) -> None:
        """One durable write."""
        self._syncs.add(sync_us)

    def lateness_sample(self, late_us: int, now: Instant) -> None:
        """How late our own loop was (P6.1).

        Not what no T could cover (P6.2 bounds it): who slept so long is replaced, however patient the others were, and
        one such sample would be p99.9 for long, so that the next loss is noticed only at the bound.
        """
        if late_us <= max(self._settings.timeout_max_us, 10 * max((one.mean for one in self.rtt.values()), default=0)):
            self._lateness.add(late_us, now)

    def lateness(self, now: Instant) -> int:
        """p99.9 of our own recent lateness, told with the heartbeats."""
        return self._lateness.value(now)

    @property
    def rtt_p99(self) -> int:
        """A of P5.6: the round trip through both applications; the fsync is added where one is waited for."""
        return self._rtts.value

    @property
    def sync_p99(self) -> int:
        """p99 of durable writes."""
        return self._syncs.value

    @property
    def step(self) -> int:
        """The time between two ranks' turns (P5.6)."""
        return max(self._settings.step_min_us, self.rtt_p99 * 3 // 2)

    @property
    def vote_timeout(self) -> int:
        """A vote round ends after 2·A + 2 fsync p99 (P5.6); never below two steps. A disk that stood still is no
        measure: one stall of 30 s would make each round of the next hundred writes last a minute.
        """
        sync_us = min(self.sync_p99, self._settings.disk_stall_max_us)
        return max(2 * self.rtt_p99 + 2 * sync_us, 2 * self.step)

    @property
    def disk_stall(self) -> int:
        """D of P4.1."""
        return min(max(10 * self.sync_p99, self._settings.disk_stall_min_us), self._settings.disk_stall_max_us)

    def srtt(self, peer: MemberId) -> int:
        """Smoothed round trip with `peer`, 0 when unknown."""
        known = self.rtt.get(peer)
        return known.mean if known else 0

    def gap_sample(self, gap_us: int, interval_us: int, now: Instant) -> None:
        """The time between two heartbeats of one leader on one connection, own lateness taken off (P6.3)."""
        excess = max(0, gap_us - interval_us)
        self._gaps.add(excess)
        if excess >= self._decayed(now):
            self._gap_max, self._gap_max_at = excess, now

    def _decayed(self, now: Instant) -> int:
        age = now - self._gap_max_at
        halvings, rest = divmod(age, _HALF_LIFE_US)
        if halvings > 40:
            return 0
        whole = self._gap_max >> halvings
        # 2^(-x) on [0, 1) by its chord: at most 6 % above, and monotonic.
        return whole - whole * rest // (2 * _HALF_LIFE_US)

    def leader_timeout(self, leader: MemberId | None, interval_us: int, now: Instant) -> int:
        """T of P6.2 in microseconds: up at once, down slowly."""
        settings = self._settings
        srtt = self.srtt(leader) if leader is not None else 0
        slack = max(settings.floor_us, 2 * srtt + 4 * self._gaps.dev, 2 * self._decayed(now), self.leader_lateness)
        target = min(interval_us + slack, max(settings.timeout_max_us, 10 * srtt))
        if target >= self._timeout:
            self._timeout = target
        else:
            self._timeout -= (self._timeout - target) // 32
        return self._timeout

    def forget_leader(self, leader: MemberId | None) -> int:
        """A new leader or connection starts at H + max(floor, 3·srtt) (P6.2); returns it."""
        srtt = self.srtt(leader) if leader is not None else 0
        self._gap_max = 0
        self._gaps = Smooth()
        self._timeout = self._settings.heartbeat_us + max(self._settings.floor_us, 3 * srtt)
        self.leader_lateness = 0
        return self._timeout
