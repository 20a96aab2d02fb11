"""Watchers: each wants to miss nothing, at one member after the other, and says when it did (S20)."""

from dataclasses import dataclass
from random import Random

from tenure.leadership.engine import Compacted, Transition
from tests.sim.host import Host
from tests.sim.watching import Tap
from tests.sim.world import World


@dataclass
class Watcher:
    """Somebody slow who wants to miss nothing, at one member after the other."""

    world: World
    name: str
    rng: Random
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
