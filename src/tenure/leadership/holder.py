"""SKELETON, signatures only: being written now. Code against these."""

from typing import Literal

from tenure.base.ids import ElectionName, Term
from tenure.base.instants import Instant
from tenure.leadership.engine import Kept, Lease

Standing = Literal["valid", "not_held", "ran_out", "unconfirmed"]


class Holder:
    """The holder's half of the lease rules for ONE session (P3.1, P3.2, P3.7)."""

    def __init__(self, ttl_us: int, guard_us: int | None = None, rho_permille: int = 10) -> None: ...

    def transmit(self, now: Instant) -> int:
        """A fresh number for the keepalive that is sent now."""
        raise NotImplementedError

    def acknowledged(self, kept: Kept, now: Instant) -> None: ...

    def valid_until(self, election: ElectionName) -> Instant | None:
        """None when not held, ended or unconfirmed; may lie in the past."""
        raise NotImplementedError

    def check(self, election: ElectionName, now: Instant) -> Standing:
        raise NotImplementedError

    def remaining_us(self, election: ElectionName, now: Instant) -> int:
        """0 unless valid."""
        raise NotImplementedError

    def lease(self, election: ElectionName) -> Lease | None:
        raise NotImplementedError

    def end(self, election: ElectionName, term: Term) -> None:
        """For ever."""

    def end_all(self) -> None:
        """Before `close`: every lease, for ever."""

    def realtime(self, real_us: int, boot: Instant) -> bool:
        """Feed CLOCK_REALTIME read beside CLOCK_BOOTTIME; True if held leases just became unconfirmed (P3.7)."""
        raise NotImplementedError

    def next_keepalive(self, now: Instant) -> Instant:
        """When to send the next (ttl / 5 after the last; at once after a resume)."""
        raise NotImplementedError

    def terminate_at(self, election: ElectionName) -> Instant | None:
        """When `run` sends SIGTERM (P3.7)."""
        raise NotImplementedError

    def kill_at(self, election: ElectionName) -> Instant | None:
        """For which the SIGKILL timer is armed (P3.7)."""
        raise NotImplementedError
