"""The store of one member: one durable transaction per batch, checked in full when it is opened."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal
from zlib import crc32

import apsw
import msgspec
from msgspec import Struct

from tenure.base.ids import BatchNumber, LogIndex, MemberId, Nonce
from tenure.raft.entries import Configuration, HardState, Restored, Snapshot
from tenure.raft.founding import Record, State
from tenure.raft.ready import Batch
from tenure.storage import database
from tenure.storage.appending import put_entries
from tenure.storage.database import Loaded, of_apsw
from tenure.storage.errors import Corrupt, DiskFailed, NoSpace, StorageError
from tenure.storage.folder import Folder, Mark, naming
from tenure.storage.pieces import Range
from tenure.storage.records import (
    BatchRecord,
    StoredIdentity,
    encode_configuration,
    encode_head,
    encode_identity,
    encode_record,
    snapshot_crc,
)
from tenure.storage.wal import Walk, page_bytes, walk

checkpoint_frames: Final = 1000
"""Frames in the `-wal` from which `tidy` moves them into the database."""
leftovers_per_tidy: Final = 2000
vacuum_pages_per_tidy: Final = 256
free_pages_kept: Final = 256
"""Free pages up to this (or a quarter of the file, if that is more) stay for the next entries."""

_DROP_BELOW: Final = "DELETE FROM entries WHERE idx < ?"
_PUT_SNAPSHOT: Final = (
    "INSERT OR REPLACE INTO snapshot(id, idx, term, configuration, feature, first, behind, size, image_crc, crc) "
    "VALUES(1, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PUT_BATCH: Final = "INSERT INTO batches(number, chain, record) VALUES(?, ?, ?)"


class Opened(Struct, frozen=True):
    """A store that is open. `created`: the directory was empty, so the member has a new id (P1.1). `notes` tell in
    words what was found and put right, such as a torn last transaction.
    """

    store: "Store"
    identity: StoredIdentity
    created: bool
    clean: bool
    notes: tuple[str, ...]


class Store:
    """Durable state of one member. Not safe from two threads at once; after `DiskFailed` it refuses everything."""

    def __init__(self, folder: Folder, connection: apsw.Connection, loaded: Loaded, clean: bool) -> None:
        self._folder = folder
        self._connection = connection
        self._record = loaded.head.record
        self._chain = loaded.head.chain
        self._writes = loaded.head.writes
        self._lowest = loaded.lowest
        self._oldest_batch = loaded.oldest_batch
        self._pieces = loaded.pieces
        self._image_pages = loaded.snapshot.image.size // page_bytes if loaded.snapshot is not None else 0
        self._identity = loaded.identity
        self._loaded: Loaded | None = loaded
        self._clean = clean
        self._failed: StorageError | None = None
        self._closed = False
        self._frames = 0
        self._vacuum_due = False
        connection.set_wal_hook(self._count_frames)

    @staticmethod
    def open(
        directory: Path,
        name: str,
        *,
        draw: Callable[[], str] = lambda: secrets.token_hex(8),
        vfs: str | None = None,
    ) -> Opened:
        """Open or make the store in `directory`. `draw` gives 16 hex digits for a new member's id (P1.1).

        Raises `Corrupt`, `Foreign`, `Newer`, `Locked`, `NoSpace`, `DiskFailed`; nothing is changed before the check
        is done.
        """
        folder = Folder(directory)
        folder.lock()
        try:
            created = folder.is_unmade()
            if created:
                _make(folder, StoredIdentity(MemberId(draw()), name), vfs)
            return _open(folder, name, created, vfs)
        except BaseException:
            folder.unlock()
            raise

    @property
    def identity(self) -> StoredIdentity:
        """As it is stored now."""
        return self._identity

    @property
    def batch(self) -> BatchNumber:
        """Number of the last durable batch."""
        return self._record.number

    def restored(self) -> Restored:
        """What was found at open. Once, before the first write: the entries are not kept here."""
        loaded, self._loaded = self._loaded, None
        assert loaded is not None, "restored() once, and before the first write"
        founded, snapshot = loaded.identity.record, loaded.snapshot
        configuration = founded.configuration if founded is not None else Configuration(LogIndex(0), ())
        if snapshot is not None:
            configuration = snapshot.configuration
        record = loaded.head.record
        return Restored(
            hard_state=HardState(record.term, record.vote),
            configuration=configuration,
            feature=snapshot.feature if snapshot is not None else 1,
            snapshot=snapshot,
            entries=loaded.entries,
            batch=record.number,
            clean=self._clean,
            known_batches=dict(record.known),
        )

    # --- writing ----------------------------------------------------------------------------------------------------

    def write(self, batch: Batch) -> None:
        """One batch, one transaction, durable on return. `NoSpace`: nothing was written, it may be tried again."""
        record = self._record
        assert batch.number == record.number + 1, f"batch {batch.number} after {record.number}"
        self._loaded = None
        self._begin()
        try:
            record, rows = self._put_snapshot(record, batch.snapshot, batch.install)
            record = self._cut(record, batch.compact_to, batch.truncate_from)
            last, last_crc = put_entries(self._connection, record, batch.entries)
            hard_state = batch.hard_state
            record = BatchRecord(
                number=batch.number,
                before=self._chain,
                term=hard_state.term if hard_state is not None else record.term,
                vote=hard_state.vote if hard_state is not None else record.vote,
                first=record.first,
                last=last,
                base_crc=record.base_crc,
                last_crc=last_crc,
                snapshot=record.snapshot,
                known=batch.known_batches if batch.known_batches is not None else record.known,
            )
            text = encode_record(record)
            chain = crc32(text)
            self._connection.execute(_PUT_BATCH, (batch.number, chain, text.decode()))
            self._commit(text)
        except (apsw.Error, StorageError) as error:
            raise self._give_up(error) from error
        self._record, self._chain = record, chain
        if batch.install:
            self._lowest = record.first
        if batch.snapshot is not None:
            self._pieces.counts(rows)
            self._image_pages = batch.snapshot.image.size // page_bytes
            self._vacuum_due = True

    def stage(self, number: int, data: bytes) -> bool:
        """Piece `number` of the next snapshot's image, durable on return; the batch with that snapshot finds it here.

        0 begins an image, and ends one that was begun before. False: what it belongs to was ended by another snapshot.
        `NoSpace`: nothing was written.
        """
        if not self._pieces.takes(number):
            return False
        self._begin()
        try:
            self._pieces.stage(self._connection, number, data)
            self._commit(encode_record(self._record))
        except (apsw.Error, StorageError) as error:
            raise self._give_up(error) from error
        self._pieces.staged(data)
        return True

    def set_founding(self, state: State, record: Record | None, lineage: tuple[Nonce, ...] = ()) -> None:
        """Durable on return (P1.2). Sealing begins the lineage with the record's nonce (P1.1), unless it is given."""
        if not lineage and state == "sealed" and record is not None:
            lineage = (record.lineage,)
        identity = msgspec.structs.replace(self._identity, founding=state, record=record, lineage=lineage)
        text = encode_identity(identity)
        self._begin()
        try:
            self._connection.execute(database.set_identity, (text.decode(), crc32(text)))
            self._commit(encode_record(self._record))
        except apsw.Error as error:
            raise self._give_up(error) from error
        self._identity = identity
        if self._loaded is not None:
            self._loaded = msgspec.structs.replace(self._loaded, identity=identity)

    def _put_snapshot(self, record: BatchRecord, snapshot: Snapshot | None, install: bool) -> tuple[BatchRecord, Range]:
        if snapshot is None:
            assert not install
            return record, (0, 0)
        text, image = encode_configuration(snapshot.configuration), snapshot.image
        rows = self._pieces.place(self._connection, image)
        crc = snapshot_crc(snapshot, rows, text)
        row = (snapshot.index, snapshot.term, text.decode(), snapshot.feature, *rows, image.size, image.crc, crc)
        self._connection.execute(_PUT_SNAPSHOT, row)
        if not install:
            return msgspec.structs.replace(record, snapshot=(snapshot.index, crc)), rows
        self._connection.execute("DELETE FROM entries")
        installed = msgspec.structs.replace(
            record,
            snapshot=(snapshot.index, crc),
            first=LogIndex(snapshot.index + 1),
            last=snapshot.index,
            base_crc=0,
            last_crc=0,
        )
        return installed, rows

    def _cut(self, record: BatchRecord, below: LogIndex | None, start: LogIndex | None) -> BatchRecord:
        """Compaction moves `first` (the rows go later, in `tidy`); truncation deletes at once."""
        if below is not None and below > record.first:
            assert below <= record.last + 1, f"compaction to {below} behind the last entry {record.last}"
            crc = self._crc_of(record, LogIndex(below - 1))
            record = msgspec.structs.replace(record, first=below, base_crc=crc)
        if start is not None and start <= record.last:
            assert start >= record.first, f"truncation from {start} below the first entry {record.first}"
            crc = self._crc_of(record, LogIndex(start - 1))
            self._connection.execute("DELETE FROM entries WHERE idx >= ?", (start,))
            record = msgspec.structs.replace(record, last=LogIndex(start - 1), last_crc=crc)
        return record

    def _crc_of(self, record: BatchRecord, index: LogIndex) -> int:
        """CRC of the entry at `index`, from `first - 1` to `last`."""
        if index == record.last:
            return record.last_crc
        if index == record.first - 1:
            return record.base_crc
        crc = self._connection.execute("SELECT crc FROM entries WHERE idx = ?", (index,)).get
        if not isinstance(crc, int):
            raise Corrupt(self._folder.database, f"entry {index} is missing")
        return crc

    def _begin(self) -> None:
        assert not self._closed
        if self._failed is not None:
            raise self._failed
        self._connection.execute("BEGIN IMMEDIATE")

    def _commit(self, record: bytes) -> None:
        """Every transaction writes the head: the walk over the `-wal` counts on it."""
        self._connection.execute(database.set_head, (encode_head(self._writes + 1, record),))
        self._connection.execute("COMMIT")
        self._writes += 1

    def _give_up(self, error: Exception) -> StorageError:
        """NoSpace leaves the store as it was before; everything else ends it (DESIGN 5: EIO is never retried)."""
        if isinstance(error, StorageError):
            failure = error
        else:
            failure = of_apsw(self._folder.database, error, self._connection.system_errno)
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error as second:
            failure = DiskFailed(self._folder.database, f"{error}; then the rollback failed: {second}")
        if not isinstance(failure, NoSpace):
            self._failed = failure
        return failure

    # --- housekeeping -----------------------------------------------------------------------------------------------

    def _count_frames(self, _: apsw.Connection, __: str, frames: int) -> int:
        self._frames = frames
        return apsw.SQLITE_OK

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether enough frames stand in the `-wal` that the next `tidy` moves them into the database."""
        return self._frames >= checkpoint_frames

    def tidy(self) -> bool:
        """A bounded piece of housekeeping between batches: checkpoint, leftovers, vacuum. True if more is waiting."""
        try:
            if self.is_checkpoint_due:
                self.checkpoint("PASSIVE")
                return True
            if self._lowest < self._record.first:
                below = min(self._lowest + leftovers_per_tidy, self._record.first)
                self._housekeep(_DROP_BELOW, below)
                self._lowest = LogIndex(below)
                self._vacuum_due = True
                return True
            leftovers = self._pieces.leftovers()
            if leftovers is not None:
                self._housekeep(*leftovers)
                self._pieces.dropped(*leftovers)
                self._vacuum_due = True
                return True
            if self._record.number - self._oldest_batch >= 2 * database.batches_kept:
                oldest = self._record.number - database.batches_kept + 1
                self._housekeep("DELETE FROM batches WHERE number < ?", oldest)
                self._oldest_batch = BatchNumber(oldest)
                return True
            if self._vacuum_due:
                self._vacuum_due = self._vacuum()
                return self._vacuum_due
        except apsw.Error as error:
            failure = self._give_up(error)
            if not isinstance(failure, NoSpace):  # without space the next batch says so; nothing is lost by waiting
                raise failure from error
        return False

    def _housekeep(self, statement: str, below: int) -> None:
        self._begin()
        self._connection.execute(statement, (below,))
        self._commit(encode_record(self._record))

    def _vacuum(self) -> bool:
        """Give free pages back to the file system, a few at a time, beyond what the next entries, and the next
        snapshot beside the present one, will take.
        """
        free, pages = int(self._pragma("freelist_count")), int(self._pragma("page_count"))
        spare = free - max(free_pages_kept, pages // 4, self._image_pages + self._image_pages // 8)
        if spare <= 0:
            return False
        self._begin()
        self._connection.execute(f"PRAGMA incremental_vacuum({min(spare, vacuum_pages_per_tidy)})").fetchall()
        self._commit(encode_record(self._record))
        return True

    def _pragma(self, name: str) -> int:
        value = self._connection.pragma(name)
        assert isinstance(value, int)
        return value

    def checkpoint(self, mode: Literal["PASSIVE", "RESTART", "TRUNCATE"]) -> None:
        """Move frames into the database: `RESTART` starts a new round of the `-wal`, `TRUNCATE` empties it."""
        self._connection.wal_checkpoint(mode=getattr(apsw, f"SQLITE_CHECKPOINT_{mode}"))
        self._frames = 0

    def close(self, clean: bool) -> None:
        """Close. `clean` writes the clean-shutdown mark and empties the `-wal`, unless the store has failed."""
        if self._closed:
            return
        self._closed = True
        try:
            if clean and self._failed is None:
                self.checkpoint("RESTART")  # all of it in the database, and still in the `-wal` …
                self._folder.write_mark(Mark(self._identity.member, self._writes, self._record.number, self._chain))
                self.checkpoint("TRUNCATE")  # … so that whoever is interrupted between these leaves no damage behind
        except apsw.Error as error:
            raise self._give_up(error) from error
        finally:
            self._connection.close()
            self._folder.unlock()


# --- opening ----------------------------------------------------------------------------------------------------------


def _make(folder: Folder, identity: StoredIdentity, vfs: str | None) -> None:
    """Under another name until it is whole; the mark first, so that the renamed store opens as a cleanly closed one."""
    folder.clear_unmade()
    with naming(folder.new):  # the owner's alone; SQLite gives its other files the same mode
        os.close(os.open(folder.new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    head = database.make(folder.new, identity, vfs)
    folder.write_mark(Mark(identity.member, head.writes, head.record.number, head.chain))
    with naming(folder.database):
        folder.new.rename(folder.database)
    folder.sync()


def _open(folder: Folder, name: str, created: bool, vfs: str | None) -> Opened:
    notes: list[str] = []
    mark = folder.read_mark()
    found = _walk(folder, mark)
    if found.torn is not None:
        notes.append(f"{folder.wal}: {found.torn}")
    if mark is not None:
        folder.stretch_wal()
    try:
        connection = database.connect(folder.database, vfs)
    except apsw.Error as error:
        raise of_apsw(folder.database, error) from error
    try:
        loaded = database.load(connection, folder.database)
        _compare(folder, loaded, found, mark)
        store = Store(folder, connection, loaded, clean=mark is not None)
        # What a torn transaction left must not lie behind new frames of the same salts: start a new round.
        store.checkpoint("RESTART")
        if mark is None:
            notes.append("the last stop was not clean")
        else:
            folder.remove_mark()
    except BaseException as error:
        connection.close()
        if isinstance(error, apsw.Error):
            raise of_apsw(folder.database, error) from error
        raise
    if loaded.identity.name != name:
        notes.append(f"this member was made as {loaded.identity.name!r} and keeps that name, not {name!r}")
    return Opened(store, loaded.identity, created, mark is not None, tuple(notes))


def _walk(folder: Folder, mark: Mark | None) -> Walk:
    """A clean stop that was interrupted behind its mark leaves a `-wal` that ends just where the mark says."""
    data = folder.read_wal(mark is not None)
    with naming(folder.database):
        below = database.writes_of(folder.database)
    found = walk(data, folder.wal, below)
    if mark is not None and data.strip(b"\0") and (found.torn is not None or found.writes != mark.writes):
        raise Corrupt(folder.wal, "neither empty nor what the clean-shutdown mark speaks of")
    return found


def _compare(folder: Folder, loaded: Loaded, found: Walk, mark: Mark | None) -> None:
    """What SQLite gives must be what the walk saw, and what the mark says."""
    head = loaded.head
    if found.writes is not None and head.writes != found.writes:
        raise Corrupt(folder.database, f"write {head.writes} is the last, the -wal's last whole one is {found.writes}")
    is_marked = mark is None or mark == Mark(loaded.identity.member, head.writes, head.record.number, head.chain)
    if not is_marked:
        raise Corrupt(folder.database, "not the store that was closed cleanly, says the clean-shutdown mark")
