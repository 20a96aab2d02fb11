"""The bytes of snapshots, in rows: one row a piece, numbered upwards for ever.

The snapshot that counts is a range of rows, named by the row of table `snapshot`. What stands below the range is left
of older ones; what stands above it is *staged*: pieces of the next one, each a transaction of its own between batches,
so that the batch which makes it count is as small as any. Staged rows without such a batch are left over too.
"""

from typing import Final
from zlib import crc32

import apsw

from tenure.raft.entries import Image

rows_dropped_max: Final = 8
"""Of left-over rows at a time: about a megabyte."""
_PUT: Final = "INSERT INTO pieces(number, data) VALUES(?, ?)"
_DROP_BELOW: Final = "DELETE FROM pieces WHERE number < ?"
_DROP_FROM: Final = "DELETE FROM pieces WHERE number >= ?"
Range = tuple[int, int]
"""First row, and the one behind the last."""


class Pieces:
    """Which rows there are, and what is staged of the next image. Runs inside the store's transactions."""

    __slots__ = ("_begun", "_crc", "_end", "_lowest", "_range", "_size")

    def __init__(self, counted: Range, lowest: int, end: int) -> None:
        """`counted` is the range of the snapshot that counts; rows from `lowest` to before `end` are there."""
        self._range = counted
        self._lowest = lowest
        self._end = end
        self._begun: int | None = None
        """Row of the first staged piece."""
        self._size = self._crc = 0

    def takes(self, number: int) -> bool:
        """Whether piece `number` is the next of what is being staged. Not when another snapshot came in between."""
        return number == 0 or (self._begun is not None and self._end == self._begun + number)

    def stage(self, connection: apsw.Connection, number: int, data: bytes) -> None:
        """Put piece `number` of the next image; 0 begins it anew."""
        assert self.takes(number)
        if number == 0:
            self._begun, self._size, self._crc = self._end, 0, 0
        connection.execute(_PUT, (self._end, data))

    def staged(self, data: bytes) -> None:
        """The transaction of `stage` stands."""
        self._end += 1
        self._size += len(data)
        self._crc = crc32(data, self._crc)

    def place(self, connection: apsw.Connection, image: Image) -> Range:
        """The rows of an image: those that were staged, if it is just that one, else put now."""
        begun = self._begun
        if begun is not None and (self._end - begun, self._size, self._crc) == (
            len(image.pieces), image.size, image.crc,
        ):  # fmt: skip
            return begun, self._end
        for offset, piece in enumerate(image.pieces):
            connection.execute(_PUT, (self._end + offset, piece))
        return self._end, self._end + len(image.pieces)

    def counts(self, counted: Range) -> None:
        """The transaction that names these rows stands; all others are left over."""
        self._range = counted
        self._end = max(self._end, counted[1])
        self._begun = None

    def leftovers(self) -> tuple[str, int] | None:
        """A statement that drops some of what is left over, with its argument; None if nothing is."""
        first, behind = self._range
        if self._begun is None and self._end > behind:
            return _DROP_FROM, max(behind, self._end - rows_dropped_max)
        if self._lowest < first:
            return _DROP_BELOW, min(first, self._lowest + rows_dropped_max)
        return None

    def dropped(self, statement: str, place: int) -> None:
        """The transaction of `leftovers` stands."""
        if statement == _DROP_FROM:
            self._end = place
        else:
            self._lowest = place
