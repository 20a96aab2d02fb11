"""ReadIndex rounds: what arrived in one turn rides together, one token of the core for all of it.

A read or keepalive passes through three states: *gathered* (its round has not begun), *open* (the core was asked; every
heartbeat of the round is created after that, P3.3), *confirmed* (waits until the read index is applied).
"""

from tenure.base.ids import LogIndex
from tenure.engines.native.pending import Book
from tenure.leadership.steward import Receipt
from tenure.raft.ready import ReadState

Passenger = tuple[int, Receipt | None]
"""Key of the request, and the steward's receipt if it is a keepalive."""


class Rounds:
    """All rounds of one consensus term."""

    __slots__ = ("_applied", "_confirmed", "_open", "gathering", "ready")

    def __init__(self, applied: LogIndex) -> None:
        self._applied = applied
        self._open: dict[int, list[Passenger]] = {}
        self._confirmed: list[tuple[LogIndex, list[Passenger]]] = []
        self.gathering: list[Passenger] = []
        self.ready: list[Passenger] = []

    def begin(self, book: Book) -> int:
        """Close the gathering; returns the token to ask the core with."""
        token = book.fresh_key()
        self._open[token] = self.gathering
        self.gathering = []
        return token

    def granted(self, read: ReadState) -> None:
        """The core confirmed a round."""
        passengers = self._open.pop(read.token, None)
        if passengers is None:
            return
        if read.index <= self._applied:
            self.ready.extend(passengers)
        else:
            self._confirmed.append((read.index, passengers))

    def applied(self, index: LogIndex) -> None:
        """The state machine has come to `index`."""
        self._applied = index
        if self._confirmed:
            waiting = self._confirmed
            self._confirmed = [item for item in waiting if item[0] > index]
            for needed, passengers in waiting:
                if needed <= index:
                    self.ready.extend(passengers)

    def take_ready(self) -> list[Passenger]:
        """Those that may be answered now."""
        ready, self.ready = self.ready, []
        return ready

    def refused(self, token: int) -> list[int]:
        """The core did not take the round; the keys of its passengers."""
        return [key for key, _ in self._open.pop(token, ())]

    def drop(self) -> list[int]:
        """The term is over: nobody is acknowledged from it any more (P3.3). The keys of all passengers."""
        keys = [key for key, _ in self.gathering]
        keys += [key for key, _ in self.ready]
        keys += [key for passengers in self._open.values() for key, _ in passengers]
        keys += [key for _, passengers in self._confirmed for key, _ in passengers]
        self.gathering, self.ready, self._confirmed = [], [], []
        self._open.clear()
        return keys
