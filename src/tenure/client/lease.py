"""`lead()`: hold an office for the time of a `with` block, blocking or async; one object, both facades.

    with tenure.lead("orders") as lease:            async with tenure.lead("orders") as lease:
        while not lease.lost:                            work = asyncio.create_task(serve(lease.fence_token))
            lease.check()                                await lease.lost
            write(..., token=lease.fence_token)          work.cancel()

One block is one holding: one term. After `lost` the block should end, and a new one leads again under a newer term.
Blocks of one process with the same endpoints and node share one keeper, thus one session, since a node has at most one.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

from tenure.base.errors import Invalid
from tenure.base.ids import ElectionName, NodeId, Term, election_name
from tenure.base.instants import SECOND
from tenure.client import endpoints as where
from tenure.client import events as told
from tenure.client.errors import (
    ClientError,
    Denied,
    InvalidRequest,
    LeaseLost,
    NodeInUse,
    NoQuorum,
    TimedOut,
    Unreachable,
)
from tenure.client.signals import Signal
from tenure.client.thread import Keeper, ttl_ms_default
from tenure.leadership.engine import ReleaseCause

_log: Final = logging.getLogger("tenure.client")
_look_seconds: Final = 0.5
"""How often a waiting `lead` looks whether there is something to log."""
_goodbye_seconds: Final = 1.0
_why: Final = {
    "expired": "the lease ran out without a renewal",
    "revoked": "the cluster took the office away",
    "session_lost": "the cluster doesn't know the session any more",
    "released": "the lease was released",
    "withdrawn": "the candidacy was withdrawn",
    "closed": "the session was closed",
    "unconfirmed": "the machine seems to have slept, and the cluster hasn't confirmed the lease since",
    "forked": "this process was forked from the one that leads",
}


class Seat:
    """What the keeper's thread tells one `lead` block about its election."""

    def __init__(self) -> None:
        self.decided = Signal()
        self.granted: told.Granted | None = None
        self.rejected: told.Rejected | None = None
        self.lost = Signal()
        self.ended = Signal()
        self.cause: str | None = None
        self.demand: told.Demanded | None = None


class Board:
    """The seats of one keeper, and what stands in the way meanwhile."""

    def __init__(self) -> None:
        self.seats: dict[ElectionName, Seat] = {}
        self.trouble: told.Waiting | told.Disconnected | told.Rejected | None = None
        self.ever_connected = False

    def tell(self, event: told.Event) -> None:
        """One event, in the keeper's thread."""
        match event:
            case told.Connected():
                self.ever_connected, self.trouble = True, None
            case told.SessionOpened() | told.Campaigning():
                self.trouble = None
            case told.Waiting() | told.Disconnected():
                self.trouble = event
            case told.Rejected(election=election):
                self.trouble = event
                for name, seat in list(self.seats.items()):
                    if election in {None, name} and seat.granted is None:
                        seat.rejected = event
                        seat.decided.set()
            case told.Granted(election=election):
                seat_granted = self.seats.get(election)
                if seat_granted is not None and seat_granted.granted is None:
                    seat_granted.granted = event
                    seat_granted.decided.set()
            case told.Demanded(election=election):
                self._lose(election, "stepdown", event)
            case told.Ended(election=election, cause=cause):
                self._lose(election, cause, None)
            case told.Closed():
                for seat in list(self.seats.values()):
                    seat.decided.set()
                    seat.lost.set()
                    seat.ended.set()
            case _:
                pass

    def _lose(self, election: ElectionName, cause: str, demand: told.Demanded | None) -> None:
        seat = self.seats.get(election)
        if seat is None:
            return
        if demand is None:
            seat.cause = cause
            seat.ended.set()
        else:
            seat.demand = demand
            seat.cause = seat.cause or cause
        seat.lost.set()


