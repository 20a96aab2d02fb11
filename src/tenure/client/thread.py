"""SKELETON, signature only: being written now. The agent may code against this."""

from collections.abc import Mapping, Sequence

from tenure.base.ids import SessionId
from tenure.base.instants import Instant
from tenure.client.events import Event


class Keeper:
    """A session with the cluster, kept by a daemon thread of its own, and the offices held under it.

    All methods may be called from any thread and never block on the network, except `wait` and `close`.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str] | None = None,
        *,
        node: str | None = None,
        ttl_ms: int = 3_000,
        secret: str | None = None,
        meta: Mapping[str, str] | None = None,
        guard_ms: int | None = None,
    ) -> None: ...

    def start(self) -> "Keeper":
        """Start the thread; returns at once. The first `Connected` may take as long as the cluster needs."""
        raise NotImplementedError

    def fileno(self) -> int:
        """A file descriptor (eventfd) that is readable while events wait. Poll it; never read it."""
        raise NotImplementedError

    def events(self) -> tuple[Event, ...]:
        """Take the events that wait, perhaps none; never blocks."""
        raise NotImplementedError

    def wait(self, timeout: float | None = None) -> tuple[Event, ...]:
        """Block until an event waits or `timeout` seconds have passed, then take all that wait."""
        raise NotImplementedError

    def campaign(self, election: str, priority: int = 0) -> None:
        """Stand for an election until granted and ended, or withdrawn. Repeating it changes the priority."""
        raise NotImplementedError

    def withdraw(self, election: str) -> None:
        """Stop standing; a lease held under it ends here and now, before the cluster is told (P3.7)."""
        raise NotImplementedError

    def release(self, election: str, term: int) -> None:
        """End the holding of `term` here and now, then give it back and stop standing (P3.7)."""
        raise NotImplementedError

    def report(self, health: int, lag: int | None = None) -> None:
        """Health (0..100) and lag that go up with the next keepalives."""
        raise NotImplementedError

    def valid_until(self, election: str) -> Instant | None:
        """When the lease ends, in microseconds of CLOCK_BOOTTIME; None if not held or unconfirmed."""
        raise NotImplementedError

    def session(self) -> SessionId | None:
        """The session as it stands, if one does."""
        raise NotImplementedError

    def endpoint(self) -> str | None:
        """The endpoint of the open stream, if one is open."""
        raise NotImplementedError

    def close(self, timeout: float = 1.0) -> bool:
        """End every lease, close the session, stop the thread; True if the cluster confirmed it within `timeout`."""
        raise NotImplementedError
