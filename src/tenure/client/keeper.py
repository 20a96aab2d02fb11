"""The keeper without I/O: what to send when, and what to tell, for one session of one node.

Inputs (`connected`, `disconnected`, `received`, and the owner's wishes) only change the state; `turn` decides: it looks
at both clocks, ends what has run out, and returns the frames to send, the events to tell and the next deadline.

    session:   Opening ──► Live ──► (lost) ──► Opening      any ──close()──► Closing ──► Finished
    stream:    up or down, beside that: a session outlives its streams.

What keeps it right: validity comes from `Holder` alone (P3.1, P3.2, P3.7); a term ends here before the cluster hears
of it (P3.7); a request that changes something carries a sequence number of a client session and is repeated under the
same number until it is answered (P9.1); for one election only one such request is under way, so none overtakes another.
"""

from dataclasses import dataclass, field
from typing import Final

from tenure.base.chance import Rng
from tenure.base.ids import ElectionName, NodeId, SessionId, Term
from tenure.base.instants import MS, NEVER, SECOND, Instant, Micros, after
from tenure.client import events as told
from tenure.client import messages
from tenure.client.offices import Leading, Offices, Over, Standing, Wanted
from tenure.client.patience import Patience
from tenure.client.requests import Pending, Requests
from tenure.client.states import Closing, Finished, Live, Opening
from tenure.leadership.engine import (
    Campaign,
    Campaigning,
    ClientOpened,
    CloseSession,
    Code,
    Demand,
    Keepalive,
    Kept,
    OpenClient,
    OpenSession,
    Refused,
    Release,
    ReleaseCause,
    SessionClosed,
    SessionOpened,
    Status,
    Withdraw,
    Withdrawn,
)
from tenure.leadership.holder import Holder
from tenure.leadership.limits import release_reason_chars_max