class Lease:
    """The office, as long as it is ours. Every member may be used from any thread."""

    def __init__(self, keeper: Keeper, seat: Seat, granted: told.Granted) -> None:
        self.election: Final[ElectionName] = granted.election
        self.term: Final[Term] = granted.term
        """The fencing token as a number."""
        self.fence_token: Final[str] = granted.fence_token
        """The fencing token as text: show it with every write (`Fence-Token` header)."""
        self.node: Final[NodeId] = keeper.node
        self._keeper = keeper
        self._seat = seat

    def __repr__(self) -> str:
        return f"<Lease {self.election} term {self.term} of {self.node}, {self.remaining():.3f} s left>"

    @property
    def lost(self) -> Signal:
        """Set when it is time to stop: the lease has ended, or we are asked to hand over (`demand`). `await` it too.

        After a demand `check()` still passes until the lease ends, so that what was begun can be finished.
        """
        return self._seat.lost

    @property
    def ended(self) -> Signal:
        """Set when the lease has ended, a demand alone doesn't set it."""
        return self._seat.ended

    @property
    def demand(self) -> told.Demanded | None:
        """The demand to hand over: to whom, and within what time."""
        return self._seat.demand

    @property
    def cause(self) -> str | None:
        """Why it is lost: expired, revoked, session_lost, stepdown, released, closed; None while it isn't."""
        return self._seat.cause

    def remaining(self) -> float:
        """Seconds for which the lease is valid from now on; 0 if it isn't (P3.7). No I/O."""
        return self._keeper.remaining_us(self.election, self.term) / SECOND

    def check(self) -> None:
        """Raise `LeaseLost` unless this process leads under this term now. No I/O.

        It can't know what happens between the check and your write: the resource's guard does, by the fencing token.
        """
        if self._keeper.remaining_us(self.election, self.term) <= 0:
            ended = self._seat.ended.is_set()
            cause = (self._seat.cause or "expired") if ended else self._still_held()
            raise LeaseLost(f"{self.election} term {self.term}: {_why.get(cause, cause)}", cause)

    def _still_held(self) -> str:
        if not self._keeper.is_ours():
            return "forked"
        return "unconfirmed" if self._keeper.valid_until(self.election) is None else "expired"


class Leadership:
    """What `lead()` returns: enter it to lead. It may be entered again after it was left, one at a time."""

    def __init__(self, election: str, wish: "Wish", priority: int, timeout: float | None) -> None:
        self._election = election_name(election)
        self._wish = wish
        self._priority = priority
        self._timeout = timeout
        self._held: tuple[Shared, Seat] | None = None

    def __enter__(self) -> Lease:
        shared, seat = self._begin()
        try:
            for seconds in self._patience(shared):
                if seat.decided.wait(seconds):
                    break
            return self._decided(shared, seat)
        except BaseException:
            self._finish().close(_goodbye_seconds)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish(kind).close(_goodbye_seconds)

    async def __aenter__(self) -> Lease:
        shared, seat = self._begin()
        try:
            for seconds in self._patience(shared):
                if await _awaited(seat.decided, seconds):
                    break
            return self._decided(shared, seat)
        except BaseException:
            await self._finish().aclose(_goodbye_seconds)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._finish(kind).aclose(_goodbye_seconds)

    def _begin(self) -> tuple["Shared", Seat]:
        if self._held is not None:
            raise RuntimeError(f"this lead({self._election!r}) is entered already: make another")
        shared, seat = self._held = _keepers.take(self._wish, self._election)
        shared.keeper.campaign(self._election, self._priority)
        return shared, seat

    def _patience(self, shared: "Shared") -> Iterator[float]:
        """How long to wait, again and again; meanwhile says in the owner's thread what it waits for."""
        left = self._timeout
        said: object = None
        while left is None or left > 0:
            turn = _look_seconds if left is None else min(left, _look_seconds)
            yield turn
            left = None if left is None else left - turn
            trouble = shared.board.trouble
            if trouble is not None and trouble != said:
                said = trouble
                _log.warning("waiting to lead %s as %s: %s", self._election, self._wish.node, trouble.reason)

    def _decided(self, shared: "Shared", seat: Seat) -> Lease:
        if seat.granted is not None:
            return Lease(shared.keeper, seat, seat.granted)
        if seat.rejected is not None:
            denied = seat.rejected.code in {"denied", "unauthorized", "reserved_key"}
            raise (Denied if denied else InvalidRequest)(seat.rejected.reason)
        raise self._timed_out(shared.board)

    def _timed_out(self, board: Board) -> ClientError:
        waited = f"didn't lead {self._election} as {self._wish.node} within {self._timeout} s"
        match board.trouble:
            case told.Waiting(code="node_in_use", reason=reason):
                return NodeInUse(f"{waited}: {reason}")
            case told.Waiting(code="no_quorum" | "no_part" | "founding", reason=reason):
                return NoQuorum(f"{waited}: {reason}")
            case told.Disconnected(reason=reason):
                return Unreachable(f"{waited}: {reason}")
            case _ if not board.ever_connected:
                return Unreachable(f"{waited}: none of {', '.join(self._wish.endpoints)} answers")
            case _:
                return TimedOut(f"{waited}: somebody else leads")

    def _finish(self, kind: type[BaseException] | None = None) -> "Goodbye":
        """`kind`: the exception by which the block was left; the history keeps its name."""
        assert self._held is not None, "only what was entered is left"
        (shared, seat), self._held = self._held, None
        if shared.keeper.is_ours():
            if seat.granted is not None:
                reason = None if kind is None else _name_of(kind)
                shared.keeper.release(self._election, seat.granted.term, cause=_cause_of(kind), reason=reason)
            else:
                shared.keeper.withdraw(self._election)
        seat.cause = seat.cause or "released"
        seat.lost.set()
        seat.ended.set()
        return _keepers.give_back(self._wish, shared, self._election)


