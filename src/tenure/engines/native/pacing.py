"""When to take a turn: as soon as something came in, once per loop iteration; and when a deadline comes.

A deadline may fire only after everything that was waiting in the sockets has been read (P4.7): after a stall the frame
that proves the leader alive lies there, unread. So a due timer does not take its turn itself. It lets the loop go round
once (`call_soon` twice: the second runs behind a poll of the sockets) and only then takes a turn with `drained` true.

Lateness is how far behind its time the loop comes to a timer; a turn that starts before the late timer does (the
sockets come first in the loop) sees it just as well, because it looks at when the timer was due.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from tenure.base.clock import Clock
from tenure.base.instants import MS, NEVER, Instant

tick_us: Final = 40 * MS
"""The timer never stands further ahead, so that a stall is measured to within that. Longer than a heartbeat: while the
leader is heard the timer is moved on by its turns and never fires."""
rearm_us: Final = 18 * MS
"""A timer that stands nearer than this (and before its deadline) is moved on by a turn. A heartbeat after it was set it
does; under load, where each turn moves the deadline a little, it is moved once in a while instead of each time."""

late_min_us: Final = 1 * MS
"""Less is noise of the loop's own timers."""

Turn = Callable[[Instant, bool, int | None], None]
"""`turn(now, drained, late_us)`; `late_us` is a new sample of our own lateness, or None."""


class Pacer:
    """Calls `turn` at the right moments. `arm` must be called at the end of each turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, turn: Turn) -> None:
        self._loop = loop
        self._clock = clock
        self._turn = turn
        self._soon = False
        self._hops = 0
        self._sample = 0
        self._deadline: Instant = NEVER
        self._due: Instant = NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def soon(self) -> None:
        """Something came in: take a turn once the loop has gathered what else there is."""
        if not self._soon:
            self._soon = True
            self._loop.call_soon(self._run_soon)

    def at_once(self) -> None:
        """Take a turn now."""
        self._take(drained=False)

    def arm(self, now: Instant, deadline: Instant) -> None:
        """A turn is over; the next is due at `deadline` if nothing happens before."""
        self._deadline = deadline
        if deadline <= now:
            self._drain()
        wanted = min(deadline, now + tick_us)
        if self._timer is None or wanted < self._due or (self._due < now + rearm_us and self._due < deadline):
            self._set_timer(now, max(wanted, now))

    def stop(self) -> None:
        """No more turns."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, now: Instant, at: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_ms = -((now - at) // MS)  # rounded up: the loop's timers know milliseconds
        self._due = Instant(now + delay_ms * MS)
        self._timer = self._loop.call_later(delay_ms / 1000, self._fired)

    def _take(self, drained: bool) -> None:
        if self._stopped:
            return
        self._soon = False
        now = self._clock.now()
        late = now - self._due
        if late >= late_min_us:
            # A stall shows in the first turn after it, whichever comes first; it is told once.
            self._sample = max(self._sample, late)
            self._due = now
        sample, self._sample = self._sample, 0
        self._turn(now, drained, sample or None)

    def _run_soon(self) -> None:
        if self._soon:  # else another turn has taken everything meanwhile
            self._take(drained=False)

    def _fired(self) -> None:
        self._timer = None
        if self._stopped:
            return
        now = self._clock.now()
        if now - self._due >= late_min_us:
            self._sample = max(self._sample, now - self._due)
        if now >= self._deadline:
            self._due = Instant(now + tick_us)
            self._drain()  # the turn that follows arms the timer anew
        else:
            self._set_timer(now, min(self._deadline, now + tick_us))

    def _drain(self) -> None:
        if self._hops == 0:
            self._hops = 2
            self._loop.call_soon(self._hop)

    def _hop(self) -> None:
        self._hops -= 1
        if self._hops:
            self._loop.call_soon(self._hop)
        else:
            self._take(drained=True)
