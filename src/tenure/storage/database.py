"""The SQLite side: schema, how a connection is set up, how its errors become ours, and the full check at open.

- head: one row, on page 3: the state after the last batch, written by every transaction
- batches: one row per batch, chained by CRC; the newest few thousand are kept
- entries: the log; each row's CRC covers the one before it. Rows below the head's `first` are leftovers
- snapshot: at most one row; it names the rows of `pieces` that hold its bytes
- pieces: bytes of snapshots (`pieces`)
- identity: one row
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from zlib import crc32

import apsw
import msgspec
from msgspec import Struct

from tenure.base.ids import BatchNumber, ConsensusTerm, LogIndex
from tenure.raft.entries import Entry, Image, Snapshot
from tenure.storage.errors import Corrupt, DiskFailed, Foreign, Locked, Newer, NoSpace, StorageError
from tenure.storage.pieces import Pieces, Range
from tenure.storage.records import (
    Head,
    StoredIdentity,
    decode_configuration,
    decode_identity,
    decode_record,
    empty_record,
    encode_head,
    encode_identity,
    encode_record,
    entry_crc,
    find_head,
    format_newest,
    head_page,
    snapshot_crc,
)
from tenure.storage.wal import page_bytes, wal_bytes

application_id: Final = int.from_bytes(b"TENU")
batches_kept: Final = 4096
"""At least as many of the newest batch rows stay; at most twice as many before the older ones go."""
_TABLES: Final = {
    "head": "CREATE TABLE head(id INTEGER PRIMARY KEY CHECK(id = 1), text TEXT NOT NULL)",
    "batches": "CREATE TABLE batches(number INTEGER PRIMARY KEY, chain INTEGER NOT NULL, record TEXT NOT NULL)",
    "entries": (
        "CREATE TABLE entries(idx INTEGER PRIMARY KEY, term INTEGER NOT NULL, kind INTEGER NOT NULL, "
        "data BLOB NOT NULL, crc INTEGER NOT NULL)"
    ),
    "snapshot": (
        "CREATE TABLE snapshot(id INTEGER PRIMARY KEY CHECK(id = 1), idx INTEGER NOT NULL, term INTEGER NOT NULL, "
        "configuration TEXT NOT NULL, feature INTEGER NOT NULL, first INTEGER NOT NULL, behind INTEGER NOT NULL, "
        "size INTEGER NOT NULL, image_crc INTEGER NOT NULL, crc INTEGER NOT NULL)"
    ),
    "pieces": "CREATE TABLE pieces(number INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "identity": (
        "CREATE TABLE identity(id INTEGER PRIMARY KEY CHECK(id = 1), text TEXT NOT NULL, crc INTEGER NOT NULL)"
    ),
}
set_head: Final = "UPDATE head SET text = ? WHERE id = 1"
set_identity: Final = "INSERT OR REPLACE INTO identity(id, text, crc) VALUES(1, ?, ?)"


class Loaded(Struct, frozen=True):
    """Everything that a store holds, checked."""

    head: Head
    identity: StoredIdentity
    snapshot: Snapshot | None
    entries: tuple[Entry, ...]
    lowest: LogIndex
    """First index with a row, leftovers included; `head.record.first` if there are none."""
    oldest_batch: BatchNumber
    pieces: Pieces


def of_apsw(file: Path, error: Exception, system_errno: int = 0) -> StorageError:
    """The typed error for one of SQLite's, while a store is running."""
    if isinstance(error, apsw.FullError) or system_errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(file)
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return Locked(file, "another program that has the database open")
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return Corrupt(file, f"SQLite says: {error}")
    return DiskFailed(file, f"{type(error).__name__}: {error}{_detail(error, system_errno)}")


def _detail(error: Exception, system_errno: int) -> str:
    """Which operation it was, and what the kernel said: `disk I/O error` alone says neither."""
    code = apsw.mapping_extended_result_codes.get(getattr(error, "extendedresult", 0))
    said = f"errno {system_errno}, {os.strerror(system_errno)}" if system_errno else None
    found = [str(each) for each in (code, said) if each is not None]
    return f" ({'; '.join(found)})" if found else ""


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """While a store is being checked, whatever can't be read as it was written is damage."""
    try:
        yield
    except (apsw.BusyError, apsw.LockedError, apsw.IOError, apsw.FullError, apsw.CantOpenError) as error:
        raise of_apsw(file, error) from error
    except apsw.Error as error:
        raise Corrupt(file, f"SQLite says: {type(error).__name__}: {error}") from error
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError) as error:
        raise Corrupt(file, f"a row can't be read: {error}") from error