def _cause_of(kind: type[BaseException] | None) -> ReleaseCause:
    """An error is a crash. To be cancelled or interrupted is none, nor is to hear that the lease is lost."""
    return "crash" if kind is not None and issubclass(kind, Exception) and kind is not LeaseLost else "released"


def _name_of(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


class Goodbye:
    """The end of the last block of a keeper closes its session; other ends have nothing to wait for."""

    def __init__(self, keeper: Keeper | None) -> None:
        self._keeper = keeper

    def close(self, timeout: float) -> None:
        """Blocking."""
        if self._keeper is not None:
            self._keeper.close(timeout)

    async def aclose(self, seconds: float) -> None:
        """The same, while the loop goes on."""
        if self._keeper is not None:
            self._keeper.begin_close()
            await _awaited(self._keeper.closed, seconds)
            self._keeper.close(0)


@dataclass(frozen=True, slots=True)
class Wish:
    """With which session a block wants to lead."""

    endpoints: tuple[str, ...]
    node: NodeId
    ttl_ms: int
    secret: str | None = field(repr=False)
    meta: dict[str, str]


@dataclass(slots=True)
class Shared:
    """A keeper with its board; `_keepers` holds it while it has a seat."""

    keeper: Keeper
    board: Board

    def wanted_by(self, wish: Wish) -> bool:
        """Whether this session will do for the wish."""
        if not self.keeper.is_ours() or self.keeper.closed.is_set() or not self.board.seats:
            return False
        if self.keeper.ttl_ms != wish.ttl_ms:
            said = f"{wish.node} has a session with a TTL of {self.keeper.ttl_ms} ms, which never changes (P3.6)"
            raise Invalid("ttl_ms", f"{said}: lead as another node=")
        return True


class Keepers:
    """The keepers of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_node: dict[tuple[tuple[str, ...], NodeId], Shared] = {}

    def take(self, wish: Wish, election: ElectionName) -> tuple[Shared, Seat]:
        """A keeper, started if need be, and a seat for this election."""
        with self._lock:
            key = (wish.endpoints, wish.node)
            shared = self._by_node.get(key)
            if shared is None or not shared.wanted_by(wish):
                board = Board()
                keeper = Keeper(
                    wish.endpoints, node=wish.node, ttl_ms=wish.ttl_ms, secret=wish.secret, meta=wish.meta, reader=board
                )
                shared = self._by_node[key] = Shared(keeper.start(), board)
            if election in shared.board.seats:
                raise Invalid("election", f"this process already stands for {election} as {wish.node}")
            seat = shared.board.seats[election] = Seat()
            return shared, seat

    def give_back(self, wish: Wish, shared: Shared, election: ElectionName) -> Goodbye:
        """A block has ended; with the last one ends the session."""
        with self._lock:
            shared.board.seats.pop(election, None)
            if shared.board.seats:
                return Goodbye(None)
            if self._by_node.get((wish.endpoints, wish.node)) is shared:
                del self._by_node[wish.endpoints, wish.node]
            return Goodbye(shared.keeper)


_keepers = Keepers()


def _forked() -> None:
    global _keepers
    _keepers = Keepers()  # the lock may have been held by a thread that doesn't exist here


os.register_at_fork(after_in_child=_forked)


def lead(
    election: str,
    *,
    endpoints: str | Sequence[str] | None = None,
    node: str | None = None,
    ttl_ms: int = ttl_ms_default,
    priority: int = 0,
    timeout: float | None = None,
    secret: str | None = None,
    meta: Mapping[str, str] | None = None,
) -> Leadership:
    """Stand for `election`; entering (`with` or `async with`) waits until we lead, at most `timeout` seconds.

    `endpoints`: API addresses of members (TENURE_ENDPOINTS, else this machine). `node`: our name (TENURE_NODE, else the
    host's); each process that stands by itself needs one of its own. `ttl_ms`: how long the office stays ours without a
    renewal. `priority`: the highest eligible candidate is chosen. `secret`: the credential (else TENURE_SECRET_FILE).
    Raises `Unreachable`, `NoQuorum`, `NodeInUse`, `TimedOut` after `timeout`, `Denied` and `Invalid` at once.
    """
    wish = Wish(where.endpoints(endpoints), where.node_name(node), ttl_ms, where.secret_of(secret), dict(meta or {}))
    return Leadership(election, wish, priority, timeout)


async def _awaited(signal: Signal, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await signal
    except TimeoutError:
        return signal.is_set()
    return True
