"""The shape of a request: names, ranges, sizes. Checked once, where a request enters an engine, before it is proposed.

`apply` doesn't repeat this: a later release may accept more names than this one, and members of both must still agree
on what the log says. What depends on the state is `apply`'s.
"""

import re
from typing import Final

from tenure.base.addresses import host_port
from tenure.base.errors import Invalid
from tenure.base.ids import counter, election_name, kv_key_bytes_max, member_id, node_id, session_id
from tenure.leadership import limits
from tenure.leadership.engine import (
    AddMember,
    AmendMember,
    AnyChange,
    AnyRequest,
    AutopilotSettings,
    Campaign,
    CloseSession,
    Configure,
    ConfigureAutopilot,
    DemoteMember,
    Disconnected,
    ElectionConfig,
    History,
    Keepalive,
    KvGet,
    KvList,
    KvPut,
    ListMembers,
    OpenClient,
    OpenSession,
    Origin,
    Pause,
    PromoteMember,
    ReadAutopilot,
    ReadElection,
    ReadSession,
    Refused,
    Release,
    RemoveMember,
    ReplaceMember,
    Sequenced,
    Status,
    Stepdown,
    Validate,
    Withdraw,
)

_HEX16: Final = re.compile(r"[0-9a-f]{16}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
list_limit_max: Final = 1_000
_address_chars_max: Final = 260


def check(request: AnyRequest, origin: Origin | None = None) -> Refused | None:
    """Why a request can't be taken, with the field at fault; None if its shape is right."""
    try:
        _request(request)
        if origin is not None:
            _origin(origin)
    except Invalid as error:
        return Refused("invalid", str(error), field=error.field)
    if type(request) is KvPut and len(request.value) > limits.kv_value_bytes_max:
        return Refused("too_large", f"a value has at most {limits.kv_value_bytes_max} bytes", field="value")
    return None


def _request(request: AnyRequest) -> None:  # noqa: C901 - one arm per request
    match request:
        case KvPut():
            _kv_put(request)
        case Keepalive():
            _keepalive(request)
        case OpenSession():
            _open(request)
        case Stepdown():
            _stepdown(request)
        case Configure():
            election_name(request.election)
            _config(request.config)
        case Campaign():
            session_id(request.session)
            election_name(request.election)
            counter(request.priority, "priority", -limits.priority_max, limits.priority_max)
        case Release():
            session_id(request.session)
            election_name(request.election)
            counter(request.term, "term", minimum=1)
            if request.reason is not None and len(request.reason) > limits.release_reason_chars_max:
                raise Invalid("reason", f"at most {limits.release_reason_chars_max} characters")
        case Withdraw():
            session_id(request.session)
            election_name(request.election)
        case Pause():
            election_name(request.election)
        case CloseSession() | Disconnected():
            session_id(request.session)
        case OpenClient():
            _hex16(request.nonce, "nonce")
        case AddMember() | PromoteMember() | DemoteMember() | RemoveMember() | ReplaceMember() | AmendMember():
            _change(request)
        case ConfigureAutopilot():
            _autopilot(request.settings)
        case _:
            _read(request)


def _read(
    request: KvGet | KvList | ReadElection | ReadSession | History | Validate | Status | ListMembers | ReadAutopilot,
) -> None:
    match request:
        case KvGet():
            _key(request.key)
        case KvList():
            counter(request.limit, "limit", 1, list_limit_max)
            if len(request.prefix.encode()) > kv_key_bytes_max:
                raise Invalid("prefix", f"at most {kv_key_bytes_max} bytes")
        case ReadElection():
            election_name(request.election)
        case ReadSession():
            session_id(request.session)
        case History():
            election_name(request.election)
            counter(request.limit, "limit", 1, list_limit_max)
        case Validate():
            election_name(request.election)
            counter(request.term, "term")
        case Status() | ListMembers() | ReadAutopilot():
            pass


def _change(request: AnyChange) -> None:
    """Names, ids and addresses of a change of the members; `Invalid` names the field at fault."""
    match request:
        case AddMember():
            member_id(request.id, "id")
            node_id(request.name, "name")
            _peer(request.peer)
            counter(request.priority, "priority", -limits.priority_max, limits.priority_max)
            counter(request.speaks, "speaks", minimum=1)
        case AmendMember():
            _member(request.member, "member")
            if request.peer is not None:
                _peer(request.peer)
            counter(request.priority or 0, "priority", -limits.priority_max, limits.priority_max)
        case ReplaceMember():
            _member(request.member, "member")
            _member(request.by, "by")
        case PromoteMember() | DemoteMember() | RemoveMember():
            _member(request.member, "member")
    if request.if_index is not None:
        counter(request.if_index, "if_index")


def _autopilot(settings: AutopilotSettings) -> None:
    """Ranges of the autopilot's settings; `Invalid` names the field at fault."""
    counter(settings.dead_after_ms, "dead_after_ms", limits.dead_after_ms_min, limits.dead_after_ms_max)
    counter(settings.stabilise_ms, "stabilise_ms", 0, limits.stabilise_ms_max)
    if settings.voters_wanted is not None:
        counter(settings.voters_wanted, "voters_wanted", 1, limits.voters_max)
    observers = settings.observers_dead_after_ms
    if observers is not None:
        counter(observers, "observers_dead_after_ms", limits.dead_after_ms_min, limits.dead_after_ms_max)


def _member(text: str, field: str) -> None:
    """A name, an id, or `NAME@ID`."""
    name, at, identity = text.partition("@")
    node_id(name, field)
    if at:
        member_id(identity, field)


def _peer(address: str) -> None:
    try:
        host_port(address)
    except ValueError as error:
        raise Invalid("peer", str(error)) from None
    if len(address) > _address_chars_max:
        raise Invalid("peer", f"must have at most {_address_chars_max} characters")


def _kv_put(request: KvPut) -> None:
    _key(request.key)
    if (request.election is None) != (request.term is None):
        absent = "term" if request.term is None else "election"
        raise Invalid(absent, "election and term come together")
    if request.election is not None and request.term is not None:
        election_name(request.election)
        counter(request.term, "term", minimum=1)
    if request.if_revision is not None:
        counter(request.if_revision, "if_revision")


def _keepalive(request: Keepalive) -> None:
    if request.number < 1:
        raise Invalid("number", f"must be 1 or more, got {request.number}")
    if not 0 <= request.health <= 100:
        raise Invalid("health", f"must lie between 0 and 100, got {request.health}")
    if request.lag is not None and request.lag < 0:
        raise Invalid("lag", f"must be 0 or more, got {request.lag}")


def _open(request: OpenSession) -> None:
    node_id(request.node)
    counter(request.ttl_ms, "ttl_ms", limits.session_ttl_ms_min, limits.session_ttl_ms_max)
    _hex16(request.process, "process")
    if len(request.meta) > limits.session_meta_entries_max:
        raise Invalid("meta", f"at most {limits.session_meta_entries_max} entries")
    size = sum(len(name.encode()) + len(value.encode()) for name, value in request.meta.items())
    if size > limits.session_meta_bytes_max:
        raise Invalid("meta", f"at most {limits.session_meta_bytes_max} bytes, got {size}")


def _stepdown(request: Stepdown) -> None:
    if request.election is not None:
        election_name(request.election)
    if request.successor is not None:
        node_id(request.successor, "successor")
    counter(request.grace_ms, "grace_ms", 0, limits.grace_ms_max)
    if request.wait_ms is not None:
        counter(request.wait_ms, "wait_ms", 0, limits.wait_ms_max)
    if request.reason is not None and len(request.reason) > limits.reason_chars_max:
        raise Invalid("reason", f"at most {limits.reason_chars_max} characters")


def _config(config: ElectionConfig) -> None:
    counter(config.cooldown_ms, "config.cooldown_ms", 0, limits.cooldown_ms_max)
    counter(config.health_min, "config.health_min", 0, 100)
    if config.lag_max is not None:
        counter(config.lag_max, "config.lag_max")


def _origin(origin: Origin) -> None:
    if isinstance(origin, Sequenced):
        if not 1 <= len(origin.client) <= limits.key_chars_max:
            raise Invalid("origin.client", f"must have 1 to {limits.key_chars_max} characters")
        counter(origin.sequence, "origin.sequence")
        counter(origin.answered_below, "origin.answered_below")
        if origin.answered_below > origin.sequence:
            raise Invalid("origin.answered_below", "lies above the request's own sequence")
        return
    for name, text in (("principal", origin.principal), ("key", origin.key), ("digest", origin.digest)):
        if len(text) > limits.key_chars_max or (name != "principal" and not text):
            raise Invalid(f"origin.{name}", f"must have 1 to {limits.key_chars_max} characters")


def _key(key: str) -> None:
    # As `base.ids.kv_key`, which is too slow for every put.
    if not key or len(key) > kv_key_bytes_max or (not key.isascii() and len(key.encode()) > kv_key_bytes_max):
        raise Invalid("key", f"must have 1 to {kv_key_bytes_max} bytes")
    if _CONTROL.search(key):
        raise Invalid("key", "must hold no control characters")


def _hex16(value: str, field: str) -> None:
    if not _HEX16.fullmatch(value):
        raise Invalid(field, f"must be 16 hex digits, got {value[:80]!r}")
