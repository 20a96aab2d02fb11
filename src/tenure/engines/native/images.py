"""Snapshots of the state machine, taken and put in place a moment's work at a time. PURE.

Taking: the machine is frozen at an applied index, at once; then each piece is encoded when the disk has taken the one
before, so the pace is the disk's and neither the loop nor a batch waits for more than a piece. A small image needs no
such stages and goes with its batch as a whole.

Installing: the pieces of a received image are decoded turn by turn; what is committed meanwhile waits behind it. Until
it is in place this member answers stale reads from what it had.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final
from zlib import crc32

from msgspec import Struct

from tenure.base.ids import LogIndex
from tenure.engines.native.inputs import Effects, ReplicaSettings, Stage, Staged
from tenure.leadership.machine import Machine
from tenure.leadership.snapshots import Frozen, Thawing
from tenure.raft.entries import Entry, Image, Snapshot
from tenure.raft.events import TakeSnapshot

sizes_between: Final = 4
"""A snapshot is worth writing once a quarter of its size has come in entries …"""
entries_between: Final = 10
"""… or so many times `snapshot_entries`, so that a restart has a bounded number to replay."""


class _Taking(Struct):
    """One that is being taken: `sections` are still to come, `pieces` are encoded."""

    index: LogIndex
    feature: int
    sections: Iterator[bytes]
    pieces: list[bytes]
    size: int = 0
    crc: int = 0


class Camera:
    """Takes snapshots when enough has been applied since the last."""

    __slots__ = ("_bytes", "_entries", "_last_size", "_limits", "_taking")

    def __init__(self, limits: ReplicaSettings, snapshot: Snapshot | None) -> None:
        self._limits = limits
        self._last_size = snapshot.image.size if snapshot is not None else 0
        self._entries = 0
        self._bytes = 0
        self._taking: _Taking | None = None

    def applied(self, size: int) -> None:
        """An entry with `size` bytes of data was applied."""
        self._entries += 1
        self._bytes += size

    @property
    def is_due(self) -> bool:
        """Whether one should be begun now. A large state isn't written for every few entries."""
        limits = self._limits
        if self._taking is not None:
            return False
        if self._entries < limits.snapshot_entries and self._bytes < limits.snapshot_bytes:
            return False
        worth = self._bytes * sizes_between >= self._last_size
        return worth or self._entries >= entries_between * limits.snapshot_entries

    def begin(self, index: LogIndex, feature: int, frozen: Frozen, out: Effects) -> TakeSnapshot | None:
        """Take one of the state at `index`. Returned if it is small; else its first piece is to be staged."""
        self._entries = self._bytes = 0
        self._taking = taking = _Taking(index, feature, frozen.sections(), [])
        first = self._next_piece(taking)
        if sum(map(len, taking.pieces)) < self._limits.snapshot_piece_bytes:
            return self._done(taking)
        assert first is not None
        out.stage = Stage(index, 0, first)
        return None

    def staged(self, staged: Staged, out: Effects) -> TakeSnapshot | None:
        """A piece is durable, so the next may be; returned when that was the last. Without space it is given up."""
        taking = self._taking
        if taking is None or taking.index != staged.index:
            return None  # given up meanwhile
        if not staged.kept:
            self._taking = None
            return None
        piece = self._next_piece(taking)
        if piece is None:
            return self._done(taking)
        out.stage = Stage(taking.index, len(taking.pieces) - 1, piece)
        return None

    def installed(self, snapshot: Snapshot) -> None:
        """Another snapshot took the place of the state."""
        self._taking = None
        self._entries = self._bytes = 0
        self._last_size = snapshot.image.size

    def _next_piece(self, taking: _Taking) -> bytes | None:
        sections: list[bytes] = []
        size = 0
        for section in taking.sections:
            sections.append(section)
            size += len(section)
            if size >= self._limits.snapshot_piece_bytes:
                break
        if not sections:
            return None
        piece = b"".join(sections)
        taking.pieces.append(piece)
        taking.size += size
        taking.crc = crc32(piece, taking.crc)
        return piece

    def _done(self, taking: _Taking) -> TakeSnapshot:
        self._taking = None
        self._last_size = taking.size
        return TakeSnapshot(taking.index, taking.feature, Image(tuple(taking.pieces), taking.size, taking.crc))


class Installing:
    """A received snapshot that is being put in place, and what is committed behind it."""

    __slots__ = ("_fed", "_thawing", "snapshot", "waiting")

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.waiting: deque[Entry] = deque()
        """Committed, to be applied once the snapshot is in place."""
        self._thawing = Thawing()
        self._fed = 0

    def thaw(self, bytes_max: int | None) -> Machine | None:
        """Decode the next pieces, about `bytes_max` of them (None: all); the machine, once it is whole.

        Raises `UnknownCommand`.
        """
        pieces = self.snapshot.image.pieces
        size = 0
        while self._fed < len(pieces) and (bytes_max is None or size < bytes_max):
            self._thawing.feed(pieces[self._fed])
            size += len(pieces[self._fed])
            self._fed += 1
        return Machine(self._thawing.finish()) if self._fed == len(pieces) else None

    def take(self, entries_max: int | None) -> list[Entry]:
        """The next entries that wait."""
        count = len(self.waiting) if entries_max is None else min(entries_max, len(self.waiting))
        taken = list(islice(self.waiting, count))
        for _ in taken:
            self.waiting.popleft()
        return taken
