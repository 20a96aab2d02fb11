"""Drives the founding (P1.2) until the record is sealed, and answers those who come late for the rest of our life. Who
joins is sealed by what it is told (`joined`).

The founding is a few messages long and happens once, so its durable writes are made here, in the loop, and its deadline
is a plain timer: nothing is served yet that they could hold up.
"""

import asyncio
from collections.abc import Callable
from typing import Literal, Protocol

from tenure.base.clock import Clock
from tenure.base.ids import Nonce
from tenure.base.instants import NEVER
from tenure.raft.founding import (
    Founding,
    FoundingInput,
    FoundingMessage,
    FoundJoined,
    FoundPersisted,
    FoundReceived,
    Record,
)


class FoundingStore(Protocol):
    """Where the founding's state is kept."""

    def set_founding(
        self, state: Literal["pending", "sealed"], record: Record, lineage: tuple[Nonce, ...] = ()
    ) -> None:
        """Durable when it returns. An empty lineage is the record's nonce alone."""
        ...


class Founder:
    """`sealed` is called once, with the record, as soon as this member is durably part of a cluster."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        founding: Founding,
        store: FoundingStore,
        send: Callable[[str, FoundingMessage], None],
        sealed: Callable[[Record], None],
        tell: Callable[[tuple[str, ...], str | None, bool], None],
    ) -> None:
        """`tell(missing, refused, is_stranger)` hears of every change of who is waited for and why it can't go on."""
        self._loop = loop
        self._clock = clock
        self._founding = founding
        self._store = store
        self._send = send
        self._sealed = sealed
        self._tell = tell
        self._told: tuple[tuple[str, ...], str | None] | None = None
        self._done = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, or go on where the last life stopped."""
        self._step([])

    def receive(self, name: str, message: FoundingMessage) -> None:
        """A founding message came from the member of that name."""
        self._step([FoundReceived(name, message)])

    def joined(self, record: Record, lineage: tuple[Nonce, ...]) -> None:
        """The cluster has taken us in."""
        self._step([FoundJoined(record, lineage)])

    def stop(self) -> None:
        """No more steps by time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _step(self, inputs: list[FoundingInput]) -> None:
        while True:
            now = self._clock.now()
            ready = self._founding.step(inputs, now, self._clock.wall())
            for name, message in ready.send:
                self._send(name, message)
            if ready.persist is None:
                break
            self._store.set_founding(ready.persist.state, ready.persist.record, ready.persist.lineage)
            inputs = [FoundPersisted(ready.persist.state, ready.persist.record)]
        if ready.sealed is not None:
            self.stop()
            if not self._done:
                self._done = True
                self._sealed(ready.sealed)
            return
        if self._told != (ready.missing, ready.refused):
            self._told = (ready.missing, ready.refused)
            self._tell(ready.missing, ready.refused, ready.is_stranger)
        self.stop()
        if ready.deadline != NEVER:
            delay_s = max(0.0, (ready.deadline - now) / 1e6)
            self._timer = self._loop.call_later(delay_s, self._step, [])
