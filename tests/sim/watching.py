"""Who watches: each transition once and in order, or an explicit `Compacted` (S20), through the engine's `Watchers`.

A watch is an asynchronous generator that waits for futures of its loop. Here nothing waits: a *tap* asks it for the
next batch when the watcher gets round to it, and a future that isn't done yet means that there is none.
"""

from collections.abc import AsyncIterator, Generator
from typing import TYPE_CHECKING, Any

from tenure.engines.native.inputs import Effects
from tenure.engines.native.replica import Replica
from tenure.engines.native.watching import Watchers
from tenure.leadership.engine import Compacted, Transition
from tests.sim.host import Host

if TYPE_CHECKING:
    from tests.sim.world import World


class _Wake:
    """As much of a future as a watch needs."""

    def __init__(self) -> None:
        self._done = False

    def done(self) -> bool:
        return self._done

    def set_result(self, _result: None) -> None:
        self._done = True

    def __await__(self) -> "Generator[_Wake, None, None]":
        if not self._done:
            yield self


class _Loop:
    """As much of a loop as a watch needs."""

    def create_future(self) -> Any:
        return _Wake()


class Tap:
    """One watch at one member, in one life of its process."""

    def __init__(self, watch: AsyncIterator[tuple[Transition, ...] | Compacted]) -> None:
        self._watch = watch
        self._asked: Any = None
        self._wake: _Wake | None = None

    def next(self) -> tuple[Transition, ...] | Compacted | None:
        """The next batch; None: nothing yet."""
        if self._wake is not None and not self._wake.done():
            return None
        self._wake = None
        if self._asked is None:
            self._asked = self._watch.__anext__()
        try:
            self._wake = self._asked.send(None)
        except StopIteration as batch:
            self._asked = None
            found: tuple[Transition, ...] | Compacted = batch.value
            return found
        return None


class Taps:
    """Everybody who watches, at each member."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self._at: dict[str, Watchers] = {}
        """By the boot of the member's process."""

    def open(self, host: Host, after: int | None) -> Tap:
        """Begin a watch, as the driver does."""
        replica = host.replica
        assert replica is not None
        watchers = self._at.get(host.boot)
        if watchers is None:
            limit = self.world.plan.engine.watch_queued_max
            watchers = self._at[host.boot] = Watchers(_Loop(), limit)  # type: ignore[arg-type]  # all that it asks of a loop
        return Tap(watchers.watch(after, lambda: replica.machine.last_transition, lambda last: _read(replica, last)))

    def publish(self, host: Host, effects: Effects) -> None:
        """What a turn has changed."""
        watchers = self._at.get(host.boot)
        if watchers is None:
            return
        if effects.replaced:
            watchers.skipped()
        else:
            watchers.publish(effects.transitions)

    def died(self, host: Host) -> None:
        """Its watches are over."""
        self._at.pop(host.boot, None)


def _read(replica: Replica, after: int) -> tuple[Transition, ...] | Compacted:
    return replica.machine.transitions_after(after)
