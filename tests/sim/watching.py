"""Who watches: each transition once and in order, or an explicit `Compacted` (S20), through the engine's `Watchers`.

A watch is an asynchronous generator that waits for futures of its loop. Here nothing waits: a *tap* asks it for the
next batch when the watcher gets round to it, and a future that isn't done yet means that there is none.
"""

from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenure.engines.native.inputs import Effects
from tenure.engines.native.replica import Replica
from tenure.engines.native.watching import Watchers
from tenure.leadership.engine import Compacted, Transition
from tests.sim.host import Host

if TYPE_CHECKING:
    from random import Random

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


@dataclass
class Watcher:
    """Somebody slow who wants to miss nothing, at one member after the other."""

    world: "World"
    name: str
    rng: "Random"
    think_us: int
    seen: int | None = None
    """The number of the last transition that it was told, or told to have missed."""
    host: Host | None = None
    boot: str = ""
    tap: Tap | None = None
    told: int = 0

    def wake(self) -> None:
        """Look at what has come; sometimes go elsewhere."""
        if not self.stands() or self.rng.random() < 0.02:
            self.move()
        if self.tap is not None and self.host is not None and self.host.paused_until <= self.world.now:
            for _ in range(self.rng.randint(1, 5)):
                batch = self.tap.next()
                if batch is None:
                    break
                self.take(batch)
        self.world.later(1 + int(self.rng.expovariate(1 / self.think_us)), self.wake)

    def stands(self) -> bool:
        """Whether the member that it watches at still lives the same life."""
        host = self.host
        if self.tap is None or host is None or host.gone or host.replica is None or host.boot != self.boot:
            return False
        return not host.replica.witness and host in self.world.seated()

    def move(self) -> None:
        """Watch at some member that lives, if it finds one."""
        self.tap = None
        host = self.rng.choice(self.world.seated())
        if host.replica is None or host.gone or host.replica.witness:
            return
        self.host, self.boot = host, host.boot
        self.tap = self.world.taps.open(host, self.seen)

    def take(self, batch: tuple[Transition, ...] | Compacted) -> None:
        """No loss, no duplicate, nothing out of order, nothing that isn't committed."""
        observer = self.world.observer
        where = f"{self.name} at {self.boot}"
        if isinstance(batch, Compacted):
            self.world.seen["watch compacted"] += 1
            last = batch.next_number - 1
            if self.seen is not None and last < self.seen:
                observer.fail("S20", f"{where} has seen {self.seen} and is told to go on at {batch.next_number}")
            self.seen = last
            return
        for transition in batch:
            number = transition.number
            if self.seen is not None and number != self.seen + 1:
                observer.fail("S20", f"{where} is told {transition} after number {self.seen}")
            known = observer.leases.transitions
            if number > len(known) or known[number - 1] != transition:
                observer.fail("S20", f"{where} is told {transition}, which nobody has committed")
            self.seen = number
            self.told += 1

    def far_behind(self) -> bool:
        """Whether it was not told what it should have been by now (L2, for watchers): a few are always under way."""
        last = len(self.world.observer.leases.transitions)
        return self.seen is not None and self.seen < last - 200
