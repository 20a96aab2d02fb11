"""The requests of the engine seam, each beside the result that it names. `engine` re-exports them."""

from typing import Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

from tenure.base.ids import ElectionName, MemberId, NodeId, Nonce, SessionId, Term
from tenure.leadership.values import AsOf, Demand, ElectionConfig, ElectionView, HoldingView, Lease, ReleaseCause

R = TypeVar("R")


class Request(Struct, Generic[R], frozen=True, tag=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all requests; `R` is the result when it isn't refused.

    What is left to its default isn't sent: a member of an older version takes a request with a field that it doesn't
    know only as long as nobody uses that (P10).
    """


class SessionOpened(Struct, frozen=True, tag="session_opened"):
    """A session stands; its id and TTL never change (P3.6). Gives no lease (P3.1)."""

    session: SessionId
    node: NodeId
    ttl_ms: int


class OpenSession(Request[SessionOpened], frozen=True, tag="open"):
    """Open a session for a node. `process` is a nonce of the process (16 hex digits): nobody else joins it (P3.6)."""

    node: NodeId
    ttl_ms: int
    process: str
    meta: dict[str, str] = {}


class SessionClosed(Struct, frozen=True, tag="session_closed"):
    """The session is gone with everything it held; repeating it says the same."""

    session: SessionId


class CloseSession(Request[SessionClosed], frozen=True, tag="close"):
    """Close a session: withdraw, release, forget."""

    session: SessionId


class Kept(Struct, frozen=True, tag="kept"):
    """A keepalive's acknowledgement, built from applied state after its round (P3.3)."""

    session: SessionId
    number: int
    leases: tuple[Lease, ...] = ()
    demands: tuple[Demand, ...] = ()


class Keepalive(Request[Kept], frozen=True, tag="keep"):
    """I live. `number` is fresh for each transmission (P3.2). Health 0..100; lag in the application's own unit."""

    session: SessionId
    number: int
    health: int = 100
    lag: int | None = None


class SessionView(Struct, frozen=True, tag="session"):
    """A session as the state machine knows it."""

    session: SessionId
    node: NodeId
    ttl_ms: int
    candidate_of: tuple[ElectionName, ...]
    holds: tuple[Lease, ...]
    meta: dict[str, str]


class ReadSession(Request[SessionView], frozen=True, tag="read_session"):
    """One session."""

    session: SessionId


class Campaigning(Struct, frozen=True, tag="campaigning"):
    """The candidacy stands. Whether it leads comes only from a keepalive's acknowledgement (P3.1)."""

    election: ElectionName
    session: SessionId
    priority: int


class Campaign(Request[Campaigning], frozen=True, tag="campaign"):
    """Stand for an election; repeating it changes the priority. Begins the election if it is new."""

    session: SessionId
    election: ElectionName
    priority: int = 0


class Withdrawn(Struct, frozen=True, tag="withdrawn"):
    """No longer a candidate; what it held is released. Repeating it says the same."""

    election: ElectionName
    session: SessionId


class Withdraw(Request[Withdrawn], frozen=True, tag="withdraw"):
    """Stop standing. The holder must have ended its validity before (P3.7)."""

    session: SessionId
    election: ElectionName


class Released(Struct, frozen=True, tag="released"):
    """The holding of `term` is over."""

    election: ElectionName
    term: Term


class Release(Request[Released], frozen=True, tag="release", omit_defaults=True):
    """Give the office back; stays a candidate unless `withdraw`. Names the term (P3.6); 409 `not_held` otherwise.

    `cause` and `reason` (at most 200 characters) are for the history: `crash` if the application had failed.
    """

    session: SessionId
    election: ElectionName
    term: Term
    withdraw: bool = False
    cause: ReleaseCause = "released"
    reason: str | None = None


class Stepped(Struct, frozen=True, tag="stepped"):
    """`state`: done (`to` is granted) or under way. Without an election, `from_`/`to` are consensus members' names."""

    election: ElectionName | None
    to: str | None
    term: int | None
    state: Literal["done", "under_way"]
    from_: str | None = msgspec.field(name="from", default=None)


class Stepdown(Request[Stepped], frozen=True, tag="stepdown"):
    """Ask the holder to hand over; without an election the consensus leader moves. Refusals: unknown_election,
    not_held, no_eligible_successor.
    """

    election: ElectionName | None = None
    successor: str | None = None
    reason: str | None = None
    grace_ms: int = 5_000
    wait_ms: int | None = None
    fenced_off: bool = False


class Configured(Struct, frozen=True, tag="configured"):
    """The election's settings as they are now."""

    election: ElectionName
    config: ElectionConfig
    paused: bool


class Configure(Request[Configured], frozen=True, tag="configure"):
    """Set an election's settings as a whole; begins the election if it is new."""

    election: ElectionName
    config: ElectionConfig


class Pause(Request[Configured], frozen=True, tag="pause"):
    """While paused nobody new is granted; the holder stays."""

    election: ElectionName
    paused: bool


class ReadElection(Request[ElectionView], frozen=True, tag="read_election"):
    """One election, linearizable unless `stale`."""

    election: ElectionName
    stale: bool = False


class HistoryPage(Struct, frozen=True, tag="history"):
    """Newest first."""

    election: ElectionName
    holdings: tuple[HoldingView, ...]


class History(Request[HistoryPage], frozen=True, tag="read_history"):
    """The last holdings of an election."""

    election: ElectionName
    limit: int = 20


class Validated(Struct, frozen=True, tag="validated"):
    """Valid only if the election is now held under exactly this term (API.md)."""

    valid: bool
    reason: Literal["current", "stale", "not_held", "never_issued", "unknown_election", "wrong_owner"]
    current_term: int | None


class Validate(Request[Validated], frozen=True, tag="validate"):
    """Linearizable check of a fencing token; `owner` null checks the term alone."""

    election: str
    term: int
    owner: str | None = None


class KvWritten(Struct, frozen=True, tag="kv_written"):
    """Durable on a majority. `revision` is its log index."""

    key: str
    revision: int
    election: ElectionName | None
    term: int | None


class KvPut(Request[KvWritten], frozen=True, tag="kv_put"):
    """Fenced metadata (API.md, kv). `value` is raw JSON text of at most 1 MiB."""

    key: str
    value: bytes
    election: ElectionName | None = None
    term: int | None = None
    if_revision: int | None = None


class KvValue(Struct, frozen=True, tag="kv_value", omit_defaults=True):
    """A key's value (raw JSON text, which the API puts in as it is) with the revision of its last write."""

    key: str
    value: bytes
    revision: int
    election: ElectionName | None = None
    term: int | None = None
    as_of: AsOf | None = None


class KvGet(Request[KvValue], frozen=True, tag="kv_get"):
    """Linearizable unless `stale`. `leader_status/{election}` is readable here."""

    key: str
    stale: bool = False


class KvKeys(Struct, frozen=True, tag="kv_keys"):
    """Keys in order; `more` if the limit cut the list."""

    keys: tuple[str, ...]
    more: bool


class KvList(Request[KvKeys], frozen=True, tag="kv_list"):
    """Keys that begin with `prefix`."""

    prefix: str = ""
    limit: int = 100


class MemberView(Struct, frozen=True):
    """One member for `GET /status`."""

    id: MemberId
    role: Literal["leader", "voter", "witness", "observer"]
    api: str | None
    peer: str
    match_index: int | None
    lag: int | None
    rtt_ms: float | None
    state: str
    standby: Literal["no", "voter", "witness"] = "no"
    speaks: int | None = None
    """The newest feature version that it is known to know (P10)."""


class ConsensusView(Struct, frozen=True):
    """Raft's own. `leader` is a name, `feature` the version that the cluster speaks (P10). `lag_ms`: how old the state
    is, as in `AsOf`.
    """

    leader: str | None
    term: int
    commit_index: int
    applied_index: int
    lag_ms: int | None = None
    feature: int = 1


class NodeView(Struct, frozen=True):
    """An application node with a live session."""

    session: SessionId
    ttl_ms: int
    health: int | None
    lag: int | None
    last_seen_ms: int | None
    holds: tuple[ElectionName, ...]


class StatusReport(Struct, frozen=True, tag="status"):
    """`GET /status`. `quorum` false: as far as known, answered with 503.

    `state`: founding, joining, refused (it can't found), witness, stopped, or its role in the consensus. `missing`:
    without a quorum, the members that aren't heard. `obstacle`: what is in its way (it can't found, join or take part,
    has no space on its disk), in words for the operator. `lineage`: the cluster's founding, restores and recoveries
    (P1.4); `forked`: another cluster was met that came out of the same one, or out of this one.
    """

    cluster_id: str | None
    member: str
    state: str
    quorum: bool
    consensus: ConsensusView
    members: dict[str, MemberView]
    nodes: dict[str, NodeView]
    elections: dict[str, ElectionView]
    protection: dict[str, str] = {}
    missing: tuple[str, ...] = ()
    obstacle: str | None = None
    lineage: tuple[Nonce, ...] = ()
    forked: str | None = None


class Status(Request[StatusReport], frozen=True, tag="read_status"):
    """Everything at a glance; linearizable unless `stale`."""

    stale: bool = False


class ClientOpened(Struct, frozen=True, tag="client_opened"):
    """A client session for `Sequenced` origins (P9.1)."""

    client: str


class OpenClient(Request[ClientOpened], frozen=True, tag="open_client"):
    """Open a client session; `nonce` (16 hex digits) makes a repeated opening harmless."""

    nonce: str


class Noted(Struct, frozen=True, tag="noted"):
    """Heard."""


class Disconnected(Request[Noted], frozen=True, tag="disconnected"):
    """The stream that kept this session alive was lost while its member lived (P3.8)."""

    session: SessionId
