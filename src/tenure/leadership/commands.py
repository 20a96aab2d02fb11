"""What stands in the replicated log: tagged, versioned msgpack (P10), one type per command.

Two kinds. *Requests* come from somebody, perhaps with an `Origin` that makes them safe to repeat (P9). *Decisions* come
from the steward; each names exactly what it was decided about (P3.4), and in `decided` the consensus term of it (P3.5).

These arrays are a format on disks, and an older program skips fields that it doesn't know: so a body never changes.
What is new, be it one field, takes a new type and tag and stands in `_since`. A command's `version` is the feature
version since which its body may be said; the leader proposes none above what the cluster speaks, so nobody meets one
that it doesn't know (P10).
"""

from typing import Final

import msgspec
from msgspec import Struct

from tenure.base.errors import TenureError
from tenure.base.ids import ConsensusTerm, ElectionName, LogIndex, NodeId, SessionId, Term
from tenure.base.versions import feature_newest
from tenure.leadership import engine
from tenure.leadership.engine import (
    AnyRequest,
    AutopilotSettings,
    Cause,
    ElectionConfig,
    Keyed,
    ReleaseCause,
    RemarkKind,
    Sequenced,
)


class UnknownCommand(TenureError):
    """P10: a command that this program doesn't know. The member must stop; it never guesses."""


class Body(Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Base of all commands' bodies."""


# --- requests -------------------------------------------------------------------------------------------------------


class OpenSession(Body, frozen=True, tag="so"):
    """See `engine.OpenSession`."""

    node: NodeId
    ttl_ms: int
    process: str
    meta: dict[str, str]


class CloseSession(Body, frozen=True, tag="sc"):
    """See `engine.CloseSession`."""

    session: SessionId


class Campaign(Body, frozen=True, tag="c"):
    """See `engine.Campaign`."""

    session: SessionId
    election: ElectionName
    priority: int


class Withdraw(Body, frozen=True, tag="w"):
    """See `engine.Withdraw`."""

    session: SessionId
    election: ElectionName


class Release(Body, frozen=True, tag="r"):
    """See `engine.Release`."""

    session: SessionId
    election: ElectionName
    term: Term
    withdraw: bool
    cause: ReleaseCause = "released"
    reason: str | None = None


class Stepdown(Body, frozen=True, tag="sd"):
    """Begin to hand an election over. See `engine.Stepdown`."""

    election: ElectionName
    successor: NodeId | None
    reason: str | None
    grace_ms: int
    fenced_off: bool


class Configure(Body, frozen=True, tag="cf"):
    """See `engine.Configure`."""

    election: ElectionName
    config: ElectionConfig


class Pause(Body, frozen=True, tag="p"):
    """See `engine.Pause`."""

    election: ElectionName
    paused: bool


class KvPut(Body, frozen=True, tag="k"):
    """See `engine.KvPut`."""

    key: str
    value: bytes
    election: ElectionName | None
    term: int | None
    if_revision: int | None


class OpenClient(Body, frozen=True, tag="oc"):
    """Begin a client session (P9.1); `nonce` makes a repeated opening harmless."""

    nonce: str


class Stamp(Body, frozen=True, tag="st"):
    """P2.1, P2.2: raise the counter to the wall clock's stamp (the command's `at_ms`) or to the operator's floor."""

    floor: int | None


class ConfigureAutopilot(Body, frozen=True, tag="ca"):
    """See `engine.ConfigureAutopilot`."""

    settings: AutopilotSettings


# --- decisions ------------------------------------------------------------------------------------------------------


class Grant(Body, frozen=True, tag="G"):
    """Give the election, vacant since `after_term`, to a session (P3.4: names the vacancy)."""

    decided: ConsensusTerm
    session: SessionId
    election: ElectionName
    after_term: Term


class Expire(Body, frozen=True, tag="X"):
    """The session ran out. `silent_ms`: for how long nothing had been heard of it, for the history; None if never."""

    decided: ConsensusTerm
    session: SessionId
    silent_ms: int | None


class Demote(Body, frozen=True, tag="D"):
    """Begin to hand over because the holder is unhealthy: a stepdown of the steward's own."""

    decided: ConsensusTerm
    session: SessionId
    election: ElectionName
    term: Term
    grace_ms: int
    reason: str


class Revoke(Body, frozen=True, tag="V"):
    """Take just this holding away (P3.4): the end of a grace, a lost connection (P3.8), or a node fenced off."""

    decided: ConsensusTerm
    session: SessionId
    election: ElectionName
    term: Term
    cause: Cause


class Evict(Body, frozen=True, tag="E"):
    """P9.2: forget the answers under idempotency keys, and the client sessions, last used below these indexes."""

    decided: ConsensusTerm
    keyed_below: LogIndex
    clients_below: LogIndex


class Remark(Body, frozen=True, tag="R"):
    """What the autopilot did or declined, for the history. It is no decision: what it did stands in the log already."""

    decided: ConsensusTerm
    kind: RemarkKind
    member: str | None
    reason: str


Decision = Grant | Expire | Demote | Revoke | Evict

AnyBody = (
    KvPut
    | OpenSession
    | CloseSession
    | Campaign
    | Withdraw
    | Release
    | Stepdown
    | Configure
    | Pause
    | OpenClient
    | Stamp
    | Grant
    | Expire
    | Demote
    | Revoke
    | Evict
    | ConfigureAutopilot
    | Remark
)


_since: Final[dict[type, int]] = {}
"""The feature version that brought a body; those of the first aren't listed."""


def since(body: AnyBody) -> int:
    """The feature version since which this may be said."""
    return _since.get(type(body), 1)


class Command(Struct, frozen=True, array_like=True, gc=False):
    """One entry of the log. `at_ms` is wall time for the history (P10); `nonce` tells equal commands apart."""

    version: int
    at_ms: int
    nonce: str
    origin: Sequenced | Keyed | None
    body: AnyBody


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Command)


