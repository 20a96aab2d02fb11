"""The holder's half of the lease rules: what a node may believe about its own leases (P3.1, P3.2, P3.7).

Pure, and the same for SDK, agent, memory engine and simulator. One `Holder` per session; a new session needs a new one.

Validity begins with an acknowledgement that names the lease and is counted from the *send* of the keepalive that it
answers, on the sender's CLOCK_BOOTTIME, shortened by what clocks may differ in rate (ρ) and by a guard against our own
lateness. Whatever else is heard (an answer to `campaign`, a push) gives nothing.
"""

from typing import Final, Literal

from tenure.base.ids import ElectionName, Term
from tenure.base.instants import MS, Instant
from tenure.leadership.engine import Kept, Lease

Standing = Literal[
    "valid",
    "not_held",  # no acknowledgement has named it, or its validity was ended for ever
    "ran_out",  # held, but the last confirmation is too old
    "unconfirmed",  # the machine was suspended; the next acknowledgement tells (P3.7)
]

guard_us_min: Final = 10 * MS
"""P3.7: guard = max(10 ms, ttl / 50) by default."""
guard_divisor: Final = 50
renewals_per_ttl: Final = 5
resume_divisor: Final = 4
"""P3.7: a forward step of REALTIME against BOOTTIME by more than ttl / 4 is a resumed machine."""
terminate_us_min: Final = 100 * MS
kill_us: Final = 20 * MS
outstanding_max: Final = 256


class _Sent:
    """When a keepalive was sent, and what CLOCK_REALTIME was ahead of CLOCK_BOOTTIME then; None: nobody had looked."""

    __slots__ = ("at", "offset_us")

    def __init__(self, at: Instant, offset_us: int | None) -> None:
        self.at = at
        self.offset_us = offset_us


class _Peaks:
    """The largest reading of REALTIME − BOOTTIME since each keepalive. Only those are kept that may still be one: each
    is larger than all that came later.
    """

    __slots__ = ("_first_us", "_kept")

    def __init__(self) -> None:
        self._first_us: int | None = None
        self._kept: list[tuple[int, int]] = []
        """The last keepalive that was sent before, and the reading: the numbers rise, the readings fall."""

    def saw(self, offset_us: int, last: int) -> None:
        """A reading, after keepalive `last` was sent."""
        kept = self._kept
        if self._first_us is None:
            self._first_us = offset_us
        while kept and kept[-1][1] <= offset_us:
            kept.pop()
        if not kept or kept[-1][0] < last:
            kept.append((last, offset_us))
        if len(kept) > outstanding_max:  # so many, each smaller: the second counts as large as the first
            kept[:2] = [(kept[1][0], kept[0][1])]

    def since(self, number: int) -> int | None:
        """The largest one after a keepalive was sent; None: there was none. From the newest on: few came after it."""
        peak_us: int | None = None
        for last, offset_us in reversed(self._kept):
            if last < number:
                break
            peak_us = offset_us
        return peak_us

    def counts_from(self, number: int, sent: _Sent) -> Instant:
        """By how much REALTIME has gone ahead since, BOOTTIME may have stood still: then that much is over already. The
        first reading of all says nothing of what was before it.
        """
        began_us = sent.offset_us if sent.offset_us is not None else self._first_us
        peak_us = self.since(number)
        if began_us is None or peak_us is None or peak_us <= began_us:
            return sent.at
        return Instant(sent.at - (peak_us - began_us))


class _Held:
    """A lease with what confirms it. `sent` is when the confirming keepalive was sent, `number` which it was."""

    __slots__ = ("lease", "number", "sent")

    def __init__(self, lease: Lease, number: int, sent: _Sent) -> None:
        self.lease = lease
        self.number = number
        self.sent = sent


