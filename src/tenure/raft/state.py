"""All that a member knows, and the outputs that a step gathers. Logic lives in the modules beside this one."""

from collections import deque
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from tenure.base.chance import Rng
from tenure.base.ids import BatchNumber, Boot, ConsensusTerm, LogIndex, MemberId
from tenure.base.instants import NEVER, Instant
from tenure.raft import membership
from tenure.raft.entries import CONFIGURATION, Configuration, Entry, HardState, Restored, Snapshot, configuration_of
from tenure.raft.freshness import Freshness
from tenure.raft.log import Log
from tenure.raft.messages import AnyMessage, Envelope, Evidence, LeaderLost, SnapshotChunk
from tenure.raft.progress import Progress
from tenure.raft.ready import Accepted, ChangeEnded, Fatal, ReadState, Refused, Trace, TransferEnded
from tenure.raft.roll import RollCall
from tenure.raft.settings import Identity, Settings
from tenure.raft.timing import Timing

RoleName = Literal["follower", "pre_candidate", "candidate", "leader", "stopped"]


@dataclass(slots=True)
class Follower:
    """Follows `watch.leader`, or knows none yet."""

    name: ClassVar[RoleName] = "follower"


@dataclass(slots=True)
class PreCandidate:
    """Asks whether it would be elected, changing nothing (thesis §9.6)."""

    name: ClassVar[RoleName] = "pre_candidate"

    attempt: int
    granted: set[MemberId]
    ends_at: Instant
    refused: set[MemberId] = field(default_factory=set)


@dataclass(slots=True)
class Candidate:
    """Has moved to a term of its own. Its own vote counts once `own_batch` is durable (P4.2)."""

    name: ClassVar[RoleName] = "candidate"

    attempt: int
    granted: set[MemberId]
    ends_at: Instant
    own_batch: BatchNumber
    transfer: bool
    refused: set[MemberId] = field(default_factory=set)
    lasts: dict[MemberId, tuple[LogIndex, ConsensusTerm]] = field(default_factory=dict)
    """Last log ids that came with the votes: the winner needs no probe (P5.7)."""


@dataclass(slots=True)
class Round:
    """A heartbeat that reads wait for: `number` was made after all of `tokens` had come (P3.3)."""

    number: int
    index: LogIndex
    tokens: list[int]


@dataclass(slots=True)
class TransferUnderWay:
    """Leadership is being handed to `target`; TimeoutNow leaves when its match is our last index."""

    token: int | None
    target: MemberId
    ends_at: Instant
    sent: bool = False
    resign: bool = False


@dataclass(slots=True)
class Leader:
    """Leads `term`; serves once `noop` is committed (Raft §8)."""

    name: ClassVar[RoleName] = "leader"

    noop: LogIndex
    won_at: Instant
    progress: dict[MemberId, Progress]
    beat: int = 0
    beat_at: Instant = Instant(0)
    beat_due: Instant = Instant(0)
    echo_due: Instant = Instant(0)
    """When a heartbeat tells again what the others' state is as old as."""
    commit_at_beat: LogIndex = LogIndex(0)
    ranks: tuple[MemberId, ...] = ()
    ranked: tuple[Configuration, list[MemberId]] | None = None
    """Of what `ranks` was made: the configuration, and who was behind."""
    reads_waiting: list[int] = field(default_factory=list)
    rounds: deque[Round] = field(default_factory=deque)
    calls: list[RollCall] = field(default_factory=list)
    transfer: TransferUnderWay | None = None
    probe: int = 0
    probe_due: Instant = NEVER
    stall_traced: BatchNumber = BatchNumber(0)
    stall_probe: tuple[BatchNumber, int, Instant] = (BatchNumber(0), 0, Instant(0))
    """Of which batch, with which probe, and when the others were asked whether it is our disk alone."""
    uncommitted_bytes: int = 0
    late_us: int = 0
    """The longest own stall since the last tick: a sample of our lateness if we still lead then (P6.2)."""
    ship_credit: int = 0
    """Bytes of snapshots that may leave now, as of `ship_at`."""
    ship_at: Instant = Instant(0)
    ship_turn: int = 0
    ship_due: Instant = NEVER
    """When more may leave, if some waits for that."""
    outbid: ConsensusTerm = ConsensusTerm(0)
    """The highest term in which somebody is stuck above ours (P5.8); 0: nobody."""
    quorum_heard: tuple[tuple[MemberId, ...], Instant] = ((), Instant(0))
    """Since when a majority of these voters was heard, as last looked up: true instants only rise."""


