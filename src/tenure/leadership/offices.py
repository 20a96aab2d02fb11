"""What the steward knows of each election, and what it would decide about it. Instants are the steward's own clock.

`revocation`, `demotion` and `grant` gather and decide for one election; acting (freezing, proposing) is the steward's.
Where only time is missing they leave a note in the agenda, so nothing is ever polled.
"""

from collections.abc import Mapping

import msgspec

from tenure.base.ids import ConsensusTerm, ElectionName, NodeId, SessionId, Term
from tenure.base.instants import MS
from tenure.leadership.choosing import FOR_EVER, HoldDown, HoldDownSettings, Obstacle, Standing, Verdict, choose
from tenure.leadership.commands import Demote, Grant, Revoke
from tenure.leadership.engine import Cause
from tenure.leadership.slots import ELECTION, Agenda, Asked, Frozen, Slot
from tenure.leadership.state import Candidate, Election, Session, State


class OfficeSettings(msgspec.Struct, frozen=True):
    """Hysteresis and hold-down; safety depends on none of it."""

    demote_after_ms: int = 1_000
    """A holder must be unhealthy for so long before it is asked to hand over."""
    demote_grace_ms: int = 5_000
    settle_ms: int = 2_000
    """A candidate that was unfit must be fit for so long."""
    hold_down: HoldDownSettings = HoldDownSettings()