class Holder:
    """See the module. `guard_us` None: the default of P3.7; `rho_permille`: ρ, 1 % by default."""

    __slots__ = (
        "_closed",
        "_confirms_from",
        "_ended",
        "_held",
        "_last_sent",
        "_next",
        "_offset_us",
        "_peaks",
        "_sent",
        "_sent_offset_us",
        "_ttl_us",
        "_validity_us",
        "_withdrawn_at",
    )

    def __init__(self, ttl_us: int, guard_us: int | None = None, rho_permille: int = 10) -> None:
        assert ttl_us > 0
        assert 0 <= rho_permille < 1000
        guard = guard_us if guard_us is not None else max(guard_us_min, ttl_us // guard_divisor)
        assert guard >= 0
        self._ttl_us = ttl_us
        self._validity_us = validity_us(ttl_us, guard, rho_permille)
        self._next = 1
        self._sent: dict[int, _Sent] = {}
        """When each keepalive without an acknowledgement, or the newest with one, was sent."""
        self._last_sent: Instant | None = None
        self._held: dict[ElectionName, _Held] = {}
        self._ended: dict[ElectionName, Term] = {}
        """Terms up to this one are over for ever here; terms rise, so one number per election is enough."""
        self._confirms_from = 1
        """Keepalives below this number were sent before the last resume: they confirm nothing (P3.7)."""
        self._withdrawn_at: dict[ElectionName, int | None] = {}
        """Elections withdrawn from: None while the answer is awaited, then the first number that confirms again."""
        self._closed = False
        self._offset_us: int | None = None
        self._sent_offset_us: int | None = None
        self._peaks = _Peaks()

    # --- keepalives -------------------------------------------------------------------------------------------------

    def transmit(self, now: Instant) -> int:
        """A keepalive is being sent now: its fresh number (P3.2). Take it before the bytes leave."""
        number = self._next
        self._next += 1
        self._sent[number] = _Sent(now, self._offset_us)
        self._last_sent = now
        self._sent_offset_us = self._offset_us
        if len(self._sent) > outstanding_max:
            del self._sent[next(iter(self._sent))]
        return number

    def acknowledged(self, kept: Kept, now: Instant) -> None:
        """An acknowledgement came. Late, repeated and foreign ones are harmless."""
        sent = self._sent.get(kept.number)
        if sent is None or kept.number < self._confirms_from or self._closed:
            return
        named = {lease.election for lease in kept.leases}
        for lease in kept.leases:
            if self.has_ended(lease.election, lease.term):
                continue  # P3.7: ended for ever, whatever comes back
            if lease.election in self._withdrawn_at:
                confirms_from = self._withdrawn_at[lease.election]
                if confirms_from is None or kept.number < confirms_from:
                    continue
            held = self._held.get(lease.election)
            if (
                held is None
                or lease.term > held.lease.term
                or (lease.term == held.lease.term and kept.number > held.number)
            ):
                self._held[lease.election] = _Held(lease, kept.number, sent)
        for election in [name for name, held in self._held.items() if name not in named and held.number < kept.number]:
            # A later acknowledgement doesn't name it: it is frozen or gone. Ending early is always safe; another
            # acknowledgement that names the term may still confirm it, if its freeze fell with its steward.
            del self._held[election]
        for number in [number for number in self._sent if number < kept.number]:
            del self._sent[number]

    def next_keepalive(self, now: Instant) -> Instant:
        """When to send the next one: a fifth of the TTL after the last, at once after a resume."""
        if self._last_sent is None or self._unconfirmed():
            return now
        return Instant(self._last_sent + self._ttl_us // renewals_per_ttl)

    # --- what may be believed ---------------------------------------------------------------------------------------

    def check(self, election: ElectionName, now: Instant) -> Standing:
        """Whether the election may be acted for now."""
        held = self._held.get(election)
        if held is None:
            return "not_held"
        if held.number < self._confirms_from:
            return "unconfirmed"
        return "valid" if now < self._peaks.counts_from(held.number, held.sent) + self._validity_us else "ran_out"

    def valid_until(self, election: ElectionName) -> Instant | None:
        """The end of validity, perhaps in the past; None if not held or unconfirmed."""
        held = self._held.get(election)
        if held is None or held.number < self._confirms_from:
            return None
        return Instant(self._peaks.counts_from(held.number, held.sent) + self._validity_us)

    def remaining_us(self, election: ElectionName, now: Instant) -> int:
        """How much longer it is valid; 0 if it isn't."""
        until = self.valid_until(election)
        return max(0, until - now) if until is not None else 0

    def lease(self, election: ElectionName) -> Lease | None:
        """The lease as last named, valid or not; None if not held."""
        held = self._held.get(election)
        return held.lease if held is not None else None

    def elections(self) -> tuple[ElectionName, ...]:
        """Everything held, valid or not."""
        return tuple(sorted(self._held))

    def terminate_at(self, election: ElectionName) -> Instant | None:
        """When `tenure run` sends SIGTERM (P3.7)."""
        until = self.valid_until(election)
        return Instant(until - max(terminate_us_min, self._ttl_us // 5)) if until is not None else None

    def kill_at(self, election: ElectionName) -> Instant | None:
        """For which the timer with SIGKILL is armed (P3.7)."""
        until = self.valid_until(election)
        return Instant(until - kill_us) if until is not None else None

    # --- ending it --------------------------------------------------------------------------------------------------

    def end(self, election: ElectionName, term: Term) -> None:
        """End the validity of this term for ever (P3.7): before `release` is sent."""
        self._ended[election] = max(term, self._ended.get(election, Term(0)))
        held = self._held.get(election)
        if held is not None and held.lease.term <= term:
            del self._held[election]

    def has_ended(self, election: ElectionName, term: Term) -> bool:
        """Whether this term is over for ever here."""
        return term <= self._ended.get(election, 0)

    def withdrawing(self, election: ElectionName) -> None:
        """Before `withdraw` is sent, held or not: end what is held for ever, and believe no acknowledgement about this
        election until `withdrawn`. A withdrawal names no term, so it also ends a holding that we have not heard of yet:
        an acknowledgement under way may name a lease that the withdrawal gives back.
        """
        held = self._held.get(election)
        if held is not None:
            self.end(election, held.lease.term)
        self._withdrawn_at[election] = None

    def withdrawn(self, election: ElectionName) -> None:
        """The withdrawal was answered: keepalives sent from now on may confirm a new candidacy's lease.

        Without an answer it may still be applied at any time: repeat it under its sequence number (P9.1), or open
        another session.
        """
        self._withdrawn_at[election] = self._next

    def close(self) -> None:
        """Before `close` is sent: end everything for ever, also what we have not heard of yet."""
        self._closed = True
        self._held.clear()

    # --- suspended machines -----------------------------------------------------------------------------------------

    def realtime(self, real_us: int, boot: Instant) -> bool:
        """Feed a reading of CLOCK_REALTIME taken together with one of CLOCK_BOOTTIME, before checks and sends.

        True if it shows a resumed machine (P3.7): everything held is unconfirmed until a keepalive sent from now on is
        acknowledged. A backward step of REALTIME is ignored; a forward one is compared with the last reading and with
        the one at the last send, so that many small ones don't slip through. Also a smaller one may be a machine that
        stood still for so long: the validity of what was sent before it ends so much earlier (ADR 0036).
        """
        offset = real_us - boot
        self._peaks.saw(offset, self._next - 1)
        known_us = self._offset_us if self._offset_us is not None else offset
        sent_us = self._sent_offset_us if self._sent_offset_us is not None else known_us
        before_us = min(known_us, sent_us)
        self._offset_us = offset
        if offset - before_us <= self._ttl_us // resume_divisor:
            return False
        self._confirms_from = self._next
        self._sent_offset_us = offset
        return True

    def _unconfirmed(self) -> bool:
        return self._confirms_from == self._next and self._next > 1


def validity_us(ttl_us: int, guard_us: int, rho_permille: int) -> int:
    """P3.7: ttl·(1−ρ)/(1+ρ) − guard, rounded down; 0 if nothing is left of so short a TTL."""
    return max(0, ttl_us * (1000 - rho_permille) // (1000 + rho_permille) - guard_us)