@dataclass(slots=True)
class Watch:
    """The leader of the current term as this member hears it."""

    leader: MemberId | None = None
    boot: Boot | None = None
    number: int = 0
    heard_at: Instant = Instant(0)
    beat_at: Instant | None = None
    interval_us: int = 0
    patience_us: int = 0
    timeout_us: int = 0
    """T of P6.2 as of the last heartbeat."""
    ranks: tuple[MemberId, ...] = ()


@dataclass(slots=True)
class Suspicion:
    """This member has lost the leader (P5). `turn_at`: when it stands; it `waited` for a better rank, or `gave_way`."""

    since: Instant
    evidence: Evidence
    turn_at: Instant
    note_due: Instant
    term: ConsensusTerm
    leader: MemberId | None
    leader_boot: Boot | None
    heard_number: int
    waited: bool = False
    gave_way: bool = False
    failures: int = 0
    noticed: set[MemberId] = field(default_factory=set)
    """Whose notes were void only by their heartbeat's number: no pre-votes, but who refused one may grant it by now."""


@dataclass(slots=True)
class Note:
    """A `LeaderLost` of a peer that still counts (P5.2)."""

    message: LeaderLost
    at: Instant


@dataclass(slots=True)
class Link:
    """A live connection from a peer."""

    boot: Boot
    speaks: int


@dataclass(slots=True)
class InFlight:
    """The batch that the disk has. `end`: the last log index it covers; `cap` lowers what it can still prove (P4.5)."""

    number: BatchNumber
    end: LogIndex
    cap: LogIndex
    since: Instant
    hard_state: HardState
    snapshot: bool


@dataclass(slots=True)
class Disk:
    """Durable effects: what is done, what is under way, what gathers (P4.1)."""

    durable: BatchNumber
    in_flight: InFlight | None = None
    dirty: bool = False
    hard_state_dirty: bool = False
    known_dirty: bool = False
    truncate_from: LogIndex | None = None
    snapshot: Snapshot | None = None
    install: bool = False
    compact_to: LogIndex | None = None
    promises: list[Envelope] = field(default_factory=list)
    late: list[Envelope] = field(default_factory=list)
    """Promises that the batch in flight already covers; they leave when it is durable."""


@dataclass(slots=True)
class Incoming:
    """A snapshot that is being received: `received` bytes with this CRC, in memory until all are here. `term`: of the
    leader who sent of it last.
    """

    head: SnapshotChunk
    term: ConsensusTerm
    pieces: list[bytes] = field(default_factory=list)
    received: int = 0
    crc: int = 0


@dataclass(slots=True)
class Witness:
    """When a witness asks for a snapshot again (P8)."""

    ask_due: Instant = Instant(0)


