"""What the keeper has asked and not been answered, and how it asks again (P9.1).

A request that changes something carries (client session, sequence number, answered_below). It keeps its number through
every resend on every stream until an answer comes, so it takes effect once. Only an answer that is final for that
number (a refusal, which a resend would get again) makes it go out under a new one. For one election only one request
is under way: two streams of one member could otherwise let a later one overtake an earlier.
"""

from dataclasses import dataclass
from typing import Final

from tenure.base.chance import Rng
from tenure.base.ids import ElectionName
from tenure.base.instants import NEVER, Instant
from tenure.client import messages
from tenure.leadership.engine import (
    AnyRequest,
    Campaign,
    CloseSession,
    OpenClient,
    OpenSession,
    Release,
    Sequenced,
    Status,
    Withdraw,
)

pending_max: Final = 1_024
_AT_ONCE: Final = Instant(0)

Asked = AnyRequest | messages.Attach
_SEQUENCED: Final = (OpenSession, Campaign, Withdraw, Release, CloseSession)
_OF_THE_STREAM: Final = (messages.Attach, Status)
_OF_THE_SESSION: Final = (messages.Attach, Campaign, Withdraw, Release, CloseSession)


@dataclass(slots=True)
class Pending:
    """A request without an answer."""

    request: Asked
    sequence: int | None = None
    """Drawn when it is first sent; kept until answered."""
    sent_at: Instant | None = None
    """On the present stream."""
    not_before: Instant = _AT_ONCE

    def election(self) -> ElectionName | None:
        """The election that it would change."""
        match self.request:
            case Campaign(election=election) | Withdraw(election=election) | Release(election=election):
                return election
            case _:
                return None


class Requests:
    """All pending requests, in the order in which they were asked."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._client: str | None = None
        self._pending: dict[int, Pending] = {}
        self._next_id = 1
        self._next_sequence = 1
        self._open_client()

    def _open_client(self) -> None:
        self.ask(OpenClient(f"{self._rng.u64():016x}"))

    def ask(self, request: Asked) -> None:
        """Ask until answered."""
        assert len(self._pending) < pending_max, "the keeper asks for a bounded number of things"
        self._pending[self._next_id] = Pending(request)
        self._next_id += 1

    def attach(self, attach: messages.Attach) -> None:
        """Ask this before everything else: a new stream must know the session first."""
        later, self._pending = self._pending, {}
        self.ask(attach)
        self._pending.update(later)

    def find(self, request_id: int) -> Pending | None:
        """The request that an answer is for; None if it was dropped meanwhile."""
        return self._pending.get(request_id)

    def done(self, request_id: int) -> None:
        """Answered for good."""
        del self._pending[request_id]

    def client_opened(self, client: str) -> None:
        """A client session stands; what waited for it may go."""
        self._client = client

    def client_forgotten(self) -> None:
        """The cluster doesn't know our client session. All that we ask is conditional: ask it under a new one."""
        if self._client is None:
            return
        self._client = None
        self._next_sequence = 1
        for pending in self._pending.values():
            pending.sequence, pending.sent_at = None, None
        self._open_client()

    def later(self, pending: Pending, until: Instant, *, same_number: bool) -> None:
        """Ask again at `until`; under the same number if it may have taken effect."""
        pending.not_before, pending.sent_at = until, None
        if not same_number:
            pending.sequence = None

    def stream_lost(self) -> None:
        """What was sent is sent again on the next stream; what belonged to the stream is forgotten."""
        self._pending = {key: one for key, one in self._pending.items() if not isinstance(one.request, _OF_THE_STREAM)}
        for pending in self._pending.values():
            pending.sent_at = None

    def session_lost(self) -> None:
        """Forget what was asked under the session."""
        self._pending = {key: one for key, one in self._pending.items() if not isinstance(one.request, _OF_THE_SESSION)}

    def only_ends(self) -> None:
        """Before a session's closing: forget all but what ends a candidacy or a holding."""
        ends = (OpenClient, Release, Withdraw)
        self._pending = {key: one for key, one in self._pending.items() if isinstance(one.request, ends)}

    def withdraw_unsent(self, election: ElectionName) -> None:
        """Forget candidacies that were never sent; one that was may take effect, so it stays ahead of what follows."""
        self._pending = {
            key: one
            for key, one in self._pending.items()
            if one.election() != election or one.sequence is not None or not isinstance(one.request, Campaign)
        }

    def concerns(self, election: ElectionName) -> bool:
        """Whether something that changes this election is pending."""
        return any(pending.election() == election for pending in self._pending.values())

    def opening_sent(self) -> bool:
        """Whether an opening may already have taken effect."""
        return any(isinstance(one.request, OpenSession) and one.sequence is not None for one in self._pending.values())

    def _ready(self) -> list[tuple[int, Pending]]:
        """Unsent requests whose turn it is, whatever the time."""
        ready: list[tuple[int, Pending]] = []
        busy: set[ElectionName] = set()
        for key, pending in self._pending.items():
            election = pending.election()
            if election is not None and election in busy:
                continue
            if election is not None:
                busy.add(election)
            if pending.sent_at is None and not (isinstance(pending.request, _SEQUENCED) and self._client is None):
                ready.append((key, pending))
        return ready

    def frames(self, now: Instant) -> list[bytes]:
        """Send what is due on the present stream."""
        if not self._pending:
            return []
        due = [(key, pending) for key, pending in self._ready() if pending.not_before <= now]
        for _, pending in due:
            pending.sent_at = now
            if isinstance(pending.request, _SEQUENCED) and pending.sequence is None:
                pending.sequence = self._next_sequence
                self._next_sequence += 1
        return [messages.write(pending.request, key, self._origin(pending)) for key, pending in due]

    def _origin(self, pending: Pending) -> Sequenced | None:
        if pending.sequence is None or self._client is None:
            return None
        below = min(one.sequence for one in self._pending.values() if one.sequence is not None)
        return Sequenced(self._client, pending.sequence, below)

    def oldest_sent(self) -> Instant:
        """Since when something is unanswered on the present stream."""
        oldest = NEVER
        for one in self._pending.values():
            if one.sent_at is not None and one.sent_at < oldest:
                oldest = one.sent_at
        return oldest

    def deadline(self) -> Instant:
        """When something unsent becomes due."""
        if not self._pending:
            return NEVER
        return min((pending.not_before for _, pending in self._ready()), default=NEVER)
