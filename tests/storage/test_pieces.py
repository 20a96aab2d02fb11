"""Snapshots as rows: pieces staged ahead of their batch, left-overs, and what a crash in between leaves."""

import sqlite3
from pathlib import Path

import pytest

from tenure.base.ids import BatchNumber, ConsensusTerm, LogIndex
from tenure.raft.entries import Image, Restored, Snapshot
from tenure.raft.ready import Batch
from tenure.storage import Corrupt, NoSpace, Store
from tests.storage.histories import CONFIGURED, FaultyDisk, entries, full, opened

PIECES = tuple(bytes([number]) * 10_000 for number in range(5))


def snapshot(index: int, pieces: tuple[bytes, ...] = PIECES) -> Snapshot:
    return Snapshot(LogIndex(index), ConsensusTerm(1), CONFIGURED, 1, Image.of(pieces))


def stage(store: Store, pieces: tuple[bytes, ...] = PIECES) -> None:
    for number, piece in enumerate(pieces):
        store.stage(number, piece)


def restored(directory: Path) -> Restored:
    found = opened(directory)
    state = found.store.restored()
    found.store.close(clean=True)
    return state


def rows(directory: Path) -> list[tuple[int, bytes]]:
    """The pieces that a stopped store holds."""
    connection = sqlite3.connect(directory / "tenure.db")
    try:
        return connection.execute("SELECT number, substr(data, 1, 1) FROM pieces ORDER BY number").fetchall()
    finally:
        connection.close()


def tidied(store: Store) -> None:
    while store.tidy():
        pass
    store.close(clean=True)


def test_a_batch_finds_the_pieces_that_were_staged_for_it(tmp_path: Path) -> None:
    store = opened(tmp_path).store
    store.write(Batch(BatchNumber(1), entries=entries(1, 9)))
    stage(store)
    wal = (tmp_path / "tenure.db-wal").stat().st_size
    store.write(Batch(BatchNumber(2), snapshot=snapshot(5), compact_to=LogIndex(3), entries=entries(10, 11)))
    assert (tmp_path / "tenure.db-wal").stat().st_size - wal < 50_000, "the pieces were not written again"
    tidied(store)
    assert len(rows(tmp_path)) == len(PIECES)
    state = restored(tmp_path)
    assert state.snapshot == snapshot(5)
    assert [entry.index for entry in state.entries] == list(range(3, 12))


@pytest.mark.parametrize("clean", [True, False])
def test_pieces_without_their_batch_count_for_nothing_and_go(tmp_path: Path, clean: bool) -> None:
    store = opened(tmp_path).store
    store.write(Batch(BatchNumber(1), snapshot=snapshot(1, (b"old", b"er")), install=True))
    stage(store, PIECES[:3])
    store.close(clean=clean)
    found = opened(tmp_path)
    assert found.store.restored().snapshot == snapshot(1, (b"old", b"er"))
    tidied(found.store)
    assert [row[1] for row in rows(tmp_path)] == [b"o", b"e"]
    assert restored(tmp_path).snapshot == snapshot(1, (b"old", b"er"))


def test_an_image_that_is_begun_anew_takes_the_place_of_what_was_staged(tmp_path: Path) -> None:
    store = opened(tmp_path).store
    stage(store, PIECES[:3])
    stage(store, PIECES[3:])
    store.write(Batch(BatchNumber(1), snapshot=snapshot(4, PIECES[3:]), install=True))
    tidied(store)
    assert [row[1] for row in rows(tmp_path)] == [b"\3", b"\4"]
    assert restored(tmp_path).snapshot == snapshot(4, PIECES[3:])


def test_a_piece_that_comes_behind_an_install_belongs_to_nothing_any_more(tmp_path: Path) -> None:
    """It was on its way to the disk's thread when the batch with another snapshot came. (It ended the process.)"""
    store = opened(tmp_path).store
    assert store.stage(0, PIECES[0])
    store.write(Batch(BatchNumber(1), snapshot=snapshot(9, (b"abc", b"d")), install=True))
    assert not store.stage(1, PIECES[1]), "given up, and told so"
    assert store.stage(0, PIECES[0])
    assert store.stage(1, PIECES[1])
    assert not store.stage(3, PIECES[3])
    store.write(Batch(BatchNumber(2), snapshot=snapshot(12, PIECES[:2]), install=True))
    tidied(store)
    assert len(rows(tmp_path)) == 2
    assert restored(tmp_path).snapshot == snapshot(12, PIECES[:2])


def test_another_image_than_the_staged_one_is_written_as_a_whole(tmp_path: Path) -> None:
    """An install comes in between: the pieces are of something else, or fewer."""
    store = opened(tmp_path).store
    stage(store, PIECES[:3])
    store.write(Batch(BatchNumber(1), snapshot=snapshot(9, (b"abc", b"d")), install=True))
    stage(store)
    store.write(Batch(BatchNumber(2), snapshot=snapshot(12, (*PIECES[:4], b"other")), install=True))
    tidied(store)
    assert len(rows(tmp_path)) == 5
    assert restored(tmp_path).snapshot == snapshot(12, (*PIECES[:4], b"other"))


def test_older_pieces_go_and_space_stays_for_the_next_snapshot(tmp_path: Path) -> None:
    """Each snapshot is written beside the one before it; the file doesn't grow, nor is it cut and grown each time."""
    store = opened(tmp_path).store
    pieces = tuple(bytes([number]) * 100_000 for number in range(40))
    sizes = []
    for number in range(1, 7):
        stage(store, pieces)
        store.write(Batch(BatchNumber(number), snapshot=snapshot(number, pieces), install=True))
        while store.tidy():
            pass
        store.checkpoint("PASSIVE")
        sizes.append((tmp_path / "tenure.db").stat().st_size)
    store.close(clean=True)
    assert max(sizes) < 2.5 * 4_000_000
    assert len(set(sizes[2:])) == 1, sizes
    assert len(rows(tmp_path)) == 40


def test_without_space_for_a_piece_nothing_is_lost_and_the_store_goes_on(tmp_path: Path) -> None:
    disk = FaultyDisk("full-for-pieces")
    store = opened(tmp_path, vfs=disk.name).store
    store.write(Batch(BatchNumber(1), entries=entries(1, 3)))
    store.stage(0, PIECES[0])
    rule = full("-wal")
    disk.faults.rules.append(rule)
    with pytest.raises(NoSpace):
        store.stage(1, PIECES[1])
    disk.faults.rules.remove(rule)
    store.write(Batch(BatchNumber(2), entries=entries(4, 4)))
    stage(store)
    store.write(Batch(BatchNumber(3), snapshot=snapshot(3)))
    tidied(store)
    assert restored(tmp_path).snapshot == snapshot(3)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE pieces SET data = data WHERE number = 4",
        "DELETE FROM pieces WHERE number = 2",
        "UPDATE pieces SET data = (SELECT data FROM pieces WHERE number = 3) WHERE number = 4",
        "UPDATE snapshot SET first = 1",
    ],
)
def test_a_missing_or_changed_piece_is_found(tmp_path: Path, statement: str) -> None:
    store = opened(tmp_path).store
    stage(store)
    store.write(Batch(BatchNumber(1), snapshot=snapshot(3), install=True))
    store.close(clean=True)
    connection = sqlite3.connect(tmp_path / "tenure.db")
    connection.execute(statement)
    connection.commit()
    connection.close()
    if "= data WHERE" in statement:  # the same value again: what opening complains of below isn't the mere touch
        assert restored(tmp_path).snapshot == snapshot(3)
        return
    with pytest.raises(Corrupt, match="snapshot at index 3"):
        opened(tmp_path)
