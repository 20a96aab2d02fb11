"""What becomes of a packet: every ordered pair of nodes is a cable of its own. PURE: time and chance are arguments.

A packet that has set out arrives, also when its cable is cut meanwhile. Jitter and changes of the delay never let a
packet overtake an earlier one of its cable.
"""

import heapq
import random
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

Pair = tuple[int, int]
"""From, to; numbers of nodes."""

late_buckets: Final = 24
_HEADER_BYTES: Final = 20


class Cable(Struct, frozen=True):
    """One direction. `jitter_us`: so much more or less, evenly spread; `loss`: the share of packets that vanish."""

    delay_us: int = 0
    jitter_us: int = 0
    loss: float = 0.0


class Counts(Struct):
    """What happened since the last time that somebody asked. `late`: packets by the bits of their lateness in µs."""

    taken: int = 0
    delivered: int = 0
    lost: int = 0
    cut: int = 0
    strange: int = 0
    """Not IPv4, or for nobody."""
    full: int = 0
    """The receiver's device took no more."""
    late_us_max: int = 0
    late: list[int] = []

    def late_us(self, share: float) -> int:
        """An upper bound of the lateness that `share` of the packets kept."""
        left = sum(self.late) * share
        for bits, count in enumerate(self.late):
            left -= count
            if left <= 0:
                return (1 << bits) - 1
        return self.late_us_max


class Fabric:
    """All cables between `size` nodes."""

    def __init__(self, size: int, rng: random.Random) -> None:
        self._nodes = range(1, size + 1)
        self._rng = rng
        self._cables: dict[Pair, Cable] = {(a, b): Cable() for a in self._nodes for b in self._nodes if a != b}
        self._cut: frozenset[Pair] = frozenset()
        self._queue: list[tuple[int, int, int, bytes]] = []
        self._last: dict[Pair, int] = dict.fromkeys(self._cables, 0)
        self._number = 0
        self.counts = Counts(late=[0] * late_buckets)

    def reshape(self, pairs: Iterable[Pair], cable: Cable) -> None:
        """These cables are like this from now on."""
        for pair in pairs:
            assert pair in self._cables, f"no cable {pair}"
            self._cables[pair] = cable

    def cut_only(self, pairs: Iterable[Pair]) -> None:
        """These cables are cut, all others whole."""
        self._cut = frozenset(pairs)
        assert self._cut <= self._cables.keys(), f"no cables {self._cut - self._cables.keys()}"

    def take(self, source: int, packet: bytes, now_us: int) -> None:
        """A node has sent a packet."""
        counts = self.counts
        counts.taken += 1
        if len(packet) < _HEADER_BYTES or packet[0] >> 4 != 4:
            counts.strange += 1
            return
        pair = (source, packet[19])
        cable = self._cables.get(pair)
        if cable is None:
            counts.strange += 1
        elif pair in self._cut:
            counts.cut += 1
        elif cable.loss and self._rng.random() < cable.loss:
            counts.lost += 1
        else:
            due = now_us + cable.delay_us
            if cable.jitter_us:
                due += self._rng.randint(-min(cable.jitter_us, cable.delay_us), cable.jitter_us)
            self._last[pair] = due = max(due, self._last[pair])
            self._number += 1
            heapq.heappush(self._queue, (due, self._number, pair[1], packet))

    @property
    def due_us(self) -> int | None:
        """When the next packet arrives."""
        return self._queue[0][0] if self._queue else None

    def arrived(self, now_us: int) -> list[tuple[int, bytes]]:
        """Receivers and packets that are due, in order."""
        queue, counts = self._queue, self.counts
        out: list[tuple[int, bytes]] = []
        while queue and queue[0][0] <= now_us:
            due, _, to, packet = heapq.heappop(queue)
            out.append((to, packet))
            late = now_us - due
            counts.late[min(late.bit_length(), late_buckets - 1)] += 1
            counts.late_us_max = max(counts.late_us_max, late)
        return out

    def tell(self) -> Counts:
        """The counts, which begin anew."""
        told, self.counts = self.counts, Counts(late=[0] * late_buckets)
        return told
