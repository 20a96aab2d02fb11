"""The stream's messages: what comes up is decoded and checked here, what goes down has its forms here. No I/O."""

import re
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from tenure.base.errors import Invalid
from tenure.base.ids import counter_max
from tenure.leadership.engine import AnyRequest, Disconnected, Keepalive, KvPut, Noted, Origin, Transition
from tenure.wire.bodies import KvPutMessage

encode: Final = msgspec.json.Encoder().encode
decode_keep: Final = msgspec.json.Decoder(Keepalive).decode
decode_fields: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_request_decoder: Final = msgspec.json.Decoder(AnyRequest)
_put_decoder: Final = msgspec.json.Decoder(KvPutMessage)
_origin_decoder: Final = msgspec.json.Decoder(Origin)
session_form: Final = re.compile(r"[0-9]{1,16}-[0-9a-f]{16}")
keep_prefix: Final = b'{"type":"keep"'
"""How a keepalive of ours begins; another order of its fields is understood too, only slower."""
noted: Final = encode(Noted())


class Attach(Struct, frozen=True, forbid_unknown_fields=True, tag="attach"):
    """Tie an existing session to this connection."""

    session: str


class Observe(Struct, frozen=True, forbid_unknown_fields=True, tag="observe"):
    """All transitions after a number, or from now on."""

    after: Annotated[int, Meta(ge=0, le=counter_max)] | None = None


decode_own: Final = msgspec.json.Decoder(Attach | Observe).decode


class Granted(Struct, frozen=True, tag="granted"):
    """Pushed: a hint to send a keepalive at once. Validity comes only from its acknowledgement (P3.1)."""

    session: str | None
    election: str | None
    term: int | None
    fence_token: str | None


class SteppingDown(Struct, frozen=True, tag="stepdown"):
    """Pushed: demote and release within the grace."""

    session: str | None
    election: str | None
    term: int | None
    successor: str | None
    grace_ms: int | None


class Ended(Struct, frozen=True, tag="ended"):
    """Pushed: the holding is over."""

    session: str | None
    election: str | None
    term: int | None
    cause: str | None


class SessionGone(Struct, frozen=True, tag="session_gone"):
    """Pushed: the session itself is over."""

    session: str | None
    cause: Literal["closed", "expired"]


class Behind(Struct, frozen=True, tag="compacted"):
    """Pushed: transitions were lost; read the state and go on."""

    next_number: int


def push_of(transition: Transition) -> Granted | SteppingDown | Ended | SessionGone | None:
    """What the stream of the session that a transition names is told."""
    session, election, term = transition.session, transition.election, transition.term
    match transition.kind:
        case "granted":
            return Granted(session, election, term, transition.fence_token)
        case "stepdown":
            return SteppingDown(session, election, term, transition.successor, transition.grace_ms)
        case "ended":
            return Ended(session, election, term, transition.cause)
        case "session_closed":
            return SessionGone(session, "closed")
        case "session_expired":
            return SessionGone(session, "expired")
        case _:
            return None


def keep_mark(keep: Keepalive) -> bytes:
    """What an answer to a keepalive begins with: it has no `id`, its session and number say which it was."""
    return b'"session":%s,"number":%d,' % (encode(keep.session), keep.number)


def mark_of(fields: dict[str, Raw]) -> bytes:
    """Takes the `id` out; what an answer to it begins with."""
    raw = fields.pop("id", None)
    if raw is None:
        return b""
    digits = bytes(raw)
    if not (digits.isdigit() and len(digits) <= 16 and int(digits) <= counter_max):
        raise Invalid("id", "must be an integer from 0 to 2^53 - 1")
    return b'"id":%d,' % int(digits)


def origin_in(fields: dict[str, Raw]) -> Origin | None:
    """Takes the `origin` out (P9)."""
    raw = fields.pop("origin", None)
    if raw is None:
        return None
    try:
        origin: Origin = _origin_decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise Invalid("origin", str(error)) from None
    return origin


def request_in(kind: bytes, fields: dict[str, Raw]) -> AnyRequest:
    """The request that a message is. A kv value stands in it as JSON, not as the engine's bytes."""
    message = encode(fields)
    if kind == b'"kv_put"':
        put = _put_decoder.decode(message)
        value = bytes(put.value)
        try:
            value.decode()
        except UnicodeDecodeError:
            raise Invalid("value", "isn't UTF-8") from None
        return KvPut(put.key, value, put.election, put.term, put.if_revision)  # type: ignore[arg-type] # checked next
    request: AnyRequest = _request_decoder.decode(message)
    if isinstance(request, Disconnected):
        raise Invalid("type", "members alone say that a stream was lost")
    return request
