"""The client session that a member opens for itself, so that a mutation which it passes on may be sent twice (P9.1)."""

from collections import deque
from typing import Final

from tenure.leadership.engine import Origin, Sequenced
from tenure.leadership.limits import client_window_max

outstanding_max: Final = client_window_max // 2
"""So few are unanswered at once that none falls below the window when all are sent again."""


class OwnClient:
    """Numbers the mutations that this member forwards. Opened once, when the first is forwarded.

    `waiting` holds the keys of requests that need an origin before they can leave.
    """

    __slots__ = ("_client", "_outstanding", "_sequence", "opening", "waiting")

    def __init__(self) -> None:
        self._client: str | None = None
        self._sequence = 0
        self._outstanding: dict[int, None] = {}
        self.opening = False
        self.waiting: deque[int] = deque()

    @property
    def stands(self) -> bool:
        """Whether a client session is open."""
        return self._client is not None

    def next_waiting(self) -> int | None:
        """A request that may have its origin now."""
        if self._client is not None and self.waiting and len(self._outstanding) < outstanding_max:
            return self.waiting.popleft()
        return None

    def issue(self) -> Sequenced | None:
        """An origin for the next mutation; None until the session stands, or while too many are unanswered."""
        if self._client is None or len(self._outstanding) >= outstanding_max:
            return None
        self._sequence += 1
        self._outstanding[self._sequence] = None
        return Sequenced(self._client, self._sequence, next(iter(self._outstanding)))

    def opened(self, client: str) -> None:
        """The session stands."""
        self.opening = False
        if self._client is None:
            self._client = client
            self._sequence = 0
            self._outstanding.clear()

    def lost(self, client: str) -> None:
        """The state machine no longer knows the session: the next mutation opens another."""
        if self._client == client:
            self._client = None

    def answered(self, origin: Origin | None) -> None:
        """A mutation is answered, or given up: its number may be forgotten."""
        if isinstance(origin, Sequenced) and origin.client == self._client:
            self._outstanding.pop(origin.sequence, None)
