"""The disk fails or fills up while a member runs."""

import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest

from tenure.base.ids import BatchNumber, ConsensusTerm, LogIndex
from tenure.raft.entries import Image as Bytes
from tenure.raft.entries import Snapshot
from tenure.raft.ready import Batch
from tenure.storage import Corrupt, DiskFailed, DiskThread, NoSpace, Store
from tests.storage.histories import (
    CONFIGURED,
    FaultyDisk,
    Image,
    entries,
    full,
    opened,
    same,
    snapshot,
    states,
    sync_error,
)


@pytest.fixture
def disk(request: pytest.FixtureRequest) -> Iterator[FaultyDisk]:
    faulty = FaultyDisk(request.node.name)
    yield faulty
    faulty.unregister()


def batch(number: int, **more: object) -> Batch:
    return Batch(BatchNumber(number), entries=entries(number * 3 - 2, number * 3), **more)  # type: ignore[arg-type]


def test_every_batch_is_synced_once_before_it_returns(tmp_path: Path, disk: FaultyDisk) -> None:
    store = opened(tmp_path, vfs=disk.name).store
    store.write(batch(1))  # the first of a round syncs the header of the -wal too
    disk.faults.seen.clear()
    store.write(batch(2))
    operations = [operation for operation, file in disk.faults.seen if file.endswith("-wal")]
    assert operations.count("sync") == 1
    assert operations[-1] == "sync"
    assert all(file.endswith("-wal") for _, file in disk.faults.seen)
    store.close(clean=True)


def test_eio_on_sync_is_fatal_at_once_and_never_retried(tmp_path: Path, disk: FaultyDisk) -> None:
    store = opened(tmp_path, vfs=disk.name).store
    store.write(batch(1))
    disk.faults.rules.append(sync_error("-wal"))
    with pytest.raises(DiskFailed, match="check the disk"):
        store.write(batch(2))
    disk.faults.rules.clear()
    disk.faults.seen.clear()
    with pytest.raises(DiskFailed):
        store.write(batch(2))
    with pytest.raises(DiskFailed):
        store.set_founding("empty", None)
    store.close(clean=True)
    assert disk.faults.seen == [], "nothing is written any more"
    assert not (tmp_path / "clean-shutdown").exists()
    found = opened(tmp_path)
    assert found.store.restored().batch in {1, 2}, "nobody knows whether it is there; nobody was told that it is"
    found.store.close(clean=True)


def test_eio_while_frames_move_into_the_database_is_fatal_too(tmp_path: Path, disk: FaultyDisk) -> None:
    store = opened(tmp_path, vfs=disk.name).store
    disk.faults.rules.append(sync_error("tenure.db"))
    number = 0
    while not store.is_checkpoint_due:
        number += 1
        store.write(Batch(BatchNumber(number), entries=entries(number * 50 - 49, number * 50, size=1000)))
    with pytest.raises(DiskFailed):
        store.tidy()
    with pytest.raises(DiskFailed):
        store.write(batch(number + 1))
    store.close(clean=True)
    found = opened(tmp_path)
    assert found.store.restored().batch == number
    found.store.close(clean=True)


def test_without_space_nothing_of_the_batch_is_there_and_it_can_be_written_later(
    tmp_path: Path, disk: FaultyDisk
) -> None:
    store = opened(tmp_path, vfs=disk.name).store
    wanted = states([batch(1), batch(2, snapshot=snapshot(2)), batch(3)])
    store.write(batch(1))
    disk.faults.rules.append(full("-wal"))
    for _ in range(2):
        with pytest.raises(NoSpace, match="nothing was lost"):
            store.write(batch(2, snapshot=snapshot(2)))
    disk.faults.rules.clear()
    image = Image.of(tmp_path)
    store.write(batch(2, snapshot=snapshot(2)))
    store.write(batch(3))
    store.close(clean=False)
    found = opened(tmp_path)
    assert same(found.store.restored(), wanted[3])
    found.store.close(clean=True)
    image.lay_out(tmp_path / "crash in between")
    found = opened(tmp_path / "crash in between")
    assert same(found.store.restored(), wanted[1])
    found.store.close(clean=True)


