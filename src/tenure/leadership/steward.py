"""SKELETON, signatures only: being written now. Code against these."""

from msgspec import Struct

from tenure.base.ids import ConsensusTerm, LogIndex, SessionId
from tenure.base.instants import Instant
from tenure.leadership.engine import Keepalive, Kept, Refused, Stepdown
from tenure.leadership.hints import Hints
from tenure.leadership.machine import Applied, Machine


class Receipt(Struct, frozen=True, gc=False):
    """A keepalive was heard at `received_at` in consensus term `term`; not yet acknowledged."""

    session: SessionId
    number: int
    received_at: Instant
    term: ConsensusTerm


class StewardSettings(Struct, frozen=True):
    """All have defaults."""


class Steward:
    def __init__(
        self, term: ConsensusTerm, won_at: Instant, machine: Machine, settings: StewardSettings, now: Instant
    ) -> None: ...

    def on_applied(self, index: LogIndex, entry_term: ConsensusTerm, applied: Applied, now: Instant) -> None: ...

    def on_serving(self, now: Instant) -> None: ...

    def receive(self, keepalive: Keepalive, now: Instant) -> Refused | Receipt:
        raise NotImplementedError

    def acknowledge(self, receipt: Receipt, now: Instant) -> Kept | Refused:
        raise NotImplementedError

    def admit(self, request: Stepdown, now: Instant) -> Refused | None:
        """Call before proposing a `Stepdown` of an election: 412 by health and lag, which the machine doesn't know."""
        raise NotImplementedError

    def disconnected(self, session: SessionId, now: Instant) -> None: ...

    def gap(self, gap_us: int, now: Instant) -> None: ...

    def decide(self, now: Instant, wall_ms: int) -> tuple[bytes, ...]:
        raise NotImplementedError

    def dropped(self, data: bytes) -> None: ...

    def deadline(self) -> Instant:
        raise NotImplementedError

    def hints(self, now: Instant, wall_ms: int) -> Hints:
        raise NotImplementedError
