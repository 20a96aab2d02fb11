"""A flag that is set once, by the keeper's thread, and waited for by threads and by coroutines alike."""

import threading
from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio  # only ever needed by who awaits, and that one has it loaded


class Signal:
    """As `threading.Event` that is never cleared, and `await signal` too. `set` never blocks on who waits."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def __repr__(self) -> str:
        return f"<Signal {'set' if self.is_set() else 'unset'}>"

    def __bool__(self) -> bool:
        return self.is_set()

    def is_set(self) -> bool:
        """Whether it has been set."""
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block this thread until it is set or `timeout` seconds have passed; True if it is set."""
        return self._event.wait(timeout)

    def set(self) -> None:
        """Set it, for ever."""
        with self._lock:
            self._event.set()
            waiters, self._waiters = self._waiters, []
        for loop, future in waiters:
            with suppress(RuntimeError):  # that loop was closed: nobody waits there any more
                loop.call_soon_threadsafe(_wake, future)

    def __await__(self) -> Generator[None, None, None]:
        import asyncio

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        entry = (loop, future)
        with self._lock:
            if self._event.is_set():
                return
            self._waiters.append(entry)
        try:
            yield from future
        finally:
            with self._lock:
                if entry in self._waiters:
                    self._waiters.remove(entry)


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
