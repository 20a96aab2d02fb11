"""The replicated records: everything that `apply` may read or change, nothing else.

They are msgspec Structs in arrays because they *are* the snapshot: `snapshots` encodes this very tree. Dicts keep their
order of insertion, which is the same on every member because the log is; evictions rely on it.
"""

from collections import deque
from typing import Literal

import msgspec
from msgspec import Struct

from tenure.base.ids import ElectionName, LogIndex, NodeId, Nonce, SessionId, Term
from tenure.leadership.engine import (
    AutopilotConfigured,
    AutopilotSettings,
    Campaigning,
    Cause,
    ClientOpened,
    Configured,
    ElectionConfig,
    KvWritten,
    Lease,
    Noted,
    Refused,
    Released,
    RemarkKind,
    SessionClosed,
    SessionOpened,
    Stepped,
    Transition,
    Withdrawn,
)

StoredResult = (
    SessionOpened
    | SessionClosed
    | Campaigning
    | Withdrawn
    | Released
    | Stepped
    | Configured
    | KvWritten
    | ClientOpened
    | AutopilotConfigured
    | Noted
    | Refused
)


class Session(Struct, array_like=True):
    """A node's session. Id and TTL never change (P3.6)."""

    id: SessionId
    node: NodeId
    ttl_ms: int
    process: str
    meta: dict[str, str]
    opened_ms: int
    candidate_of: dict[ElectionName, LogIndex]
    """In each of these elections `candidates` has this session."""
    holds: dict[ElectionName, Term]
    """Of each of these elections this session is the holder, under this term."""


class Candidate(Struct, frozen=True, array_like=True):
    """Who stands. `arrived` is the index of its first campaign since it last stood."""

    session: SessionId
    node: NodeId
    priority: int
    arrived: LogIndex


class Holder(Struct, frozen=True, array_like=True):
    """Who holds, under which term. `lease` is what acknowledgements name."""

    session: SessionId
    node: NodeId
    term: Term
    owner: str
    lease: Lease


class Handover(Struct, frozen=True, array_like=True):
    """A stepdown that has begun (P3.6: replicated). It ends with the holding."""

    cause: Cause
    successor: NodeId | None
    grace_ms: int
    fenced_off: bool
    reason: str | None
    index: LogIndex


class Bar(Struct, frozen=True, array_like=True):
    """Why a node comes later after it gave an office up: `stepped_down` isn't eligible, `released` ranks last.

    Both end with the next grant of the election, or when the steward has seen `cooldown_ms` pass (API.md).
    """

    kind: Literal["stepped_down", "released"]
    index: LogIndex


class Vacancy(Struct, frozen=True, array_like=True):
    """How and when (by the command's clock) the last holding ended."""

    cause: Cause
    at_ms: int


class Phase(Struct, frozen=True):
    """One phase of a holding, and the unix ms at which it began, from the command (P10)."""

    name: str
    at_ms: int


class Holding(Struct, frozen=True):
    """One line of an election's history."""

    election: ElectionName
    term: Term
    node_id: NodeId
    session: SessionId
    began: Cause
    ended: Cause | None
    reason: str | None
    phases: tuple[Phase, ...]


class Election(Struct, array_like=True):
    """A named office. It is vacant exactly when `holder` is None; then `handover` is None too."""

    name: ElectionName
    config: ElectionConfig
    revision: LogIndex
    paused: bool = False
    last_term: Term = Term(0)
    """The last granted one; the holder's while there is a holder."""
    holder: Holder | None = None
    handover: Handover | None = None
    vacancy: Vacancy | None = None
    candidates: dict[SessionId, Candidate] = {}
    bars: dict[NodeId, Bar] = {}
    successor: NodeId | None = None
    """Whom a switchover named; preferred at the next grant, forgotten with it."""
    history: list[Holding] = []
    """Oldest first, at most `history_max`."""


