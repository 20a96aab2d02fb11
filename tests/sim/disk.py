"""A disk that keeps the storage contract of `raft.ready.Batch`, and loses what was never synced.

One batch at a time may be in flight. A crash leaves it either wholly behind (it had reached the disk, but nobody heard
of it) or not there at all, which is also what is left of a torn one: which of the two is the caller's choice, so that
every effect boundary can be tried. What becomes of single frames and pages is `tests/storage`'s matter, on real files.
"""

from tenure.base.ids import BatchNumber, ConsensusTerm, MemberId
from tenure.raft.entries import CONFIGURATION, Configuration, Entry, HardState, Restored, Snapshot, configuration_of
from tenure.raft.ready import Batch


class Disk:
    """What one member has made durable."""

    def __init__(self, configuration: Configuration, feature: int = 1) -> None:
        self.configuration = configuration
        self.feature = feature
        self.hard_state = HardState(ConsensusTerm(0), None)
        self.snapshot: Snapshot | None = None
        self.base = 0
        """The index before the first entry kept."""
        self.entries: list[Entry] = []
        self.number = BatchNumber(0)
        self.known_batches: dict[MemberId, BatchNumber] = {}
        self.in_flight: Batch | None = None
        self.clean = True

    @property
    def last_index(self) -> int:
        """The last place that is durable here: the last entry's, or the snapshot's."""
        held = self.base + len(self.entries)
        return held if self.snapshot is None else max(held, self.snapshot.index)

    def term_at(self, index: int) -> int | None:
        """The durable term at `index`; None where nothing is held."""
        if self.snapshot is not None and index == self.snapshot.index:
            return self.snapshot.term
        if self.base < index <= self.base + len(self.entries):
            return self.entries[index - self.base - 1].term
        return 0 if index == 0 else None

    def covers(self, index: int, term: int) -> bool:
        """Whether the entry (index, term) is durable here, by itself or inside a snapshot."""
        if self.snapshot is not None and index < self.snapshot.index:
            return True
        return self.term_at(index) == term

    def changes(self) -> list[int]:
        """Where in its log the members were changed, and the snapshot's members."""
        below = self.snapshot.configuration.index if self.snapshot is not None else self.configuration.index
        return [below, *(entry.index for entry in self.entries if entry.kind == CONFIGURATION)]

    def last_configuration(self) -> Configuration:
        """Whom a member that starts from this takes for the cluster."""
        held = (configuration_of(entry) for entry in reversed(self.entries) if entry.kind == CONFIGURATION)
        return next(held, self.snapshot.configuration if self.snapshot is not None else self.configuration)

    def submit(self, batch: Batch) -> None:
        """Take a batch; it is not durable yet."""
        assert self.in_flight is None, "a second batch while one is in flight"
        assert batch.number == self.number + 1, f"batch {batch.number} after {self.number}"
        self.in_flight = batch
        self.clean = False

    def complete(self) -> Batch:
        """The batch in flight is durable from now on."""
        batch = self.in_flight
        assert batch is not None, "no batch is in flight"
        self.in_flight = None
        self._write_log(batch)
        if batch.hard_state is not None:
            self.hard_state = batch.hard_state
        if batch.known_batches is not None:
            self.known_batches = dict(batch.known_batches)
        self.number = batch.number
        return batch

    def _write_log(self, batch: Batch) -> None:
        if batch.snapshot is not None:
            self.snapshot = batch.snapshot
            if batch.install:
                self.entries.clear()
                self.base = batch.snapshot.index
        if batch.compact_to is not None and batch.compact_to - 1 > self.base:
            del self.entries[: batch.compact_to - 1 - self.base]
            self.base = batch.compact_to - 1
        if batch.truncate_from is not None:
            del self.entries[max(0, batch.truncate_from - self.base - 1) :]
        if batch.entries:
            expected = self.base + len(self.entries) + 1
            assert batch.entries[0].index == expected, f"entry {batch.entries[0].index} where {expected} is next"
            self.entries.extend(batch.entries)

    def crash(self, *, keep: bool) -> None:
        """The process is gone; what was in flight is there (`keep`) or lost."""
        if self.in_flight is not None:
            if keep:
                self.complete()
            self.in_flight = None
        self.clean = False

    def copy(self) -> "Disk":
        """What a backup would hold."""
        twin = Disk(self.configuration, self.feature)
        twin.hard_state, twin.snapshot, twin.base = self.hard_state, self.snapshot, self.base
        twin.entries, twin.number, twin.clean = list(self.entries), self.number, self.clean
        twin.known_batches = dict(self.known_batches)
        return twin

    def restored(self) -> Restored:
        """What the store hands to the core when it is opened."""
        return Restored(
            hard_state=self.hard_state,
            configuration=self.snapshot.configuration if self.snapshot else self.configuration,
            feature=self.snapshot.feature if self.snapshot else self.feature,
            snapshot=self.snapshot,
            entries=tuple(self.entries),
            batch=self.number,
            clean=self.clean,
            known_batches=dict(self.known_batches),
        )