retry_us_default: Final = 100 * MS
retry_us_max: Final = SECOND // 2
rejected_retry_us: Final = 5 * SECOND
_UNSERVED: Final[frozenset[Code]] = frozenset({"no_quorum", "no_part"})
"""No answer, and no word about that number: the next endpoint, which this one's status may still tell, gives it."""
_NEEDS_TIME: Final = _UNSERVED | {"founding", "too_many", "node_in_use", "outcome_unknown"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What doesn't change in a keeper's life. The TTL never does (P3.6)."""

    node: NodeId
    ttl_ms: int
    meta: dict[str, str] = field(default_factory=dict)
    guard_us: Micros | None = None

    @property
    def renewal_us(self) -> int:
        """P3.7: renew every ttl/5."""
        return self.ttl_ms * MS // 5


@dataclass(frozen=True, slots=True)
class Output:
    """What one turn decided, in the order in which to act."""

    frames: tuple[bytes, ...]
    events: tuple[told.Event, ...]
    learnt: tuple[str, ...]
    """Addresses of members' APIs as the cluster knows them."""
    served: bool
    """The stream's endpoint did what it is there for: it acknowledged, or answered what needs a quorum."""
    fault: str | None
    """The stream's other end talks nonsense, or serves nobody: close it."""
    move: bool
    """The endpoint is silent for too long: get another stream beside it."""
    finished: bool
    deadline: Instant


class KeeperCore:
    """One session and its offices; see the module's essay."""

    def __init__(self, settings: Settings, rng: Rng) -> None:
        self.settings = settings
        self._rng = rng
        self.endpoint: str | None = None
        """Of the open stream."""
        self.state: Opening | Live | Closing | Finished = Opening()
        self._requests = Requests(rng)
        self._health: tuple[int, int | None] = (100, None)
        self._events: list[told.Event] = []
        self.offices = Offices(self._events)
        self._learnt: tuple[str, ...] = ()
        self._fault: str | None = None
        self._served = False
        self._patience = Patience(settings.ttl_ms * MS)
        self._told_waiting: Code | None = None
        self._open()

    # --- what the owner wishes ---------------------------------------------------------------------------------------

    def campaign(self, election: ElectionName, priority: int) -> None:
        """Stand for an election. If a holding was over, everything under it has stopped, says the caller."""
        office = self.offices.all.get(election)
        if isinstance(office, Over):
            self._give_back(election, office)
        if not isinstance(office, Leading):
            self.offices.all[election] = Wanted(priority)
        if isinstance(self.state, Live):
            self._requests.ask(Campaign(self.state.session, election, priority))

    def withdraw(self, election: ElectionName) -> None:
        """Stop standing; the validity of what is held ends first (P3.7)."""
        if isinstance(self.state, Live):
            office = self.offices.end(self.state.holder, election, "withdrawn")
            self._requests.withdraw_unsent(election)
            if office is not None:
                self.state.holder.withdrawing(election)  # also what was granted and not heard of yet (ADR 0009)
                self._requests.ask(Withdraw(self.state.session, election))
        self.offices.all.pop(election, None)

    def release(
        self, election: ElectionName, term: Term, cause: ReleaseCause = "released", reason: str | None = None
    ) -> None:
        """End a holding (P3.7: first here), then give it back. Harmless if that term is not ours, or not any more."""
        office = self.offices.all.get(election)
        if isinstance(self.state, Live) and isinstance(office, Leading) and office.term == term:
            office = self.offices.end(self.state.holder, election, "released")
        if isinstance(office, Over) and office.term == term:
            self._give_back(election, office, cause, reason)

    def report(self, health: int, lag: int | None) -> None:
        """What the next keepalives carry."""
        self._health = (health, lag)

    def close(self) -> None:
        """End every lease, then have the cluster forget the session."""
        match self.state:
            case Live(session=session, holder=holder):
                for election in sorted(self.offices.all):
                    self.offices.end(holder, election, "closed")
                self._requests.only_ends()  # a release that was asked goes first: the history then says so
                self._requests.ask(CloseSession(session))
                self.state = Closing()
            case Opening() if self._requests.opening_sent():
                self.state = Closing()  # it may stand already: the answer names what to close
            case Opening():
                self._finish()
            case Closing() | Finished():
                pass
        self.offices.all.clear()

    # --- what is true now --------------------------------------------------------------------------------------------

    def session(self) -> SessionId | None:
        """The session as it stands."""
        return self.state.session if isinstance(self.state, Live) else None

    def valid_until(self, election: ElectionName) -> Instant | None:
        """When the holding ends; None if there is none, or if it is unconfirmed (P3.7)."""
        if isinstance(self.state, Live) and isinstance(self.offices.all.get(election), Leading):
            return self.state.holder.valid_until(election)
        return None

    def remaining_us(self, election: ElectionName, term: Term, now: Instant) -> int:
        """How long the holding of `term` is still valid; 0 if it isn't."""
        office = self.offices.all.get(election)
        if isinstance(self.state, Live) and isinstance(office, Leading) and office.term == term:
            return self.state.holder.remaining_us(election, now)
        return 0

    def look_at_clocks(self, now: Instant, real_us: int) -> None:
        """P3.7: after a forward step of REALTIME against BOOTTIME, leases wait for an acknowledgement."""
        if isinstance(self.state, Live) and self.state.holder.realtime(real_us, now):
            self.offices.unconfirm(self.state.holder)
            self.state.keep_at = now

    # --- the stream --------------------------------------------------------------------------------------------------

    def connected(self, endpoint: str, now: Instant) -> None:
        """A new stream is open; what hung on the old one is sent again here, keepalives under fresh numbers (P3.2)."""
        self._stream_lost()
        self.endpoint = endpoint
        self._events.append(told.Connected(endpoint))
        if isinstance(self.state, Live):
            self._requests.attach(messages.Attach(self.state.session))
            self.state.keep_at = now
        if isinstance(self.state, Live | Opening):
            self._requests.ask(Status(stale=True))

    def disconnected(self, reason: str) -> None:
        """No stream is open any more."""
        self._events.append(told.Disconnected(self.endpoint, reason))
        self.endpoint = None
        self._stream_lost()

    def _stream_lost(self) -> None:
        self._patience.fresh()
        self._fault, self._served = None, False
        self._requests.stream_lost()
        if isinstance(self.state, Live):
            self.state.outstanding.clear()

    def received(self, data: bytes | str, now: Instant) -> None:
        """One message from the cluster."""
        try:
            received = messages.read(data)
        except messages.Unusable as error:
            self._fault = str(error)
            return
        if received.id is not None:
            pending = self._requests.find(received.id)
            if pending is not None:
                self._answered(received.id, pending, received.message, now)
        elif isinstance(self.state, Live) and received.session == self.state.session:
            self._heard(self.state, received, now)

    def _heard(self, live: Live, received: messages.Received, now: Instant) -> None:
        """An acknowledgement or a push for our session."""
        match received.message:
            case Kept() as kept:
                self._kept(live, kept, now)
            case Refused() as refused:
                self._keepalive_refused(live, refused, received.number, now)
            case messages.StepdownHint(election=election, term=term, successor=successor, grace_ms=grace_ms):
                # Believed at once, a demand can only make us give something up; so no keepalive gets in its way.
                self.offices.demanded(Demand(election, term, successor, grace_ms), now)
            case messages.GrantedHint() | messages.EndedHint() | messages.GoneHint():
                live.keep_at = now  # P3.1: the push says nothing that counts; the acknowledgement will
            case _:
                pass

    # --- acknowledgements --------------------------------------------------------------------------------------------

    def _kept(self, live: Live, kept: Kept, now: Instant) -> None:
        sent_at = live.outstanding.get(kept.number)
        if sent_at is not None:
            self._patience.measured(now - sent_at)
        self._served = True
        live.outstanding = {number: at for number, at in live.outstanding.items() if number > kept.number}
        self._good_answer(now)
        for lease in self.offices.kept(live.holder, kept, live.last_number, now):
            live.holder.end(lease.election, lease.term)
            if not self._requests.concerns(lease.election):
                stands = isinstance(self.offices.all.get(lease.election), Wanted | Standing)  # and goes on to do so
                self._requests.ask(Release(live.session, lease.election, lease.term, withdraw=not stands))

    def _keepalive_refused(self, live: Live, refused: Refused, number: int | None, now: Instant) -> None:
        live.outstanding.pop(number or 0, None)
        if refused.code == "unknown_session":
            self._session_lost(live, refused.reason)
        elif refused.code in _NEEDS_TIME:
            # Not a good answer: the patience with this endpoint goes on running out.
            retry = min(self._retry_us(refused), self.settings.renewal_us // 2)
            live.keep_at = after(now, Micros(retry))
            self._tell_waiting(refused)
        elif refused.field != "number":  # else a later one has overtaken it: that one's answer counts
            self._events.append(told.Rejected(refused.code, refused.reason))

    # --- answers to requests -----------------------------------------------------------------------------------------

    def _answered(self, key: int, pending: Pending, message: messages.Message, now: Instant) -> None:
        if isinstance(message, Refused):
            self._refused(key, pending, message, now)
            return
        self._requests.done(key)
        self._good_answer(now)
        self._served = self._served or not isinstance(message, messages.Members)
        match message:
            case ClientOpened(client=client):
                self._requests.client_opened(client)
            case SessionOpened(session=session):
                self._session_opened(session, now)
            case SessionClosed():
                self._finish()
            case Campaigning(election=election, priority=priority):
                self.offices.standing(election, priority)
                if isinstance(self.state, Live):
                    self.state.keep_at = now  # the grant may stand already
            case Withdrawn(election=election):
                self._withdrawn(election)
            case messages.Members() as members:
                self._learnt = members.endpoints()
            case _:
                pass  # released, attached: what mattered was done when it was asked

    def _withdrawn(self, election: ElectionName) -> None:
        """The withdrawal has taken effect: keepalives from now on may confirm a new candidacy's lease."""
        if isinstance(self.state, Live):
            self.state.holder.withdrawn(election)

    def _refused(self, key: int, pending: Pending, refused: Refused, now: Instant) -> None:
        request = pending.request
        opening = isinstance(request, OpenSession | OpenClient)
        if refused.code == "unknown_session" and not opening:
            self._requests.done(key)
            if isinstance(self.state, Closing):
                self._finish()
            elif isinstance(self.state, Live):
                self._session_lost(self.state, refused.reason)
        elif refused.code in _NEEDS_TIME and not isinstance(request, Status):
            until = after(now, Micros(self._retry_us(refused)))
            # Under no_quorum it may take effect yet. Any other refusal is what that number is answered with, for ever.
            self._requests.later(pending, until, same_number=refused.code in _UNSERVED)
            if refused.code == "outcome_unknown":
                self._requests.client_forgotten()
            if refused.code not in _UNSERVED:
                self._good_answer(now)
            self._tell_waiting(refused)
        elif opening:
            self._requests.later(pending, after(now, Micros(rejected_retry_us)), same_number=False)
            self._events.append(told.Rejected(refused.code, refused.reason))
        else:
            self._requests.done(key)  # not_held, not_candidate, unknown_election: as if done
            if isinstance(request, Campaign):
                self.offices.all.pop(request.election, None)
                self._events.append(told.Rejected(refused.code, refused.reason, request.election))
            elif isinstance(request, Withdraw):
                self._withdrawn(request.election)

    def _retry_us(self, refused: Refused) -> int:
        wanted = retry_us_default if refused.retry_after_ms is None else refused.retry_after_ms * MS
        return min(max(wanted, MS), retry_us_max)

    def _tell_waiting(self, refused: Refused) -> None:
        why: Code = "no_quorum" if refused.code in _UNSERVED else refused.code  # one endpoint says this, the next that
        if self._told_waiting != why:
            self._told_waiting = why
            self._events.append(told.Waiting(refused.code, refused.reason, self._retry_us(refused) // MS))

    # --- the session -------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        settings = self.settings
        self.state = Opening()
        # A nonce for each opening: under the old one we could be handed the old session again, whose numbers were used.
        process = f"{self._rng.u64():016x}"
        self._requests.ask(OpenSession(settings.node, settings.ttl_ms, process, settings.meta))

    def _session_opened(self, session: SessionId, now: Instant) -> None:
        self._told_waiting = None
        if isinstance(self.state, Closing):
            self._requests.ask(CloseSession(session))
            return
        assert isinstance(self.state, Opening), "only an opening is answered so"
        holder = Holder(self.settings.ttl_ms * MS, self.settings.guard_us)
        self.state = Live(session, holder, keep_at=now)
        self._events.append(told.SessionOpened(session))
        for election, priority in self.offices.wanted():
            self._requests.ask(Campaign(session, election, priority))

    def _session_lost(self, live: Live, reason: str) -> None:
        self.offices.session_lost(live.holder)
        self._events.append(told.SessionLost(live.session, reason))
        self._requests.session_lost()
        self._open()

    def _finish(self) -> None:
        self.state = Finished()
        self._events.append(told.Closed(told=True))

    def _give_back(
        self, election: ElectionName, office: Over, cause: ReleaseCause = "released", reason: str | None = None
    ) -> None:
        del self.offices.all[election]
        if isinstance(self.state, Live):
            said = reason[:release_reason_chars_max] if reason is not None else None
            self._requests.ask(Release(self.state.session, election, office.term, True, cause, said))

    # --- one turn ----------------------------------------------------------------------------------------------------

    def turn(self, now: Instant, real_us: int) -> Output:
        """Look at the clocks, end what has run out, and say what to do. Call it with the sockets drained (P4.7)."""
        self.look_at_clocks(now, real_us)
        if isinstance(self.state, Live):
            self.offices.shorten(self.state.holder)
        self._run_out(now)
        frames: list[bytes] = []
        if self.endpoint is not None:
            frames = self._requests.frames(now)
            if isinstance(self.state, Live) and self.state.keep_at <= now:
                frames.append(self._keepalive(self.state, now))
            if frames:
                self._patience.asked(now)
        move = self._patience.runs_out(now)
        output = Output(
            frames=tuple(frames),
            events=tuple(self._events),
            learnt=self._learnt,
            served=self._served,
            fault=self._fault,
            move=move,
            finished=isinstance(self.state, Finished),
            deadline=self._deadline(),
        )
        self._events.clear()
        self._learnt, self._fault, self._served = (), None, False
        return output

    def _run_out(self, now: Instant) -> None:
        if isinstance(self.state, Live):
            for election, over in self.offices.run_out(self.state.holder, now):
                self._give_back(election, over)

    def _keepalive(self, live: Live, now: Instant) -> bytes:
        live.last_number = live.holder.transmit(now)  # P3.2: fresh for each transmission, counted from now
        live.outstanding[live.last_number] = now
        live.keep_at = after(now, Micros(self.settings.renewal_us))
        health, lag = self._health
        return messages.write(Keepalive(live.session, live.last_number, health, lag), None, None)

    def _good_answer(self, now: Instant) -> None:
        self._told_waiting = None if isinstance(self.state, Live) else self._told_waiting
        unanswered = isinstance(self.state, Live) and bool(self.state.outstanding)
        self._patience.good_answer(now, more=unanswered or self._requests.oldest_sent() != NEVER)

    def _deadline(self) -> Instant:
        due = self.offices.deadline()
        if self.endpoint is not None:
            due = min(due, self._requests.deadline())
            due = min(due, self._patience.suspect_at())
            if isinstance(self.state, Live):
                due = min(due, self.state.keep_at)
        return due