class KvEntry(Struct, frozen=True, array_like=True, gc=False):
    """A key's value. `election` once set is never unset (API.md, kv)."""

    value: bytes
    revision: LogIndex
    election: ElectionName | None
    term: int | None


class Remarked(Struct, frozen=True, array_like=True):
    """What the autopilot did or declined; `at_ms` is the command's (P10)."""

    at_ms: int
    kind: RemarkKind
    member: str | None
    reason: str


class Autopilot(Struct, array_like=True):
    """What is replicated of the autopilot."""

    settings: AutopilotSettings = AutopilotSettings()
    remarks: list[Remarked] = []
    """Oldest first, at most `remarks_max`."""


class Client(Struct, array_like=True):
    """P9.1. Every number below `low` is answered or given up: never executed again."""

    id: str
    low: int
    used: LogIndex
    """When it was last used."""
    answers: dict[int, StoredResult]


class KeyedAnswer(Struct, frozen=True, array_like=True):
    """P9.2. What was answered under a key, at which index, to which body."""

    digest: str
    index: LogIndex
    result: StoredResult


class State(Struct, array_like=True):
    """All of it."""

    format: int
    lineage: tuple[Nonce, ...]
    counter: int
    """The last issued term, or one below the first that may be (P2.1)."""
    stamp: int
    """The newest stamp (P2.2)."""
    applied: LogIndex = LogIndex(0)
    """Index of the last command."""
    transition: int = 0
    """Number of the last transition."""
    sessions: dict[SessionId, Session] = {}
    elections: dict[ElectionName, Election] = {}
    kv: dict[str, KvEntry] = {}
    kv_bytes: int = 0
    clients: dict[str, Client] = {}
    keyed: dict[str, KeyedAnswer] = {}
    """Oldest first."""
    autopilot: Autopilot = msgspec.field(default_factory=Autopilot)


class Indexes:
    """What can be derived from the state, kept for speed; never part of a snapshot."""

    __slots__ = ("_owned", "clients", "keyed", "keys", "nodes")

    def __init__(self, state: State) -> None:
        self.nodes: dict[NodeId, SessionId] = {session.node: session.id for session in state.sessions.values()}
        """A node has at most one live session."""
        self.clients: dict[str, str] = {name.partition("-")[2]: name for name in state.clients}
        """Client sessions by the nonce of their opening."""
        self.keyed: deque[str] = deque(state.keyed)
        """The keys of `state.keyed`, oldest first: a dict is slow at giving up its first entry again and again."""
        self.keys: list[str] = list(state.kv)
        """Keys of `state.kv`, sorted when somebody lists them."""
        self._owned: set[str] | None = None
        """Client sessions whose records no frozen view holds; None: there was never such a view."""

    def share(self) -> None:
        """A frozen view (`snapshots.Frozen`) now holds every client session's record."""
        self._owned = set()

    def own(self, state: State, name: str) -> Client | None:
        """A client session's record, to be changed: a copy of it if a frozen view may hold it."""
        client = state.clients.get(name)
        if client is None or self._owned is None or name in self._owned:
            return client
        self._owned.add(name)
        state.clients[name] = client = Client(client.id, client.low, client.used, dict(client.answers))
        return client

    def forget_client(self, name: str) -> None:
        """A client session is closed."""
        del self.clients[name.partition("-")[2]]
        if self._owned is not None:
            self._owned.discard(name)


class Turn:
    """One command being applied: where, when (by the command's clock, P10), and what it has done so far."""

    __slots__ = ("at_ms", "index", "indexes", "state", "transitions")

    def __init__(self, state: State, indexes: Indexes, index: LogIndex, at_ms: int) -> None:
        self.state = state
        self.indexes = indexes
        self.index = index
        self.at_ms = at_ms
        self.transitions: list[Transition] = []

    def next_number(self) -> int:
        """The number of the next transition."""
        self.state.transition += 1
        return self.state.transition
