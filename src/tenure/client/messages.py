"""How the keeper writes and reads the stream `tenure.v1`: one JSON object a message (API.md).

Requests go up as their own tagged JSON with an `id` and, where they change something, an `origin` (P9.1); a keepalive
needs neither, its `session` and `number` say everything. What comes down is read by its `type`; keys that we don't know
are passed over, types that we don't know are `Unknown`, so that a newer member may say more.
"""

from typing import Final

import msgspec
from msgspec import Struct

from tenure.base.ids import ElectionName, NodeId, SessionId, Term
from tenure.leadership.engine import (
    AnyRequest,
    Campaigning,
    ClientOpened,
    Code,
    Kept,
    Refused,
    Released,
    Sequenced,
    SessionClosed,
    SessionOpened,
    Withdrawn,
)

subprotocol: Final = "tenure.v1"


class Attach(Struct, frozen=True, tag="attach"):
    """Ties a session that stands to this connection: pushes come here, and its loss is this connection's loss."""

    session: SessionId


class GrantedHint(Struct, frozen=True, tag="granted"):
    """Pushed: we were granted. A hint only (P3.1): the answer is a keepalive, never a belief."""

    session: SessionId
    election: ElectionName


class StepdownHint(Struct, frozen=True, tag="stepdown"):
    """Pushed: a stepdown of what we hold has begun."""

    session: SessionId
    election: ElectionName
    term: Term
    successor: NodeId | None = None
    grace_ms: int = 0


class EndedHint(Struct, frozen=True, tag="ended"):
    """Pushed: something that we held is over."""

    session: SessionId


class GoneHint(Struct, frozen=True, tag="session_gone"):
    """Pushed: the session itself is over."""

    session: SessionId


class Members(Struct, frozen=True, tag="status"):
    """Of a status report only what helps to find other members."""

    members: dict[str, "MemberAddress"] = {}

    def endpoints(self) -> tuple[str, ...]:
        """Who may serve us: no witness, and observers, which may be far away, last."""
        found = [(each.role == "observer", name, each) for name, each in self.members.items() if each.role != "witness"]
        return tuple(each.api for _, _, each in sorted(found, key=lambda one: one[:2]) if each.api)


class MemberAddress(Struct, frozen=True):
    """Where a member's API listens."""

    api: str | None = None
    role: str = "voter"


class Unknown(Struct, frozen=True):
    """A message of a type that this client doesn't know, or needs to know nothing more about."""

    type: str


Message = (
    Kept
    | GrantedHint
    | StepdownHint
    | EndedHint
    | GoneHint
    | Members
    | SessionOpened
    | SessionClosed
    | Campaigning
    | Withdrawn
    | Released
    | ClientOpened
    | Unknown
    | Refused
)


class Head(Struct, frozen=True):
    """What tells how to read the rest."""

    type: str
    id: int | None = None
    session: SessionId | None = None
    number: int | None = None


class Received(Struct, frozen=True):
    """A message with the id of the request that it answers, or with a keepalive's session and number."""

    id: int | None
    message: Message
    session: SessionId | None = None
    number: int | None = None


class Unusable(Exception):
    """The other side doesn't speak `tenure.v1`, or says that it serves nobody."""


serves_nobody: Final[frozenset[Code]] = frozenset({"no_state", "joining"})
"""Refusals of a witness, and of a member that is none yet: another one may answer."""


_head: Final = msgspec.json.Decoder(Head)
_decoders: Final[dict[str, msgspec.json.Decoder[Message]]] = {
    "kept": msgspec.json.Decoder(Kept),
    "refused": msgspec.json.Decoder(Refused),
    "granted": msgspec.json.Decoder(GrantedHint),
    "stepdown": msgspec.json.Decoder(StepdownHint),
    "ended": msgspec.json.Decoder(EndedHint),
    "session_gone": msgspec.json.Decoder(GoneHint),
    "status": msgspec.json.Decoder(Members),
    "session_opened": msgspec.json.Decoder(SessionOpened),
    "session_closed": msgspec.json.Decoder(SessionClosed),
    "campaigning": msgspec.json.Decoder(Campaigning),
    "withdrawn": msgspec.json.Decoder(Withdrawn),
    "released": msgspec.json.Decoder(Released),
    "client_opened": msgspec.json.Decoder(ClientOpened),
}
_encoder: Final = msgspec.json.Encoder()


def read(data: bytes | str) -> Received:
    """Read one message from the cluster; `Unusable` says what is wrong with it."""
    try:
        head = _head.decode(data)
        decoder = _decoders.get(head.type)
        message = Unknown(head.type) if decoder is None else decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise Unusable(f"the server sent something that isn't {subprotocol}: {error}") from error
    if isinstance(message, Refused) and message.code in serves_nobody:
        raise Unusable(message.reason)
    return Received(head.id, message, head.session, head.number)


def write(request: AnyRequest | Attach, request_id: int | None, origin: Sequenced | None) -> bytes:
    """Write a request; a keepalive has no id."""
    if request_id is None:
        return _encoder.encode(request)
    fields = msgspec.to_builtins(request)
    fields["id"] = request_id
    if origin is not None:
        fields["origin"] = msgspec.to_builtins(origin)
    return _encoder.encode(fields)