def connect(file: Path, vfs: str | None) -> apsw.Connection:
    """Open without changing anything. Exclusive: no `-shm`, and nobody else can write, or delete the `-wal` by closing.

    No checkpoint at close: a store that was found damaged stays as it is, and only a clean stop empties the `-wal`.
    No spilling: frames reach the `-wal` only as part of a commit, which the walk relies on.
    """
    connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, vfs=vfs)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    for pragma in (
        "locking_mode = EXCLUSIVE",
        "synchronous = FULL",
        "cache_spill = OFF",
        "wal_autocheckpoint = 0",
        f"journal_size_limit = {wal_bytes}",
        "cell_size_check = ON",
        "temp_store = MEMORY",
    ):
        connection.pragma(*pragma.split(" = "))
    return connection


def make(file: Path, identity: StoredIdentity, vfs: str | None) -> Head:
    """Make a whole store at `file`, durable and closed when this returns."""
    connection = apsw.Connection(str(file), vfs=vfs)
    try:
        connection.pragma("page_size", page_bytes)
        connection.pragma("auto_vacuum", 2)  # incremental; can't be switched on later
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        record = encode_record(empty_record)
        text = encode_identity(identity)
        with connection:
            connection.pragma("application_id", application_id)
            connection.pragma("user_version", format_newest)
            for statement in _TABLES.values():
                connection.execute(statement)
            connection.execute("INSERT INTO head(id, text) VALUES(1, ?)", (encode_head(0, record),))
            connection.execute(set_identity, (text.decode(), crc32(text)))
        assert connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'head'").get == head_page
        return Head(0, crc32(record), empty_record)
    except apsw.Error as error:
        raise of_apsw(file, error) from error
    finally:
        connection.close()


def writes_of(file: Path) -> int | None:
    """The count of writes in the database file itself, without SQLite; None if its head page is not whole."""
    with open(file, "rb") as database:
        database.seek((head_page - 1) * page_bytes)
        head = find_head(database.read(page_bytes))
    return head.writes if head is not None else None


def load(connection: apsw.Connection, file: Path) -> Loaded:
    """Read and check everything; `Corrupt`, `Foreign` or `Newer` if it isn't as it was written."""
    with reading(file):
        if connection.pragma("application_id") != application_id:
            raise Foreign(file, "an SQLite database, but not a store of Tenure's")
        identity = _identity(connection, file)
        if connection.pragma("journal_mode") != "wal":
            raise Corrupt(file, "its journal mode is no longer `wal`")
        damage = connection.pragma("quick_check", 1)
        if damage != "ok":
            raise Corrupt(file, f"SQLite's check says: {damage}")
        schema = dict(connection.execute("SELECT name, sql FROM sqlite_schema"))
        if schema != _TABLES:
            raise Corrupt(file, "the schema is not the one that was made")
        (text,) = _only(connection, file, "SELECT text FROM head")
        head = find_head(str(text).encode())
        if head is None:
            raise Corrupt(file, "the head row does not match its CRC")
        oldest = _batches(connection, file, head)
        snapshot, counted = _snapshot(connection, file, head)
        lowest, entries = _entries(connection, file, head)
        return Loaded(head, identity, snapshot, entries, lowest, oldest, _pieces(connection, counted))


def _only(connection: apsw.Connection, file: Path, query: str) -> "tuple[apsw.SQLiteValue, ...]":
    rows = connection.execute(query).fetchall()
    if len(rows) != 1:
        raise Corrupt(file, f"{len(rows)} rows instead of one for `{query}`")
    return tuple(rows[0])


def _identity(connection: apsw.Connection, file: Path) -> StoredIdentity:
    version = int(connection.pragma("user_version"))
    if version > format_newest:
        raise Newer(file, version, format_newest)
    text, crc = _only(connection, file, "SELECT text, crc FROM identity")
    data = str(text).encode()
    if crc32(data) != crc:
        raise Corrupt(file, "the identity does not match its CRC")
    identity = decode_identity(data)
    if identity.format != version:
        raise Corrupt(file, f"format {version} in the database's header, {identity.format} in its identity")
    return identity


