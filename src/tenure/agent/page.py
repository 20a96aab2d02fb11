"""The page of shared memory that tells the application how long it may still lead: `remaining()` costs no I/O.

The application finds it by TENURE_LEASE_FD (an inherited descriptor) or TENURE_LEASE_PATH, maps 4096 bytes read-only,
and reads, in the machine's own byte order:

    offset  type  field
         0  8s    b"TENURE-1"
         8  u64   sequence: odd while the agent writes (a seqlock)
        16  u64   valid_until: microseconds of CLOCK_BOOTTIME; 0 when the lease doesn't count now
        24  u64   term
        32  u64   sigterm_at: when the application is asked to end if no renewal comes
        40  u64   sigkill_at: when its whole tree is killed if no renewal comes
        48  u64   check: the exclusive or of sequence, valid_until, term, sigterm_at and sigkill_at

To read: take `sequence`, the fields, and `sequence` again; try again unless both are equal and even and `check` agrees
(so that no memory barrier is needed on any processor). The lease counts while `now < valid_until` and `term` is yours.
A frozen agent needs no help: the instant simply passes.
"""

import mmap
import os
import struct
import time
from dataclasses import dataclass
from typing import Final

PAGE_BYTES: Final = 4096
MAGIC: Final = b"TENURE-1"
_FIELDS: Final = struct.Struct("@QQQQQQ")
_AT: Final = len(MAGIC)
_TRIES_MAX: Final = 1000
_F_ADD_SEALS: Final = 1033
_SEAL_SHRINK, _SEAL_GROW, _SEAL_FUTURE_WRITE = 0x2, 0x4, 0x10


@dataclass(frozen=True, slots=True)
class Reading:
    """One consistent view of the page."""

    valid_until: int
    term: int
    sigterm_at: int
    sigkill_at: int

    def remaining_us(self, now_us: int, term: int) -> int:
        """How long `term` still leads; 0 if it doesn't."""
        return max(0, self.valid_until - now_us) if term == self.term else 0


def _check(sequence: int, reading: Reading) -> int:
    return sequence ^ reading.valid_until ^ reading.term ^ reading.sigterm_at ^ reading.sigkill_at


class Page:
    """The agent's side."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("tenure-lease", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, PAGE_BYTES)
        self._map = mmap.mmap(self.fd, PAGE_BYTES)
        self._sequence = 0
        self._map[:_AT] = MAGIC
        self.write(Reading(0, 0, 0, 0))
        _seal(self.fd)

    def write(self, reading: Reading) -> None:
        """Publish; readers in the middle of it try again."""
        odd, self._sequence = self._sequence + 1, self._sequence + 2
        struct.pack_into("@Q", self._map, _AT, odd)
        fields = (reading.valid_until, reading.term, reading.sigterm_at, reading.sigkill_at)
        struct.pack_into("@QQQQQ", self._map, _AT + 8, *fields, _check(self._sequence, reading))
        struct.pack_into("@Q", self._map, _AT, self._sequence)

    def close(self) -> None:
        """Unmap and close."""
        self._map.close()
        os.close(self.fd)


def _seal(fd: int) -> None:
    """From now on nobody else can map it writable, so that an application can't lengthen its own lease."""
    import fcntl  # only the agent's side needs it

    try:
        fcntl.fcntl(fd, _F_ADD_SEALS, _SEAL_SHRINK | _SEAL_GROW | _SEAL_FUTURE_WRITE)
    except OSError:
        return  # before Linux 5.1: the page is then as trustworthy as the application


class View:
    """The application's side."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, PAGE_BYTES, mmap.MAP_SHARED, mmap.PROT_READ)
        if self._map[:_AT] != MAGIC:
            raise ValueError("this descriptor holds no page of a lease")

    def read(self) -> Reading:
        """A consistent view."""
        for _ in range(_TRIES_MAX):
            before, *fields, check = _FIELDS.unpack_from(self._map, _AT)
            (after,) = struct.unpack_from("@Q", self._map, _AT)
            reading = Reading(*fields)
            if before == after and before % 2 == 0 and check == _check(before, reading):
                return reading
        return Reading(0, 0, 0, 0)  # the agent died while it wrote: nothing is known, so nothing counts

    def remaining_us(self, term: int) -> int:
        """How long `term` still leads, in microseconds of CLOCK_BOOTTIME; 0 if it doesn't."""
        return self.read().remaining_us(time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000, term)

    def close(self) -> None:
        """Unmap; the descriptor stays open."""
        self._map.close()


def of_environment() -> View | None:
    """The page that `tenure run` handed to this process, if it did."""
    number, path = os.environ.get("TENURE_LEASE_FD"), os.environ.get("TENURE_LEASE_PATH")
    try:
        if number:
            return View(int(number))
    except (OSError, ValueError):
        pass  # a grandchild whose parent closed the descriptor: the path still leads there
    if not path:
        return None
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return View(fd)
    finally:
        os.close(fd)
