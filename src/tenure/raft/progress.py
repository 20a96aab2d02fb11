"""How far one other member is, as its leader knows it."""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from tenure.base.ids import Boot, LogIndex, MemberId
from tenure.base.instants import Instant
from tenure.raft.entries import Snapshot


@dataclass(slots=True)
class Shipment:
    """A snapshot on its way to one follower: `acked` ≤ `sent` bytes. `window`: how many may be between the two."""

    snapshot: Snapshot
    window: int
    acked: int = 0
    sent: int = 0
    chunks: deque[tuple[int, Instant]] = field(default_factory=deque)
    """The ends of those in flight, and when they left."""
    least_us: int | None = None
    """The least that a chunk and its answer took: more is a queue on the way."""
    narrowed: int = 0
    """The window is not made smaller again before what had been sent by then is answered."""


@dataclass(slots=True)
class Progress:
    """What the leader knows of one other member. `match` ≤ what is durable there; `next` > `match`."""

    match: LogIndex
    next: LogIndex
    state: Literal["probe", "replicate", "snapshot"] = "probe"
    probe_sent: bool = False
    inflight: deque[LogIndex] = field(default_factory=deque)
    commit_sent: LogIndex = LogIndex(0)
    heard_at: Instant = Instant(0)
    acked_at: Instant = Instant(0)
    moved_at: Instant = Instant(0)
    again: int = 0
    """How often it was sent something again since `match` moved last."""
    beat_acked: int = 0
    probe_acked: int = 0
    probed_at: Instant = Instant(0)
    """When its disk has done a durable probe last."""
    shipment: Shipment | None = None
    """The snapshot on its way; kept over a broken link, so that it goes on."""
    copy: Shipment | None = None
    """A snapshot on its way to a witness that holds the log itself (P8)."""
    speaks: int = 1
    unheard: tuple[MemberId, ...] = ()
    """Whom the member doesn't hear, as it said last (P7.4)."""
    boot: Boot | None = None
    """The life that `match` was heard from, as far as a link to it was seen."""
