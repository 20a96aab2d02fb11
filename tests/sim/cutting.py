"""Partitions: which ways are cut, for how long, and how it ends."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from tests.sim.host import Host
from tests.sim.plan import MS

if TYPE_CHECKING:
    from random import Random

    from tests.sim.world import World

Ways = list[tuple[Host, Host]]


def pairs(left: Sequence[Host], right: Sequence[Host]) -> Ways:
    """Both ways between two groups."""
    return [way for one in left for other in right for way in ((one, other), (other, one))]


def halves(hosts: Sequence[Host], rng: "Random") -> Ways:
    """Two groups that don't see each other."""
    mixed = rng.sample(hosts, len(hosts))
    middle = rng.randint(0, len(mixed))
    return pairs(mixed[:middle], mixed[middle:])


def bridge(hosts: Sequence[Host], rng: "Random") -> Ways:
    """Two groups that see each other only through one member."""
    rest = rng.sample(hosts, len(hosts))[1:]
    middle = len(rest) // 2
    return pairs(rest[:middle], rest[middle:])


def chain(hosts: Sequence[Host], rng: "Random") -> Ways:
    """Each sees its two neighbours alone."""
    line = rng.sample(hosts, len(hosts))
    return [way for place, one in enumerate(line) for way in pairs([one], line[place + 2 :])]


def hub(hosts: Sequence[Host], middle: Host) -> Ways:
    """Everybody sees one member, and nobody else."""
    rest = [host for host in hosts if host is not middle]
    return [way for place, one in enumerate(rest) for way in pairs([one], rest[place + 1 :])]


class Cutting:
    """Cuts ways, lets both ends notice or not, and mends them."""

    def __init__(self, world: "World", rng: "Random", until: Callable[[int, Callable[[], None]], None]) -> None:
        """`until(micros, undo)` undoes something after a while, unless everything was mended before."""
        self.world = world
        self.rng = rng
        self.until = until

    def cut(self, ways: Ways, micros: int) -> None:
        """Nothing passes these ways for a while; later both ends notice, and after that they connect again."""
        for one, other in ways:
            one.ways[other.index].cut = True
        if self.rng.random() < 0.5:
            for one, other in ways:
                self.until(self.rng.randrange(1, 2 * micros + 2), partial(self.give_up, one, other))
        self.until(micros, partial(self.mend, ways))

    def give_up(self, one: Host, other: Host) -> None:
        """The connection is given up by both ends."""
        if one.replica is None or other.replica is None or not one.ways[other.index].cut:
            return
        network = self.world.network
        network.disconnect(one, other)
        network.lose(one, other, "timeout", 0)
        network.lose(other, one, "timeout", 0)

    def mend(self, ways: Ways) -> None:
        """Frames pass again."""
        network = self.world.network
        for one, other in ways:
            one.ways[other.index].cut = False
        for one, other in ways:
            if one.replica is not None and other.replica is not None and network.reachable(one, other):
                network.connect(one, other, network.delay(one.ways[other.index]))

    def flap(self, one: Host, other: Host) -> None:
        """FIN without death, and soon a new connection."""
        network, way = self.world.network, one.ways[other.index]
        if one.replica is None or other.replica is None or not way.linked:
            return
        network.disconnect(one, other)
        network.lose(one, other, "fin", network.delay(way))
        network.lose(other, one, "fin", network.delay(way))
        network.connect(one, other, 2 * network.delay(way) + self.rng.randrange(20 * MS))

    def flap_often(self, one: Host, other: Host) -> None:
        """One link that breaks and comes back, again and again."""
        for number in range(self.rng.randint(2, 8)):
            self.until(number * self.rng.randint(5, 50) * MS, partial(self.flap, one, other))
