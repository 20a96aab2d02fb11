"""What the log holds, and what a member keeps durably: entries, configuration, hard state, snapshot, batch."""

from collections.abc import Iterable
from typing import Final, Literal
from zlib import crc32

import msgspec
from msgspec import Struct

from tenure.base.ids import BatchNumber, ConsensusTerm, LogIndex, MemberId

COMMAND: Final = 0
"""Opaque bytes for the state machine."""
NOOP: Final = 1
"""A new leader's first entry (Raft §8): nothing older is read or counted before it commits."""
CONFIGURATION: Final = 2
"""`Configuration` in msgpack; active from append (P7.1)."""
FEATURE: Final = 3
"""The cluster's feature version, an integer in ASCII (P10)."""

voters_max: Final = 7


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """One place of the replicated log."""

    index: LogIndex
    term: ConsensusTerm
    kind: int
    data: bytes


Standby = Literal["no", "voter", "witness"]
"""As what the autopilot may promote an observer."""


class Seat(Struct, frozen=True):
    """One member as the configuration knows it. `peer` is `host:port`; the id decides, the name is a label (P1.1)."""

    id: MemberId
    name: str
    peer: str
    role: Literal["voter", "witness", "observer"] = "voter"
    priority: int = 0
    standby: Standby = "no"


class Wanted(Struct, frozen=True):
    """How many members shall vote, and how many of them shall be witnesses."""

    voters: int
    witnesses: int


class Left(Struct, frozen=True):
    """A member that left, how it was called and what it was: who tells its removal again, or what replaces it, says the
    name.
    """

    id: MemberId
    name: str
    role: Literal["voter", "witness", "observer"]


class Replacing(Struct, frozen=True):
    """One of two steps is taken (P7.2): `by` votes in the place of `member`, which is yet to leave; or `member` left
    and `by` is yet to be promoted.
    """

    member: MemberId
    by: MemberId


class Configuration(Struct, frozen=True):
    """Who belongs to the cluster since log index `index` (0: founding). `removed`: ids that left and never return.

    `wanted` is what the operator last made it, while the autopilot is on its way back there; None: just what it is.
    `replacements`: those of an operator that are halfway. `left`: the last of `removed`, with their names.
    """

    index: LogIndex
    seats: tuple[Seat, ...]
    removed: tuple[MemberId, ...] = ()
    wanted: Wanted | None = None
    replacements: tuple[Replacing, ...] = ()
    left: tuple[Left, ...] = ()

    def has(self) -> Wanted:
        """How many vote now."""
        witnesses = sum(seat.role == "witness" for seat in self.seats)
        return Wanted(len(self.voters()), witnesses)

    def voters(self) -> tuple[MemberId, ...]:
        """Ids that count in quorums: voters and witnesses, in the order of their seats."""
        return tuple(seat.id for seat in self.seats if seat.role != "observer")

    def members(self) -> tuple[MemberId, ...]:
        """All ids, observers too."""
        return tuple(seat.id for seat in self.seats)

    def seat(self, member: MemberId) -> Seat | None:
        """The seat of a member, if it has one."""
        return next((seat for seat in self.seats if seat.id == member), None)


def encode_configuration(configuration: Configuration) -> bytes:
    """What a `CONFIGURATION` entry holds."""
    return msgspec.msgpack.encode(configuration)


def configuration_of(entry: Entry) -> Configuration:
    """The configuration in a `CONFIGURATION` entry. Raises `msgspec.DecodeError` if it is none."""
    return msgspec.structs.replace(_configurations.decode(entry.data), index=entry.index)


_configurations: Final = msgspec.msgpack.Decoder(Configuration)


class HardState(Struct, frozen=True):
    """Term and vote; durable before anything that they promise is said (P4.8)."""

    term: ConsensusTerm
    vote: MemberId | None


class Image(Struct, frozen=True):
    """The state machine's bytes at some index, in pieces that may be cut anywhere: large ones are never joined.

    `crc` is that of all bytes: equal at equal index on every member (S11), so a transfer goes on where another stopped.
    """

    pieces: tuple[bytes, ...]
    size: int
    crc: int

    @classmethod
    def of(cls, pieces: Iterable[bytes]) -> "Image":
        """From its pieces."""
        held = tuple(pieces)
        size = crc = 0
        for piece in held:
            size += len(piece)
            crc = crc32(piece, crc)
        return cls(held, size, crc)


class Snapshot(Struct, frozen=True):
    """The state machine at `index`, with what the consensus core needs to go on from there."""

    index: LogIndex
    term: ConsensusTerm
    configuration: Configuration
    feature: int
    image: Image


class Restored(Struct, frozen=True):
    """What the store found when it was opened: where the core starts.

    `configuration` is the one below the entries: the snapshot's, or the one of the founding; later ones stand in the
    entries. `batch` is the number of the last durable batch (0: none). `clean` says that the last stop was marked clean
    (P1.3). `entries` are consecutive and follow `snapshot.index` (or start at 1 without a snapshot) or at any index ≤
    `snapshot.index + 1` (a kept tail). `known_batches` holds the highest batch number that others' disks are known to
    have reached.
    """

    hard_state: HardState
    configuration: Configuration
    feature: int
    snapshot: Snapshot | None
    entries: tuple[Entry, ...]
    batch: BatchNumber
    clean: bool
    known_batches: dict[MemberId, BatchNumber]
