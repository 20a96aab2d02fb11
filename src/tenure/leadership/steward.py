"""The steward: who is alive, who may lead, what to take away and when.

It lives on the consensus leader for one consensus term, and nothing of it is replicated: what it decides becomes a
command (`decide`), and only its apply changes anything.

Its clock. `now` is CLOCK_BOOTTIME without the time in which this process stood still (P3.7): every instant that it
keeps is on this clock, so one subtraction shifts all deadlines by a gap. It never runs faster than the real one, hence
no lease is taken away too early by it.

A take-away (P3.4) has three steps: *due* (nothing heard for a TTL, a grace over, a connection lost), *frozen* (no
acknowledgement names it any more; from here to the apply of its entry or the end of this term), *decided* (proposed,
once the lease has surely run out at its holder).
"""

from typing import Literal

from msgspec import Struct

from tenure.base.ids import ConsensusTerm, ElectionName, LogIndex, SessionId
from tenure.base.instants import MS, NEVER, Instant
from tenure.leadership import commands
from tenure.leadership.choosing import FOR_EVER
from tenure.leadership.commands import Decision, Demote, Evict, Expire, Grant, KvPut, Revoke
from tenure.leadership.elections import no_successor
from tenure.leadership.engine import Keepalive, Kept, Refused, Release, Stepdown, Transition
from tenure.leadership.evictions import Evictions
from tenure.leadership.hints import Hints
from tenure.leadership.machine import Applied, Machine
from tenure.leadership.offices import Offices, OfficeSettings
from tenure.leadership.slots import ELECTION, EVICTION, SESSION, Agenda, Slot

__all__ = ["Hints", "Receipt", "Steward", "StewardSettings"]


class StewardSettings(Struct, frozen=True):
    """Policy; safety depends on none of it."""

    offices: OfficeSettings = OfficeSettings()
    retry_ms: int = 25
    """A decision that the log did not take is proposed again; a session in expiry is told to ask again."""
    keyed_keep_ms: int = 600_000
    """P9.2: answers under idempotency keys are kept for so long (and at most `limits.keyed_max` of them)."""
    clients_keep_ms: int = 3_600_000
    """P9.1: client sessions unused for so long are closed."""
    evict_every_ms: int = 60_000


class Receipt(Struct, frozen=True, gc=False):
    """A keepalive was heard; it is not acknowledged yet. `received_at` is on the steward's own clock."""

    session: SessionId
    number: int
    received_at: int
    term: ConsensusTerm


Flight = tuple[Literal["grant", "expire", "demote", "revoke", "evict"], str]
"""What a decision under way is about: its kind, and the session or election."""


