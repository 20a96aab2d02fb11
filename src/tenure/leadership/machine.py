"""The replicated state machine: one command in, one result and some transitions out. Deterministic and total.

`apply` has no clock and no chance; what it answers depends on the log alone. It never refuses to go on, except for a
command that this program doesn't know: then the member must stop (P10).
"""

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Final, assert_never

from msgspec import Struct

from tenure.base.ids import ConsensusTerm, ElectionName, LogIndex, Nonce, SessionId
from tenure.leadership import decisions, elections, healing, idempotency, kv, sessions, snapshots, terms, views
from tenure.leadership.commands import (
    AnyBody,
    Campaign,
    CloseSession,
    Configure,
    ConfigureAutopilot,
    Demote,
    Evict,
    Expire,
    Grant,
    KvPut,
    OpenClient,
    OpenSession,
    Pause,
    Release,
    Remark,
    Revoke,
    Stamp,
    Stepdown,
    UnknownCommand,
    Withdraw,
    decode,
)
from tenure.leadership.engine import (
    AnyRequest,
    AnyResult,
    Compacted,
    ElectionView,
    History,
    HistoryPage,
    KvGet,
    KvKeys,
    KvList,
    KvValue,
    NodeView,
    Noted,
    ReadElection,
    ReadSession,
    Refused,
    SessionView,
    Transition,
    Validate,
    Validated,
)
from tenure.leadership.hints import Hints
from tenure.leadership.limits import term_floor_max, transitions_max
from tenure.leadership.snapshots import Frozen
from tenure.leadership.state import Holder, Indexes, State, StoredResult, Turn

__all__ = ["Applied", "Machine", "UnknownCommand"]

_NOTHING: Final[tuple[Transition, ...]] = ()


class Applied(Struct, frozen=True, gc=False):
    """What a command did. `body` is the command itself, for the steward."""

    result: AnyResult
    transitions: tuple[Transition, ...]
    body: AnyBody


class Machine:
    """The state, what can be derived from it, and the last transitions for watchers that resume."""

    __slots__ = ("_indexes", "_recent", "state")

    def __init__(self, state: State) -> None:
        self.state = state
        self._indexes = Indexes(state)
        self._recent: deque[Transition] = deque(maxlen=transitions_max)

    @classmethod
    def founded(cls, lineage: Nonce, stamp: int) -> "Machine":
        """The state at founding. `stamp` is the first term that may be issued (`terms.founding_stamp`, P2.1)."""
        assert stamp >= 0
        return cls(State(snapshots.snapshot_format, (lineage,), counter=max(0, stamp - 1), stamp=stamp))

    @classmethod
    def restore(cls, pieces: Iterable[bytes]) -> "Machine":
        """The state in a snapshot. Transitions before it are `Compacted` for watchers of this member."""
        return cls(snapshots.decode(pieces))

    def freeze(self) -> Frozen:
        """Everything that is replicated as it is now, to be encoded bit by bit while the machine goes on."""
        return Frozen(self.state, self._indexes)

    def snapshot(self) -> tuple[bytes, ...]:
        """The same, encoded at once."""
        return tuple(self.freeze().sections())

    def hash(self) -> str:
        """32 hex digits; equal states, equal hashes (S12)."""
        return snapshots.digest(self.state)

    # --- apply ------------------------------------------------------------------------------------------------------

    def apply(self, index: LogIndex, entry_term: ConsensusTerm, data: bytes) -> Applied:
        """Apply the command at `index`, which the leader of `entry_term` appended."""
        command = decode(data)
        state = self.state
        assert index > state.applied, f"{index} after {state.applied}: applied twice, or out of order"
        state.applied = index
        origin, body = command.origin, command.body
        if origin is not None:
            known = idempotency.recall(state, self._indexes, origin, index)
            if known is not None:
                return Applied(known, _NOTHING, body)
        turn = Turn(state, self._indexes, index, command.at_ms)
        result = _perform(turn, entry_term, body)
        if origin is not None:
            idempotency.keep(state, self._indexes, origin, index, result)
        transitions = tuple(turn.transitions)
        self._recent.extend(transitions)
        return Applied(result, transitions, body)

    # --- reads ------------------------------------------------------------------------------------------------------

    def read(self, request: AnyRequest, hints: Hints | None = None) -> AnyResult:
        """Answer a read from what is applied: any but `Status` and `Keepalive`, which need more than the machine."""
        match request:
            case KvGet():
                return self.kv_get(request.key, hints)
            case Validate():
                return self.validate(request)
            case ReadElection():
                return self.election(request.election, hints)
            case ReadSession():
                return self.session(request.session)
            case History():
                return self.history(request.election, request.limit)
            case KvList():
                return self.kv_list(request.prefix, request.limit)
            case _:
                raise AssertionError(f"{type(request).__name__} is no read of the machine")

    def session(self, session: SessionId) -> SessionView | Refused:
        """One session."""
        return views.session(self.state, session)

    def election(self, name: str, hints: Hints | None = None) -> ElectionView | Refused:
        """One election."""
        found = self.state.elections.get(ElectionName(name))
        return views.election(found, hints) if found is not None else elections.unknown_election(name)

    def elections(self, hints: Hints | None = None) -> tuple[ElectionView, ...]:
        """All elections by name."""
        known = self.state.elections
        return tuple(views.election(known[name], hints) for name in sorted(known))

    def nodes(self, hints: Hints | None = None) -> dict[str, NodeView]:
        """All nodes with a live session, by name."""
        return views.nodes(self.state, hints)

    def holder(self, election: str) -> Holder | None:
        """Who holds an election; None if nobody does or there is no such election."""
        found = self.state.elections.get(ElectionName(election))
        return found.holder if found is not None else None

    def kv_get(self, key: str, hints: Hints | None = None) -> KvValue | Refused:
        """One key, or `leader_status/{election}`."""
        return views.kv_get(self.state, key, hints)

    def kv_list(self, prefix: str, limit: int) -> KvKeys:
        """Keys in order."""
        return kv.keys(self.state, self._indexes, prefix, limit)

    def validate(self, request: Validate) -> Validated:
        """Check a fencing token."""
        return views.validate(self.state, request)

    def history(self, election: str, limit: int) -> HistoryPage | Refused:
        """The last holdings, newest first."""
        return views.history(self.state, election, limit)

    # --- transitions ------------------------------------------------------------------------------------------------

    @property
    def last_transition(self) -> int:
        """The number of the newest transition."""
        return self.state.transition

    def transitions_after(self, number: int) -> tuple[Transition, ...] | Compacted:
        """All with a greater number, or that some of them are no longer kept here."""
        missing = self.state.transition - number
        if missing <= 0:
            return _NOTHING  # up to date, or ahead of this member
        if missing > len(self._recent):
            return Compacted(self.state.transition + 1)
        return tuple(islice(reversed(self._recent), missing))[::-1]


