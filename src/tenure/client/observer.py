"""`observe()`: watch who leads, without a session and without standing.

    for sighting in tenure.observe("orders"):             async for sighting in tenure.observe("orders"):
        print(sighting.node_id, sighting.term)                ...

One daemon thread asks by long polling and keeps the newest sighting; both iterators wait for it. Who reads slowly gets
the newest, not every one in between; `tenure.client.http.Client.history` has those. A sighting never goes back in time:
an answer with an older revision, from a member that lags, is passed over.
"""

import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final, Self

from msgspec import Struct

from tenure.base.ids import ElectionName, NodeId, Term, election_name
from tenure.client.errors import ClientError, Denied, InvalidRequest, Missing
from tenure.client.http import Client
from tenure.client.signals import Signal
from tenure.leadership.engine import ElectionState, ElectionView

poll_ms_default: Final = 5_000
"""So often the cluster confirms what we know: a quorum that is lost, or a member that froze, shows within this and the
time of one call (`trouble`, `age`). Until then silence looks like peace."""
_retry_seconds: Final = 0.25


class Sighting(Struct, frozen=True):
    """Who leads, as far as the cluster knows. `term` is the last granted one when nobody does (0: never)."""

    election: ElectionName
    node_id: NodeId | None
    term: Term
    state: ElectionState
    revision: int


class Observer:
    """Iterate over it, blocking or async; or read `current`. `close()`, or leaving `with`, ends it."""

    def __init__(self, election: str, client: Client, *, poll_ms: int = poll_ms_default) -> None:
        self.election: Final = election_name(election)
        self._client = client
        self._poll_ms = poll_ms
        self._lock = threading.Lock()
        self._current: Sighting | None = None
        self._changed = Signal()
        self._closed = threading.Event()
        self._failure: ClientError | None = None
        self._trouble: str | None = None
        self._confirmed_at: float | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Sighting]:
        seen: Sighting | None = None
        while True:
            sighting, changed = self._look()
            if sighting is not None and sighting != seen:
                seen = sighting
                yield sighting
            elif self._ended():
                return
            else:
                changed.wait()

    async def __aiter__(self) -> AsyncIterator[Sighting]:
        seen: Sighting | None = None
        while True:
            sighting, changed = self._look()
            if sighting is not None and sighting != seen:
                seen = sighting
                yield sighting
            elif self._ended():
                return
            else:
                await changed

    @property
    def current(self) -> Sighting | None:
        """The newest sighting; None before the first. Never blocks."""
        return self._look()[0]

    @property
    def trouble(self) -> str | None:
        """Why the newest sighting may be old: what keeps us from asking; None while all is well."""
        return self._trouble

    def age(self) -> float | None:
        """Seconds since the cluster last confirmed `current`; None before the first sighting."""
        confirmed = self._confirmed_at
        return None if confirmed is None else time.monotonic() - confirmed

    def close(self) -> None:
        """End the iterations. The thread ends with its present question."""
        self._closed.set()
        self._tell()

    def _look(self) -> tuple[Sighting | None, Signal]:
        self._start()
        with self._lock:
            return self._current, self._changed

    def _ended(self) -> bool:
        if self._failure is not None:
            raise self._failure
        return self._closed.is_set()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name=f"tenure-observe-{self.election}", daemon=True)
                self._thread.start()

    def _tell(self) -> None:
        with self._lock:
            changed, self._changed = self._changed, Signal()
        changed.set()

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with contextlib.closing(self._client):
            while not self._closed.is_set():
                try:
                    self._ask()
                except (Denied, InvalidRequest) as error:
                    self._failure = error
                    self._tell()
                    return
                except ClientError as error:
                    self._trouble = error.reason
                    self._closed.wait(_retry_seconds)

    def _ask(self) -> None:
        known = self._current
        try:
            if known is None or known.revision == 0:
                view = self._client.election(self.election)
            else:
                view = self._client.election(self.election, after=known.revision, wait_ms=self._poll_ms)
        except Missing:
            self._saw(Sighting(self.election, None, Term(0), "vacant", 0))
            self._closed.wait(_retry_seconds)
            return
        self._saw(_sighting(view))

    def _saw(self, sighting: Sighting) -> None:
        self._trouble = None
        self._confirmed_at = time.monotonic()
        known = self._current
        # A greater term is newer even where the revision isn't: the cluster was founded anew (P2.1).
        if known is None or sighting.revision > known.revision or sighting.term > known.term:
            with self._lock:
                self._current = sighting
            self._tell()


def _sighting(view: ElectionView) -> Sighting:
    return Sighting(view.election, view.node_id, view.term, view.state, view.revision)


def observe(election: str, *, endpoints: str | Sequence[str] | None = None, secret: str | None = None) -> Observer:
    """Watch an election; see the module. `endpoints` and `secret` as for `lead`."""
    return Observer(election, Client(endpoints, secret=secret))
