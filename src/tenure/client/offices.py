"""Where a keeper stands in each election: a closed union, one small type per state.

    campaign() ──► Wanted ──campaigning──► Standing ──named by an acknowledgement──► Leading ──► Over ──► (forgotten)
                      ▲                        │                                        expired, revoked
                      └──── session lost ──────┘

`Over` is the time between the end here and the giving back in the cluster. It is given back when the owner says that
everything has stopped (`release`, `campaign`), or at `valid_until`, by which everything must have stopped anyhow.
A lease that nobody here acts under would only block the office, so it is given back at once.
"""

from dataclasses import dataclass, field

from tenure.base.ids import ElectionName, Term
from tenure.base.instants import MS, NEVER, Instant, Micros, after
from tenure.client import events as told
from tenure.leadership.engine import Demand, Kept, Lease
from tenure.leadership.holder import Holder


@dataclass(slots=True)
class Wanted:
    """Asked for; the cluster hasn't confirmed the candidacy under the present session."""

    priority: int


@dataclass(slots=True)
class Standing:
    """A candidate."""

    priority: int


@dataclass(slots=True)
class Leading:
    """The holder."""

    term: Term
    fence_token: str
    valid_until: Instant
    """What was told last. For `check` the holder's own value counts."""
    named_up_to: int
    """The last number transmitted when an acknowledgement last named this lease: a later number whose acknowledgement
    doesn't name it was sent after that receipt, so it was answered from a newer state, and the lease is gone."""
    demanded: bool = False
    unconfirmed: bool = False
    acted_until: Instant = Instant(0)
    """The latest end that was told before an earlier one: whoever hasn't heard of that yet acts until then."""


@dataclass(slots=True)
class Over:
    """Ended here for ever, not yet given back: nobody acts any more from `valid_until` on, whatever it was told."""

    term: Term
    valid_until: Instant


Office = Wanted | Standing | Leading | Over


@dataclass(slots=True)
class Offices:
    """All elections of one keeper; what comes true is written to `events`."""

    events: list[told.Event]
    all: dict[ElectionName, Office] = field(default_factory=dict)

    def wanted(self) -> tuple[tuple[ElectionName, int], ...]:
        """For which elections to stand under a new session, with their priorities."""
        return tuple((name, office.priority) for name, office in sorted(self.all.items()) if isinstance(office, Wanted))

    def standing(self, election: ElectionName, priority: int) -> None:
        """The cluster confirmed the candidacy; that says nothing about who leads (P3.1)."""
        if isinstance(self.all.get(election), Wanted):
            self.all[election] = Standing(priority)
            self.events.append(told.Campaigning(election))

    def end(self, holder: Holder, election: ElectionName, cause: told.EndCause) -> Office | None:
        """End a holding for ever on this side, before anything about it is sent (P3.7)."""
        office = self.all.get(election)
        if isinstance(office, Leading):
            holder.end(election, office.term)
            self.events.append(told.Ended(election, office.term, cause, office.valid_until))
            office = self.all[election] = Over(office.term, max(office.valid_until, office.acted_until))
        return office

    def session_lost(self, holder: Holder) -> None:
        """With the session goes what it held, and what there was to give back; candidacies are wanted again."""
        for election in sorted(self.all):
            match self.end(holder, election, "session_lost"):
                case Wanted(priority=priority) | Standing(priority=priority):
                    self.all[election] = Wanted(priority)
                case _:
                    del self.all[election]

    def kept(self, holder: Holder, kept: Kept, last_number: int, now: Instant) -> tuple[Lease, ...]:
        """Take an acknowledgement; returns the leases to give back because nobody acts under them."""
        holder.acknowledged(kept, now)
        named = {lease.election: lease.term for lease in kept.leases}
        for election, office in sorted(self.all.items()):
            if not isinstance(office, Leading):
                continue
            if named.get(election) == office.term:
                office.named_up_to = max(office.named_up_to, last_number)
                self._renew(holder, election, office)
            elif kept.number > office.named_up_to:
                self.end(holder, election, "revoked")
        for demand in kept.demands:
            self.demanded(demand, now)
        return tuple(lease for lease in kept.leases if not self._acted_under(holder, lease, last_number, now))

    def _renew(self, holder: Holder, election: ElectionName, office: Leading) -> None:
        until = holder.valid_until(election)
        if until is not None and (office.unconfirmed or until > office.valid_until):
            office.unconfirmed = False
            office.valid_until = until
            self.events.append(told.Renewed(election, office.term, until))

    def _acted_under(self, holder: Holder, lease: Lease, last_number: int, now: Instant) -> bool:
        match self.all.get(lease.election):
            case Wanted() | Standing():
                if holder.has_ended(lease.election, lease.term):
                    return False  # before it stood again; else the session would hold what nobody acts under
                until = holder.valid_until(lease.election)
                if until is not None and until > now:
                    self.all[lease.election] = Leading(lease.term, lease.fence_token, until, last_number)
                    self.events.append(told.Granted(lease.election, lease.term, lease.fence_token, until))
                return True
            case Leading(term=ours) | Over(term=ours) if ours == lease.term:
                return True
            case Leading() | Over() | None:
                return False

    def demanded(self, demand: Demand, now: Instant) -> None:
        """The cluster asks us to hand over. Told once per term."""
        office = self.all.get(demand.election)
        if isinstance(office, Leading) and office.term == demand.term and not office.demanded:
            office.demanded = True
            until = after(now, Micros(demand.grace_ms * MS))
            self.events.append(told.Demanded(demand.election, demand.term, demand.successor, demand.grace_ms, until))

    def shorten(self, holder: Holder) -> None:
        """By how far REALTIME has gone ahead validity ends earlier (ADR 0036): who believes what is told must know."""
        shorter: list[tuple[ElectionName, Leading, Instant]] = []
        for election, office in self.all.items():
            if isinstance(office, Leading):
                until = holder.valid_until(election)
                if until is not None and until < office.valid_until:
                    shorter.append((election, office, until))
        for election, leading, until in sorted(shorter, key=_by_name):
            leading.acted_until = max(leading.acted_until, leading.valid_until)
            leading.valid_until = until
            self.events.append(told.Renewed(election, leading.term, until))

    def unconfirm(self, holder: Holder) -> None:
        """P3.7: the machine was asleep; leases wait for an acknowledgement sent after that."""
        for election, office in sorted(self.all.items()):
            if isinstance(office, Leading) and not office.unconfirmed:
                office.unconfirmed = True
                self.events.append(told.Unconfirmed(election, office.term))

    def run_out(self, holder: Holder, now: Instant) -> tuple[tuple[ElectionName, Over], ...]:
        """End what has run out; returns what is over and past its validity, to be given back."""
        if self.deadline() > now:
            return ()
        for election, office in sorted(self.all.items()):
            if isinstance(office, Leading) and office.valid_until <= now:
                self.end(holder, election, "expired")
        return tuple(
            (election, office)
            for election, office in sorted(self.all.items())
            if isinstance(office, Over) and office.valid_until <= now
        )

    def deadline(self) -> Instant:
        """When something runs out."""
        due = NEVER
        for office in self.all.values():
            if isinstance(office, Leading | Over) and office.valid_until < due:
                due = office.valid_until
        return due


def _by_name(shorter: tuple[ElectionName, Leading, Instant]) -> ElectionName:
    return shorter[0]
