"""The disk's own thread (P6.4): one batch at a time, its time measured, never an error into the void.

Pieces of a snapshot that is being taken are written in between: while no batch has come for a moment, or one at a time
every now and then where batches never stop. So a batch waits for one piece at the most, and seldom.
"""

import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import perf_counter_ns
from typing import Final, TypeAlias

from tenure.base.ids import BatchNumber
from tenure.raft.ready import Batch
from tenure.storage.errors import NoSpace
from tenure.storage.store import Store

Done: TypeAlias = Callable[[BatchNumber, int], None]
Failed: TypeAlias = Callable[[Exception], None]
Staged: TypeAlias = Callable[[bool], None]

piece_pause_ms: Final = 2
"""A piece is written after this long without a batch …"""
piece_wait_max_ms: Final = 20
"""… or after this long, between two batches: at most a tenth of the disk's time where a piece takes 2 ms."""
_MS: Final = 1_000_000


class _Piece:
    __slots__ = ("data", "due", "number", "staged")

    def __init__(self, number: int, data: bytes, staged: Staged) -> None:
        self.number = number
        self.data = data
        self.staged = staged
        self.due = perf_counter_ns() + piece_wait_max_ms * _MS


class DiskThread:
    """Writes batches in the order of `submit`; `done(number, sync_us)` and `failed(error)` are called IN this thread.

    `sync_us` counts from `submit`. After `NoSpace` the same batch may be submitted again; after any other failure the
    thread ends, and `submit` is an error. `stop` lets the batch in flight finish and joins; it does not close the
    store.
    """

    def __init__(self, store: Store, done: Done, failed: Failed) -> None:
        self._store = store
        self._done = done
        self._failed = failed
        self._jobs: SimpleQueue[tuple[Batch, int] | _Piece | None] = SimpleQueue()
        self._pieces: deque[_Piece] = deque()
        self._in_flight = False
        self._thread = threading.Thread(target=self._run, name="tenure-disk", daemon=True)

    def start(self) -> None:
        """From now on the store belongs to this thread, until `stop`."""
        self._thread.start()

    def submit(self, batch: Batch) -> None:
        """Hand over one batch; the next only after this one's `done` or `failed` (DESIGN 4)."""
        assert not self._in_flight, "one batch in flight"
        self._in_flight = True
        self._jobs.put((batch, perf_counter_ns()))

    def stage(self, number: int, data: bytes, staged: Staged) -> None:
        """Hand over a piece (`Store.stage`) to be written in between. `staged(kept)` is called in this thread."""
        self._jobs.put(_Piece(number, data, staged))

    def stop(self) -> None:
        """Wait for the batch in flight, then end; pieces that wait are dropped."""
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                try:
                    job = self._jobs.get(timeout=piece_pause_ms / 1000 if self._pieces else None)
                except Empty:
                    self._piece()
                    self._tidy()
                    continue
                if job is None:
                    return
                if isinstance(job, _Piece):
                    self._pieces.append(job)
                else:
                    self._batch(*job)
                if self._pieces and self._pieces[0].due <= perf_counter_ns():
                    self._piece()
        except Exception as error:  # noqa: BLE001 - every failure must reach the member
            self._failed(error)

    def _batch(self, batch: Batch, submitted: int) -> None:
        try:
            self._store.write(batch)
        except NoSpace as full:
            self._in_flight = False
            self._failed(full)
            return
        took = (perf_counter_ns() - submitted) // 1000
        self._in_flight = False
        self._done(batch.number, took)
        self._tidy()

    def _piece(self) -> None:
        piece = self._pieces.popleft()
        try:
            kept = self._store.stage(piece.number, piece.data)
        except NoSpace:
            kept = False
        piece.staged(kept)

    def _tidy(self) -> None:
        """Checkpoints at once when due; the rest piece by piece, and only while no batch waits."""
        while self._store.tidy() and self._jobs.empty():
            pass