def _perform(  # noqa: C901 - one arm per command, no logic
    turn: Turn, entry_term: ConsensusTerm, body: AnyBody
) -> StoredResult:
    """One arm per command; the most frequent first."""
    match body:
        case KvPut():
            return kv.put(turn, body)
        case Grant() | Expire() | Demote() | Revoke() | Evict():
            return decisions.apply(turn, entry_term, body)
        case OpenSession():
            return sessions.open_session(turn, body)
        case CloseSession():
            return sessions.close_session(turn, body)
        case Campaign():
            return elections.campaign(turn, body)
        case Withdraw():
            return elections.withdraw(turn, body)
        case Release():
            return elections.release(turn, body)
        case Stepdown():
            return elections.stepdown(turn, body)
        case Configure():
            return elections.configure(turn, body)
        case Pause():
            return elections.pause(turn, body)
        case OpenClient():
            return idempotency.open_client(turn.state, turn.indexes, body.nonce, turn.index)
        case Stamp():
            return _stamp(turn, body)
        case ConfigureAutopilot():
            return healing.configure(turn, body)
        case Remark():
            return healing.remark(turn, entry_term, body)
        case _:
            assert_never(body)


def _stamp(turn: Turn, body: Stamp) -> Noted | Refused:
    """P2.1, P2.2, P2.3: raise the counter; never lower it, never above 2^52."""
    state = turn.state
    stamp = terms.stamp_of(turn.at_ms)
    if body.floor is not None and not 1 <= body.floor <= term_floor_max:
        return Refused("invalid", f"a floor lies between 1 and 2^52, got {body.floor}", field="floor")
    if body.floor is None and (stamp < state.stamp or turn.at_ms < terms.released_ms or stamp > term_floor_max):
        reason = "the wall clock is behind the newest stamp or this program's release, or far ahead: give a floor"
        return Refused("invalid", reason, field="floor")
    if stamp > term_floor_max:
        stamp = 0
    state.stamp = max(state.stamp, stamp)
    state.counter = max(state.counter, stamp - 1, (body.floor or 0) - 1)  # next = max(stored + 1, floor, stamp)
    return decisions.DONE