def test_frames_of_a_failed_batch_that_lie_behind_are_no_damage(tmp_path: Path, disk: FaultyDisk) -> None:
    """No space in the middle of a large batch; small ones go on over its frames; then comes the crash."""
    store = opened(tmp_path, vfs=disk.name).store
    store.write(batch(1))
    left = 30

    def later(operation: str, file: str) -> Exception | None:
        nonlocal left
        left -= operation == "write" and file.endswith("-wal")
        return full("-wal")(operation, file) if left < 0 else None

    disk.faults.rules.append(later)
    with pytest.raises(NoSpace):
        store.write(batch(2, snapshot=snapshot(3, size=50_000), compact_to=LogIndex(4)))
    disk.faults.rules.clear()
    for number in (2, 3, 4):
        store.write(batch(number))
    store.close(clean=False)
    found = opened(tmp_path)
    assert found.store.restored().batch == 4
    found.store.close(clean=True)


def test_without_space_in_the_database_the_batches_still_go_to_the_wal(tmp_path: Path, disk: FaultyDisk) -> None:
    store = opened(tmp_path, vfs=disk.name).store
    disk.faults.rules.append(full("tenure.db"))
    for number in range(1, 61):
        store.write(Batch(BatchNumber(number), entries=entries(number * 50 - 49, number * 50, size=1000)))
        store.tidy()
    disk.faults.rules.clear()
    while store.tidy():
        pass
    store.close(clean=True)
    found = opened(tmp_path)
    assert found.store.restored().batch == 60
    found.store.close(clean=True)


def test_eio_while_opening_is_a_failed_disk_and_not_damage(tmp_path: Path, disk: FaultyDisk) -> None:
    store = opened(tmp_path).store
    store.write(batch(1))
    store.close(clean=False)
    disk.faults.rules.append(sync_error(""))
    with pytest.raises(DiskFailed):
        opened(tmp_path, vfs=disk.name)
    found = opened(tmp_path)
    assert found.store.restored().batch == 1
    found.store.close(clean=True)


def test_a_clean_stop_whose_mark_cannot_be_written_is_one_after_a_crash_and_no_damage(tmp_path: Path) -> None:
    store = opened(tmp_path).store
    store.write(batch(1))
    obstacle = tmp_path / "clean-shutdown.new"
    obstacle.mkdir()
    with pytest.raises(DiskFailed):
        store.close(clean=True)
    obstacle.rmdir()
    found = opened(tmp_path)
    assert not found.clean
    assert found.store.restored().batch == 1
    found.store.close(clean=True)


def test_a_clean_stop_without_space_for_the_database_is_one_after_a_crash_and_no_damage(
    tmp_path: Path, disk: FaultyDisk
) -> None:
    store = opened(tmp_path, vfs=disk.name).store
    store.write(batch(1))
    disk.faults.rules.append(full("tenure.db"))
    with pytest.raises(NoSpace):
        store.close(clean=True)
    found = opened(tmp_path)
    assert not found.clean
    assert found.store.restored().batch == 1
    found.store.close(clean=True)


# --- the thread

Event = tuple[int, int] | Exception


class Driver:
    """What the engine does with a disk thread."""

    def __init__(self, store: Store) -> None:
        self.events: Queue[Event] = Queue()
        self.threads: set[int] = set()
        self.disk = DiskThread(store, self._done, self._failed)
        self.disk.start()

    def _done(self, number: BatchNumber, sync_us: int) -> None:
        self.threads.add(threading.get_ident())
        self.events.put((number, sync_us))

    def _failed(self, error: Exception) -> None:
        self.events.put(error)

    def write(self, batch: Batch) -> Event:
        self.disk.submit(batch)
        return self.events.get(timeout=30)


def test_the_thread_writes_in_order_and_measures(tmp_path: Path) -> None:
    store = opened(tmp_path).store
    driver = Driver(store)
    for number in range(1, 30):
        event = driver.write(batch(number))
        assert isinstance(event, tuple)
        assert event[0] == number
        assert event[1] > 0
    assert driver.threads == {thread for thread in driver.threads if thread != threading.get_ident()}
    driver.disk.stop()
    store.close(clean=True)
    found = opened(tmp_path)
    assert found.store.restored().batch == 29
    found.store.close(clean=True)


