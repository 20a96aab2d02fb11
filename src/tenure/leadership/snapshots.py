"""The whole state as bytes and back: sessions, candidacies, holdings, terms, answers given, history, keys, the counter
with its newest stamp, and the number of the last transition. Who restores it goes on as if the log had been applied.

The bytes are a row of *sections*, each with its length in front: a head, then records of one kind, a bounded number of
them a section, then an end that counts them. So neither writing nor reading ever needs more than a moment at a time: a
`Frozen` is made at once, by copying what may change (dicts of records, not records), and encoded while the live
state goes on; a `Thawing` takes the bytes as they come, however they are cut. Client sessions may hold many answers
each: the live state copies one before it changes it (`Indexes.own`), for as long as it may stand in a frozen view.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from struct import Struct as Layout
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from tenure.base.ids import ElectionName, LogIndex, Nonce, SessionId
from tenure.leadership.commands import UnknownCommand
from tenure.leadership.limits import kv_value_bytes_max
from tenure.leadership.state import Autopilot, Client, Election, Indexes, KeyedAnswer, KvEntry, Session, State

snapshot_format: Final = 2
section_bytes: Final = 64 * 1024
"""By estimate; a single larger record is one by itself."""
section_records_max: Final = 500
section_bytes_max: Final = 16 * kv_value_bytes_max
"""More announced is no section of ours."""
_ANSWER_BYTES: Final = 80
_LENGTH: Final = Layout("<I")


class _Section(Struct, array_like=True, tag=True):
    pass


class _Head(_Section, tag="h"):
    format: int
    lineage: tuple[Nonce, ...]
    counter: int
    stamp: int
    applied: LogIndex
    transition: int
    kv_bytes: int


class _Sessions(_Section, tag="s"):
    records: dict[SessionId, Session]


class _Elections(_Section, tag="e"):
    records: dict[ElectionName, Election]


class _Keys(_Section, tag="k"):
    records: dict[str, KvEntry]


class _Clients(_Section, tag="c"):
    records: dict[str, Client]


class _Keyed(_Section, tag="i"):
    records: dict[str, KeyedAnswer]


class _Autopilot(_Section, tag="a"):
    record: Autopilot


class _End(_Section, tag="z"):
    sessions: int
    elections: int
    kv: int
    clients: int
    keyed: int


_Records = _Sessions | _Elections | _Keys | _Clients | _Keyed
_Any = _Head | _Records | _Autopilot | _End
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[_Any]] = msgspec.msgpack.Decoder(_Any)
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
K = TypeVar("K")
V = TypeVar("V")


class Frozen:
    """The state as it is now, whatever happens to it later. `sections` encodes it, a section at a time."""

    __slots__ = ("_autopilot", "_clients", "_counts", "_elections", "_head", "_keyed", "_kv", "_sessions")

    def __init__(self, state: State, indexes: Indexes) -> None:
        self._head = _Head(
            state.format, state.lineage, state.counter, state.stamp, state.applied, state.transition, state.kv_bytes
        )
        self._sessions = {name: _copy_session(session) for name, session in state.sessions.items()}
        self._elections = {name: _copy_election(election) for name, election in state.elections.items()}
        self._kv = dict(state.kv)
        self._clients = dict(state.clients)
        self._keyed = dict(state.keyed)
        self._autopilot = Autopilot(state.autopilot.settings, list(state.autopilot.remarks))
        indexes.share()

    def sections(self) -> Iterator[bytes]:
        """The same bytes for the same state: dicts keep their order of insertion, which the log decides."""
        yield _section(self._head)
        for sessions in _cut(self._sessions, _bytes_of_sessions):
            yield _section(_Sessions(sessions))
        for elections in _cut(self._elections, _bytes_of_elections):
            yield _section(_Elections(elections))
        for entries in _cut(self._kv, _bytes_of_keys):
            yield _section(_Keys(entries))
        for clients in _cut(self._clients, _bytes_of_clients):
            yield _section(_Clients(clients))
        for keyed in _cut(self._keyed, _bytes_of_keyed):
            yield _section(_Keyed(keyed))
        yield _section(_Autopilot(self._autopilot))
        yield _section(
            _End(len(self._sessions), len(self._elections), len(self._kv), len(self._clients), len(self._keyed))
        )


def _copy_session(session: Session) -> Session:
    return Session(
        session.id, session.node, session.ttl_ms, session.process, session.meta, session.opened_ms,
        dict(session.candidate_of), dict(session.holds),
    )  # fmt: skip


def _copy_election(election: Election) -> Election:
    return Election(
        election.name, election.config, election.revision, election.paused, election.last_term, election.holder,
        election.handover, election.vacancy, dict(election.candidates), dict(election.bars), election.successor,
        list(election.history),
    )  # fmt: skip


def _cut(records: dict[K, V], size_of: Callable[[dict[K, V]], int]) -> Iterator[dict[K, V]]:
    """The records in their order, as many at a time as fit into a section; halved until they do."""
    items = iter(records.items())
    while part := dict(islice(items, section_records_max)):
        yield from _halved(part, size_of)


def _halved(part: dict[K, V], size_of: Callable[[dict[K, V]], int]) -> Iterator[dict[K, V]]:
    if len(part) == 1 or size_of(part) <= section_bytes:
        yield part
        return
    items, half = list(part.items()), len(part) // 2
    yield from _halved(dict(items[:half]), size_of)
    yield from _halved(dict(items[half:]), size_of)


def _bytes_of_keys(part: dict[str, KvEntry]) -> int:
    return 60 * len(part) + sum([len(entry.value) for entry in part.values()])


def _bytes_of_sessions(part: dict[SessionId, Session]) -> int:
    return 200 * len(part) + sum([40 * (len(one.holds) + len(one.candidate_of)) for one in part.values()])


def _bytes_of_elections(part: dict[ElectionName, Election]) -> int:
    return 200 * len(part) + sum([200 * len(one.history) + 80 * len(one.candidates) for one in part.values()])


def _bytes_of_clients(part: dict[str, Client]) -> int:
    return 60 * len(part) + sum([_ANSWER_BYTES * len(client.answers) for client in part.values()])


def _bytes_of_keyed(part: dict[str, KeyedAnswer]) -> int:
    return 2 * _ANSWER_BYTES * len(part)


def _section(section: _Any) -> bytes:
    data = _encoder.encode(section)
    return _LENGTH.pack(len(data)) + data


class Thawing:
    """A state that is read from bytes as they come. Raises `UnknownCommand` for what this program doesn't know (P10)
    or what is no snapshot at all.
    """

    __slots__ = ("_end", "_held", "_state")

    def __init__(self) -> None:
        self._held = bytearray()
        self._state: State | None = None
        self._end: _End | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._held += data
        start, held = 0, self._held
        with memoryview(held) as view:
            while len(held) - start >= 4:
                size: int = _LENGTH.unpack_from(held, start)[0]
                if size > section_bytes_max:
                    raise UnknownCommand(f"not a snapshot of the state machine: a section of {size} bytes")
                if start + 4 + size > len(held):
                    break
                with view[start + 4 : start + 4 + size] as section:
                    self._take(_decode(section))
                start += 4 + size
        del held[:start]

    def finish(self) -> State:
        """All bytes were fed: the state."""
        if self._state is None or self._end is None or self._held:
            raise UnknownCommand("not a whole snapshot of the state machine: its end is missing")
        return self._state

    def _take(self, section: _Any) -> None:
        if isinstance(section, _Head):
            self._begin(section)
        elif self._state is None or self._end is not None:
            raise UnknownCommand("not a snapshot of the state machine: its sections are out of order")
        else:
            self._add(self._state, section)

    def _add(self, state: State, section: _Records | _Autopilot | _End) -> None:
        match section:
            case _Sessions(records):
                state.sessions.update(records)
            case _Elections(records):
                state.elections.update(records)
            case _Keys(records):
                state.kv.update(records)
            case _Clients(records):
                state.clients.update(records)
            case _Keyed(records):
                state.keyed.update(records)
            case _Autopilot(record):
                state.autopilot = record
            case _End():
                self._finish(state, section)

    def _begin(self, head: _Head) -> None:
        if head.format != snapshot_format or self._state is not None:
            raise UnknownCommand(f"snapshot format {head.format}, this program knows {snapshot_format}")
        self._state = State(
            head.format, head.lineage, head.counter, head.stamp, head.applied, head.transition, kv_bytes=head.kv_bytes
        )

    def _finish(self, state: State, end: _End) -> None:
        found = _End(len(state.sessions), len(state.elections), len(state.kv), len(state.clients), len(state.keyed))
        if found != end:
            raise UnknownCommand(f"not a whole snapshot of the state machine: {found} instead of {end}")
        self._end = end


def _decode(section: memoryview) -> _Any:
    try:
        return _decoder.decode(section)
    except _UNREADABLE as error:
        raise UnknownCommand(f"not a snapshot of the state machine: {error}") from error


def decode(pieces: Iterable[bytes]) -> State:
    """Read a state back."""
    thawing = Thawing()
    for piece in pieces:
        thawing.feed(piece)
    return thawing.finish()


def digest(state: State) -> str:
    """32 hex digits; equal at equal index on every member (S12)."""
    return hashlib.blake2b(_encoder.encode(state), digest_size=16).hexdigest()