class Offices:
    """All elections, for one consensus term. `dirty` are those to be considered."""

    __slots__ = (
        "_agenda",
        "_bars",
        "_graces",
        "_hold_down",
        "_settings",
        "_slots",
        "_state",
        "_term",
        "_verdicts",
        "_won",
        "dirty",
        "frozen",
        "granting",
    )

    def __init__(
        self,
        term: ConsensusTerm,
        won: int,
        state: State,
        slots: dict[SessionId, Slot],
        agenda: Agenda,
        settings: OfficeSettings,
    ) -> None:
        self._term = term
        self._won = won
        self._state = state
        self._slots = slots
        self._agenda = agenda
        self._settings = settings
        self._hold_down = HoldDown(settings.hold_down)
        self._verdicts: dict[tuple[ElectionName, SessionId], Verdict] = {}
        self._graces: dict[ElectionName, tuple[Term, int]] = {}
        self._bars: dict[tuple[ElectionName, NodeId], int] = {}
        self.dirty: set[ElectionName] = set(state.elections)
        self.frozen: dict[ElectionName, Frozen] = {}
        self.granting: dict[ElectionName, SessionId] = {}
        """Grants under way: they count as offices held, so that many vacancies at once are spread."""

    # --- what has happened ------------------------------------------------------------------------------------------

    def judge(self, slot: Slot, session: Session, now: int) -> None:
        """The node's health or lag has changed."""
        for name in session.candidate_of:
            self.judge_one(name, slot, now)

    def judge_one(self, name: ElectionName, slot: Slot, now: int) -> None:
        """Look again whether a candidate is fit for an election."""
        verdict = self._verdicts.setdefault((name, slot.session), Verdict(None))
        election = self._state.elections[name]
        if slot.number and verdict.judge(election.config, slot.health, slot.lag, now):
            self.dirty.add(name)

    def configured(self, name: ElectionName, now: int) -> None:
        """Its limits may have moved."""
        self.dirty.add(name)
        for session in self._state.elections[name].candidates:
            self.judge_one(name, self._slots[session], now)

    def left(self, name: ElectionName, session: SessionId) -> None:
        """A candidacy is over."""
        self._verdicts.pop((name, session), None)
        self.dirty.add(name)

    def granted(self, name: ElectionName) -> None:
        """A holding has begun; all bars ended with it."""
        self.dirty.add(name)
        for key in [key for key in self._bars if key[0] == name]:
            del self._bars[key]

    def ended(self, name: ElectionName, node: NodeId, cause: Cause, lasted_us: int, now: int) -> None:
        """A holding is over: whatever was frozen of it is gone (P3.4)."""
        self.dirty.add(name)
        self.frozen.pop(name, None)
        self._graces.pop(name, None)
        self._bars[(name, node)] = now
        self._hold_down.ended(name, node, cause, lasted_us, now)

    def grace_until(self, election: Election, now: int) -> int:
        """When the grace of its stepdown ends: counted from when this steward first saw it."""
        assert election.handover is not None
        begun = self._graces.get(election.name)
        if begun is None or begun[0] != election.last_term:
            begun = self._graces[election.name] = (election.last_term, now)
        return begun[1] + election.handover.grace_ms * MS

    # --- what an acknowledgement says -------------------------------------------------------------------------------

    def refresh(self, slot: Slot, session: Session, now: int) -> None:
        """What acknowledgements of this session name, from applied state, without what is frozen (P3.3)."""
        leases = []
        asked = []
        for name in sorted(session.holds):
            election = self._state.elections[name]
            holder, handover = election.holder, election.handover
            assert holder is not None
            if name not in self.frozen:
                leases.append(holder.lease)
            if handover is not None:
                asked.append(Asked(name, holder.term, handover.successor, self.grace_until(election, now)))
        slot.leases = tuple(leases)
        slot.asked = tuple(asked)

    # --- who may lead -----------------------------------------------------------------------------------------------

    def standings(self, election: Election, now: int) -> list[Standing]:
        """All candidates with what the choice depends on."""
        granting: dict[SessionId, int] = {}
        for session in self.granting.values():
            granting[session] = granting.get(session, 0) + 1
        found = [self._standing(election, candidate, granting, now) for candidate in election.candidates.values()]
        return self._hold_some_down(election, found, now)

    def obstacles(self, election: Election, now: int) -> Mapping[SessionId, Obstacle | None]:
        """Of each candidate, why it may not be chosen now."""
        return {standing.session: standing.obstacle for standing in self.standings(election, now)}

    def _standing(self, election: Election, candidate: Candidate, granting: dict[SessionId, int], now: int) -> Standing:
        slot = self._slots[candidate.session]
        offices = len(self._state.sessions[candidate.session].holds) + granting.get(candidate.session, 0)
        bar = election.bars.get(candidate.node)
        return Standing(
            session=candidate.session,
            node=candidate.node,
            priority=candidate.priority,
            arrived=candidate.arrived,
            health=slot.health,
            lag=slot.lag,
            offices=offices,
            yielded=bar is not None and bar.kind == "released",
            obstacle=self._obstacle(election, candidate, slot, now),
        )

    def _obstacle(self, election: Election, candidate: Candidate, slot: Slot, now: int) -> Obstacle | None:
        if election.holder is not None and election.holder.session == candidate.session:
            return Obstacle("holds")
        if slot.frozen:
            return Obstacle("expiring")  # P3.4: no new grant to it
        if election.paused:
            return Obstacle("paused")
        bar = election.bars.get(candidate.node)
        if bar is not None and bar.kind == "stepped_down":
            until = self._bars.setdefault((election.name, candidate.node), self._won) + election.config.cooldown_ms * MS
            if now < until:
                return Obstacle("stepped_down", until)
        if slot.heard == FOR_EVER:
            return Obstacle("not_heard")
        if slot.silent(now):
            return Obstacle("silent")
        if not slot.connected:
            return Obstacle("disconnected")
        verdict = self._verdicts.get((election.name, candidate.session))
        return verdict.obstacle(now, self._settings.settle_ms * MS) if verdict is not None else None

    def _hold_some_down(self, election: Election, standings: list[Standing], now: int) -> list[Standing]:
        """Held-down nodes wait as long as somebody else can lead, and a little if nobody can."""
        untils = {
            standing.session: until
            for standing in standings
            if standing.obstacle is None
            and (until := self._hold_down.until(election.name, standing.node, now)) is not None
        }
        if not untils:
            return standings
        alone = not any(standing.obstacle is None and standing.session not in untils for standing in standings)
        result = []
        for standing in standings:
            until = untils.get(standing.session)
            if until is not None and alone:
                until = min(until, self._hold_down.alone_until(election.name, standing.node))
            if until is not None and now < until:
                result.append(msgspec.structs.replace(standing, obstacle=Obstacle("held_down", until)))
            else:
                result.append(standing)
        return result

    def _eligible(self, election: Election, now: int) -> bool:
        """Whether somebody else could lead; if only time is missing, look again then."""
        standings = self.standings(election, now)
        self._look_again(election, standings)
        return any(standing.obstacle is None for standing in standings)

    def _look_again(self, election: Election, standings: list[Standing]) -> None:
        untils = [
            one.obstacle.until for one in standings if one.obstacle is not None and one.obstacle.until is not None
        ]
        if untils:
            self._agenda.add(min(untils), ELECTION, election.name)

    # --- decisions --------------------------------------------------------------------------------------------------

    def take_away(self, election: Election, now: int) -> Frozen | None:
        """Whether the holding must be frozen now, and from when on it may be revoked (P3.4, P3.8)."""
        holder, handover = election.holder, election.handover
        if holder is None:
            return None
        slot = self._slots[holder.session]
        known = self.frozen.get(election.name)
        if handover is not None and handover.fenced_off:
            # The operator states that the old node is dead: the one case that doesn't wait for the lease (DESIGN 6).
            return Frozen(holder.session, holder.term, handover.cause, now) if known is None else _at_once(known, now)
        if known is not None or slot.frozen:
            return known
        if handover is not None:
            grace_until = self.grace_until(election, now)
            if now < grace_until:
                self._agenda.add(grace_until, ELECTION, election.name)
                return None
            return Frozen(holder.session, holder.term, handover.cause, slot.lease_deadline(election.name))
        if election.config.mode == "fenced" and not slot.connected and self._eligible(election, now):
            # P3.8: this steward saw the connection break (`Slot.connected`), and the resources are all guarded.
            return Frozen(holder.session, holder.term, "disconnected", now)
        return None

    def revocation(self, election: Election, now: int) -> Revoke | None:
        """The revoke of what is frozen, once the lease has surely run out at its holder (P3.4)."""
        frozen = self.frozen.get(election.name)
        if frozen is None:
            return None
        if now < frozen.not_before:
            self._agenda.add(frozen.not_before, ELECTION, election.name)
            return None
        return Revoke(self._term, frozen.session, election.name, frozen.term, frozen.cause)

    def demotion(self, election: Election, now: int) -> Demote | None:
        """A holder that stays unhealthy hands over, if somebody else can lead."""
        holder = election.holder
        if holder is None or election.handover is not None or election.name in self.frozen:
            return None
        verdict = self._verdicts.get((election.name, holder.session))
        if verdict is None or verdict.reason != "unhealthy" or self._slots[holder.session].frozen:
            return None
        due = verdict.since + self._settings.demote_after_ms * MS
        if now < due:
            self._agenda.add(due, ELECTION, election.name)
            return None
        if not self._eligible(election, now):
            return None
        health = self._slots[holder.session].health
        reason = f"health {health}, the election asks for {election.config.health_min}"
        grace_ms = self._settings.demote_grace_ms
        return Demote(self._term, holder.session, election.name, holder.term, grace_ms, reason)

    def _may_be_held_elsewhere(self, election: Election, now: int) -> bool:
        """After a restore or a recovery: by somebody who was granted it since the snapshot, for a TTL at the most."""
        vacancy = election.vacancy
        if vacancy is None or vacancy.cause != "restored" or election.config.mode != "exclusive":
            return False
        longest_ms = max((self._state.sessions[session].ttl_ms for session in election.candidates), default=0)
        until = self._won + longest_ms * MS
        if now < until:
            self._agenda.add(until, ELECTION, election.name)
        return now < until

    def grant(self, election: Election, now: int) -> Grant | None:
        """Who gets a vacant office."""
        if election.holder is not None or election.paused or election.name in self.granting:
            return None
        if self._may_be_held_elsewhere(election, now):
            return None
        standings = self.standings(election, now)
        chosen = choose(standings, election.successor)
        if chosen is None:
            self._look_again(election, standings)
            return None
        return Grant(self._term, chosen.session, election.name, election.last_term)

    def heir(self, election: Election, session: SessionId, term: Term, now: int) -> Grant | None:
        """Who gets the office as soon as the release of just this holding is applied, if that can be said already: not
        if only the one who gives it back, or a node that is held down, would be left.
        """
        holder, handover = election.holder, election.handover
        if holder is None or (holder.session, holder.term) != (session, term):
            return None
        if election.paused or election.name in self.granting:
            return None
        preferred = handover.successor if handover is not None else election.successor
        chosen = choose(self.standings(election, now), preferred)
        if chosen is None or self._hold_down.until(election.name, chosen.node, now) is not None:
            return None
        return Grant(self._term, chosen.session, election.name, term)


def _at_once(frozen: Frozen, now: int) -> Frozen:
    return msgspec.structs.replace(frozen, not_before=min(frozen.not_before, now))
