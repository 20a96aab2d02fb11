"""The log as it stands in memory, and how much of it is durable.

Entries from `first` to `last_index` are here; (`base_index`, `base_term`) is the place just before `first`, which a
snapshot covers. `durable` never counts what a truncation or an install has taken away (P4.5, P4.6): `cap` bounds what
the batch in flight can still make durable.
"""

from tenure.base.ids import ConsensusTerm, LogIndex
from tenure.raft.entries import Entry


class Log:
    """Consecutive entries above a base."""

    __slots__ = ("_entries", "base_index", "base_term", "durable", "last_index", "size", "unsaved")

    def __init__(self, base_index: LogIndex, base_term: ConsensusTerm, entries: tuple[Entry, ...]) -> None:
        self.base_index = base_index
        self.base_term = base_term
        self._entries = list(entries)
        self.size = sum(len(entry.data) for entry in entries)
        """Bytes of data held."""
        assert not entries or entries[0].index == base_index + 1
        self.last_index = LogIndex(base_index + len(entries))
        """Index of the last entry accepted, in flight included (P4.4)."""
        self.durable: LogIndex = self.last_index
        self.unsaved: LogIndex = LogIndex(self.last_index + 1)
        """The first index that no batch has been given yet."""

    @property
    def first(self) -> LogIndex:
        """Index of the first entry held (or of the next to come)."""
        return LogIndex(self.base_index + 1)

    @property
    def last_term(self) -> ConsensusTerm:
        """Term of the last entry accepted."""
        return self._entries[-1].term if self._entries else self.base_term

    def term_at(self, index: LogIndex) -> ConsensusTerm | None:
        """The term at `index`; None above the end or below the base."""
        offset = index - self.base_index
        if offset == 0:
            return self.base_term
        if 0 < offset <= len(self._entries):
            return self._entries[offset - 1].term
        return None

    def up_to_date(self, last_index: LogIndex, last_term: ConsensusTerm) -> bool:
        """Whether a candidate with that last place is at least as fresh as we are (Raft §5.4.1, P4.4)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def append(self, entries: list[Entry] | tuple[Entry, ...]) -> None:
        """Add consecutive entries at the end."""
        assert entries[0].index == self.last_index + 1
        self._entries.extend(entries)
        self.last_index = LogIndex(self.last_index + len(entries))
        self.size += sum([len(entry.data) for entry in entries])

    def append_one(self, entry: Entry) -> None:
        """Add one entry at the end."""
        assert entry.index == self.last_index + 1
        self._entries.append(entry)
        self.last_index = entry.index
        self.size += len(entry.data)

    def truncate(self, start: LogIndex) -> None:
        """Take away everything from `start` on."""
        assert start > self.base_index
        self._drop(start - self.base_index - 1, len(self._entries))
        self.last_index = min(self.last_index, LogIndex(start - 1))
        self.durable = min(self.durable, LogIndex(start - 1))
        self.unsaved = min(self.unsaved, start)

    def between(self, start: LogIndex, end: LogIndex) -> tuple[Entry, ...]:
        """Entries `start` … `end`, both included."""
        assert start > self.base_index
        return tuple(self._entries[start - self.base_index - 1 : end - self.base_index])

    def page(self, start: LogIndex, entries_max: int, bytes_max: int) -> tuple[Entry, ...]:
        """As many entries from `start` as fit into the limits; at least one if there is any."""
        offset = start - self.base_index - 1
        chosen = self._entries[offset : offset + entries_max]
        size = 0
        for count, entry in enumerate(chosen):
            size += len(entry.data)
            if size > bytes_max and count:
                return tuple(chosen[:count])
        return tuple(chosen)

    def last_at_or_below(self, index: LogIndex, term: ConsensusTerm) -> LogIndex:
        """The largest index ≤ `index` whose term is ≤ `term`: fast rejection. The base if nothing else is."""
        place = min(index, self.last_index)
        while place > self.base_index and self._entries[place - self.base_index - 1].term > term:
            place = LogIndex(place - 1)
        return max(place, self.base_index)

    def compact(self, index: LogIndex) -> None:
        """Forget entries ≤ `index`, which a snapshot covers."""
        if index <= self.base_index:
            return
        term = self.term_at(index)
        assert term is not None
        self._drop(0, index - self.base_index)
        self.base_index, self.base_term = index, term

    def within(self, bytes_max: int, index_max: LogIndex) -> LogIndex:
        """The least index, but at most `index_max`, above which not more than `bytes_max` of data is held."""
        size, offset = self.size, 0
        while size > bytes_max and offset < index_max - self.base_index:
            size -= len(self._entries[offset].data)
            offset += 1
        return LogIndex(self.base_index + offset)

    def _drop(self, start: int, end: int) -> None:
        self.size -= sum([len(entry.data) for entry in self._entries[start:end]])
        del self._entries[start:end]

    def reset(self, index: LogIndex, term: ConsensusTerm) -> None:
        """A snapshot takes the place of everything; nothing of it is durable yet (P4.6)."""
        self._entries.clear()
        self.size = 0
        self.base_index, self.base_term, self.last_index = index, term, index
        self.durable = LogIndex(0)
        self.unsaved = LogIndex(index + 1)
