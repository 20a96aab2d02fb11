"""One follower of the engine's transitions for everybody who waits here: long polls, streams, counters.

Pushes and wake-ups are hints (API, Stream): whoever is woken asks again, so a lost hint costs time, never truth.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Iterator
from typing import Final, Protocol

from tenure.api.telemetry import Telemetry
from tenure.base.ids import SessionId
from tenure.leadership.engine import Compacted, Engine, Transition

_log: Final = logging.getLogger("tenure.api")
_again_s: Final = 0.5


class Listener(Protocol):
    """A stream with sessions attached to it."""

    def pushed(self, transition: Transition) -> None:
        """A transition that names one of its sessions. Must not raise, must not wait."""
        ...

    def missed(self, compacted: Compacted) -> None:
        """Transitions were lost on the way."""
        ...


async def follow(engine: Engine, after: int) -> AsyncGenerator[tuple[Transition, ...] | Compacted, None]:
    """`engine.watch` from `after` on, for ever: after a `Compacted` it goes on behind the gap."""
    while True:
        batches = engine.watch(after)
        gap = False
        try:
            async for batch in batches:
                yield batch
                if isinstance(batch, Compacted):
                    after, gap = max(after, batch.next_number - 1), True
                    break
                after = batch[-1].number
        finally:
            close = getattr(batches, "aclose", None)  # an async generator's; the protocol promises only iteration
            if close is not None:
                await close()
        if not gap:
            return


class Hub:
    """Started with the server's loop, stopped with it."""

    def __init__(self, engine: Engine, telemetry: Telemetry) -> None:
        self._engine = engine
        self._telemetry = telemetry
        self._task: asyncio.Task[None] | None = None
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._attached: dict[SessionId, Listener] = {}
        self.long_polls = 0

    def start(self) -> None:
        """Follow from now on; a second call does nothing."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(self._engine.last_transition()))

    async def stop(self) -> None:
        """Follow no more and wake all who wait."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._wake_all()

    def attach(self, session: SessionId, listener: Listener) -> None:
        """Pushes for `session` go to `listener`, which replaces an earlier one."""
        self.start()
        self._attached[session] = listener

    def is_attached(self, session: SessionId) -> bool:
        """Whether somebody gets the pushes of `session`."""
        return session in self._attached

    def detach(self, session: SessionId, listener: Listener) -> bool:
        """No more pushes; whether `listener` was still the one."""
        if self._attached.get(session) is not listener:
            return False
        del self._attached[session]
        return True

    @contextlib.contextmanager
    def waiting(self, election: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever a transition names the election."""
        self.start()
        event = asyncio.Event()
        events = self._waiting.setdefault(election, set())
        events.add(event)
        self.long_polls += 1
        try:
            yield event
        finally:
            self.long_polls -= 1
            events.discard(event)
            if not events and self._waiting.get(election) is events:
                del self._waiting[election]

    async def _run(self, after: int) -> None:
        while True:
            try:
                async for batch in follow(self._engine, after):
                    if isinstance(batch, Compacted):
                        after = max(after, batch.next_number - 1)
                        self._missed(batch)
                    else:
                        after = batch[-1].number
                        self._tell(batch)
            except Exception:  # noqa: BLE001 - whoever waits here must go on being told
                _log.exception("following the engine failed; again from %d", after)
                self._missed(Compacted(after + 1))
            await asyncio.sleep(_again_s)

    def _tell(self, batch: tuple[Transition, ...]) -> None:
        for transition in batch:
            self._telemetry.saw(transition)
            if transition.election is not None:
                for event in self._waiting.get(transition.election, ()):
                    event.set()
            listener = self._attached.get(transition.session) if transition.session is not None else None
            if listener is not None:
                listener.pushed(transition)

    def _missed(self, compacted: Compacted) -> None:
        self._wake_all()
        for listener in set(self._attached.values()):
            listener.missed(compacted)

    def _wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()
