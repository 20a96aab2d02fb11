"""One process holds the whole cluster: members, the network between them, their disks and clocks, on virtual time.

Time is true time in microseconds; each member and node sees it through a clock of its own rate. Everything that will
happen stands in one heap ordered by (time, number), and every draw of chance comes from the seed: so a run is a
function of its seed, and `trace` (a running checksum over every step) says whether two runs were the same (S23).

A step is one turn of a member: a delivered frame or request, a timer, or the completion of a write.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from random import Random
from typing import Final, Protocol
from zlib import crc32

from tenure.base.chance import SplitMix64
from tenure.base.ids import BatchNumber, Boot, ConsensusTerm, LogIndex, MemberId, Nonce
from tenure.base.instants import NEVER, Instant, WallMs
from tenure.engines.native.inputs import (
    Asked,
    Effects,
    Input,
    PeerCall,
    PeerFrame,
    PeerReply,
    ReplicaSettings,
    Staged,
    Stalled,
)
from tenure.engines.native.replica import Replica
from tenure.leadership.engine import AnyRequest, AnyResult, Keepalive, Kept, Origin
from tenure.leadership.machine import Machine
from tenure.raft.core import Raft
from tenure.raft.entries import Configuration, HardState, Seat
from tenure.raft.events import Event, Lateness, LinkLost, LinkUp, Persisted, Received, RttSample
from tenure.raft.messages import Envelope, Evidence
from tenure.raft.ready import Ready
from tenure.raft.settings import Identity, Settings
from tenure.wire.frames import Call, CallReply
from tests.sim.disk import Disk
from tests.sim.observer import Observer
from tests.sim.plan import MS, SECOND, Plan

LINEAGE: Final = Nonce("a11ce0000000000f")
FOUNDED_MS: Final = 1_767_225_600_000
STAMP: Final = (FOUNDED_MS - 1_735_689_600_000) << 6
MILLION: Final = 1_000_000
WATCH_EVENTS: Final = 1_000
INSTANT_EVENTS_MAX: Final = 50_000
IDLE_EVENTS_MAX: Final = 200_000


class User(Protocol):
    """Who asks members something from outside."""

    def answered(self, tag: int, result: AnyResult | None) -> None:
        """The answer to what was asked under `tag`; None: the connection broke."""
        ...

    def wake(self) -> None:
        """The time that was asked for has come."""
        ...


class Clock:
    """A clock that runs at its own rate, may stand still for a while, and may step forward."""

    def __init__(self, rate_ppm: int) -> None:
        self.rate = MILLION + rate_ppm
        self.true = 0
        self.local = 10 * SECOND

    def at(self, true: int) -> Instant:
        """What it shows at a true time."""
        return Instant(self.local + (true - self.true) * self.rate // MILLION)

    def true_of(self, local: int) -> int:
        """The first true time at which it shows `local`."""
        return self.true + -((self.local - local) * MILLION // self.rate)

    def step(self, true: int, forward: int, rate_ppm: int | None = None) -> None:
        """From `true` on it shows `forward` more (or less, if it stood still), and may run at another rate."""
        self.local, self.true = self.at(true) + forward, true
        if rate_ppm is not None:
            self.rate = MILLION + rate_ppm


class Spied:
    """The core, with every step shown to the observer."""

    __slots__ = ("_core", "_host", "_observer", "configuration", "step")

    def __init__(self, core: Raft, host: "Host", observer: Observer) -> None:
        self._core = core
        self._host = host
        self._observer = observer
        self.configuration = core.configuration
        self.step = self._step

    def _step(self, events: Sequence[Event], now: Instant, drained: bool = True, gather: bool = False) -> Ready:
        self._observer.stepping(self._host, events)
        ready = self._core.step(events, now, drained, gather)
        self._observer.stepped(self._host, ready)
        return ready

    def __getattr__(self, name: str) -> object:
        return getattr(self._core, name)

    @property
    def role(self) -> str:
        return self._core.role

    @property
    def term(self) -> ConsensusTerm:
        return self._core.term

    @property
    def leader(self) -> MemberId | None:
        return self._core.leader

    @property
    def is_serving(self) -> bool:
        return self._core.is_serving


class Host:
    """One member: what survives a crash (disk, clock) and the process, if one lives."""

    def __init__(self, index: int, seat: Seat, disk: Disk, clock: Clock) -> None:
        self.index = index
        self.id = seat.id
        self.name = seat.name
        self.disk = disk
        self.clock = clock
        self.life = 0
        self.boot = Boot("")
        self.replica: Replica | None = None
        self.core: Raft | None = None
        self.inbox: list[Input] = []
        self.paused_until = 0
        self.paused_local = Instant(0)
        """What its clock showed when it was paused."""
        self.frozen = False
        """Its machine is suspended: the clock stands still as well."""
        self.jump = 0
        """How much its clock will jump ahead while it is paused."""
        self.turn_at = 0
        """A turn is planned for then, to take what has gathered in `inbox`; 0: none."""
        self.deadline: Instant = NEVER
        self.timer_at = 0
        self.stalled_until = 0
        self.asked: dict[int, tuple[User, int]] = {}
        # What the observer remembers of this life and this disk.
        self.seen_term = 0
        self.seen_commit = 0
        self.led_last = 0
        self.durable_state = HardState(ConsensusTerm(0), None)

    @property
    def raft(self) -> Raft:
        assert self.core is not None
        return self.core

    @property
    def machine(self) -> Machine:
        assert self.replica is not None
        return self.replica.machine


Action = Callable[[], None]


class World:
    """The cluster of one seed."""

    def __init__(self, seed: int, plan: Plan) -> None:
        self.seed = seed
        self.plan = plan
        self.rng = Random(seed ^ 0x7E11E)
        self.now = 0
        self.steps = 0
        self.trace = 0
        self.healed = False
        self.seen: Counter[str] = Counter()
        """How often each decision was traced: what a set of seeds has exercised."""
        self.observer = Observer(self)
        self._heap: list[tuple[int, int, Action]] = []
        self._number = 0
        self._token = 0
        self._tick = 0
        self._watched = 0
        """How often `watch` looked; with `_stands` and `_stepped`: since when time, and the members, stand still."""
        self._stands: tuple[int | None, int] = (None, 0)
        self._stepped = (0, 0)
        self.settings = Settings(
            log_kept_entries=plan.log_kept_entries,
            log_held_us=(60 * MS, 300 * MS, 60 * SECOND)[seed % 3],
            snapshot_chunk_bytes=(64 * 1024, 256)[seed % 2],
            snapshot_inflight_bytes_max=(512 * 1024, 1024)[seed % 2],
        )
        self.limits = ReplicaSettings(
            snapshot_entries=plan.snapshot_entries,
            snapshot_piece_bytes=(256 * 1024, 64)[seed % 2],
            installing_entries_max=(512, 3)[seed % 2],
        )
        seats = tuple(
            Seat(MemberId(f"{number:016x}"), f"m{number}", f"10.0.0.{number}:8369")
            for number in range(1, plan.voters + 1)
        )
        self.configuration = Configuration(LogIndex(0), seats)
        self.hosts = [
            Host(number, seat, Disk(self.configuration), Clock(plan.rates_ppm[number]))
            for number, seat in enumerate(seats)
        ]
        self.by_id = {host.id: host for host in self.hosts}
        size = len(self.hosts)
        self.cut = [[False] * size for _ in range(size)]
        self.linked = [[False] * size for _ in range(size)]
        """linked[a][b]: `a` has a connection from `b`, and what `b` sends it leaves."""
        self.generation = [[0] * size for _ in range(size)]
        self.last_arrival = [[0] * size for _ in range(size)]
        self.slow = [[1] * size for _ in range(size)]
        self.old_frames: list[tuple[Host, Host, PeerFrame]] = []

    def founded_machine(self) -> Machine:
        """The state before the first entry."""
        return Machine.founded(LINEAGE, STAMP)

    # --- time -------------------------------------------------------------------------------------------------------

    def later(self, delay: int, action: Action) -> None:
        """Do something after a while."""
        self._number += 1
        heappush(self._heap, (self.now + max(delay, 0), self._number, action))

    def at(self, when: int, action: Action) -> None:
        """Do something at a true time."""
        self.later(when - self.now, action)

    def tick(self) -> int:
        """A place in the one order of everything that users see."""
        self._tick += 1
        return self._tick

    def run_until_step(self, limit: int) -> None:
        """Go on until so many steps have been taken."""
        heap = self._heap
        while self.steps < limit:
            self.watch(heap[0][0] if heap else None)
            for _ in range(WATCH_EVENTS):
                self.now, _, action = heappop(heap)
                action()
                if self.steps >= limit:
                    break

    def watch(self, coming: int | None) -> None:
        """Virtual time must pass, and members must take turns: else a run would never end."""
        self.observer.require(coming is not None, "livelock", f"nothing will ever happen again after {self.now} µs")
        self._watched += 1
        if coming != self._stands[0]:
            self._stands = (coming, self._watched)
        standing = (self._watched - self._stands[1]) * WATCH_EVENTS
        self.observer.require(
            standing <= INSTANT_EVENTS_MAX, "livelock", f"{standing} events, and still it is {self.now} µs"
        )
        if self.steps != self._stepped[0]:
            self._stepped = (self.steps, self._watched)
        idle = (self._watched - self._stepped[1]) * WATCH_EVENTS
        self.observer.require(
            idle <= IDLE_EVENTS_MAX, "livelock", f"{idle} events without a turn of any member, at {self.now} µs"
        )

    def chance(self, permille: int) -> bool:
        """A fault that strikes so often, until the world is healed."""
        return permille > 0 and not self.healed and self.rng.random() * 1000 < permille

    def wall(self) -> WallMs:
        """Wall time, the same for everybody: nothing is decided on it."""
        return WallMs(FOUNDED_MS + 1_000 + self.now // MS)

    # --- members ----------------------------------------------------------------------------------------------------

    def start(self, host: Host) -> None:
        """A new life on what the disk holds, and connections with everybody in reach."""
        assert host.replica is None
        host.life += 1
        host.boot = Boot(f"{host.name}.{host.life}")
        restored = host.disk.restored()
        machine = Machine.restore(restored.snapshot.image.pieces) if restored.snapshot else self.founded_machine()
        now = host.clock.at(self.now)
        identity = Identity(host.id, host.boot, (LINEAGE,))
        rng = SplitMix64(self.rng.getrandbits(64))
        host.replica = Replica(
            identity, host.name, restored, machine, self.settings, rng, now, limits=self.limits, api=None
        )
        host.core = host.replica.raft
        host.replica.raft = Spied(host.core, host, self.observer)  # type: ignore[assignment]  # same face
        host.seen_term = host.core.term
        host.seen_commit = host.core.commit
        host.led_last = 0
        host.inbox = []
        host.asked = {}
        host.paused_until = host.turn_at = host.timer_at = 0
        floor = restored.snapshot.index if restored.snapshot else 0
        self.observer.require(host.core.commit >= floor, "S2", f"{host.name} restarts below its snapshot")
        self.turn(host, [])
        for other in self.hosts:
            if other is not host and other.replica is not None and self.reachable(host, other):
                self.connect(host, other, self.delay(host, other))

    def crash(self, host: Host, *, keep: bool) -> None:
        """The process ends at once. Its peers notice by the end of the connection, or only by silence."""
        if host.replica is None:
            return
        host.replica = host.core = None
        host.inbox = []
        host.disk.crash(keep=keep)
        silent = self.chance(self.plan.silent_death)
        for other in self.hosts:
            if other is host:
                continue
            self.disconnect(host, other)
            if other.replica is not None and not self.cut[host.index][other.index]:
                delay = self.rng.randint(1, 5) * SECOND if silent else self.delay(host, other)
                self.lose(other, host, "timeout" if silent else "fin", delay)
        for user, tag in host.asked.values():
            if not silent:
                self.later(self.plan.latency_us, lambda user=user, tag=tag: user.answered(tag, None))  # type: ignore[misc]
        host.asked = {}

    def reachable(self, one: Host, other: Host) -> bool:
        """Frames pass both ways: a handshake can succeed."""
        return not self.cut[one.index][other.index] and not self.cut[other.index][one.index]

    def disconnect(self, one: Host, other: Host) -> None:
        """No connection either way; what is under way belongs to the past."""
        for here, there in ((one.index, other.index), (other.index, one.index)):
            self.linked[here][there] = False
            self.generation[here][there] += 1

    def connect(self, one: Host, other: Host, delay: int) -> None:
        """A handshake that ends `delay` from now, if both still live then."""
        lives = (one.life, other.life)

        def stand() -> None:
            if one.replica is None or other.replica is None or (one.life, other.life) != lives:
                return
            if not self.reachable(one, other):
                return
            for here, there in ((one, other), (other, one)):
                if self.linked[here.index][there.index] or here.core is None or there.core is None:
                    continue  # the first to hear of it may have died of it
                self.linked[here.index][there.index] = True
                told = there.core._core.known_batches.get(here.id, BatchNumber(0))
                self.arrive(here, LinkUp(there.id, there.boot, told, self.settings.feature_max))

        self.later(delay, stand)

    def lose(self, host: Host, peer: Host, evidence: Evidence, delay: int) -> None:
        """`host` will notice that its connection from this life of `peer` is gone."""
        boot, life = peer.boot, host.life

        def notice() -> None:
            if host.replica is not None and host.life == life:
                self.arrive(host, LinkLost(peer.id, boot, evidence))

        self.later(delay, notice)

    # --- the network ------------------------------------------------------------------------------------------------

    def delay(self, sender: Host, to: Host) -> int:
        """How long one frame travels."""
        plan, rng = self.plan, self.rng
        delay = plan.latency_us * self.slow[sender.index][to.index]
        if plan.jitter_us:
            delay += int(rng.random() * plan.jitter_us)
        if plan.spike and self.chance(plan.spike):
            delay += int(rng.random() * plan.spike_us)
        return delay

    def send(self, sender: Host, to: Host, frame: PeerFrame) -> None:
        """A frame leaves; what becomes of it is drawn now."""
        here, there = to.index, sender.index
        if not self.linked[here][there] or self.cut[there][here]:
            return
        plan = self.plan
        if self.chance(plan.loss):
            return
        delay = self.delay(sender, to)
        if plan.ordered:
            arrival = max(self.now + delay, self.last_arrival[here][there])
            self.last_arrival[here][there] = arrival
            delay = arrival - self.now
        elif not self.healed:
            if self.chance(plan.duplicate):
                self.deliver(sender, to, frame, delay + self.delay(sender, to))
            if plan.replay:
                self.keep_old(sender, to, frame)
        self.deliver(sender, to, frame, delay)

    def keep_old(self, sender: Host, to: Host, frame: PeerFrame) -> None:
        """Old frames come again: from this life or an earlier one, in this term or a later one."""
        if len(self.old_frames) < 200:
            self.old_frames.append((sender, to, frame))
        elif self.rng.random() < 0.02:
            self.old_frames[self.rng.randrange(200)] = (sender, to, frame)
        if self.chance(self.plan.replay):
            old = self.rng.choice(self.old_frames)
            self.deliver(*old, self.delay(sender, to))

    def deliver(self, sender: Host, to: Host, frame: PeerFrame, delay: int) -> None:
        """The frame arrives after `delay`, unless the connection it went by is gone (on an ordered network)."""
        generation = self.generation[to.index][sender.index]

        def arrive() -> None:
            if to.replica is None or self.cut[sender.index][to.index]:
                return
            if self.plan.ordered and generation != self.generation[to.index][sender.index]:
                return
            match frame:
                case Envelope():
                    self.arrive(to, Received(frame))
                    if self.rng.random() < 0.05:
                        self.arrive(to, RttSample(sender.id, 2 * delay + 50))
                case Call():
                    if type(frame.request) is Keepalive:
                        self.observer.heard_keepalive(to, frame.request.session, frame.request.number)
                    self.arrive(to, PeerCall(sender.id, frame))
                case CallReply():
                    self.arrive(to, PeerReply(sender.id, frame))

        self.later(delay, arrive)

    # --- turns ------------------------------------------------------------------------------------------------------

    def arrive(self, host: Host, item: Input) -> None:
        """Something has come to a member: it takes a turn now, or when its loop comes round."""
        if host.replica is None:
            return
        if host.paused_until > self.now:
            host.inbox.append(item)
            return
        if self.plan.busy_us and not self.healed:
            host.inbox.append(item)
            if not host.turn_at:
                host.turn_at = self.now + int(self.rng.random() * self.plan.busy_us)
                self.at(host.turn_at, self.for_life(host, lambda: self.gathered(host)))
            return
        self.turn(host, [item])

    def for_life(self, host: Host, action: Action) -> Action:
        """`action`, if the process of now still lives then."""
        life = host.life

        def run() -> None:
            if host.replica is not None and host.life == life:
                action()

        return run

    def gathered(self, host: Host) -> None:
        """The loop comes round: everything that came in is one turn."""
        host.turn_at = 0
        if host.paused_until > self.now:
            return
        items, host.inbox = host.inbox, []
        if len(items) > 8:  # more than one turn takes: what is left still waits in the sockets
            self.turn(host, items[:8], drained=False)
            items = items[8:]
        if host.replica is not None:
            self.turn(host, items)

    def pause(self, host: Host, micros: int, *, frozen: bool = False, jump: int = 0) -> None:
        """The process stands still (SIGSTOP); its disk goes on, and its clock, unless it is `frozen` (a machine that is
        suspended and doesn't know it) or jumps ahead.
        """
        if host.replica is None or host.paused_until > self.now:
            return
        host.paused_until = self.now + micros
        host.paused_local = host.clock.at(self.now)
        host.frozen, host.jump = frozen, jump
        self.later(micros, self.for_life(host, lambda: self.resume(host)))

    def resume(self, host: Host) -> None:
        """It goes on: first it hears how long it stood by its own clock, and what waits in its sockets, then its timers
        (P3.7, P4.7).
        """
        if not host.paused_until:
            return  # healing was faster
        host.paused_until = 0
        if host.frozen:
            host.clock.step(self.now, host.paused_local - host.clock.at(self.now))
        elif host.jump:
            host.clock.step(self.now, host.jump)
        gap = host.clock.at(self.now) - host.paused_local
        items, host.inbox = host.inbox, []
        self.turn(host, [Stalled(gap), Lateness(gap), *items], drained=False)
        if host.replica is not None:
            self.turn(host, [])

    def turn(self, host: Host, items: Sequence[Input], *, drained: bool = True) -> None:
        """One step of a member, and its effects in their order."""
        assert host.replica is not None
        self.steps += 1
        now = host.clock.at(self.now)
        effects = host.replica.step(items, now, self.wall(), drained)
        if effects.transitions:
            self.observer.changed(host, effects.transitions)
        for trace in effects.traces:
            self.seen[trace.what] += 1
        self.act(host, effects)
        core = host.core
        if core is None:
            self.mark(host.index, 0, 0, 0)
        else:
            self.mark(host.index, core.term, core.commit, core.last_index)

    def mark(self, *what: int) -> None:
        """Take a step into the trace's checksum."""
        self.trace = crc32(b"%d %d %d %d %d" % (self.now, *what), self.trace)

    def act(self, host: Host, effects: Effects) -> None:
        """Act on the effects of a turn; the process may end between any two of them."""
        boundary = -1
        plan = self.plan
        if plan.boundary_crash_ppm and not self.healed and self.rng.random() * MILLION < plan.boundary_crash_ppm:
            boundary = self.rng.randrange(4)
        if self.dies_at(host, boundary, 0):
            return
        for peer, frame in effects.send:
            if type(frame) is Envelope:
                self.observer.sent(host, frame)
            elif type(frame) is CallReply and type(frame.result) is Kept:
                self.observer.kept(host, frame.result.session, frame.result.number)
            self.send(host, self.by_id[peer], frame)
        if self.dies_at(host, boundary, 1):
            return
        if effects.write is not None:
            host.disk.submit(effects.write)
            micros = self.sync_time(host)
            self.later(micros, self.for_life(host, lambda: self.persisted(host, micros)))
        if self.dies_at(host, boundary, 2):
            return
        if effects.stage is not None:
            staged = Staged(effects.stage.index, effects.stage.number, kept=not self.chance(20))
            self.later(self.sync_time(host), self.for_life(host, lambda: self.arrive(host, staged)))
        for token, result in effects.answers:
            self.answer(host, token, result)
        self.arm(host, effects.deadline)
        self.dies_at(host, boundary, 3)

    def dies_at(self, host: Host, boundary: int, here: int) -> bool:
        """A crash in the middle of acting on a step; the process comes back after a while."""
        if boundary != here:
            return False
        self.crash(host, keep=self.rng.random() < 0.5)
        self.later(int(self.rng.random() * self.plan.outage_us), lambda: self.revive(host))
        return True

    def revive(self, host: Host) -> None:
        """Start it if it is down."""
        if host.replica is None:
            self.start(host)

    def arm(self, host: Host, deadline: Instant) -> None:
        """The next turn is due at `deadline` at the latest."""
        host.deadline = deadline
        if deadline >= NEVER:
            return
        when = max(host.clock.true_of(deadline), self.now)
        if host.timer_at and host.timer_at <= when:
            return
        host.timer_at = when
        self.at(when, self.for_life(host, lambda: self.fired(host, when)))

    def fired(self, host: Host, when: int) -> None:
        """A timer: take a turn if the deadline has really come, else wait on."""
        if host.timer_at != when:
            return
        host.timer_at = 0
        if host.paused_until > self.now:
            return  # resuming takes a turn
        if host.clock.at(self.now) >= host.deadline:
            items, host.inbox = host.inbox, []
            self.turn(host, items)
        else:
            self.arm(host, host.deadline)

    # --- the disk ---------------------------------------------------------------------------------------------------

    def sync_time(self, host: Host) -> int:
        """How long a write takes when the disk isn't stalled."""
        micros = int(self.plan.sync_us * (0.5 + self.rng.random()))
        if self.chance(5):
            micros *= 10
        return micros

    def persisted(self, host: Host, micros: int) -> None:
        """The write is durable; the process hears of it, unless it dies just then or stands still."""
        wait = max(host.stalled_until, host.paused_until) - self.now
        if wait > 0:
            wait = min(wait, 20 * MS)  # looked at again, because healing ends every stall
            self.later(wait, self.for_life(host, lambda: self.persisted(host, micros + wait)))
            return
        batch = host.disk.complete()
        self.observer.durable(host, batch)
        for envelope in batch.send_after_persist:
            self.observer.sent(host, envelope)
            self.send(host, self.by_id[envelope.to], envelope)
        self.turn(host, [Persisted(batch.number, micros)])

    # --- users ------------------------------------------------------------------------------------------------------

    def ask(self, user: User, tag: int, host: Host, request: AnyRequest, origin: Origin | None) -> None:
        """A user asks a member; the request and its answer travel, and may get lost."""

        def arrive() -> None:
            if host.replica is None:
                self.later(self.plan.latency_us, lambda: user.answered(tag, None))
                return
            self._token += 1
            host.asked[self._token] = (user, tag)
            if type(request) is Keepalive:
                self.observer.heard_keepalive(host, request.session, request.number)
            self.arrive(host, Asked(self._token, request, origin))

        if not self.chance(self.plan.loss):
            self.later(self.plan.latency_us + int(self.rng.random() * self.plan.jitter_us), arrive)

    def ask_together(self, user: User, host: Host, requests: dict[int, AnyRequest]) -> None:
        """Many requests, by tag, that reach a member in one turn."""

        def arrive() -> None:
            if host.replica is None or host.paused_until > self.now:
                return
            asked = []
            for tag, request in requests.items():
                self._token += 1
                host.asked[self._token] = (user, tag)
                asked.append(Asked(self._token, request))
            self.turn(host, asked, drained=False)

        self.later(self.plan.latency_us, arrive)

    def answer(self, host: Host, token: int, result: AnyResult) -> None:
        """A member answers a user."""
        user, tag = host.asked.pop(token)
        if type(result) is Kept:
            self.observer.kept(host, result.session, result.number)
        if not self.chance(self.plan.loss):
            delay = self.plan.latency_us + int(self.rng.random() * self.plan.jitter_us)
            self.later(delay, lambda: user.answered(tag, result))
