"""The disk's own thread (P6.4): one batch at a time, its time measured, never an error into the void."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import perf_counter_ns
from typing import TypeAlias

from tenure.base.ids import BatchNumber
from tenure.raft.ready import Batch
from tenure.storage.errors import NoSpace
from tenure.storage.store import Store

Done: TypeAlias = Callable[[BatchNumber, int], None]
Failed: TypeAlias = Callable[[Exception], None]


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
        self._jobs: SimpleQueue[tuple[Batch, int] | None] = SimpleQueue()
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

    def stop(self) -> None:
        """Wait for the batch in flight, then end."""
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        job = self._jobs.get()
        try:
            while job is not None:
                batch, submitted = job
                try:
                    self._store.write(batch)
                except NoSpace as full:
                    self._in_flight = False
                    self._failed(full)
                else:
                    took = (perf_counter_ns() - submitted) // 1000
                    self._in_flight = False
                    self._done(batch.number, took)
                    self._tidy()
                job = self._jobs.get()
        except Exception as error:  # noqa: BLE001 - every failure must reach the member
            self._failed(error)

    def _tidy(self) -> None:
        """Checkpoints at once when due; the rest piece by piece, and only while no batch waits."""
        while self._store.tidy() and self._jobs.empty():
            pass
