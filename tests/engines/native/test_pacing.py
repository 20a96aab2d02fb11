"""When turns are taken (P4.7, P6.3), on a loop and a clock that the test moves."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from tenure.base.instants import MS, Instant, WallMs
from tenure.engines.native.pacing import Pacer, tick_us


class Handle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """Rounds of a loop: due timers, then what was called soon before the round, then (for the test) the sockets."""

    def __init__(self) -> None:
        self.time = Instant(1_000_000)
        self._soon: list[Callable[[], None]] = []
        self._timers: list[tuple[int, Handle, Callable[[], None]]] = []

    def now(self) -> Instant:
        return self.time

    def wall(self) -> WallMs:
        return WallMs(0)

    def call_soon(self, call: Callable[[], None]) -> None:
        self._soon.append(call)

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Handle:
        handle = Handle()
        self._timers.append((self.time + round(delay_s * 1e6), handle, call))
        return handle

    def round(self) -> None:
        due = [timer for timer in self._timers if timer[0] <= self.time]
        self._timers = [timer for timer in self._timers if timer[0] > self.time]
        for _, handle, call in due:
            if not handle.cancelled:
                call()
        soon, self._soon = self._soon, []
        for call in soon:
            call()

    def sleep(self, us: int) -> None:
        """Time passes while the loop waits in its poll."""
        self.time = Instant(self.time + us)

    def timers(self) -> int:
        return len([handle for _, handle, _ in self._timers if not handle.cancelled])


class Turns:
    """What the pacer called, and the deadline that each turn ends with."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.deadline = Instant(self.loop.time + 1_000 * MS)
        self.taken: list[tuple[bool, int | None]] = []
        self.pacer = Pacer(cast("asyncio.AbstractEventLoop", cast(Any, self.loop)), self.loop, self._turn)

    def _turn(self, now: Instant, drained: bool, late_us: int | None) -> None:
        self.taken.append((drained, late_us))
        self.pacer.arm(now, self.deadline)


def started() -> Turns:
    turns = Turns()
    turns.pacer.soon()
    turns.loop.round()
    turns.taken.clear()
    return turns


def test_whatever_comes_in_one_round_takes_one_turn_and_fires_no_deadline() -> None:
    turns = started()
    for _ in range(5):
        turns.pacer.soon()
    turns.loop.round()
    assert turns.taken == [(False, None)]


def test_a_deadline_fires_only_after_the_sockets_were_read_once_more() -> None:
    turns = started()
    turns.deadline = Instant(turns.loop.time + 5 * MS)
    turns.pacer.at_once()
    turns.taken.clear()
    turns.loop.sleep(5 * MS)
    turns.loop.round()  # the timer; then the sockets are polled
    assert turns.taken == []
    turns.pacer.soon()  # and something lay in them
    turns.deadline = Instant(turns.loop.time + 1_000 * MS)
    turns.loop.round()
    assert turns.taken == [(True, None)], "one turn, with what was read and with the deadline"


def test_a_deadline_that_is_due_already_is_looked_at_in_the_next_rounds() -> None:
    turns = started()
    turns.deadline = turns.loop.time
    turns.pacer.at_once()
    turns.deadline = Instant(turns.loop.time + 1_000 * MS)
    turns.taken.clear()
    for _ in range(3):
        turns.loop.round()
    assert turns.taken == [(True, None)]


def test_a_stall_is_told_once_in_the_first_turn_after_it() -> None:
    turns = started()
    turns.loop.sleep(tick_us + 300 * MS)
    turns.pacer.soon()  # frames that had waited; on some loops they come before the late timer
    turns.loop.round()
    told = [late for _, late in turns.taken if late is not None]
    assert told == [300 * MS]
    turns.pacer.soon()
    turns.loop.round()
    assert [late for _, late in turns.taken if late is not None] == told


def test_while_turns_come_often_the_timer_is_moved_on_and_never_fires() -> None:
    turns = started()
    for _ in range(20):
        turns.loop.sleep(25 * MS)
        turns.pacer.soon()
        turns.loop.round()
    assert turns.taken == [(False, None)] * 20
    assert turns.loop.timers() == 1


def test_a_stopped_pacer_takes_no_turns() -> None:
    turns = started()
    turns.pacer.soon()
    turns.pacer.stop()
    turns.loop.round()
    turns.loop.sleep(1_000 * MS)
    turns.loop.round()
    assert turns.taken == []