class Steward:
    """See the module. `term` is the consensus term in which all its decisions are made (P3.5)."""

    def __init__(
        self, term: ConsensusTerm, won_at: Instant, machine: Machine, settings: StewardSettings, now: Instant
    ) -> None:
        self.term = term
        self._machine = machine
        self._state = machine.state
        self._settings = settings
        self._lost_us = 0
        self._now = now
        self._serving = False
        self._flight: set[Flight] = set()
        self._due: set[SessionId] = set()
        keyed_keep_us, clients_keep_us = settings.keyed_keep_ms * MS, settings.clients_keep_ms * MS
        self._evictions = Evictions(term, machine.state, keyed_keep_us, clients_keep_us)
        self._evicting = False
        self._agenda = Agenda()
        self._slots: dict[SessionId, Slot] = {}
        self._offices = Offices(term, won_at, machine.state, self._slots, self._agenda, settings.offices)
        for session in machine.state.sessions.values():
            # P3.4: whatever an earlier steward acknowledged was received before this term was won (P3.9).
            slot = self._slots[session.id] = Slot(session, won_at, FOR_EVER)
            slot.unconfirmed = set(session.holds)
            self._offices.refresh(slot, session, won_at)
            self._agenda.add(slot.deadline(), SESSION, session.id)
        self._agenda.add(won_at, EVICTION, "")

    # --- keepalives -------------------------------------------------------------------------------------------------

    def receive(self, keepalive: Keepalive, now: Instant) -> Refused | Receipt:
        """Hear a keepalive. It joins a round that begins after this (P3.3), then `acknowledge` answers it."""
        self._now = now
        local = now - self._lost_us
        slot = self._slots.get(keepalive.session)
        if slot is None:
            if self._serving:
                return self._gone(keepalive.session)
            # The log's backlog may still open it: whether it stands is seen at the acknowledgement.
            return Receipt(keepalive.session, keepalive.number, local, self.term)
        if slot.frozen:
            return self._expiring()
        if keepalive.number < slot.number:
            reason = f"number {keepalive.number} is not fresh, {slot.number} was heard"
            return Refused("invalid", reason, field="number")
        slot.number = keepalive.number
        if local - slot.heard > slot.silent_us or not slot.connected:
            slot.connected = True
            self._offices.dirty.update(self._state.sessions[slot.session].candidate_of)
            self._heard_first(slot, keepalive, local)
        slot.heard = local
        if keepalive.health != slot.health or keepalive.lag != slot.lag:
            slot.health, slot.lag = keepalive.health, keepalive.lag
            self._offices.judge(slot, self._state.sessions[slot.session], local)
        return Receipt(keepalive.session, keepalive.number, local, self.term)

    def acknowledge(self, receipt: Receipt, now: Instant) -> Kept | Refused:
        """Answer a keepalive whose round is confirmed and applied (P3.3): the only source of validity (P3.1)."""
        self._now = now
        if receipt.term != self.term:
            return Refused("no_quorum", "the consensus term changed", retry_after_ms=self._settings.retry_ms)  # P3.3
        slot = self._slots.get(receipt.session)
        if slot is None:
            return self._gone(receipt.session)
        if slot.frozen:
            return self._expiring()  # P3.4: no acknowledgement of any kind
        slot.acked = max(slot.acked, receipt.received_at)
        if slot.unconfirmed:
            for lease in slot.leases:
                slot.unconfirmed.discard(lease.election)
        if slot.asked:
            local = now - self._lost_us
            return Kept(slot.session, receipt.number, slot.leases, tuple(one.demand(local) for one in slot.asked))
        return Kept(slot.session, receipt.number, slot.leases)

    def disconnected(self, session: SessionId, now: Instant) -> None:
        """This steward's cluster saw the session's connection break, at a member that lives (P3.8)."""
        self._now = now
        slot = self._slots.get(session)
        if slot is not None and slot.connected:
            slot.connected = False
            self._offices.dirty.update(self._state.sessions[session].holds)

    def gap(self, gap_us: int, now: Instant) -> None:
        """This process stood still for `gap_us`; its sockets are drained since. All deadlines shift by it (P3.7)."""
        assert gap_us >= 0
        self._now = now
        self._lost_us += gap_us

    # --- the log ----------------------------------------------------------------------------------------------------

    def on_applied(self, index: LogIndex, entry_term: ConsensusTerm, applied: Applied, now: Instant) -> None:
        """A command was applied, of this term or of the backlog before it."""
        self._now = now
        body = applied.body
        if type(body) is KvPut:  # the hot path: nothing here depends on keys
            return
        local = now - self._lost_us
        if isinstance(body, Decision) and body.decided == self.term:
            self._landed(body, local)
        for transition in applied.transitions:
            self._follow(transition, local)

    def on_serving(self, now: Instant) -> None:
        """The no-op of the term is committed and applied: every older take-away that can still commit lies below it."""
        self._now = now
        self._serving = True
        self._offices.dirty.update(self._state.elections)

    def dropped(self, data: bytes) -> None:
        """The log did not take this decision. It is made again, a little later; its freeze stays (P3.4)."""
        body = commands.decode(data).body
        assert isinstance(body, Decision)
        self._flight.discard(_flight_of(body))
        when = self._now - self._lost_us + self._settings.retry_ms * MS
        match body:
            case Expire():
                self._agenda.add(when, SESSION, body.session)
            case Grant():
                self._offices.granting.pop(body.election, None)
                self._agenda.add(when, ELECTION, body.election)
            case Demote() | Revoke():
                self._offices.dirty.discard(body.election)  # not at once again while a transfer refuses it
                self._agenda.add(when, ELECTION, body.election)
            case Evict():
                pass  # the next round of evictions comes by itself

    def _landed(self, body: Decision, local: int) -> None:
        """A decision of ours was applied, whether it did anything or not: it is no longer under way."""
        self._flight.discard(_flight_of(body))
        match body:
            case Grant():
                self._offices.granting.pop(body.election, None)
                self._offices.dirty.add(body.election)
            case Revoke():
                frozen = self._offices.frozen.get(body.election)
                if frozen is not None and (frozen.session, frozen.term) == (body.session, body.term):
                    del self._offices.frozen[body.election]
                self._offices.dirty.add(body.election)
                self._refresh(body.session, local)
            case Demote():
                self._offices.dirty.add(body.election)
            case Expire() | Evict():
                pass

    def _follow(self, transition: Transition, local: int) -> None:
        """Keep slots and offices in step with the state machine."""
        name, session = transition.election, transition.session
        match transition.kind:
            case "session_opened":
                assert session is not None
                self._opened(session, local)
            case "session_closed" | "session_expired":
                assert session is not None
                self._slots.pop(session, None)
                self._due.discard(session)
            case "candidate":
                assert name is not None
                assert session is not None
                self._offices.dirty.add(name)
                if session in self._slots:
                    self._offices.judge_one(name, self._slots[session], local)
            case "withdrawn":
                assert name is not None
                assert session is not None
                self._offices.left(name, session)
            case "granted":
                assert name is not None
                assert session is not None
                slot = self._slots[session]
                slot.granted[name] = slot.floor = local  # P3.4: grant applied
                slot.unconfirmed.add(name)
                self._offices.granted(name)
                self._refresh(session, local)
            case "stepdown":
                assert name is not None
                assert session is not None
                self._offices.dirty.add(name)
                self._refresh(session, local)
            case "ended":
                self._ended(transition, local)
            case "configured" | "paused":
                assert name is not None
                self._offices.configured(name, local)
            case "kv" | "autopilot":
                pass

    def _opened(self, name: SessionId, local: int) -> None:
        session = self._state.sessions[name]
        slot = self._slots[name] = Slot(session, local, local if self._serving else FOR_EVER)
        self._agenda.add(slot.deadline(), SESSION, name)

    def _ended(self, transition: Transition, local: int) -> None:
        name, session = transition.election, transition.session
        assert name is not None
        assert session is not None
        assert transition.node_id is not None
        assert transition.cause is not None
        slot = self._slots.get(session)
        lasted = 0
        if slot is not None:
            lasted = local - slot.granted.pop(name, slot.floor)
            slot.unconfirmed.discard(name)
        self._offices.ended(name, transition.node_id, transition.cause, lasted, local)
        self._refresh(session, local)

    def _refresh(self, name: SessionId, local: int) -> None:
        slot, session = self._slots.get(name), self._state.sessions.get(name)
        if slot is not None and session is not None:
            self._offices.refresh(slot, session, local)

    # --- deciding ---------------------------------------------------------------------------------------------------

    def admit(self, request: Stepdown, now: Instant) -> Refused | None:
        """Ask before a stepdown of an election is proposed: 412 by health and silence, unknown to the machine."""
        self._now = now
        election = self._state.elections.get(ElectionName(request.election or ""))
        if election is None or election.holder is None or election.handover is not None:
            return None
        refused = no_successor(election, request.successor)
        if refused is not None:
            return refused
        said: list[str] = []
        for standing in self._offices.standings(election, now - self._lost_us):
            if standing.session == election.holder.session or request.successor not in {None, standing.node}:
                continue
            if standing.obstacle is None:
                return None
            said.append(f"{standing.node}: {standing.obstacle.reason}")
        return Refused("no_eligible_successor", f"nobody can take over now ({', '.join(said)})", field="successor")

    def succession(self, release: Release, now: Instant, wall_ms: int) -> bytes | None:
        """The grant that is proposed right behind a release, so that the office is vacant for no commit in between.

        It names the vacancy that the release will leave (P3.4): where the release does nothing, neither does the grant.
        """
        self._now = now
        election = self._state.elections.get(release.election)
        if election is None or not self._serving:
            return None
        body = self._offices.heir(election, release.session, release.term, now - self._lost_us)
        if body is None:
            return None
        self._offices.granting[body.election] = body.session
        self._flight.add(_flight_of(body))
        return commands.encode(body, wall_ms)

    def decide(self, now: Instant, wall_ms: int) -> tuple[bytes, ...]:
        """What to propose now, all of one kind; call again while `deadline` is not in the future. `wall_ms` is for the
        history only (P10).
        """
        self._now = now
        if not self._serving:
            return ()
        local = now - self._lost_us
        for kind, name in self._agenda.due(local):
            if kind == SESSION:
                self._due.add(SessionId(name))
            elif kind == ELECTION:
                self._offices.dirty.add(ElectionName(name))
            else:
                self._evicting = True
                self._evictions.sample(local)
                self._agenda.add(local + self._settings.evict_every_ms * MS, EVICTION, "")
        bodies: list[Decision] = [*self._expirations(local)]
        bodies = bodies or [*self._revocations(local)]
        bodies = bodies or [*self._demotions(local)]
        if not bodies:
            bodies = [*self._grants(local)]
            self._offices.dirty.clear()
        if not bodies and self._evicting and ("evict", "") not in self._flight:
            self._evicting = False
            evict = self._evictions.decide(local)
            bodies = [evict] if evict is not None else []
        self._flight.update(_flight_of(body) for body in bodies)
        return tuple(commands.encode(body, wall_ms) for body in bodies)

    def _expirations(self, local: int) -> list[Expire]:
        """Sessions that ran out. Deciding freezes them whole (P3.4)."""
        found: list[Expire] = []
        for name in sorted(self._due):
            slot = self._slots.get(name)
            if slot is None or ("expire", name) in self._flight:
                continue
            if not slot.frozen and local < slot.deadline():
                self._agenda.add(slot.deadline(), SESSION, name)
                continue
            slot.frozen = True
            silent_ms = (local - slot.heard) // MS if slot.heard != FOR_EVER else None
            found.append(Expire(self.term, name, silent_ms))
        self._due.clear()
        return found

    def _revocations(self, local: int) -> list[Revoke]:
        """Freeze what must be taken away, revoke what has been frozen for long enough (P3.4)."""
        found: list[Revoke] = []
        for name in sorted(self._offices.dirty):
            election = self._state.elections[name]
            frozen = self._offices.take_away(election, local)
            if frozen is not None and self._offices.frozen.get(name) != frozen:
                self._offices.frozen[name] = frozen
                self._refresh(frozen.session, local)
            if ("revoke", name) not in self._flight:
                body = self._offices.revocation(election, local)
                if body is not None:
                    found.append(body)
        return found

    def _demotions(self, local: int) -> list[Demote]:
        names = (name for name in sorted(self._offices.dirty) if ("demote", name) not in self._flight)
        found = (self._offices.demotion(self._state.elections[name], local) for name in names)
        return [body for body in found if body is not None]

    def _grants(self, local: int) -> list[Grant]:
        found: list[Grant] = []
        for name in sorted(self._offices.dirty):
            body = self._offices.grant(self._state.elections[name], local)
            if body is not None:
                self._offices.granting[name] = body.session
                found.append(body)
        return found

    # --- for the engine ---------------------------------------------------------------------------------------------

    def deadline(self) -> Instant:
        """When `decide` must be called next."""
        if not self._serving:
            return NEVER
        if self._offices.dirty or self._due:
            return self._now
        due = self._agenda.next()
        return Instant(due + self._lost_us) if due is not None else NEVER

    def hints(self, now: Instant, wall_ms: int) -> Hints:
        """What only the steward can say in views."""
        local = now - self._lost_us
        offices = self._offices
        return Hints(self._slots, offices.frozen, lambda election: offices.obstacles(election, local), local, wall_ms)

    def _heard_first(self, slot: Slot, keepalive: Keepalive, local: int) -> None:
        """The first sign of life of a session in this term: only now its health is known."""
        slot.heard = local
        slot.health, slot.lag = keepalive.health, keepalive.lag
        self._offices.judge(slot, self._state.sessions[slot.session], local)

    def _gone(self, session: SessionId) -> Refused:
        return Refused("unknown_session", f"there is no session {session}: closed, or run out", field="session")

    def _expiring(self) -> Refused:
        return Refused("no_quorum", "this session ran out, its end is being agreed", None, self._settings.retry_ms)


def _flight_of(body: Decision) -> Flight:
    match body:
        case Grant():
            return ("grant", body.election)
        case Expire():
            return ("expire", body.session)
        case Demote():
            return ("demote", body.election)
        case Revoke():
            return ("revoke", body.election)
        case Evict():
            return ("evict", "")
