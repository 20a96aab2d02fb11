"""Requests that wait: one record each, in the order of their deadlines.

All ordinary requests have the same time to live, so the order of arrival is the order of deadlines and only the first
has to be looked at. Those that wait for something long (a stepdown's successor) are kept apart and are few.
"""

from typing import Final

from msgspec import Struct

from tenure.base.ids import ConsensusTerm, LogIndex, MemberId
from tenure.base.instants import NEVER, Instant
from tenure.leadership.engine import (
    AddMember,
    AmendMember,
    AnyRequest,
    Campaign,
    CloseSession,
    Configure,
    ConfigureAutopilot,
    DemoteMember,
    Disconnected,
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
    Release,
    RemoveMember,
    ReplaceMember,
    Status,
    Stepdown,
    Stepped,
    Validate,
    Withdraw,
)

# Where a request stands.
PARKED: Final = 0
"""Waits for a leader, a client session of our own, or for the steward to serve."""
PROPOSED: Final = 1
"""Handed to the core, or standing in the log at (index, term)."""
READING: Final = 2
"""Rides in a round."""
FORWARDED: Final = 3
TRANSFERRING: Final = 4
"""A consensus stepdown, under way here or at the leader."""
SUCCESSION: Final = 5
"""A begun stepdown of an election that waits for its successor."""

# What a kind of request needs.
PROPOSAL: Final = 0
READ: Final = 1
KEEP: Final = 2
STEPDOWN: Final = 3
NOTE: Final = 4
CHANGE: Final = 5
"""A change of the members: asked of the core until nothing is left to do."""

kind_of: Final[dict[type, int]] = {
    OpenSession: PROPOSAL,
    CloseSession: PROPOSAL,
    Campaign: PROPOSAL,
    Withdraw: PROPOSAL,
    Release: PROPOSAL,
    Configure: PROPOSAL,
    Pause: PROPOSAL,
    KvPut: PROPOSAL,
    OpenClient: PROPOSAL,
    Keepalive: KEEP,
    Stepdown: STEPDOWN,
    Disconnected: NOTE,
    ReadSession: READ,
    ReadElection: READ,
    History: READ,
    Validate: READ,
    KvGet: READ,
    KvList: READ,
    Status: READ,
    ListMembers: READ,
    AddMember: CHANGE,
    PromoteMember: CHANGE,
    DemoteMember: CHANGE,
    RemoveMember: CHANGE,
    ReplaceMember: CHANGE,
    AmendMember: CHANGE,
    ReadAutopilot: READ,
    ConfigureAutopilot: PROPOSAL,
}


class Pending(Struct, gc=False):
    """One request and where it stands. `peer` is the member that passed it on, None if it was asked here. `doubtful`:
    it was sent or proposed before, and that one may still take effect. `advanced`: a step of a change
    of the members was taken here.
    """

    token: int
    request: AnyRequest
    origin: Origin | None
    peer: MemberId | None
    deadline: Instant
    stage: int = PARKED
    index: LogIndex = LogIndex(0)
    term: ConsensusTerm = ConsensusTerm(0)
    sent_at: Instant = Instant(0)
    begun: Stepped | None = None
    doubtful: bool = False
    advanced: bool = False


class Book:
    """All pending requests by key. A key is also the token under which the core knows the request."""

    __slots__ = ("_long", "_next", "due", "ordinary")

    def __init__(self, first: int) -> None:
        self.ordinary: dict[int, Pending] = {}
        self._long: dict[int, Pending] = {}
        self._next = first
        self.due: Instant = NEVER
        """No request's deadline comes before this; it may lie before all of them."""

    def __len__(self) -> int:
        return len(self.ordinary) + len(self._long)

    def fresh_key(self) -> int:
        """A key that nobody has."""
        self._next += 1
        return self._next

    def add(self, pending: Pending) -> int:
        """Keep a request under a fresh key."""
        self._next = key = self._next + 1
        self.ordinary[key] = pending
        self.due = min(self.due, pending.deadline)
        return key

    def get(self, key: int) -> Pending | None:
        """The request under a key, None if it was answered."""
        return self.ordinary.get(key) or self._long.get(key)

    def remove(self, key: int) -> None:
        """It is answered."""
        if self.ordinary.pop(key, None) is None:
            self._long.pop(key, None)

    def prolong(self, key: int, pending: Pending, deadline: Instant) -> None:
        """It may wait longer than the ordinary ones."""
        self.ordinary.pop(key, None)
        pending.deadline = deadline
        self._long[key] = pending
        self.due = min(self.due, deadline)

    def items(self) -> list[tuple[int, Pending]]:
        """All of them, oldest first; a copy, so that the caller may answer while it goes through."""
        return [*self.ordinary.items(), *self._long.items()]

    def overdue(self, now: Instant) -> list[tuple[int, Pending]]:
        """Those whose deadline has come; they must be ended now. Moves `due` on."""
        late: list[tuple[int, Pending]] = []
        due = NEVER
        for key, pending in self.ordinary.items():
            if pending.deadline > now:
                due = pending.deadline
                break
            late.append((key, pending))
        for key, pending in self._long.items():
            if pending.deadline <= now:
                late.append((key, pending))
            else:
                due = min(due, pending.deadline)
        self.due = due
        return late
