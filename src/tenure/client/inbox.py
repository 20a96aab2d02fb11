"""Events on their way from the keeper's thread to whoever reads them, with a file descriptor to poll."""

import os
import threading
from collections import deque
from contextlib import suppress
from typing import Final

from tenure.client.events import Event, Renewed

waiting_max: Final = 4_096
"""Beyond it the oldest are dropped: only an owner who never reads gets there, renewals replace one another."""


class Inbox:
    """One writer, any number of readers; an event goes to one of them."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=waiting_max)
        self._changed = threading.Condition()
        self._descriptor: Final = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closed = False

    def fileno(self) -> int:
        """Readable while events wait."""
        return self._descriptor

    def put(self, events: tuple[Event, ...]) -> None:
        """Add events in order."""
        if not events:
            return
        with self._changed:
            for event in events:
                if isinstance(event, Renewed):
                    self._forget_renewal(event)
                self._events.append(event)
            if not self._closed:
                os.eventfd_write(self._descriptor, 1)
            self._changed.notify_all()

    def _forget_renewal(self, newer: Renewed) -> None:
        for older in self._events:
            if isinstance(older, Renewed) and (older.election, older.term) == (newer.election, newer.term):
                self._events.remove(older)
                return

    def take(self) -> tuple[Event, ...]:
        """All that wait, perhaps none."""
        with self._changed:
            if self._events and not self._closed:
                with suppress(BlockingIOError):  # the owner read it, against the advice; nothing depends on it
                    os.eventfd_read(self._descriptor)
            taken = tuple(self._events)
            self._events.clear()
            return taken

    def wait(self, timeout: float | None) -> tuple[Event, ...]:
        """Block until an event waits, then take all."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._events), timeout)
            return self.take()

    def close(self) -> None:
        """Give the descriptor back; events that wait can still be taken."""
        with self._changed:
            if not self._closed:
                self._closed = True
                os.close(self._descriptor)