class Core:
    """The state of one member's consensus core, and the outbox of the step under way."""

    __slots__ = (
        "accepted",
        "applied_to",
        "attempt",
        "changes",
        "commit",
        "configuration",
        "configurations",
        "demoted",
        "disk",
        "epoch",
        "fatal",
        "feature",
        "freshness",
        "grace_until",
        "graces",
        "heard_boots",
        "higher_told",
        "identity",
        "incoming",
        "installed",
        "is_voter",
        "is_witness",
        "known_batches",
        "late_us",
        "links",
        "log",
        "me",
        "nonce",
        "note_epochs",
        "notes",
        "now",
        "peers",
        "promised",
        "reads",
        "refused",
        "rng",
        "role",
        "rounds_failed",
        "seats_changed",
        "send",
        "settings",
        "snapshot",
        "snapshot_wanted",
        "suspicion",
        "term",
        "timing",
        "traces",
        "transfers",
        "unclean",
        "unheard",
        "vote",
        "voters",
        "watch",
        "witness",
        "witness_seats",
    )  # fmt: skip

    def __init__(self, identity: Identity, restored: Restored, settings: Settings, rng: Rng, now: Instant) -> None:
        self.identity = identity
        self.me: MemberId = identity.member
        self.nonce = identity.lineage[-1]
        self.settings = settings
        self.rng = rng
        self.now = now
        self.timing = Timing(settings)

        self.term: ConsensusTerm = restored.hard_state.term
        """Never goes back; what was said under it waits for its batch (P4.8)."""
        self.vote: MemberId | None = restored.hard_state.vote
        self.snapshot: Snapshot | None = restored.snapshot
        self.log = _log_of(restored)
        self.configurations = _configurations_of(restored)
        """The one below the log's entries, and those in the entries, in their order; the last is in force (P7.1)."""
        self.configuration: Configuration
        self.voters: tuple[MemberId, ...]
        self.peers: tuple[MemberId, ...]
        self.witness_seats: frozenset[MemberId]
        self.is_voter: bool
        self.is_witness: bool
        """Whether our own vote counts; whether we vote without holding state (P8)."""
        self.seats_changed = True
        self.links: dict[MemberId, Link] = {}
        self.unheard: tuple[MemberId, ...]
        """Members with a seat of whom no connection stands: told to the leader with each heartbeat's answer (P7.4)."""
        self.configure()
        self.feature = restored.feature
        self.commit: LogIndex = restored.snapshot.index if restored.snapshot else LogIndex(0)
        """Volatile: restarts at the snapshot's index (P10)."""
        self.applied_to: LogIndex = self.commit
        """Up to where `Ready.committed` has handed entries out."""
        self.installed: Snapshot | None = None

        self.disk = Disk(durable=restored.batch)
        self.known_batches: dict[MemberId, BatchNumber] = dict(restored.known_batches)
        self.unclean = not restored.clean
        self.heard_boots: set[MemberId] = set()
        """Peers whose handshake was heard in this life; after an unclean stop the first vote waits for them (P1.3)."""

        self.role: Follower | PreCandidate | Candidate | Leader = Follower()
        self.watch = Watch(heard_at=now)
        self.suspicion: Suspicion | None = None
        self.epoch = 0
        self.notes: dict[MemberId, Note] = {}
        self.note_epochs: dict[MemberId, tuple[Boot, int, bool]] = {}
        self.higher_told: dict[MemberId, tuple[ConsensusTerm, Instant]] = {}
        self.attempt = 0
        self.rounds_failed = 0
        """Rounds of ours that ran out of time since a leader was heard or a new link stood (`suspicion.round_us`)."""
        self.grace_until = now
        self.graces = 0
        """How many stalls of our own were excused since the leader (or, leading, a majority) was heard (P6.3)."""
        self.late_us = 0
        self.incoming: Incoming | None = None
        self.witness = Witness()
        self.snapshot_wanted = False
        self.freshness = Freshness()
        self.promised: tuple[ConsensusTerm, LogIndex] = (ConsensusTerm(0), LogIndex(0))
        """The last (term, match) promised to the leader: an empty append within it needs no answer."""

        self.fatal: Fatal | None = None
        self.send: list[Envelope] = []
        self.accepted: list[Accepted] = []
        self.refused: list[Refused] = []
        self.reads: list[ReadState] = []
        self.transfers: list[TransferEnded] = []
        self.changes: list[ChangeEnded] = []
        self.traces: list[Trace] = []

    def configure(self) -> None:
        """The last configuration in the log is in force, committed or not (P7.1)."""
        configuration = self.configurations[-1]
        self.configuration = configuration
        self.voters = configuration.voters()
        self.peers = tuple(member for member in configuration.members() if member != self.me)
        self.witness_seats = frozenset(seat.id for seat in configuration.seats if seat.role == "witness")
        self.is_voter = self.me in self.voters
        self.is_witness = self.me in self.witness_seats
        self.demoted: tuple[MemberId, LogIndex] | None = _demoted(self.configurations)
        """Whom the last configuration in the log took the vote, and its index (P7.3, ADR 0030)."""
        self.seats_changed = True
        self.listen()

    def listen(self) -> None:
        """Links or seats have changed: who is heard."""
        self.unheard = tuple(peer for peer in self.peers if peer not in self.links)

    def is_witness_seat(self, member: MemberId) -> bool:
        """Whether a member is a witness."""
        return member in self.witness_seats

    def say(self, to: MemberId, message: AnyMessage) -> None:
        """Send early: nothing durable is promised."""
        self.send.append(Envelope(self.me, to, self.nonce, message))

    def trace(self, what: str, **detail: int | str | bool | None) -> None:
        """Note a decision with its reason."""
        self.traces.append(Trace(what, detail))


def _configurations_of(restored: Restored) -> list[Configuration]:
    base = restored.configuration
    later = [entry for entry in restored.entries if entry.kind == CONFIGURATION and entry.index > base.index]
    return [base, *(configuration_of(entry) for entry in later)]


def _demoted(configurations: list[Configuration]) -> tuple[MemberId, LogIndex] | None:
    if len(configurations) < 2:
        return None
    before, now = configurations[-2:]
    voter = membership.moves(before, now)
    return (voter, now.index) if voter is not None else None


def _log_of(restored: Restored) -> Log:
    snapshot = restored.snapshot
    base = (snapshot.index, snapshot.term) if snapshot else (LogIndex(0), ConsensusTerm(0))
    entries: tuple[Entry, ...] = restored.entries
    if not entries:
        return Log(base[0], base[1], ())
    if entries[0].index <= base[0] <= entries[-1].index:  # the tail below the snapshot stays, for followers
        return Log(entries[0].index, entries[0].term, entries[1:])
    kept = tuple(entry for entry in entries if entry.index > base[0])
    return Log(base[0], base[1], kept)
