"""A few consensus cores on true time: frames take a while, writes too, links break one way, members freeze.

Smaller than the simulator and without chance (but for jitter and loss from a fixed seed), for claims about time: who
leads after so many milliseconds, and how often that changed. As in the driver, frames come in steps whose sockets may
hold more, and deadlines fire in a step of their own.
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush

from tenure.base.chance import SplitMix64
from tenure.base.ids import BatchNumber, Boot, LogIndex
from tenure.base.instants import MS, Instant
from tenure.raft.core import Raft
from tenure.raft.entries import Configuration, Seat
from tenure.raft.events import Event, Lateness, LinkLost, LinkUp, Persisted, Propose, Received, RttSample
from tenure.raft.ready import Batch, Ready
from tenure.raft.settings import Identity, Settings
from tests.raft import names
from tests.raft.stage import LINEAGE
from tests.sim.disk import Disk

REDIAL_US = 20 * MS


@dataclass
class Node:
    """One member. `frozen_until`: nothing reaches it before; what comes waits in its sockets."""

    name: str
    disk: Disk
    life: int = 0
    raft: Raft | None = None
    timer: int = 0
    sync_us: int = 1 * MS
    stalled_until: int = 0
    frozen_since: int = 0
    frozen_until: int = 0
    sockets: list[Event] = field(default_factory=list)

    @property
    def boot(self) -> Boot:
        return Boot(f"{self.name}.{self.life}")


class Net:
    """Members m1 … mN, all linked; the last `observers` of them are observers."""

    def __init__(
        self,
        size: int,
        *,
        delay_us: int = 500,
        priorities: tuple[int, ...] = (),
        settings: Settings | None = None,
        observers: int = 0,
    ) -> None:
        seats = tuple(
            Seat(
                names.member_id(f"m{number}"), f"m{number}", f"h:{number}",
                "observer" if number > size - observers else "voter", priority,
            )
            for number, priority in zip(range(1, size + 1), priorities or (0,) * size, strict=True)
        )  # fmt: skip
        self.settings = settings or Settings()
        self.configuration = Configuration(LogIndex(0), seats)
        self.nodes = {seat.name: Node(seat.name, Disk(self.configuration)) for seat in seats}
        self.delay_us, self.jitter_us, self.loss_percent = delay_us, 0, 0
        self.rng = SplitMix64(7)
        self.now = 10 * MS
        self.dead: set[tuple[str, str]] = set()
        """Ways that carry nothing."""
        self.heap: list[tuple[int, int, str, int, object]] = []
        self.number = 0
        self.reigns: list[tuple[int, int, str]] = []
        """(when, term, who) of every leadership that was won."""
        self.frames = 0
        for name in self.nodes:
            self.start(name)

    # --- what is done to it

    def start(self, name: str) -> None:
        """A (new) life, linked with all that can be reached."""
        node = self.nodes[name]
        node.life += 1
        restored = node.disk.restored()
        node.raft = Raft(
            Identity(names.member_id(name), node.boot, (LINEAGE,)), restored, self.settings,
            SplitMix64(node.life * 100 + int(name[1:])), Instant(self.now),
        )  # fmt: skip
        self.step(node, [])
        for other in self.nodes.values():
            if other is not node and other.raft is not None:
                self.link(other.name, name)
                self.link(name, other.name)

    def kill(self, name: str, *, silently: bool = False) -> None:
        """The process ends; its connections with it, unless the whole machine went."""
        node = self.nodes[name]
        boot, node.raft = node.boot, None
        node.disk.crash(keep=False)
        for other in self.nodes.values():
            if other.raft is not None and not silently and (name, other.name) not in self.dead:
                self.push(self.delay_us, other.name, LinkLost(names.member_id(name), boot, "fin"))

    def cut(self, *ways: str, silently: bool = False) -> None:
        """Nothing passes `a>b` any more; `b` sees a FIN, unless it happens silently."""
        for way in ways:
            sender, to = way.split(">")
            self.dead.add((sender, to))
            if not silently and self.nodes[to].raft is not None:
                self.push(0, to, LinkLost(names.member_id(sender), self.nodes[sender].boot, "fin"))

    def heal(self, *ways: str) -> None:
        """These ways (or all) carry frames again, over new connections."""
        for sender, to in [tuple(way.split(">")) for way in ways] or sorted(self.dead):
            self.dead.discard((sender, to))
            if self.nodes[sender].raft is not None and self.nodes[to].raft is not None:
                self.link(sender, to)

    def only(self, *pairs: str, silently: bool = False) -> None:
        """All ways but these pairs, both ways, are cut."""
        kept = {tuple(pair.split("-")) for pair in pairs}
        for a in self.nodes:
            for b in self.nodes:
                if a != b and (a, b) not in kept and (b, a) not in kept:
                    self.cut(f"{a}>{b}", silently=silently)

    def freeze(self, name: str, micros: int) -> None:
        """The process stands still for so long."""
        self.nodes[name].frozen_since, self.nodes[name].frozen_until = self.now, self.now + micros
        self.push(micros, name, "wake")

    def stall(self, name: str, micros: int) -> None:
        """Its disk completes nothing for so long."""
        self.nodes[name].stalled_until = self.now + micros

    def propose(self, name: str) -> None:
        """A command."""
        self.step(self.nodes[name], [Propose(1, b"x")])

    # --- time

    def run(self, micros: int) -> "Net":
        """Go on for so long."""
        end = self.now + micros
        while self.heap and self.heap[0][0] <= end:
            at, _, name, life, what = heappop(self.heap)
            self.now = max(self.now, at)
            node = self.nodes[name]
            if node.raft is not None and (life == node.life or isinstance(what, LinkLost | LinkUp)):
                self.happen(node, what)
        self.now = end
        return self

    def until_led(self, within_us: int, *, by: str | None = None) -> int:
        """How long it takes until somebody serves in the highest term."""
        begun = self.now
        while self.leader() is None or (by is not None and self.leader() != by):
            assert self.now - begun <= within_us, f"no leader after {self.now - begun} µs: {self.show()}"
            self.run(500)
        return self.now - begun

    def happen(self, node: Node, what: object) -> None:
        """One thing reaches a member: an event, the end of a write, its timer, or its waking."""
        frozen = self.now < node.frozen_until
        if isinstance(what, Batch):
            if self.now < max(node.stalled_until, node.frozen_until):
                self.push(max(node.stalled_until, node.frozen_until) - self.now, node.name, what)
                return
            node.disk.complete()
            for envelope in what.send_after_persist:
                self.send(envelope)
            self.step(node, [Persisted(what.number, node.sync_us)])
        elif what == "wake":
            waiting, node.sockets = node.sockets, []
            self.step(node, [Lateness(self.now - node.frozen_since), *waiting])
            self.step(node, [], drained=True)
        elif isinstance(what, int):
            if what == node.timer and not frozen:
                self.step(node, [], drained=True)
        elif frozen:
            node.sockets.append(what)  # type: ignore[arg-type]
        else:
            self.step(node, [what])  # type: ignore[list-item]

    # --- inside

    def push(self, later_us: int, name: str, what: object) -> None:
        """Something will happen to a member."""
        self.number += 1
        heappush(self.heap, (self.now + later_us, self.number, name, self.nodes[name].life, what))

    def link(self, sender: str, to: str) -> None:
        """`to` sees a connection from `sender` stand."""
        if (sender, to) in self.dead:
            return
        raft = self.nodes[sender].raft
        told = raft.known_batch(names.member_id(to)) if raft is not None else BatchNumber(0)
        peer = names.member_id(sender)
        self.push(REDIAL_US, to, LinkUp(peer, self.nodes[sender].boot, told, 1))
        for _ in range(3):
            self.push(REDIAL_US + 2 * self.delay_us, to, RttSample(peer, 2 * self.delay_us))

    def send(self, envelope: object) -> None:
        """A frame leaves."""
        sender, to = names.name_of(envelope.sender), names.name_of(envelope.to)  # type: ignore[attr-defined]
        self.frames += 1
        if (sender, to) in self.dead or self.nodes[to].raft is None or self.rng.below(100) < self.loss_percent:
            return
        self.push(self.delay_us + self.rng.below(self.jitter_us + 1), to, Received(envelope))  # type: ignore[arg-type]

    def step(self, node: Node, events: list[Event], *, drained: bool = False) -> None:
        """Step a member and act on what follows."""
        assert node.raft is not None
        before = node.raft.role, node.raft.term
        ready: Ready = node.raft.step(events, Instant(self.now), drained)
        assert ready.fatal is None, ready.fatal
        for envelope in ready.send:
            self.send(envelope)
        if ready.write is not None:
            node.disk.submit(ready.write)
            self.push(node.sync_us, node.name, ready.write)
        if node.raft.role == "leader" and before != ("leader", node.raft.term):
            assert all(term != node.raft.term for _, term, _ in self.reigns), f"two leaders in term {node.raft.term}"
            self.reigns.append((self.now, node.raft.term, node.name))
        node.timer += 1
        self.push(max(0, ready.deadline - self.now) if ready.deadline < 2**61 else 10**12, node.name, node.timer)

    # --- looking

    def leader(self) -> str | None:
        """Who serves in the highest term of all that lead."""
        led = [node for node in self.nodes.values() if node.raft is not None and node.raft.is_serving]
        led = [node for node in led if self.now >= node.frozen_until]
        best = max(led, key=lambda node: node.raft.term if node.raft else 0, default=None)
        return best.name if best is not None else None

    def changes(self) -> int:
        """How many leaderships were won."""
        return len(self.reigns)

    def show(self) -> str:
        """For failures."""
        return ", ".join(
            f"{node.name} {node.raft.role} t{node.raft.term}" for node in self.nodes.values() if node.raft is not None
        )
