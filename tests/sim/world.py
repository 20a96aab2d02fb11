"""One process holds the whole cluster: members, the network between them, their disks and clocks, on virtual time.

Time is true time in microseconds; each member and node sees it through a clock of its own rate. Everything that will
happen stands in one heap ordered by (time, number), and every draw of chance comes from the seed: so a run is a
function of its seed, and `trace` (a running checksum over every step) says whether two runs were the same (S23).

A step is one turn of a member: a delivered frame or request, a timer, or the completion of a write.

Hosts are held in a list that grows; who of them belongs to the cluster, and who counts in a majority, the committed
configuration says (`seats`).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from random import Random
from struct import Struct
from typing import Any, Final, Protocol
from zlib import crc32

from tenure.base.chance import SplitMix64
from tenure.base.ids import Boot, LogIndex, MemberId, Nonce
from tenure.base.instants import NEVER, Instant, WallMs
from tenure.engines.native.inputs import Effects, Input, ReplicaSettings, Stage, Staged, Stalled
from tenure.engines.native.replica import Replica
from tenure.leadership.engine import Kept
from tenure.leadership.machine import Machine
from tenure.raft.entries import Configuration, Seat
from tenure.raft.events import Lateness, Persisted
from tenure.raft.founding import Record
from tenure.raft.messages import AppendReply, Envelope, VoteReply
from tenure.raft.ready import Batch, Fatal
from tenure.raft.settings import Identity, Settings
from tenure.wire.frames import CallReply
from tests.sim import boundaries
from tests.sim.asking import Asking
from tests.sim.clock import MILLION, Clock
from tests.sim.disk import Disk
from tests.sim.host import Action, Host, Watched
from tests.sim.network import Network
from tests.sim.observer import Observer
from tests.sim.plan import MS, Plan
from tests.sim.streams import Streams
from tests.sim.watching import Taps

LINEAGE: Final = Nonce("a11ce0000000000f")
FOUNDED_MS: Final = 1_767_225_600_000
STAMP: Final = (FOUNDED_MS - 1_735_689_600_000) << 6
WATCH_EVENTS: Final = 1_000
INSTANT_EVENTS_MAX: Final = 50_000
IDLE_EVENTS_MAX: Final = 200_000
TURN_ITEMS: Final = 8
"""More than that wait for the next turn, and the first is not drained."""
STALL_MIN_US: Final = 10 * MS
LATE_MIN_US: Final = 1 * MS
TICK_US: Final = 40 * MS
"""A stall is measured from the last timer, which stood at most so far ahead (`engines.native.pacing`)."""
LOOK_AGAIN_US: Final = 20 * MS
"""A write that waits for something is looked at again so often, because healing ends every stall."""

PROMISES: Final = frozenset({AppendReply, VoteReply})
"""What S8 is about."""
_MARK: Final = Struct("<qqqqq")


class Teller(Protocol):
    """Writes down what happens, for somebody who reads it (`telling`)."""

    def begin(self, world: "World") -> None:
        """A run begins."""
        ...

    def said(self, who: str, text: str) -> None:
        """Something happened to somebody."""
        ...

    def turn(self, host: Host, items: Sequence[Input], effects: Effects) -> None:
        """A member took a turn."""
        ...


class World:
    """The cluster of one seed."""

    def __init__(self, seed: int, plan: Plan, lineage: Nonce = LINEAGE, stamp: int = STAMP) -> None:
        self.seed = seed
        self.plan = plan
        self.rng = Random(seed ^ 0x7E11E)
        self.now = 0
        self.steps = 0
        self.events = 0
        self.superseded = 0
        self.trace = 0
        self.healed = False
        self.resting = False
        """Clients have stopped, and nodes write seldom: what has gathered in queues can be worked off."""
        self.lineage, self.stamp = lineage, stamp
        self.seen: Counter[str] = Counter()
        """How often each decision was traced, and each fault struck: what a set of seeds has exercised."""
        self.teller: Teller | None = None
        self._heap: list[tuple[int, int, Callable[[Any], None], Any]] = []
        self._number = 0
        self._tick = 0
        self._watched = 0
        """How often `watch` looked; with `_stands` and `_stepped`: since when time, and the members, stand still."""
        self._stands: tuple[int | None, int] = (None, 0)
        self._stepped = (0, 0)
        self._unwatched = 0
        """How many events until the next look."""
        engine = plan.engine
        self.limits = ReplicaSettings(
            snapshot_entries=engine.snapshot_entries,
            snapshot_piece_bytes=engine.snapshot_piece_bytes,
            installing_entries_max=engine.installing_entries_max,
            pending_max=engine.pending_max,
        )
        self.boundary = plan.boundary_ppm / MILLION
        self.gathers = plan.busy_us > 0
        self.late_us = plan.late_us
        self.drained = not plan.polls
        self.hosts: list[Host] = []
        self.by_id: dict[MemberId, Host] = {}
        self.observer = Observer(self)
        self.network = Network(self)
        self.asking = Asking(self)
        self.taps = Taps(self)
        self.streams = Streams(self)
        self.record = Record(lineage, Configuration(LogIndex(0), ()), stamp)

    def seat(self, seats: tuple[Seat, ...]) -> None:
        """The founded configuration: a host for each seat. Called once, before anybody starts."""
        configuration = Configuration(LogIndex(0), seats)
        self.record = Record(self.lineage, configuration, self.stamp)
        for number, seat in enumerate(seats):
            self.add(seat, self.plan.engine.features[number])
        self.observer.seats.begin(configuration)

    def add(self, seat: Seat, features: int) -> Host:
        """A host comes; it is not started yet."""
        number = len(self.hosts)
        host = Host(number, seat, Disk(self.record.configuration), Clock(self.plan.rates_ppm[number]), features)
        self.hosts.append(host)
        self.by_id[host.id] = host
        self.streams.endpoints[host.api] = host
        self.network.add(host)
        return host

    def voters(self) -> list[Host]:
        """Who counts in a majority, by the last configuration that is committed."""
        return self.observer.seats.voters

    def seated(self) -> list[Host]:
        """Who belongs to the cluster, by the last configuration that is committed."""
        return self.observer.seats.seated

    def founded_machine(self) -> Machine:
        """The state before the first entry."""
        return Machine.founded(self.lineage, self.stamp)

    def tell(self, who: str, text: str) -> None:
        """For the readable trace."""
        if self.teller is not None:
            self.teller.said(who, text)

    # --- time -------------------------------------------------------------------------------------------------------

    def post(self, when: int, act: Callable[[Any], None], argument: Any) -> None:
        """`act(argument)` at a true time that isn't past."""
        self._number = number = self._number + 1
        heappush(self._heap, (when, number, act, argument))

    def later(self, delay: int, action: Action) -> None:
        """Do something after a while."""
        self._number = number = self._number + 1
        heappush(self._heap, (self.now + delay if delay > 0 else self.now, number, _act, action))

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
            if not heap or not self._unwatched:
                self.watch(heap[0][0] if heap else None)
                self._unwatched = WATCH_EVENTS
            begun = left = self._unwatched
            while left and heap and self.steps < limit:
                left -= 1
                self.now, _, act, argument = heappop(heap)
                if act is _act:
                    argument()
                else:
                    act(argument)
            self._unwatched = left
            self.events += begun - left

    def watch(self, coming: int | None) -> None:
        """Virtual time must pass, and members must take turns: else a run would never end."""
        observer = self.observer
        observer.require(coming is not None, "livelock", f"nothing will ever happen again after {self.now} µs")
        self._watched += 1
        if coming != self._stands[0]:
            self._stands = (coming, self._watched)
        standing = (self._watched - self._stands[1]) * WATCH_EVENTS
        observer.require(
            standing <= INSTANT_EVENTS_MAX, "livelock", f"{standing} events, and still it is {self.now} µs"
        )
        if self.steps != self._stepped[0]:
            self._stepped = (self.steps, self._watched)
        idle = (self._watched - self._stepped[1]) * WATCH_EVENTS
        observer.require(
            idle <= IDLE_EVENTS_MAX, "livelock", f"{idle} events without a turn of any member, at {self.now} µs"
        )

    def chance(self, permille: int) -> bool:
        """A fault that strikes so often, until the world is healed."""
        return permille > 0 and not self.healed and self.rng.random() * 1000 < permille

    def wall(self, host: Host) -> WallMs:
        """Wall time as this machine shows it: nothing is decided on it."""
        return WallMs(FOUNDED_MS + 1_000 + (self.now + host.clock.real_us) // MS)

    # --- members ----------------------------------------------------------------------------------------------------

    def settings(self, host: Host) -> Settings:
        """The core's limits. From its second life on a member speaks the newest feature version (P10)."""
        engine = self.plan.engine
        return Settings(
            log_kept_entries=engine.log_kept_entries,
            log_held_us=engine.log_held_us,
            snapshot_chunk_bytes=engine.snapshot_chunk_bytes,
            snapshot_inflight_bytes_max=engine.snapshot_inflight_bytes_max,
            append_entries_max=engine.append_entries_max,
            inflight_appends_max=engine.inflight_appends_max,
            committed_per_step_max=engine.committed_per_step_max,
            rounds_inflight_max=engine.rounds_inflight_max,
            witness_entries_max=engine.witness_entries_max,
            feature_max=host.features if host.life <= 1 else max(engine.features),
        )

    def start(self, host: Host) -> None:
        """A new life on what the disk holds, and connections with everybody in reach."""
        assert host.replica is None
        host.life += 1
        host.boot = Boot(f"{host.name}.{host.life}")
        self.tell(host.name, f"starts, life {host.life}")
        restored = host.disk.restored()
        machine = Machine.restore(restored.snapshot.image.pieces) if restored.snapshot else self.founded_machine()
        now = host.clock.at(self.now)
        rng = SplitMix64(self.rng.getrandbits(64))
        identity = Identity(host.id, host.boot, (self.lineage,))
        host.replica = replica = Replica(
            identity, host.name, restored, machine, self.settings(host), rng, now, limits=self.limits,
            record=self.record, api=host.api,
        )  # fmt: skip
        host.core = replica.raft._core
        replica.raft = Watched(replica.raft, host, self.observer)
        host.inbox, host.asked, host.unfinished, host.promises = [], {}, [], ()
        host.paused_until = host.turn_at = host.led_last = 0
        host.timer += 1
        host.timer_local = NEVER
        self.observer.started(host, restored)
        self.turn(host, [])
        if host.runs:
            self.network.meet(host)

    def crash(self, host: Host, *, keep: bool) -> None:
        """The process ends at once. Its peers notice by the end of the connection, or only by silence."""
        if host.replica is None:
            return
        self.tell(host.name, "dies, its last write " + ("done" if keep else "lost"))
        host.replica = host.core = None
        host.died_at = self.now
        host.inbox, host.unfinished = [], []
        host.disk.crash(keep=keep)
        silent = self.chance(self.plan.silent_death)
        self.network.died(host, silent=silent)
        self.taps.died(host)
        self.streams.died(host, silent=silent)
        for user, tag in host.asked.values():
            if not silent:
                self.later(self.plan.latency_us, lambda user=user, tag=tag: user.answered(tag, None))  # type: ignore[misc]
        host.asked = {}

    def revive(self, host: Host) -> None:
        """Start it if it is down and may ever come back."""
        if host.replica is None and host.joined and not host.gone:
            self.start(host)

    def stop(self, host: Host, why: str) -> None:
        """It stays out for good."""
        self.tell(host.name, f"stays out: {why}")
        self.seen[f"gone {why}"] += 1
        host.gone, host.suspect = why, False

    # --- turns ------------------------------------------------------------------------------------------------------

    def arrive(self, host: Host, item: Input) -> None:
        """Something has come to a member: it takes a turn now, or when its loop comes round."""
        if host.paused_until > self.now:
            if host.replica is not None:
                host.inbox.append(item)
        elif self.gathers:
            self.gather(host, item)
        elif host.replica is not None:
            self.turn(host, (item,), drained=self.drained)

    def gather(self, host: Host, item: Input) -> None:
        """A busy loop: what comes in waits until it comes round."""
        if host.replica is None:
            return
        host.inbox.append(item)
        if not host.turn_at:
            host.turn_at = self.now + int(self.rng.random() * self.plan.busy_us)
            self.post(host.turn_at, self.gathered, (host, host.life))

    def gathered(self, whose: tuple[Host, int]) -> None:
        """The loop comes round: everything that came in is one turn."""
        host, life = whose
        if host.replica is None or host.life != life:
            self.superseded += 1
            return
        host.turn_at = 0
        if host.paused_until > self.now:
            return
        self.take_in(host)

    def take_in(self, host: Host, first: Sequence[Input] = ()) -> None:
        """What waits in its sockets, in as many turns as that takes; only the last is drained (P4.7)."""
        items = [*first, *host.inbox]
        host.inbox = []
        if first or len(items) > TURN_ITEMS:
            self.turn(host, items[:TURN_ITEMS], drained=False)
            items = items[TURN_ITEMS:]
        if host.replica is None:
            return
        if host.paused_until > self.now:
            host.inbox = items + host.inbox  # it was stopped in the middle of the first
            return
        self.turn(host, items)

    def turn(self, host: Host, items: Sequence[Input], *, drained: bool = True) -> None:
        """One step of a member, and its effects in their order."""
        replica = host.replica
        assert replica is not None
        self.steps += 1
        now, clock = self.now, host.clock
        local = Instant(clock.local + (now - clock.true) * clock.rate // MILLION)
        wall = WallMs(FOUNDED_MS + 1_000 + (now + clock.real_us) // MS)
        effects = replica.step(items, local, wall, drained)
        if effects.transitions or effects.replaced:
            self.observer.leases.changed(host, effects.transitions)
            self.taps.publish(host, effects)
            self.streams.publish(host, effects)
        if effects.traces:
            for trace in effects.traces:
                self.seen[trace.what] += 1
        if self.teller is not None:
            self.teller.turn(host, items, effects)
        if self.boundary and self.rng.random() < self.boundary:
            boundaries.act(self, host, effects)
        else:
            if effects.send:
                for peer, frame in effects.send:
                    self.send(host, self.by_id[peer], frame)
            if effects.write is not None:
                self.submit(host, effects.write)
            if effects.stage is not None:
                self.stage(host, effects.stage)
            if effects.answers:
                self.asking.answer(host, effects.answers)
            self.arm(host, effects.deadline)
        if effects.fatal is not None and not host.gone:
            self.fatal(host, effects.fatal)
        core = host.core
        if core is None:
            mark = _MARK.pack(now, host.index, 0, 0, 0)
        else:
            mark = _MARK.pack(now, host.index, core.term, core.commit, core.log.last_index)
        self.trace = crc32(mark, self.trace)

    def send(self, host: Host, to: Host, frame: Any) -> None:
        """A frame leaves."""
        kind = type(frame)
        if kind is Envelope:
            if type(frame.message) in PROMISES:
                self.observer.sent(host, frame)
        elif kind is CallReply and type(frame.result) is Kept:
            self.observer.leases.kept(host, frame.result.session, frame.result.number)
        self.network.send(host, to, frame)

    def fatal(self, host: Host, fatal: Fatal) -> None:
        """The core takes no part any more: right for a disk that went back (P1.3), and for who was removed (P7)."""
        removed = fatal.reason == "removed" and self.observer.seats.was_removed(host)
        known = removed or (fatal.reason == "rolled_back" and host.suspect)
        self.observer.require(known, "fatal", f"{host.name} stops: {fatal}")
        self.stop(host, fatal.reason)

    # --- timers -----------------------------------------------------------------------------------------------------

    def arm(self, host: Host, deadline: Instant) -> None:
        """The next turn is due at `deadline` at the latest. A timer that goes off before is set anew then."""
        host.deadline = deadline
        if deadline >= host.timer_local:
            return
        host.timer_local = deadline
        host.timer += 1
        when = host.clock.true_of(deadline)
        if self.late_us:
            when += int(self.rng.random() * self.late_us)
        self.post(max(self.now, when), self.fired, (host, host.timer))

    def arm_anew(self, host: Host) -> None:
        """Its clock has changed: what was planned by the old one counts no more."""
        host.timer += 1
        host.timer_local = NEVER
        self.arm(host, host.deadline)

    def fired(self, timer: tuple[Host, int]) -> None:
        """A timer: take a turn if the deadline has really come, else wait on."""
        host, number = timer
        if host.timer != number or host.replica is None:
            self.superseded += 1
            return
        host.timer_local = NEVER
        if host.paused_until > self.now:
            return  # resuming takes a turn
        late = host.clock.at(self.now) - host.deadline
        if late < 0:
            self.arm(host, host.deadline)
            return
        items, host.inbox = host.inbox, []
        if late >= LATE_MIN_US:
            items.insert(0, Lateness(late))
        if late >= STALL_MIN_US:
            items.insert(0, Stalled(late))
            host.stood.append((self.now - late, late))
        self.turn(host, items)

    # --- standing still ---------------------------------------------------------------------------------------------

    def pause(self, host: Host, micros: int, *, frozen: bool = False, jump: int = 0, disk_stops: bool = False) -> None:
        """The process stands still (SIGSTOP), or its loop alone: its clock goes on, unless it is `frozen` (a machine
        that is suspended and doesn't know it) or jumps ahead; its disk too, unless it stops with it.
        """
        if host.replica is None or host.paused_until > self.now:
            return
        self.tell(host.name, f"stands still for {micros / MS:.1f} ms")
        end = self.now + micros
        host.paused_until = end + 1  # whatever else comes at the very end waits until `resume` has set the clock
        host.stood.append((self.now, micros))
        host.paused_local = host.clock.at(self.now)
        host.frozen, host.jump, host.disk_stops = frozen, jump, disk_stops
        self.post(end, self.resume, (host, host.life))

    def resume(self, whose: tuple[Host, int]) -> None:
        """It goes on: what it was about to do, then what it hears of how long it stood still (by its own clock, and
        counted from its last timer), then what waits in its sockets, then its timers (P3.7, P4.7). Time that its clock
        leapt over and that nobody lived through is outside of what leases assume (ρ): it is counted in full.
        """
        host, life = whose
        if host.replica is None or host.life != life or not host.paused_until:
            return  # healing was faster
        host.paused_until = 0
        if host.frozen:
            host.clock.step(self.now, host.paused_local - host.clock.at(self.now))
        elif host.jump:
            host.clock.step(self.now, host.jump)
        unfinished, host.unfinished = host.unfinished, []
        stood_from = host.paused_local
        for action in unfinished:
            action()
        if host.core is None or host.paused_until:  # one of them was a turn, which ended so
            host.paused_local = stood_from
            return
        self.arm_anew(host)
        gap = host.clock.at(self.now) - stood_from
        late = gap if host.jump else gap - int(self.rng.random() * min(gap, TICK_US))
        first: list[Input] = [Lateness(late)] if late >= LATE_MIN_US else []
        if late >= STALL_MIN_US:
            first.insert(0, Stalled(late))
        elif host.jump:
            self.observer.leases.leaps.append((self.now, host.jump))
        promises, host.promises = host.promises, ()
        for envelope in promises:
            self.send(host, self.by_id[envelope.to], envelope)
        self.take_in(host, first)

    # --- the disk ---------------------------------------------------------------------------------------------------

    def submit(self, host: Host, batch: Batch) -> None:
        """A batch goes to the disk."""
        host.disk.submit(batch)
        micros = self.sync_time()
        self.post(self.now + micros, self.persisted, (host, host.life, micros))

    def stage(self, host: Host, stage: Stage) -> None:
        """A piece of a large snapshot goes to the disk when that has nothing better to do; without space it is lost."""
        kept = host.full_until <= self.now and not self.chance(20)
        self.post(self.now + self.sync_time(), self.staged, (host, host.life, Staged(stage.index, stage.number, kept)))

    def staged(self, what: tuple[Host, int, Staged]) -> None:
        """It is there, or not."""
        host, life, staged = what
        if host.life == life:
            self.arrive(host, staged)

    def sync_time(self) -> int:
        """How long a write takes when nothing is wrong with the disk."""
        micros = int(self.plan.sync_us * (0.5 + self.rng.random()))
        return micros * 10 if self.chance(5) else micros

    def persisted(self, write: tuple[Host, int, int]) -> None:
        """The write is durable, if the disk lets it; the process hears of it, unless it dies just then."""
        host, life, micros = write
        now = self.now
        if host.replica is None or host.life != life:
            return
        stands = host.stalled_until if not host.disk_stops else max(host.stalled_until, host.paused_until)
        if stands > now:
            wait = min(stands - now, LOOK_AGAIN_US)
            self.post(now + wait, self.persisted, (host, life, micros + wait))
            return
        if host.full_until > now:  # nothing of it was written; it is tried again (`storage.NoSpace`)
            wait = min(host.full_until - now, LOOK_AGAIN_US)
            self.post(now + wait, self.persisted, (host, life, micros))
            return
        if host.eio:
            boundaries.disk_failed(self, host)
            return
        batch = host.disk.complete()
        self.observer.durable(host, batch)
        if host.replica.stopped:  # who must not take part promises nothing (P1.3); as the driver does it
            self.turn(host, (Persisted(batch.number, micros),))
            return
        if host.paused_until > now:
            host.promises = batch.send_after_persist
            host.inbox.insert(0, Persisted(batch.number, micros))
            return
        if self.boundary and self.rng.random() < self.boundary:
            boundaries.promise(self, host, batch, micros)
            return
        for envelope in batch.send_after_persist:
            self.send(host, self.by_id[envelope.to], envelope)
        self.turn(host, (Persisted(batch.number, micros),), drained=self.drained)


def _act(action: Action) -> None:
    action()
