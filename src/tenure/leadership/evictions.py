"""P9.2 by time: which answers are so old that they may be forgotten. Age is told from log indexes, of which the steward
remembers when they were applied, so nothing in the state depends on a clock.
"""

from collections import deque

from tenure.base.ids import ConsensusTerm, LogIndex
from tenure.leadership.commands import Evict
from tenure.leadership.state import State


class Evictions:
    """Samples of (instant, next index), for one consensus term: a new steward begins to count anew."""

    __slots__ = ("_clients_keep_us", "_keyed_keep_us", "_samples", "_state", "_term")

    def __init__(self, term: ConsensusTerm, state: State, keyed_keep_us: int, clients_keep_us: int) -> None:
        self._term = term
        self._state = state
        self._keyed_keep_us = keyed_keep_us
        self._clients_keep_us = clients_keep_us
        self._samples: deque[tuple[int, LogIndex]] = deque()

    def sample(self, now: int) -> None:
        """Remember how far the log was applied at `now`: everything below the next index is at least so old."""
        self._samples.append((now, LogIndex(self._state.applied + 1)))
        oldest = now - max(self._keyed_keep_us, self._clients_keep_us)
        while len(self._samples) > 1 and self._samples[1][0] <= oldest:
            self._samples.popleft()

    def decide(self, now: int) -> Evict | None:
        """What to forget, if there is anything."""
        keyed_below = self._below(now - self._keyed_keep_us)
        clients_below = self._below(now - self._clients_keep_us)
        oldest = next(iter(self._state.keyed.values()), None)
        keys_due = oldest is not None and oldest.index < keyed_below
        if keys_due or any(client.used < clients_below for client in self._state.clients.values()):
            return Evict(self._term, keyed_below, clients_below)
        return None

    def _below(self, when: int) -> LogIndex:
        found = LogIndex(0)
        for sampled, index in self._samples:
            if sampled > when:
                break
            found = index
        return found
