"""A cluster of consensus cores on a stage: every message, disk write and clock moves only when the script says so.

Messages wait in one queue until they are delivered, dropped or held. A write waits until it is persisted. Each member
has a clock of its own. What happens is written down line by line; that is a script's output.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from tenure.base.chance import SplitMix64
from tenure.base.ids import BatchNumber, Boot, ConsensusTerm, LogIndex, MemberId, Nonce
from tenure.base.instants import Instant
from tenure.base.lineages import why_not
from tenure.base.versions import feature_newest
from tenure.raft.core import Raft
from tenure.raft.entries import COMMAND, Configuration, Entry, HardState, Image, Seat, Snapshot
from tenure.raft.events import ChangeMembership, Event, LinkLost, LinkUp, Persisted, Propose, Received, TakeSnapshot
from tenure.raft.membership import Wish
from tenure.raft.messages import Envelope, Evidence, Heartbeat, HeartbeatReply
from tenure.raft.ready import Batch, Ready
from tenure.raft.settings import Identity, Settings
from tests.raft import names
from tests.raft.names import Mail
from tests.sim.disk import Disk

LINEAGE = Nonce("f" * 16)
START = Instant(1_000_000)
SYNC_US = 1_000
settle_max = 3_000


@dataclass
class Actor:
    """One member: its disk, its clock, and the process if one lives."""

    name: str
    id: MemberId
    disk: Disk
    rng: SplitMix64
    now: Instant = START
    life: int = 0
    raft: Raft | None = None
    deadline: Instant = START
    manual_disk: bool = False
    speaks: int = feature_newest
    """The newest feature version of its program (P10)."""
    configuration: Configuration | None = None
    applied: list[Entry | Snapshot] = field(default_factory=list)
    lineage: tuple[Nonce, ...] = (LINEAGE,)
    past: list[Disk] = field(default_factory=list)
    """What the disk held after each batch, for those that go back."""

    @property
    def boot(self) -> Boot:
        """The nonce of this life, readable."""
        return Boot(f"{self.name}.{self.life}")

    def state(self) -> bytes:
        """The state machine: all commands applied, in their order."""
        held: list[str] = []
        for item in self.applied:
            if isinstance(item, Snapshot):
                held = b"".join(item.image.pieces).decode().split()
            elif item.kind == COMMAND:
                held.append(item.data.decode())
        return " ".join(held).encode()


@dataclass(frozen=True)
class Write:
    """A write that the disk has and that is due to complete."""

    member: str
    number: BatchNumber


class Stage:
    """Members, what is on its way between them, and the record of what happened."""

    def __init__(self, size: int, settings: Settings) -> None:
        seats = tuple(
            Seat(names.member_id(f"m{number}"), f"m{number}", f"10.0.0.{number}:8369") for number in range(1, size + 1)
        )
        self.settings = settings
        self.configuration = Configuration(LogIndex(0), seats)
        self.actors = {
            seat.name: Actor(
                seat.name, seat.id, Disk(self.configuration), SplitMix64(number), configuration=self.configuration
            )
            for number, seat in enumerate(seats)
        }
        self.queue: list[Mail | Write] = []
        self.held: list[tuple[Callable[[Mail], bool], list[Mail]]] = []
        self.cut: set[tuple[str, str]] = set()
        self.lines: list[str] = []
        self.show_beats = False
        self.token = 0
        self.leaders: dict[int, set[str]] = {}

    def seat_witness(self, name: str) -> None:
        """Before anything runs: this voter is a witness (P8)."""
        seats = tuple(
            msgspec.structs.replace(seat, role="witness") if seat.name == name else seat
            for seat in self.configuration.seats
        )
        self.configuration = Configuration(LogIndex(0), seats)
        for actor in self.actors.values():
            actor.disk = Disk(self.configuration)
            actor.configuration = self.configuration

    # --- members ----------------------------------------------------------------------------------------------------

    def say(self, line: str) -> None:
        """Write down what happened."""
        self.lines.append(line)

    def live(self) -> Iterable[Actor]:
        """Members whose process lives."""
        return [actor for actor in self.actors.values() if actor.raft is not None]

    def raft(self, name: str) -> Raft:
        """The core of a living member."""
        raft = self.actors[name].raft
        assert raft is not None, f"{name} is down"
        return raft

    def start(self, name: str) -> None:
        """A new life of the process, with what its disk holds."""
        actor = self.actors[name]
        assert actor.raft is None, f"{name} lives"
        actor.life += 1
        identity = Identity(actor.id, actor.boot, actor.lineage)
        restored = actor.disk.restored()
        actor.raft = Raft(identity, restored, self.settings_of(actor), actor.rng, actor.now)
        actor.applied = [restored.snapshot] if restored.snapshot else []
        actor.deadline = actor.now
        self.step(actor, [])

    def settings_of(self, actor: Actor) -> Settings:
        """All members have the same, but for their program's version."""
        return msgspec.structs.replace(self.settings, feature_max=actor.speaks)

    def join(self, name: str) -> None:
        """A member that was not founded: an empty disk, which knows the founding configuration."""
        disk = Disk(self.configuration)
        number = len(self.actors)
        self.actors[name] = Actor(
            name, names.member_id(name), disk, SplitMix64(number), configuration=self.configuration,
            now=max(actor.now for actor in self.actors.values()),
        )  # fmt: skip
        self.start(name)

    def revive(self, name: str, old: str) -> None:
        """A member of a new cluster, alone in it, begins with what `old` had applied when it ended (P1.4).

        What `server.reviving` does with directories: a nonce more, a new id, higher indexes and terms.
        """
        past = self.actors[old]
        assert past.raft is None, f"{old} runs"
        index = LogIndex((past.applied[-1].index if past.applied else 0) + 100)
        seat = Seat(names.member_id(name), name, f"10.0.0.{name[1:]}:8369")
        disk = Disk(Configuration(index, (seat,)))
        term = ConsensusTerm(past.disk.hard_state.term + 1)
        disk.hard_state = HardState(term, None)
        disk.snapshot = Snapshot(index, term, disk.configuration, 1, Image.of([past.state()]))
        disk.base = index
        lineage = (*past.lineage, Nonce(f"{int(name[1:]):016x}"))
        self.actors[name] = Actor(name, seat.id, disk, SplitMix64(int(name[1:])), past.now, lineage=lineage)
        self.say(f"{name} goes on from {old}, under a new lineage")

    def connect(self, name: str, other: str) -> None:
        """Both ends learn that the link stands, and what the other knows of their disk (P1.3)."""
        for here, there in ((name, other), (other, name)):
            if (there, here) in self.cut:
                continue
            why = why_not(there, self.actors[here].lineage, self.actors[there].lineage)
            if why is not None:  # as `native.member` judges a handshake
                self.say(f"{here} refuses {there}: {why.partition(':')[0]}")
                continue
            self.step(self.actors[here], [self.link_up(here, there)])

    def link_up(self, here: str, there: str) -> LinkUp:
        """What the handshake with `there` tells `here`."""
        peer = self.actors[there]
        told = self.raft(there)._core.known_batches.get(self.actors[here].id, BatchNumber(0))
        return LinkUp(peer.id, peer.boot, told, peer.speaks, self.raft(there).feature)

    def stop(self, name: str, *, keep: bool) -> None:
        """The process dies; its unfinished write is kept or lost; messages to it die with its sockets."""
        actor = self.actors[name]
        assert actor.raft is not None, f"{name} is down"
        actor.raft = None
        actor.disk.crash(keep=keep)
        self.queue = [
            item
            for item in self.queue
            if not (isinstance(item, Write) and item.member == name)
            and not (not isinstance(item, Write) and names.way(item)[1] == name)
        ]

    def lose(self, here: str, there: str, evidence: Evidence, *, closing: bool = False) -> None:
        """`here` loses its connection from `there`."""
        peer = self.actors[there]
        self.step(self.actors[here], [LinkLost(peer.id, peer.boot, evidence, closing)])

    # --- one step ---------------------------------------------------------------------------------------------------

    def step(self, actor: Actor, events: list[Event], *, drained: bool = True) -> None:
        """Step a member and act on what follows, in the order of `Ready`."""
        if actor.raft is None:
            return
        ready = actor.raft.step(events, actor.now, drained)
        actor.deadline = ready.deadline
        self.tell(actor, ready)
        for sent in ready.send:
            self.post(sent)
        if ready.write is not None:
            self.submit(actor, ready.write)
        self.apply(actor, ready)
        for read in ready.reads:
            self.say(f"{actor.name} may answer read {read.token} at {read.index}")
        for changed in ready.changes:
            why = f", {changed.refusal.code}: {changed.refusal.text}" if changed.refusal else ""
            self.say(f"{actor.name} change {changed.token}: {changed.outcome}{why}")
        if ready.configuration is not None and ready.configuration != actor.configuration:
            actor.configuration = ready.configuration
            self.say(f"{actor.name} uses {names.seats(ready.configuration)} of index {ready.configuration.index}")
        for ended in ready.transfers:
            self.say(f"{actor.name} transfer {ended.token}: {ended.outcome}, leader {names.name_of(ended.leader)}")
        if ready.snapshot_wanted:
            self.snapshot(actor.name)
        if ready.fatal is not None:
            self.say(f"{actor.name} stops: {ready.fatal.reason}")
        if actor.raft.role == "leader":
            self.leaders.setdefault(actor.raft.term, set()).add(actor.name)

    def apply(self, actor: Actor, ready: Ready) -> None:
        """What is committed reaches the state machine."""
        actor.applied.extend(ready.committed)
        told = [item for item in ready.committed if isinstance(item, Snapshot) or item.kind == COMMAND]
        if len(told) > 3:
            self.say(f"{actor.name} applies {names.entry(told[0])} … {names.entry(told[-1])}")
        else:
            for item in told:
                self.say(f"{actor.name} applies {names.entry(item)}")

    def tell(self, actor: Actor, ready: Ready) -> None:
        """Decisions with their reasons, and what became of proposals."""
        for trace in ready.traces:
            detail = " ".join(f"{key}={self.plain(value)}" for key, value in trace.detail.items())
            self.say(f"{actor.name} · {trace.what} {detail}".rstrip())
        for taken in ready.accepted:
            self.say(f"{actor.name} took {taken.token} as {names.place(taken.index, taken.term)}")
        for refused in ready.refused:
            self.say(f"{actor.name} refused {refused.token}: {refused.reason}, leader {names.name_of(refused.leader)}")

    def plain(self, value: int | str | bool | None) -> str:
        """A trace's value, ids as names."""
        known = {actor.id for actor in self.actors.values()}
        return names.name_of(value) if isinstance(value, str) and value in known else str(value)

    def submit(self, actor: Actor, batch: Batch) -> None:
        """The disk takes a batch."""
        actor.disk.submit(batch)
        parts = []
        if batch.hard_state is not None:
            parts.append(f"term {batch.hard_state.term} vote {names.name_of(batch.hard_state.vote)}")
        if batch.snapshot is not None:
            parts.append(("install " if batch.install else "") + names.entry(batch.snapshot))
        if batch.compact_to is not None:
            parts.append(f"compact to {batch.compact_to}")
        if batch.truncate_from is not None:
            parts.append(f"truncate from {batch.truncate_from}")
        if batch.entries:
            parts.append(names.entries(batch.entries))
        if batch.known_batches is not None:
            parts.append("batches")
        self.say(f"{actor.name} writes #{batch.number}: {', '.join(parts) or 'nothing'}")
        self.queue.append(Write(actor.name, batch.number))

    def persist(self, name: str) -> None:
        """The write in flight is durable: what waited for it leaves, then the core hears of it."""
        actor = self.actors[name]
        batch = actor.disk.complete()
        actor.past.append(actor.disk.copy())
        self.queue = [item for item in self.queue if item != Write(name, batch.number)]
        for sent in batch.send_after_persist:
            self.post(sent)
        self.step(actor, [Persisted(batch.number, SYNC_US)])

    def change(self, name: str, wish: Wish, expected: LogIndex | None, *, dry_run: bool) -> None:
        """Ask for a change of the members."""
        self.token += 1
        self.step(self.actors[name], [ChangeMembership(self.token, wish, expected, dry_run)])

    # --- the network ------------------------------------------------------------------------------------------------

    def post(self, sent: Mail) -> None:
        """A message leaves; a cut link swallows it, a hold keeps it."""
        way = names.way(sent)
        beat = isinstance(sent, Envelope) and isinstance(sent.message, Heartbeat | HeartbeatReply)
        if way in self.cut or (way[1] in self.actors and self.actors[way[1]].raft is None):
            return
        for matches, kept in self.held:
            if matches(sent):
                self.say(f"held {names.letter(sent)}")
                kept.append(sent)
                return
        if not beat or self.show_beats:
            self.say(names.letter(sent))
        self.queue.append(sent)

    def take(self, item: Mail) -> None:
        """A message arrives."""
        assert isinstance(item, Envelope)
        actor = self.actors[names.name_of(item.to)]
        if (names.name_of(item.sender), actor.name) not in self.cut:
            self.step(actor, [Received(item)])

    def settle(self, matches: Callable[[Mail], bool] | None = None) -> None:
        """Deliver what is under way, and what follows, until nothing moves; persist where the disk isn't manual."""
        for _ in range(settle_max):
            item = self.next_item(matches)
            if item is None:
                return
            if isinstance(item, Write):
                self.persist(item.member)
            else:
                self.queue.remove(item)
                self.take(item)
        raise AssertionError(f"no rest after {settle_max} messages and writes")

    def next_item(self, matches: Callable[[Mail], bool] | None) -> Mail | Write | None:
        """The first in the queue that may move."""
        for item in self.queue:
            if isinstance(item, Write):
                if not self.actors[item.member].manual_disk:
                    return item
            elif matches is None or matches(item):
                return item
        return None

    # --- time -------------------------------------------------------------------------------------------------------

    def advance(self, actors: list[Actor], micros: int, *, settle: bool) -> None:
        """The clocks of `actors` go on; each is stepped at its deadlines; with `settle` all is delivered at once."""
        ends = {actor.name: Instant(actor.now + micros) for actor in actors}
        again = 0
        for _ in range(200_000):
            due = [actor for actor in actors if actor.raft is not None and actor.deadline <= ends[actor.name]]
            if not due:
                break
            start = {actor.name: ends[actor.name] - micros for actor in actors}
            first = min(due, key=lambda actor: (max(actor.deadline, actor.now) - start[actor.name], actor.name))
            passed = max(first.deadline, first.now) - start[first.name]
            for actor in actors:
                actor.now = Instant(max(actor.now, start[actor.name] + passed))
            self.step(first, [])
            again = again + 1 if first.deadline <= first.now else 0
            assert again < 10, f"{first.name} asks to be stepped again at once, for ever"
            if settle:
                self.settle()
        for actor in actors:
            actor.now = max(actor.now, ends[actor.name])

    # --- requests ---------------------------------------------------------------------------------------------------

    def propose(self, name: str, text: str, expected: int | None) -> None:
        """Propose a command."""
        self.token += 1
        term = None if expected is None else ConsensusTerm(expected)
        self.step(self.actors[name], [Propose(self.token, text.encode(), term)])

    def snapshot(self, name: str) -> None:
        """Take a snapshot of what is applied."""
        actor = self.actors[name]
        last = actor.applied[-1]
        self.step(actor, [TakeSnapshot(last.index, self.raft(name).feature, Image.of([actor.state()]))])
