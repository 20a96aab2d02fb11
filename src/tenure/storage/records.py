"""The rows that carry their own proof: head, batches, entries, snapshot, identity, and their CRCs.

The head is one row on a page of its own (page 3, fixed when the store is made), written by every transaction. It is
text with a marker in front, so that the walk over the `-wal` can read it from a bare page, and a person from
anywhere.
"""

from struct import Struct as Layout
from typing import Final
from zlib import crc32

import msgspec
from msgspec import Struct

from tenure.base.ids import BatchNumber, ConsensusTerm, LogIndex, MemberId, Nonce
from tenure.raft.entries import Configuration, Entry, Snapshot
from tenure.raft.founding import Record, State

format_newest: Final = 1
head_page: Final = 3
_HEAD_MARK: Final = b"tenure-head "
_HEAD_FIXED: Final = len(_HEAD_MARK) + 8 + 1 + 6 + 1
_ENTRY: Final = Layout("<QQB")


class BatchRecord(Struct, frozen=True):
    """The state after a batch; each batch's row is one, chained to the one before by `before` (P1.3).

    Entries `first` to `last` are held (none: `last == first - 1`). Their CRCs are chained too: `base_crc` is the CRC in
    front of `first`, `last_crc` that of `last`. `snapshot` is (index, CRC).
    """

    number: BatchNumber
    before: int
    term: ConsensusTerm
    vote: MemberId | None
    first: LogIndex
    last: LogIndex
    base_crc: int
    last_crc: int
    snapshot: tuple[LogIndex, int] | None
    known: dict[MemberId, BatchNumber]


class Head(Struct, frozen=True):
    """`writes` counts every transaction, vacuum and founding too; `chain` is the CRC of `record`."""

    writes: int
    chain: int
    record: BatchRecord


class StoredIdentity(Struct, frozen=True):
    """Who this directory is (P1.1), and how far its founding came (P1.2). `lineage` is empty until it is sealed."""

    member: MemberId
    name: str
    lineage: tuple[Nonce, ...] = ()
    founding: State = "empty"
    record: Record | None = None
    format: int = format_newest


empty_record: Final = BatchRecord(
    number=BatchNumber(0),
    before=0,
    term=ConsensusTerm(0),
    vote=None,
    first=LogIndex(1),
    last=LogIndex(0),
    base_crc=0,
    last_crc=0,
    snapshot=None,
    known={},
)

_json: Final = msgspec.json.Encoder()
_record_decoder: Final = msgspec.json.Decoder(BatchRecord)
_identity_decoder: Final = msgspec.json.Decoder(StoredIdentity)
_configuration_decoder: Final = msgspec.json.Decoder(Configuration)


def entry_crc(entry: Entry, before: int) -> int:
    """CRC of an entry on top of the one before it."""
    return crc32(entry.data, crc32(_ENTRY.pack(entry.index, entry.term, entry.kind), before))


def encode_record(record: BatchRecord) -> bytes:
    """The text of a batch's row; its chain value is `crc32` of just this."""
    return _json.encode(record)


def decode_record(data: bytes) -> BatchRecord:
    """The other way; raises `msgspec.MsgspecError`."""
    return _record_decoder.decode(data)


def encode_head(writes: int, record: bytes) -> str:
    """The head's text: marker, CRC, length, then the count of writes and the record."""
    body = b"%d %s" % (writes, record)
    return (b"%s%08x %06d %s" % (_HEAD_MARK, crc32(body), len(body), body)).decode()


def find_head(page: bytes) -> Head | None:
    """The head that lies somewhere in `page`, or None if there is none that is whole."""
    start = page.find(_HEAD_MARK)
    if start < 0:
        return None
    fixed = page[start + len(_HEAD_MARK) : start + _HEAD_FIXED]
    try:
        crc, length = int(fixed[:8], 16), int(fixed[9:15])
        body = page[start + _HEAD_FIXED : start + _HEAD_FIXED + length]
        if crc32(body) != crc or len(body) != length:
            return None
        writes, _, record = body.partition(b" ")
        return Head(int(writes), crc32(record), decode_record(record))
    except (ValueError, msgspec.MsgspecError):
        return None


def snapshot_crc(snapshot: Snapshot, rows: tuple[int, int], configuration: bytes) -> int:
    """CRC over all of a snapshot's row, and so over its pieces, whose own CRC stands in it."""
    image = snapshot.image
    said = (snapshot.index, snapshot.term, snapshot.feature, *rows, image.size, image.crc)
    return crc32(b"%d %d %d %d %d %d %d %s" % (*said, configuration))


def encode_configuration(configuration: Configuration) -> bytes:
    """As text."""
    return _json.encode(configuration)


def decode_configuration(data: bytes) -> Configuration:
    """The other way; raises `msgspec.MsgspecError`."""
    return _configuration_decoder.decode(data)


def encode_identity(identity: StoredIdentity) -> bytes:
    """As text."""
    return _json.encode(identity)


def decode_identity(data: bytes) -> StoredIdentity:
    """The other way; raises `msgspec.MsgspecError`."""
    return _identity_decoder.decode(data)
