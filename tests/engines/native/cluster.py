"""Replicas wired by hand: virtual time, a network that delivers in order, disks that are done at the next step."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tenure.base.chance import SplitMix64
from tenure.base.ids import BatchNumber, Boot, ConsensusTerm, LogIndex, MemberId, Nonce
from tenure.base.instants import MS, NEVER, Instant, WallMs
from tenure.engines.native.inputs import Asked, Effects, Input, PeerCall, PeerFrame, PeerReply, ReplicaSettings, Staged
from tenure.engines.native.replica import Replica
from tenure.leadership.engine import AddMember, AnyRequest, AnyResult, MembersView, Origin, Transition
from tenure.leadership.machine import Machine
from tenure.raft.entries import Configuration, Entry, HardState, Restored, Seat, Snapshot
from tenure.raft.events import LinkLost, LinkUp, Persisted, Received
from tenure.raft.messages import Envelope
from tenure.raft.ready import Batch
from tenure.raft.settings import Identity, Settings
from tenure.wire.frames import Call, CallReply

LINEAGE = Nonce("00000000000000aa")
STAMP = 1000
WALL = WallMs(1_800_000_000_000)


@dataclass
class Disk:
    """Keeps what was written, as the storage contract says."""

    hard_state: HardState = field(default_factory=lambda: HardState(ConsensusTerm(0), None))
    snapshot: Snapshot | None = None
    entries: list[Entry] = field(default_factory=list)
    batch: BatchNumber = BatchNumber(0)
    known: dict[MemberId, BatchNumber] = field(default_factory=dict)

    def write(self, batch: Batch) -> None:
        """Take a batch."""
        self.batch = batch.number
        if batch.snapshot is not None:
            self.snapshot = batch.snapshot
            if batch.install:
                self.entries.clear()
        if batch.compact_to is not None:
            self.entries = [entry for entry in self.entries if entry.index >= batch.compact_to]
        if batch.truncate_from is not None:
            self.entries = [entry for entry in self.entries if entry.index < batch.truncate_from]
        self.entries.extend(batch.entries)
        self.hard_state = batch.hard_state or self.hard_state
        self.known = batch.known_batches or self.known


class Site:
    """One member: its replica in this life, its disk for ever."""

    def __init__(self, cluster: "Cluster", member: MemberId, name: str, seed: int) -> None:
        self.cluster = cluster
        self.member = member
        self.name = name
        self.disk = Disk()
        self.rng = SplitMix64(seed)
        self.lives = 0
        self.replica: Replica | None = None
        self.inbox: deque[Input] = deque()
        self.deadline = NEVER
        self.pending_batch: Batch | None = None
        self.waited = 0
        self.answers: dict[int, AnyResult] = {}
        self.transitions: list[Transition] = []
        self.effects: list[Effects] = []

    @property
    def alive(self) -> Replica:
        """The running replica."""
        assert self.replica is not None, f"{self.name} is dead"
        return self.replica

    def start(self) -> None:
        """Begin a life from the disk."""
        self.lives += 1
        disk = self.disk
        restored = Restored(
            hard_state=disk.hard_state,
            configuration=self.cluster.configuration,
            feature=1,
            snapshot=disk.snapshot,
            entries=tuple(disk.entries),
            batch=disk.batch,
            clean=self.lives == 1,
            known_batches=dict(disk.known),
        )
        snapshot = disk.snapshot
        machine = Machine.restore(snapshot.image.pieces) if snapshot is not None else Machine.founded(LINEAGE, STAMP)
        self.replica = Replica(
            Identity(self.member, Boot(f"{self.lives:016x}"), (LINEAGE,)),
            self.name,
            restored,
            machine,
            Settings(log_kept_entries=5, log_held_entries_max=5),
            self.rng,
            self.cluster.now,
            limits=self.cluster.limits,
            api=f"{self.name}:80",
        )
        self.inbox.clear()
        self.pending_batch = None
        self.deadline = self.cluster.now


class Cluster:
    """A handful of sites and the time."""

    def __init__(self, size: int, limits: ReplicaSettings | None = None) -> None:
        self.now = Instant(1_000_000)
        self.limits = limits or ReplicaSettings()
        self.sites = [Site(self, MemberId(f"{n + 1:016x}"), f"m{n + 1}", n + 7) for n in range(size)]
        seats = tuple(Seat(site.member, site.name, f"{site.name}:1") for site in self.sites)
        self.configuration = Configuration(LogIndex(0), seats)
        self.by_member = {site.member: site for site in self.sites}
        self._token = 0
        self.staged = 0
        """Pieces of snapshots that went to a disk by themselves."""
        self.space = True
        """Whether disks have room for such pieces."""
        self.disk_rounds = 0
        """How many rounds of deliveries a batch takes; pieces take none."""
        self._broken: set[tuple[MemberId, MemberId]] = set()
        for site in self.sites:
            site.start()
        for site in self.sites:
            self._join(site)

    def _join(self, site: Site) -> None:
        for other in self.sites:
            if other is not site and other.replica is not None:
                self._link(site, other)
                self._link(other, site)

    def _link(self, to: Site, other: Site) -> None:
        told = other.disk.known.get(to.member, BatchNumber(0))
        to.inbox.append(LinkUp(other.member, Boot(f"{other.lives:016x}"), told, 1))

    def join(self, name: str, **how: Any) -> Site:
        """A new member starts on an empty disk, and is added as an observer."""
        number = len(self.sites) + 1
        site = Site(self, MemberId(f"{number:016x}"), name, number + 6)
        self.sites.append(site)
        self.by_member[site.member] = site
        site.start()
        self._join(site)
        added = self.answer(self.leader, AddMember(site.member, name, f"{name}:1", **how))
        assert isinstance(added, MembersView), added
        return site

    def break_link(self, one: Site, other: Site) -> None:
        """Nothing passes between these two any more, and both notice it."""
        for here, there in ((one, other), (other, one)):
            self._broken.add((here.member, there.member))
            here.inbox.append(LinkLost(there.member, Boot(f"{there.lives:016x}"), "timeout"))

    def kill(self, site: Site) -> None:
        """As by kill -9: the others see the connection end."""
        site.replica = None
        for other in self.sites:
            if other.replica is not None:
                other.inbox.append(LinkLost(site.member, Boot(f"{site.lives:016x}"), "fin"))

    def restart(self, site: Site) -> None:
        """The process comes back."""
        site.start()
        self._join(site)

    @property
    def leader(self) -> Site:
        """The one that leads and serves."""
        leaders = [site for site in self.sites if site.replica is not None and site.replica.raft.is_serving]
        assert leaders, f"nobody leads at {self.now}"
        return max(leaders, key=lambda site: site.alive.raft.term)

    def followers(self) -> list[Site]:
        """The living others."""
        return [site for site in self.sites if site.replica is not None and site is not self.leader]

    def ask(self, site: Site, request: AnyRequest, origin: Origin | None = None) -> int:
        """Ask a member; the answer will stand in `site.answers` under the token returned."""
        self._token += 1
        site.inbox.append(Asked(self._token, request, origin))
        return self._token

    def answer(
        self, site: Site, request: AnyRequest, origin: Origin | None = None, within_ms: int = 3_000
    ) -> AnyResult:
        """Ask and run until it is answered."""
        token = self.ask(site, request, origin)
        self.run(within_ms, until=lambda: token in site.answers)
        return site.answers[token]

    def run(self, ms: int, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, event by event; `until` ends it early."""
        end = Instant(self.now + ms * MS)
        while True:
            while self._deliver():
                if until():
                    return
            if until():
                return
            due = min((site.deadline for site in self.sites if site.replica is not None), default=NEVER)
            if due > end:
                self.now = max(self.now, end)
                return
            self.now = Instant(max(due, self.now + 1))
            for site in self.sites:
                if site.replica is not None and site.deadline <= self.now:
                    self._step(site, drained=True)

    def _deliver(self) -> bool:
        """Everybody takes what lies in its inbox, and disks finish."""
        busy = False
        for site in self.sites:
            if site.replica is None:
                continue
            site.waited += site.pending_batch is not None
            if site.pending_batch is not None and site.waited > self.disk_rounds:
                site.waited = 0
                batch, site.pending_batch = site.pending_batch, None
                site.disk.write(batch)
                for envelope in batch.send_after_persist:
                    self._send(site, envelope.to, envelope)
                site.inbox.append(Persisted(batch.number, 100))
            if site.inbox:
                self.now = Instant(self.now + 20)
                self._step(site, drained=False)
                busy = True
        return busy

    def _step(self, site: Site, drained: bool) -> None:
        inputs = list(site.inbox)
        site.inbox.clear()
        effects = site.alive.step(inputs, self.now, WallMs(WALL + self.now // 1000), drained)
        for peer, frame in effects.send:
            self._send(site, peer, frame)
        if effects.write is not None:
            assert site.pending_batch is None
            site.pending_batch = effects.write
        if effects.stage is not None:
            self.staged += 1
            site.inbox.append(Staged(effects.stage.index, effects.stage.number, self.space))
        for token, result in effects.answers:
            assert token not in site.answers, "answered twice"
            site.answers[token] = result
        site.transitions.extend(effects.transitions)
        site.effects.append(effects)
        site.deadline = effects.deadline

    def _send(self, site: Site, peer: MemberId, frame: PeerFrame) -> None:
        to = self.by_member[peer]
        if to.replica is None or (site.member, peer) in self._broken:
            return
        if isinstance(frame, Envelope):
            to.inbox.append(Received(frame))
        elif isinstance(frame, Call):
            to.inbox.append(PeerCall(site.member, frame))
        else:
            assert isinstance(frame, CallReply)
            to.inbox.append(PeerReply(site.member, frame))
