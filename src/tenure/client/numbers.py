"""The numbers that make a change over HTTP happen once (P9.1): a client session, and a sequence for each call."""

import threading

from tenure.base.chance import Rng
from tenure.wire.bodies import answered_header, client_header, sequence_header


class Ticket:
    """The origin of one call that changes something."""

    def __init__(self, client: str, sequence: int) -> None:
        self.client = client
        self.sequence = sequence


class Numbers:
    """A client session and its sequence numbers."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._lock = threading.Lock()
        self._client: str | None = None
        self._nonce = f"{rng.u64():016x}"
        self._next = 1
        self._outstanding: set[int] = set()

    def nonce(self) -> str | None:
        """What to open a client session with; None if one is open."""
        return self._nonce if self._client is None else None

    def opened(self, client: str) -> None:
        """A client session stands."""
        with self._lock:
            if self._client is None:
                self._client, self._next = client, 1
                self._outstanding.clear()

    def forget(self, client: str) -> None:
        """The cluster doesn't know this client session any more."""
        with self._lock:
            if self._client == client:
                self._client, self._nonce = None, f"{self._rng.u64():016x}"

    def draw(self) -> Ticket:
        """A number of its own for one call."""
        with self._lock:
            assert self._client is not None, "opened first"
            ticket = Ticket(self._client, self._next)
            self._next += 1
            self._outstanding.add(ticket.sequence)
            return ticket

    def headers(self, ticket: Ticket) -> dict[str, str]:
        """As it stands in the request."""
        with self._lock:
            ours = self._client == ticket.client
            below = min(self._outstanding, default=ticket.sequence) if ours else ticket.sequence
        return {
            client_header: ticket.client,
            sequence_header: str(ticket.sequence),
            answered_header: str(min(below, ticket.sequence)),
        }

    def done(self, ticket: Ticket) -> None:
        """Answered, or given up."""
        with self._lock:
            if self._client == ticket.client:
                self._outstanding.discard(ticket.sequence)
