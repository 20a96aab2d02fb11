"""The keeper's thread: sockets, clocks and a selector around `KeeperCore`, and nothing that decides.

It is one daemon thread with no event loop, so it renews whatever the application's own loop does. (What can hold it up
is a C extension that keeps the interpreter's lock; then use `tenure run`, whose keeper is a process of its own.)
It never logs: a full pipe behind a log handler would stop the renewals.

A fork: the child has no such thread and no session, so everything there answers "not held", and its copies of the
sockets are closed at once, or else the parent's death wouldn't be seen while the child lives.
"""

import atexit
import os
import selectors
import ssl
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from tenure.base.chance import Rng
from tenure.base.errors import Invalid
from tenure.base.ids import ElectionName, SessionId, Term, election_name
from tenure.base.instants import MS, SECOND, Instant, Micros
from tenure.client import endpoints as where
from tenure.client import events as told
from tenure.client.clocks import BootClock, fresh_rng
from tenure.client.dialer import Dialer, attempt_us_max
from tenure.client.inbox import Inbox
from tenure.client.keeper import KeeperCore, Output, Settings
from tenure.client.known import Known
from tenure.client.link import Link, LinkBroken
from tenure.client.resolving import Resolver
from tenure.client.signals import Signal
from tenure.leadership.engine import ReleaseCause

ttl_ms_default: Final = 3_000
exit_close_seconds: Final = 0.5
_select_seconds_max: Final = 3_600.0
told_again_us: Final = Micros(30 * SECOND)
"""How often the same failure to connect is told."""


class Reader(Protocol):
    """Hears every event in the keeper's thread, before the inbox does; must neither block nor raise."""

    def tell(self, event: told.Event) -> None:
        """One event."""
        ...