class _Head(Struct, frozen=True, array_like=True):
    """What every version of a command begins with."""

    version: int


def encode(body: AnyBody, at_ms: int, origin: Sequenced | Keyed | None = None, nonce: str = "") -> bytes:
    """A command as it stands in the log."""
    return _encoder.encode(Command(since(body), at_ms, nonce, origin, body))


def decode(data: bytes) -> Command:
    """Read a command back; `UnknownCommand` for what this program doesn't know (P10)."""
    try:
        command = _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise UnknownCommand(_unknown(data, error)) from error
    if command.version != since(command.body):
        raise UnknownCommand(_unknown(data, f"a {type(command.body).__name__} is one of version {since(command.body)}"))
    return command


def _unknown(data: bytes, why: object) -> str:
    try:
        version = msgspec.msgpack.decode(data, type=_Head).version
    except msgspec.MsgspecError:
        return f"a command without a readable version: {why}"
    if version > feature_newest:
        return f"a command of feature version {version}, and this program speaks {feature_newest}: upgrade this member"
    return f"no command of version {version} that this program knows: {why}"


def is_proposal(request: AnyRequest) -> bool:
    """Whether a request goes through the log: it changes something."""
    if isinstance(request, engine.Stepdown):
        return request.election is not None
    return isinstance(request, _proposals)


def of_request(request: AnyRequest, origin: Sequenced | Keyed | None, at_ms: int, nonce: str = "") -> bytes:
    """The command for a request that is a proposal. The request's shape was checked where it entered (`checks`)."""
    return encode(body_of(request), at_ms, origin, nonce)


def body_of(request: AnyRequest) -> AnyBody:
    """The body for a request that is a proposal."""
    match request:
        case engine.KvPut():
            return KvPut(request.key, request.value, request.election, request.term, request.if_revision)
        case engine.OpenSession():
            return OpenSession(request.node, request.ttl_ms, request.process, request.meta)
        case engine.CloseSession():
            return CloseSession(request.session)
        case engine.Campaign():
            return Campaign(request.session, request.election, request.priority)
        case engine.Withdraw():
            return Withdraw(request.session, request.election)
        case engine.Release():
            return Release(
                request.session, request.election, request.term, request.withdraw, request.cause, request.reason
            )
        case engine.Stepdown(election=str() as election):
            return Stepdown(
                election,
                NodeId(request.successor) if request.successor is not None else None,
                request.reason,
                request.grace_ms,
                request.fenced_off,
            )
        case engine.Configure():
            return Configure(request.election, request.config)
        case engine.Pause():
            return Pause(request.election, request.paused)
        case engine.OpenClient():
            return OpenClient(request.nonce)
        case engine.ConfigureAutopilot():
            return ConfigureAutopilot(request.settings)
        case _:
            raise AssertionError(f"{type(request).__name__} is no proposal")


_proposals: Final = (
    engine.KvPut,
    engine.OpenSession,
    engine.CloseSession,
    engine.Campaign,
    engine.Withdraw,
    engine.Release,
    engine.Configure,
    engine.Pause,
    engine.OpenClient,
    engine.ConfigureAutopilot,
)
