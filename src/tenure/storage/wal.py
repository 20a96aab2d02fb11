"""A walk over SQLite's write-ahead log before SQLite sees it: what will it take, and what would it silently drop?

SQLite takes frames as long as their salts and cumulative checksums hold, and drops everything behind the first that
fails, without an error (P1.3). That is right for a torn last transaction and wrong for a flipped bit further in
front. This walk tells them apart: one transaction at a time is written and synced, so if anything of a transaction
*after* the next one lies behind the break, the next one was complete once. That shows in two ways: two commit frames
of the current salts, or a head page whose count of writes is two ahead.

Format: https://www.sqlite.org/fileformat2.html#walformat. The file has a fixed least size while a member runs
(`wal_bytes`), so a shortened one is seen too; it also makes a sync cheaper, since the file's length doesn't change.
"""

import sys
from array import array
from pathlib import Path
from struct import Struct as Layout
from typing import Final

from msgspec import Struct

from tenure.storage.errors import Corrupt
from tenure.storage.records import find_head, head_page

page_bytes: Final = 4096
_HEADER: Final = Layout(">8I")
_FRAME: Final = Layout(">6I")
frame_bytes: Final = _FRAME.size + page_bytes
_MAGIC: Final = 0x377F0682
_VERSION: Final = 3007000
_MASK: Final = 2**32 - 1
wal_bytes: Final = 6 * 1024 * 1024
"""Least size of the `-wal` between open and clean close: more than 1500 frames, checkpoints come at 1000."""


class Walk(Struct, frozen=True):
    """What SQLite will take: `frames` up to the last whole commit. `writes` is the count of the last head among them
    (None: no head there). `torn` says what lies behind and will be dropped, if anything does.
    """

    frames: int
    writes: int | None
    torn: str | None


def checksum(data: bytes, s0: int, s1: int, swap: bool) -> tuple[int, int]:
    """SQLite's cumulative checksum over 32-bit words in pairs (walChecksumBytes)."""
    words = array("I", data)
    if swap:
        words.byteswap()
    pairs = iter(words)
    for first, second in zip(pairs, pairs, strict=True):
        s0 = (s0 + first + s1) & _MASK
        s1 = (s1 + second + s0) & _MASK
    return s0, s1


def walk(data: bytes, file: Path, writes_below: int | None) -> Walk:
    """Walk the content of `file`. `writes_below` is the database's own count of writes, for a `-wal` without a head.

    Raises `Corrupt` when SQLite would drop a transaction that was complete.
    """
    if not any(data[: _HEADER.size]) and not data.strip(b"\0"):
        return Walk(0, None, None)
    magic, version, size, _, salt1, salt2, want0, want1 = _HEADER.unpack_from(data.ljust(_HEADER.size, b"\0"))
    swap = bool(magic & 1) != (sys.byteorder == "big")
    sum0, sum1 = checksum(data[:24], 0, 0, swap) if len(data) >= _HEADER.size else (0, 0)
    if magic & ~1 != _MAGIC or version != _VERSION or size != page_bytes or (sum0, sum1) != (want0, want1):
        if not data[_HEADER.size :].strip(b"\0"):
            return Walk(0, None, "an unfinished header with nothing behind it")
        raise Corrupt(file, "its header is not valid, SQLite would drop every transaction behind it")
    count = (len(data) - _HEADER.size) // frame_bytes
    committed, writes, pending, broken = 0, None, None, count
    for place in range(count):
        start = _HEADER.size + place * frame_bytes
        page, commit, got1, got2, want0, want1 = _FRAME.unpack_from(data, start)
        if (got1, got2) != (salt1, salt2) or page == 0:
            broken = place
            break
        sum0, sum1 = checksum(data[start : start + 8], sum0, sum1, swap)
        body = data[start + _FRAME.size : start + frame_bytes]
        sum0, sum1 = checksum(body, sum0, sum1, swap)
        if (sum0, sum1) != (want0, want1):
            broken = place
            break
        if page == head_page:
            head = find_head(body)
            pending = head.writes if head is not None else pending
        if commit:
            committed, writes = place + 1, pending if pending is not None else writes
            pending = None
    return _judge(data, file, Walk(committed, writes, None), broken, (salt1, salt2), writes_below)


def _judge(data: bytes, file: Path, taken: Walk, broken: int, salts: tuple[int, int], writes_below: int | None) -> Walk:
    """Look at what lies behind the last whole commit; only frames of the current salts are of this round."""
    last_writes = taken.writes if taken.writes is not None else writes_below
    behind = commits = 0
    newest = None
    for place in range(taken.frames, (len(data) - _HEADER.size) // frame_bytes):
        start = _HEADER.size + place * frame_bytes
        page, commit, salt1, salt2, _, _ = _FRAME.unpack_from(data, start)
        head = find_head(data[start + _FRAME.size : start + frame_bytes]) if page == head_page else None
        if (salt1, salt2) != salts:
            continue
        behind += 1
        commits += commit != 0
        if head is not None:
            newest = head.writes if newest is None else max(newest, head.writes)
    where = f"frame {broken + 1} (byte {_HEADER.size + broken * frame_bytes}) is not valid"
    if commits > 1:
        raise Corrupt(file, f"{where}, and {commits} later commits lie behind it that SQLite would drop")
    if newest is not None and last_writes is not None and newest > last_writes + 1:
        lost = newest - last_writes
        raise Corrupt(file, f"{where}, and a head {lost} writes later lies behind it: SQLite would drop complete ones")
    if behind == 0:
        return taken
    return Walk(taken.frames, taken.writes, f"{where}: an unfinished last transaction of {behind} frames was dropped")