class Keeper:
    """A session with the cluster, kept by a daemon thread of its own, and the offices held under it.

    All methods may be called from any thread; none blocks on the network, except `wait` and `close`. Times are
    `Instant`s: microseconds of CLOCK_BOOTTIME. `Invalid` is raised for names and endpoints that can't be.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str] | None = None,
        *,
        node: str | None = None,
        ttl_ms: int = ttl_ms_default,
        secret: str | None = None,
        meta: Mapping[str, str] | None = None,
        guard_ms: int | None = None,
        clock: BootClock | None = None,
        rng: Rng | None = None,
        reader: Reader | None = None,
    ) -> None:
        self.endpoints: Final = where.endpoints(endpoints)
        self.node: Final = where.node_name(node)
        self.ttl_ms: Final = ttl_ms
        self.closed: Final = Signal()
        """Set once the thread has ended."""
        self._secret = where.secret_of(secret)
        self._clock = clock or BootClock()
        self._reader = reader
        rng = rng or fresh_rng()
        guard_us = None if guard_ms is None else Micros(guard_ms * MS)
        settings = Settings(self.node, ttl_ms, dict(meta or {}), guard_us)
        self._core = KeeperCore(settings, rng)
        self._lock = threading.Lock()
        """Guards the core; held for microseconds, never over I/O."""
        self._inbox = Inbox()
        self._pid = os.getpid()
        self._stopping = False
        self._ended = False
        self._wake_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"tenure-keeper-{self.node}", daemon=True)
        self._selector = selectors.DefaultSelector()
        self._wake_descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake_descriptor, selectors.EVENT_READ)
        # Belong to the thread:
        self._dialer = Dialer(rng)
        self._dialer.learn(self.endpoints)
        self._resolver = Resolver(self._wake)
        self._known = Known()
        self._attempts: dict[str, Link] = {}
        """Streams on their way to being open; `_current` is the open one, perhaps to the same endpoint."""
        self._resolving: set[str] = set()
        self._current: Link | None = None
        self._moving = False
        self._failures: dict[str, tuple[str, Instant]] = {}
        """By endpoint: why it couldn't be reached, and when that was told."""
        _living.add(self)

    # --- for the owner -----------------------------------------------------------------------------------------------

    def start(self) -> "Keeper":
        """Start the thread; returns at once. The first `Connected` may take as long as the cluster needs."""
        self._thread.start()
        return self

    def fileno(self) -> int:
        """A file descriptor (eventfd) that is readable while events wait. Poll it; never read it."""
        return self._inbox.fileno()

    def events(self) -> tuple[told.Event, ...]:
        """Take the events that wait, perhaps none; never blocks."""
        return self._inbox.take()

    def wait(self, timeout: float | None = None) -> tuple[told.Event, ...]:
        """Block until an event waits or `timeout` seconds have passed, then take all that wait."""
        return self._inbox.wait(timeout)

    def campaign(self, election: str, priority: int = 0) -> None:
        """Stand for an election until granted and ended, or withdrawn. Repeating it changes the priority.

        After an `Ended` it says at the same time that everything which ran under that term has stopped.
        """
        name = self._ours(election)
        with self._lock:
            self._core.campaign(name, priority)
        self._wake()

    def withdraw(self, election: str) -> None:
        """Stop standing; a lease held under it ends here and now, before the cluster is told (P3.7)."""
        name = self._ours(election)
        with self._lock:
            self._core.withdraw(name)
        self._wake()

    def release(self, election: str, term: int, *, cause: ReleaseCause = "released", reason: str | None = None) -> None:
        """End the holding of `term` here and now, then give it back and stop standing (P3.7).

        `cause` and `reason` (cut after 200 characters) are what the history will say of it.
        """
        name = self._ours(election)
        with self._lock:
            self._core.release(name, Term(term), cause, reason)
        self._wake()

    def report(self, health: int, lag: int | None = None) -> None:
        """Health (0..100) and lag that go up with the next keepalives."""
        with self._lock:
            self._core.report(health, lag)

    def valid_until(self, election: str) -> Instant | None:
        """When the lease ends, in microseconds of CLOCK_BOOTTIME; None if not held or unconfirmed."""
        name = election_name(election)
        if os.getpid() != self._pid:
            return None
        with self._lock:
            self._core.look_at_clocks(self._clock.now(), self._clock.real_us())
            return self._core.valid_until(name)

    def remaining_us(self, election: str, term: int) -> int:
        """How long the holding of `term` is valid from now on; 0 if it isn't, and in a forked child."""
        if os.getpid() != self._pid:
            return 0
        with self._lock:
            # Read under the lock: an instant read before waiting for it would make the lease look longer.
            now = self._clock.now()
            self._core.look_at_clocks(now, self._clock.real_us())
            return self._core.remaining_us(election_name(election), Term(term), now)

    def session(self) -> SessionId | None:
        """The session as it stands, if one does."""
        with self._lock:
            return self._core.session()

    def endpoint(self) -> str | None:
        """The endpoint of the open stream, if one is open."""
        with self._lock:
            return self._core.endpoint

    def _ours(self, election: str) -> ElectionName:
        if not self.is_ours():
            raise RuntimeError("this process was forked from the one that holds the session: make a keeper of its own")
        return election_name(election)

    def is_ours(self) -> bool:
        """False in a forked child, which holds nothing."""
        return os.getpid() == self._pid

    def begin_close(self) -> None:
        """End every lease here and now, and have the session closed; `closed` is set when that is done."""
        if not self.is_ours():
            return
        with self._lock:
            self._core.close()
        self._wake()

    def close(self, timeout: float = 1.0) -> bool:
        """End every lease, close the session, stop the thread; True if the cluster confirmed it within `timeout`."""
        if not self.is_ours() or self._thread.ident is None:
            return False
        self.begin_close()
        told_it = self.closed.wait(timeout)
        self._stopping = True
        self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(1.0)
        return told_it

    def _wake(self) -> None:
        with self._wake_lock:
            if not self._ended:  # else the number may already be another file's
                os.eventfd_write(self._wake_descriptor, 1)

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping and self._turn():
                pass
        finally:
            self._end()

    def _end(self) -> None:
        if not self._stopping:
            with self._lock:
                self._core.close()
        with self._lock:
            events = self._core.turn(self._clock.now(), self._clock.real_us()).events
        if not any(isinstance(event, told.Closed) for event in events):
            events = (*events, told.Closed(told=False))
        for link in self._all_links():
            link.close("bye")
        self._publish(events)
        self._selector.close()
        with self._wake_lock:
            self._ended = True
            os.close(self._wake_descriptor)
        _living.discard(self)
        self.closed.set()

    def _turn(self) -> bool:
        """Decide, act, wait, read; False when all is over."""
        with self._lock:
            now = self._clock.now()
            output = self._core.turn(now, self._clock.real_us())
        self._publish(output.events)
        if output.finished:
            return False
        self._act(output, now)
        if self._current is None or self._moving:
            self._dial(now)
        self._wait(output.deadline)
        return True

    def _publish(self, events: tuple[told.Event, ...]) -> None:
        if self._reader is not None:
            for event in events:
                self._reader.tell(event)
        self._inbox.put(events)

    def _act(self, output: Output, now: Instant) -> None:
        self._dialer.learn(_readable(output.learnt))
        link = self._current
        if link is None:
            return
        if output.fault is not None:
            self._broke(link, f"{link.endpoint}: {output.fault}", now)
            return
        if output.served:
            self._dialer.served(link.endpoint)
        self._moving = self._moving or output.move
        if output.frames:
            try:
                link.send(output.frames)
            except LinkBroken as broken:
                self._broke(link, broken.reason, now)
                return
            self._watch(link)

    def _wait(self, deadline: Instant) -> None:
        if self._current is None or self._moving:
            deadline = min(deadline, self._dialer.deadline(self._avoided()))
        seconds = (deadline - self._clock.now()) / SECOND
        for key, _ in self._selector.select(min(max(seconds, 0.0), _select_seconds_max)):
            if isinstance(key.data, Link):
                self._ready(key.data)
            else:
                os.eventfd_read(self._wake_descriptor)

    # --- streams -----------------------------------------------------------------------------------------------------

    def _dial(self, now: Instant) -> None:
        for endpoint in self._dialer.overdue(now):
            self._failed(endpoint, f"{endpoint}: no answer within {attempt_us_max // SECOND} s", now)
        self._resolving.update(self._dialer.dial(now, self._avoided()))
        for endpoint in sorted(self._resolving):
            self._connect(endpoint, now)

    def _avoided(self) -> str | None:
        """Where we are: whoever wants another stream wants another endpoint."""
        return None if self._current is None else self._current.endpoint

    def _connect(self, endpoint: str, now: Instant) -> None:
        address = where.address(endpoint)
        found = self._resolver.next(address)
        if found is None:
            return
        self._resolving.discard(endpoint)
        if isinstance(found, str):
            self._failed(endpoint, f"{endpoint}: {found}", now)
            return
        tls = ssl.create_default_context() if address.secure else None
        try:
            link = Link(address, found, self._secret, tls, self._known)
        except LinkBroken as broken:
            self._failed(endpoint, broken.reason, now)
            return
        if endpoint in self._attempts:
            self._drop(self._attempts[endpoint], "dialled anew")
        self._attempts[endpoint] = link
        self._selector.register(link, link.wants(), link)

    def _watch(self, link: Link) -> None:
        key = self._selector.get_key(link)
        if key.events != link.wants():
            self._selector.modify(link, link.wants(), link)

    def _drop(self, link: Link, reason: str) -> None:
        self._selector.unregister(link)
        if self._attempts.get(link.endpoint) is link:
            del self._attempts[link.endpoint]
        link.close(reason)

    def _failed(self, endpoint: str, reason: str, now: Instant) -> None:
        self._resolving.discard(endpoint)
        if endpoint in self._attempts:
            self._drop(self._attempts[endpoint], "given up")
        self._dialer.failed(endpoint, now)
        self._tell_failure(endpoint, reason, now)

    def _tell_failure(self, endpoint: str, reason: str, now: Instant) -> None:
        """While no stream is open, say why: once per endpoint and reason, and again after a while."""
        if self._current is not None:
            return  # it was only to be a better one
        known, told_at = self._failures.get(endpoint, ("", now))
        if known == reason and now < told_at + told_again_us:
            return
        self._failures[endpoint] = (reason, now)
        self._publish((told.Disconnected(None, reason),))

    def _broke(self, link: Link, reason: str, now: Instant) -> None:
        self._drop(link, "bye")
        self._dialer.failed(link.endpoint, now)
        if link is self._current:
            self._current = None
            with self._lock:
                self._core.disconnected(reason)
        else:
            self._tell_failure(link.endpoint, reason, now)

    def _ready(self, link: Link) -> None:
        if not self._holds(link):
            return  # dropped earlier in this turn
        before = link.state
        try:
            messages = link.ready()
        except LinkBroken as broken:
            if broken.denied:
                self._failures[link.endpoint] = (broken.reason, self._clock.now())  # told once, as what it is
                self._publish((told.Rejected("denied", broken.reason),))
            self._broke(link, broken.reason, self._clock.now())
            return
        if before != "open" and link.state == "open":
            self._opened(link)
        if messages and link is self._current:
            with self._lock:
                now = self._clock.now()
                for message in messages:
                    self._core.received(message, now)
        if self._holds(link):
            self._watch(link)

    def _holds(self, link: Link) -> bool:
        return link is self._current or self._attempts.get(link.endpoint) is link

    def _all_links(self) -> list[Link]:
        return [*self._attempts.values(), *([] if self._current is None else [self._current])]

    def _opened(self, link: Link) -> None:
        for other in self._dialer.opened(link.endpoint):
            self._resolving.discard(other)
            if other in self._attempts:
                self._drop(self._attempts[other], "another was faster")
        del self._attempts[link.endpoint]
        old, self._current = self._current, link
        self._moving = False
        self._failures.clear()
        if old is not None:
            self._drop(old, "moved")
            if old.endpoint != link.endpoint:
                self._dialer.failed(old.endpoint, self._clock.now())
        with self._lock:
            self._core.connected(link.endpoint, self._clock.now())

    # --- forks and the end -------------------------------------------------------------------------------------------

    def abandon(self) -> None:
        """In a forked child: close the copies of the descriptors, touch no lock, say nothing to the cluster."""
        self._pid = -1
        for link in self._all_links():
            link.abandon()
        self._selector.close()


def _readable(learnt: tuple[str, ...]) -> tuple[str, ...]:
    addresses: list[str] = []
    for each in learnt:
        try:
            addresses.append(where.address(each).url)
        except Invalid:
            continue  # a member that advertises nonsense is only not found by it
    return tuple(addresses)


_living: "weakref.WeakSet[Keeper]" = weakref.WeakSet()


def _abandon_all() -> None:
    for keeper in list(_living):
        keeper.abandon()


def _close_all() -> None:
    ours = [keeper for keeper in list(_living) if keeper.is_ours()]
    for keeper in ours:
        keeper.begin_close()
    for keeper in ours:
        keeper.close(exit_close_seconds)


os.register_at_fork(after_in_child=_abandon_all)
atexit.register(_close_all)