def _batches(connection: apsw.Connection, file: Path, head: Head) -> BatchNumber:
    """The chain of batch rows: numbers without a gap, each on top of the one before, the last one is the head's."""
    last, number, before = None, None, None
    for number_found, chain, text in connection.execute("SELECT number, chain, record FROM batches ORDER BY number"):
        data = str(text).encode()
        record = decode_record(data)
        if crc32(data) != chain or record.number != number_found:
            raise Corrupt(file, f"batch {number_found} does not match its CRC")
        if number is not None and number_found != number + 1:
            raise Corrupt(file, f"batches {number + 1} to {number_found - 1} are missing")
        if before is not None and record.before != before:
            raise Corrupt(file, f"batch {number_found} does not follow batch {number}: the chain of CRCs is broken")
        last = last if last is not None else number_found
        number, before = number_found, chain
    newest = head.record.number
    if (number or 0) != newest or (number is not None and before != head.chain):
        raise Corrupt(file, f"the head says batch {newest}, the last one found is {number or 0} or not the same")
    oldest = int(last or newest)
    if newest and oldest > max(1, newest - batches_kept + 1):
        raise Corrupt(file, f"batches before {oldest} are missing")
    return BatchNumber(oldest)


def _snapshot(connection: apsw.Connection, file: Path, head: Head) -> tuple[Snapshot | None, Range]:
    query = "SELECT idx, term, configuration, feature, first, behind, size, image_crc, crc FROM snapshot"
    rows = connection.execute(query).fetchall()
    if head.record.snapshot is None:
        if rows:
            raise Corrupt(file, "a snapshot of which the head knows nothing")
        return None, (0, 0)
    if len(rows) != 1:
        raise Corrupt(file, f"the snapshot at index {head.record.snapshot[0]} is missing")
    index, term, configuration, feature, first, behind, size, image_crc, crc = rows[0]
    text = str(configuration).encode()
    if not (
        isinstance(index, int) and isinstance(term, int) and isinstance(feature, int)
        and isinstance(first, int) and isinstance(behind, int)
    ):  # fmt: skip
        raise Corrupt(file, "the snapshot's row is not as it was written")
    query = "SELECT data FROM pieces WHERE number >= ? AND number < ? ORDER BY number"
    image = Image.of(bytes(data) for (data,) in connection.execute(query, (first, behind)))
    found = Snapshot(LogIndex(index), ConsensusTerm(term), decode_configuration(text), feature, image)
    whole = (image.size, image.crc) == (size, image_crc)
    if not whole or snapshot_crc(found, (first, behind), text) != crc or (found.index, crc) != head.record.snapshot:
        raise Corrupt(file, f"the snapshot at index {index} does not match its CRC")
    return found, (first, behind)


def _pieces(connection: apsw.Connection, counted: Range) -> Pieces:
    lowest, highest = connection.execute("SELECT min(number), max(number) FROM pieces").fetchall()[0]
    if not isinstance(lowest, int) or not isinstance(highest, int):
        return Pieces(counted, *counted)
    return Pieces(counted, lowest, highest + 1)


def _entries(connection: apsw.Connection, file: Path, head: Head) -> tuple[LogIndex, tuple[Entry, ...]]:
    """The log from `first` to `last` without a gap, its CRCs chained from `base_crc` to `last_crc`."""
    record = head.record
    entries: list[Entry] = []
    expected, crc = record.first, record.base_crc
    query = "SELECT idx, term, kind, data, crc FROM entries WHERE idx >= ? ORDER BY idx"
    for index, term, kind, data, stored in connection.execute(query, (record.first,)):
        if index != expected:
            raise Corrupt(file, f"entries {expected} to {index - 1} are missing")
        entry = Entry(index, term, kind, data)
        crc = entry_crc(entry, crc)
        if crc != stored:
            raise Corrupt(file, f"entry {index} does not match its CRC")
        entries.append(entry)
        expected = LogIndex(expected + 1)
    if expected != record.last + 1:
        raise Corrupt(file, f"the log ends at entry {expected - 1}, the head says {record.last}")
    if crc != record.last_crc:
        raise Corrupt(file, f"the log's last CRC at entry {record.last} is not the head's")
    lowest = connection.execute("SELECT min(idx) FROM entries").get
    return LogIndex(lowest if isinstance(lowest, int) else record.first), tuple(entries)
