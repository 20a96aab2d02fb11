"""The engine seam: what every engine (memory, native, etcd, ZooKeeper, remote) can be asked, and how it answers.

A request is a small frozen value that names its result: `await engine.ask(KvPut(...))` is a `KvWritten | Refused`.
Never a boolean, never an exception for something that the world may do: `Refused` carries one of the stable codes of
API.md. An `Origin` makes a request safe to repeat (P9). What has happened is told by `engine.watch`: every committed
transition once, in order, resumable by its number, or an explicit `Compacted`.

Requests and results travel as tagged JSON (API, stream) and as tagged msgpack (between members), from these very types.
"""

from collections.abc import AsyncIterator
from typing import Protocol, TypeVar

from tenure.base.ids import Nonce
from tenure.leadership.autopilot import (
    AutopilotConfigured,
    AutopilotSettings,
    AutopilotView,
    ConfigureAutopilot,
    DecisionView,
    PilotState,
    ReadAutopilot,
    RemarkKind,
    WatchedView,
)
from tenure.leadership.backups import Backup
from tenure.leadership.members import (
    AddMember,
    AmendMember,
    AnyChange,
    DemoteMember,
    FormerMember,
    Founding,
    ListMembers,
    MemberSeat,
    MembersView,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
)
from tenure.leadership.requests import (
    Campaign,
    Campaigning,
    ClientOpened,
    CloseSession,
    Configure,
    Configured,
    ConsensusView,
    Disconnected,
    History,
    HistoryPage,
    Keepalive,
    Kept,
    KvGet,
    KvKeys,
    KvList,
    KvPut,
    KvValue,
    KvWritten,
    MemberView,
    NodeView,
    Noted,
    OpenClient,
    OpenSession,
    Pause,
    ReadElection,
    ReadSession,
    Release,
    Released,
    Request,
    SessionClosed,
    SessionOpened,
    SessionView,
    Status,
    StatusReport,
    Stepdown,
    Stepped,
    Validate,
    Validated,
    Withdraw,
    Withdrawn,
)
from tenure.leadership.values import (
    AsOf,
    CandidateView,
    Cause,
    Code,
    Compacted,
    Demand,
    ElectionConfig,
    ElectionState,
    ElectionView,
    HoldingView,
    Keyed,
    Lease,
    Origin,
    PhaseView,
    Refused,
    ReleaseCause,
    Sequenced,
    Transition,
    TransitionKind,
)

__all__ = [
    "AddMember",
    "AmendMember",
    "Answer",
    "AnyChange",
    "AnyRequest",
    "AnyResult",
    "AsOf",
    "AutopilotConfigured",
    "AutopilotSettings",
    "AutopilotView",
    "Campaign",
    "Campaigning",
    "CandidateView",
    "Cause",
    "ClientOpened",
    "CloseSession",
    "Code",
    "Compacted",
    "Configure",
    "ConfigureAutopilot",
    "Configured",
    "ConsensusView",
    "DecisionView",
    "Demand",
    "DemoteMember",
    "Disconnected",
    "ElectionConfig",
    "ElectionState",
    "ElectionView",
    "Engine",
    "FormerMember",
    "Founding",
    "History",
    "HistoryPage",
    "HoldingView",
    "Keepalive",
    "Kept",
    "Keyed",
    "KvGet",
    "KvKeys",
    "KvList",
    "KvPut",
    "KvValue",
    "KvWritten",
    "Lease",
    "ListMembers",
    "MemberSeat",
    "MemberView",
    "MembersView",
    "NodeView",
    "Noted",
    "OpenClient",
    "OpenSession",
    "Origin",
    "Pause",
    "PhaseView",
    "PilotState",
    "PromoteMember",
    "ReadAutopilot",
    "ReadElection",
    "ReadSession",
    "Refused",
    "Release",
    "ReleaseCause",
    "Released",
    "RemarkKind",
    "RemoveMember",
    "ReplaceMember",
    "Request",
    "Sequenced",
    "SessionClosed",
    "SessionOpened",
    "SessionView",
    "Status",
    "StatusReport",
    "Stepdown",
    "Stepped",
    "Submitter",
    "Transition",
    "TransitionKind",
    "Validate",
    "Validated",
    "WatchedView",
    "Withdraw",
    "Withdrawn",
]

R = TypeVar("R")

AnyRequest = (
    OpenSession
    | CloseSession
    | Keepalive
    | ReadSession
    | Campaign
    | Withdraw
    | Release
    | Stepdown
    | Configure
    | Pause
    | ReadElection
    | History
    | Validate
    | KvPut
    | KvGet
    | KvList
    | Status
    | ListMembers
    | AnyChange
    | ReadAutopilot
    | ConfigureAutopilot
    | OpenClient
    | Disconnected
)

AnyResult = (
    SessionOpened
    | SessionClosed
    | Kept
    | SessionView
    | Campaigning
    | Withdrawn
    | Released
    | Stepped
    | Configured
    | ElectionView
    | HistoryPage
    | Validated
    | KvWritten
    | KvValue
    | KvKeys
    | StatusReport
    | MembersView
    | AutopilotView
    | AutopilotConfigured
    | ClientOpened
    | Noted
    | Refused
)


class Engine(Protocol):
    """What the API, the gateway and the tests talk to."""

    async def ask(self, request: Request[R], origin: Origin | None = None) -> R | Refused:
        """Answer one request. Ends within the engine's own deadline; a lost quorum is `Refused("no_quorum")`."""
        ...

    def watch(self, after: int | None) -> AsyncIterator[tuple[Transition, ...] | Compacted]:
        """Batches of transitions with `number > after` (None: from now on), as this member applies them."""
        ...

    def last_transition(self) -> int:
        """The number of the newest transition applied here."""
        ...

    async def backup(self, stale: bool) -> Backup | Refused:
        """The state as a whole; unless `stale`, everything that was acknowledged before the call is in it."""
        ...

    def lineage(self) -> tuple[Nonce, ...]:
        """Which cluster this is, and which of its pasts (P1.4); empty before it is founded."""
        ...


class Submitter(Protocol):
    """The hot path of an engine in this process: no task and no future per request."""

    def submit(self, request: AnyRequest, origin: Origin | None, answer: "Answer") -> None:
        """Like `ask`, but `answer` is called once in the engine's loop, perhaps before `submit` returns."""
        ...


class Answer(Protocol):
    """Takes the result of a submitted request; must not raise."""

    def __call__(self, result: AnyResult) -> None:
        """Called exactly once."""
        ...
