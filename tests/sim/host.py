"""One member: what survives a crash (disk, clock, seat), the process if one lives, and its core under observation."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from tenure.base.ids import Boot, ConsensusTerm
from tenure.base.instants import NEVER, Instant
from tenure.engines.native.inputs import Input
from tenure.engines.native.replica import Replica
from tenure.leadership.engine import AnyResult
from tenure.leadership.machine import Machine
from tenure.raft.core import Raft
from tenure.raft.entries import Configuration, HardState, Seat
from tenure.raft.events import ChangeMembership, Event, ReadIndex, TakeSnapshot
from tenure.raft.messages import Envelope
from tenure.raft.ready import Ready
from tenure.raft.state import Core, Leader
from tests.sim.clock import Clock
from tests.sim.disk import Disk

if TYPE_CHECKING:
    from tests.sim.observer import Observer

Action = Callable[[], None]


class User(Protocol):
    """Who asks members something from outside."""

    def answered(self, tag: int, result: AnyResult | None) -> None:
        """The answer to what was asked under `tag`; None: the connection broke."""
        ...


class Way:
    """What one member sends to another: how it fares there."""

    __slots__ = ("cut", "generation", "last_arrival", "linked", "slow")

    def __init__(self) -> None:
        self.cut = False
        """Nothing passes, and nobody is told."""
        self.linked = False
        """The receiver has a connection from the sender, and what is sent leaves."""
        self.generation = 0
        """Which connection: what an older one carried is gone with it (on an ordered network)."""
        self.last_arrival = 0
        self.slow = 1


class Watched(Raft):
    """The core, with every step that did something shown to the observer."""

    __slots__ = ("_host", "_observer")

    def __init__(self, raft: Raft, host: "Host", observer: "Observer") -> None:
        """The same core under observation."""
        self._core, self._host, self._observer = raft._core, host, observer

    def step(self, events: Sequence[Event], now: Instant, drained: bool = True, gather: bool = False) -> Ready:
        """As the core's; the observer looks first at what is asked and then at what came of it."""
        host = self._host
        for event in events:
            kind = type(event)
            if kind is ReadIndex or kind is TakeSnapshot:
                self._observer.stepping(host, event)  # type: ignore[arg-type]  # just these two
            elif kind is ChangeMembership:
                role = self._core.role
                if type(role) is not Leader or not role.calls:
                    host.change_asked_at = self._observer.world.now
        ready = Raft.step(self, events, now, drained, gather)
        core = self._core
        if (
            core.commit != host.seen_commit
            or core.term != host.seen_term
            or ready.committed
            or ready.reads
            or ready.fatal is not None
        ):
            self._observer.stepped(host, ready)
        if core.configuration is not host.seen_configuration:
            self._observer.seats.changed(host, core)
        if type(core.role) is Leader:
            last = core.log.last_index
            if not host.led_last:
                self._observer.elected(host, core)
            elif last < host.led_last:
                self._observer.fail("S6", f"{host.name} leads t{core.term} and cut its log {host.led_last} → {last}")
            host.led_last = last
        elif host.led_last:
            host.led_last = 0
        return ready


class Host:
    """See the module. `gone` says why a member stays out for good; empty: it doesn't."""

    __slots__ = (
        "api",
        "asked",
        "boot",
        "change_asked_at",
        "clock",
        "core",
        "deadline",
        "died_at",
        "disk",
        "disk_stops",
        "eio",
        "features",
        "frozen",
        "full_until",
        "gone",
        "had",
        "id",
        "inbox",
        "index",
        "joined",
        "jump",
        "led_last",
        "life",
        "name",
        "paused_local",
        "paused_until",
        "promised",
        "promises",
        "replica",
        "seat",
        "seen_commit",
        "seen_configuration",
        "seen_term",
        "stalled_until",
        "state_seen",
        "stood",
        "suspect",
        "timer",
        "timer_local",
        "turn_at",
        "unfinished",
        "voted",
        "watchers",
        "ways",
    )

    def __init__(self, index: int, seat: Seat, disk: Disk, clock: Clock, features: int) -> None:
        self.index = index
        self.seat = seat
        self.id = seat.id
        self.name = seat.name
        self.api = f"http://{seat.name}:8368"
        """Where keepers find it."""
        self.disk = disk
        self.clock = clock
        self.features = features
        self.ways: list[Way] = []
        """To each member, by its index."""
        self.joined = True
        """The cluster has taken it in: at its founding, or when it asked."""
        self.gone = ""
        self.suspect = False
        """Its disk went back in time, and nobody has told it yet (P1.3)."""
        # The process.
        self.life = 0
        self.boot = Boot("")
        self.replica: Replica | None = None
        self.core: Core | None = None
        self.watchers: object = None
        self.inbox: list[Input] = []
        self.asked: dict[int, tuple[User, int]] = {}
        self.turn_at = 0
        """A turn is planned for then, to take what has gathered in `inbox`; 0: none."""
        self.deadline: Instant = NEVER
        self.timer = 0
        self.timer_local: Instant = NEVER
        """When, by its own clock, the timer `timer` goes off; never later than `deadline`."""
        # A process that stands still.
        self.paused_until = 0
        self.paused_local = Instant(0)
        """What its clock showed when it was paused."""
        self.frozen = False
        """Its machine is suspended: the clock stands still as well."""
        self.jump = 0
        """How much its clock will jump ahead while it is paused."""
        self.disk_stops = False
        """The disk's thread stands still with it; else what is in flight becomes durable meanwhile."""
        self.unfinished: list[Action] = []
        """What the turn in which it was stopped had still to do."""
        self.promises: tuple[Envelope, ...] = ()
        """Of a batch that became durable meanwhile."""
        self.stood: list[tuple[int, int]] = []
        """Since when, in true time, and how long it stood still, each time."""
        # The disk's moods.
        self.stalled_until = 0
        self.full_until = 0
        self.eio = False
        # What the observer remembers: of this life …
        self.seen_term = 0
        self.seen_commit = 0
        self.seen_configuration: Configuration | None = None
        self.change_asked_at = 0
        """When the oldest change of the members was asked for that may have waited since."""
        self.led_last = 0
        """The end of its log at the last look while it leads; 0: it doesn't."""
        # … and of this disk.
        self.died_at = 0
        self.had: Disk | None = None
        """What it held before its disk went back, if it did."""
        self.state_seen = HardState(ConsensusTerm(0), None)
        self.voted: dict[int, str] = {}
        """Whom it has promised its vote, by term."""
        self.promised: tuple[int, int] = (0, 0)
        """The last (term, match) that it acknowledged."""

    @property
    def runs(self) -> bool:
        """Whether its process lives; for where `replica` was just looked at, and a turn taken since."""
        return self.replica is not None

    @property
    def lost(self) -> bool:
        """Whether its disk holds nothing that may be counted on any more. Who was removed still has what it had."""
        return self.suspect or self.gone in {"corrupt", "rolled_back", "wiped"}

    @property
    def raft(self) -> Raft:
        """The core from outside."""
        assert self.replica is not None
        return self.replica.raft

    @property
    def machine(self) -> Machine:
        """The state machine."""
        assert self.replica is not None
        return self.replica.machine

    @property
    def is_serving(self) -> bool:
        """Whether it leads and serves."""
        return self.replica is not None and self.replica.raft.is_serving