def test_stop_lets_the_batch_in_flight_finish(tmp_path: Path) -> None:
    store = opened(tmp_path).store
    driver = Driver(store)
    driver.disk.submit(batch(1))
    driver.disk.stop()
    assert isinstance(driver.events.get_nowait(), tuple)
    store.close(clean=True)


def test_the_threads_failures_reach_the_member(tmp_path: Path, disk: FaultyDisk) -> None:
    store = opened(tmp_path, vfs=disk.name).store
    driver = Driver(store)
    assert isinstance(driver.write(batch(1)), tuple)
    disk.faults.rules.append(full("-wal"))
    assert isinstance(driver.write(batch(2)), NoSpace)
    disk.faults.rules.clear()
    assert isinstance(driver.write(batch(2)), tuple)
    disk.faults.rules.append(sync_error("-wal"))
    assert isinstance(driver.write(batch(3)), DiskFailed)
    driver.disk.stop()
    store.close(clean=True)


def test_a_mistake_of_ours_reaches_the_member_too(tmp_path: Path) -> None:
    store = opened(tmp_path).store
    driver = Driver(store)
    assert isinstance(driver.write(batch(7)), AssertionError)
    driver.disk.stop()
    store.close(clean=True)


def test_pieces_are_written_while_nothing_else_is_to_do(tmp_path: Path) -> None:
    store = opened(tmp_path).store
    driver = Driver(store)
    staged: Queue[bool] = Queue()
    pieces = (b"one", b"two")
    for number, piece in enumerate(pieces):
        driver.disk.stage(number, piece, staged.put)
        assert staged.get(timeout=30)
    whole = Snapshot(LogIndex(1), ConsensusTerm(1), CONFIGURED, 1, Bytes.of(pieces))
    assert isinstance(driver.write(Batch(BatchNumber(1), snapshot=whole, install=True)), tuple)
    driver.disk.stop()
    store.close(clean=True)
    found = opened(tmp_path)
    assert found.store.restored().snapshot == whole
    found.store.close(clean=True)


def test_pieces_get_their_turn_where_batches_never_stop(tmp_path: Path) -> None:
    store = opened(tmp_path).store
    driver = Driver(store)
    staged: Queue[bool] = Queue()
    driver.disk.stage(0, b"x" * 1000, staged.put)
    number = 0
    while staged.empty():
        number += 1
        assert isinstance(driver.write(batch(number)), tuple)
        assert number < 100_000, "the piece waits for ever"
    driver.disk.stop()
    store.close(clean=True)


def test_a_piece_without_space_is_told_and_batches_go_on(tmp_path: Path, disk: FaultyDisk) -> None:
    store = opened(tmp_path, vfs=disk.name).store
    driver = Driver(store)
    staged: Queue[bool] = Queue()
    disk.faults.rules.append(full("-wal"))
    driver.disk.stage(0, b"x", staged.put)
    assert not staged.get(timeout=30)
    disk.faults.rules.clear()
    assert isinstance(driver.write(batch(1)), tuple)
    driver.disk.stop()
    store.close(clean=True)


def test_a_disk_that_fails_under_a_piece_is_a_failed_disk(tmp_path: Path, disk: FaultyDisk) -> None:
    store = opened(tmp_path, vfs=disk.name).store
    driver = Driver(store)
    disk.faults.rules.append(sync_error("-wal"))
    driver.disk.stage(0, b"x", lambda _: None)
    assert isinstance(driver.events.get(timeout=30), DiskFailed)
    driver.disk.stop()
    store.close(clean=True)


def test_a_failed_open_gives_the_lock_back(tmp_path: Path) -> None:
    opened(tmp_path).store.close(clean=False)
    (tmp_path / "tenure.db-wal").unlink()
    for _ in range(2):
        with pytest.raises(Corrupt):
            opened(tmp_path)
