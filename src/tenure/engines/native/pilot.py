"""The autopilot at work: gathers what the leader sees, lets `autopilot` decide, and acts. One for each consensus term.

It looks again and again, not at events: what it waits for is silence. A change goes the way of everybody's, through the
core's own judgement, for the very configuration that it was decided on. What it did, and what it declined twice in a
row, becomes a `Remark` in the log, unless just that stands there last.
"""

from typing import TYPE_CHECKING

from tenure.base.ids import MemberId
from tenure.base.instants import Instant, rfc3339
from tenure.engines.native import autopilot
from tenure.engines.native.autopilot import Act, Memory, Stay, View, Watched, passing
from tenure.leadership import commands
from tenure.leadership.commands import Remark
from tenure.leadership.engine import AutopilotView, DecisionView, PilotState, RemarkKind, WatchedView
from tenure.leadership.state import Remarked
from tenure.raft.events import ChangeMembership, Propose
from tenure.raft.ready import ChangeEnded, Trace

if TYPE_CHECKING:
    from tenure.engines.native.replica import Replica

Said = tuple[RemarkKind, str | None, str]


class Pilot:
    """See the module. `dead_after` begins anew with each of them (P7.4)."""

    def __init__(self, replica: "Replica", now: Instant) -> None:
        self._replica = replica
        self._memory = Memory(now)
        self.due = now
        """When to look again."""
        self._verdict: Act | Stay | None = None
        self._watched: dict[MemberId, Watched] = {}
        self._asked: tuple[int, Act] | None = None
        """The token of a change that the core was asked for and has not answered, and what it is. It waits for a roll
        call (ADR 0033), longer than until the next look.
        """
        self._telling: int | None = None
        """The token of the last remark."""
        self._last = _last_said(replica)

    def members_changed(self) -> None:
        """A change is committed: the next step may follow at once, so that a replacement is over soon (P7.2)."""
        self.due = self._replica.turn.now

    def told(self) -> None:
        """A remark is applied, or other settings are: they may ask for another pace."""
        every_us = autopilot.look_every_us(self._replica.machine.state.autopilot.settings)
        self.due = min(self.due, Instant(self._replica.turn.now + every_us))

    def look(self) -> None:
        """Gather, decide, act."""
        view = self._gather()
        before, self._verdict = self._verdict, autopilot.decide(view)
        match self._verdict:
            case Act() as act:
                token = self._replica.fresh_key()
                self._asked = (token, act)
                wish = ChangeMembership(token, act.wish, view.configuration.index, heals=True)
                self._replica.turn.events.append(wish)
            case Stay() as stay:
                if stay == before and stay.code not in passing:
                    self._tell_stay(stay)

    def _gather(self) -> View:
        replica = self._replica
        raft, now = replica.raft, replica.turn.now
        settings, configuration = replica.machine.state.autopilot.settings, raft.configuration
        every_us = autopilot.look_every_us(settings)
        self.due = Instant(now + every_us)
        lag_max = replica.promote_lag_max
        self._watched = self._memory.look(raft.sights(), configuration.voters(), lag_max, now, every_us)
        return View(
            settings,
            configuration,
            replica.me,
            self._watched,
            change_pending=self._asked is not None or configuration.index > raft.commit,
            handing_over=not raft.is_serving,
            lag_max=lag_max,
        )

    # --- what the core says -----------------------------------------------------------------------------------------

    def accepted(self, token: int) -> None:
        """An entry stands in the log; perhaps a change of ours."""
        act = self._answered(token)
        if act is not None:
            self._tell((act.kind, act.member, act.reason))

    def ended(self, ended: ChangeEnded) -> bool:
        """The core took no step towards a wish; False if it wasn't ours."""
        act = self._answered(ended.token)
        if act is None:
            return False
        if ended.refusal is not None:
            # Not the text: it may count entries, and would be another each time.
            self._tell(("declined", act.member, f"can't {act.kind} {act.member}: {ended.refusal.code}"))
        return True

    def _answered(self, token: int) -> Act | None:
        """The change of ours that this answers; it is not under way any more."""
        if self._asked is None or self._asked[0] != token:
            return None
        _, act = self._asked
        self._asked = None
        return act

    def refused(self, token: int) -> bool:
        """The core took nothing: it is handing over, or leads no more. False if it wasn't ours."""
        if self._answered(token) is not None:
            pass
        elif token == self._telling:
            self._last = _last_said(self._replica)
        else:
            return False
        return True

    # --- telling ----------------------------------------------------------------------------------------------------

    def _tell_stay(self, stay: Stay) -> None:
        match stay.code:
            case "healthy":
                if self._last is not None:
                    self._tell(("healthy", None, stay.reason))
            case "off":
                self._tell(("off", None, stay.reason))
            case _:
                self._tell(("declined", stay.member, stay.reason))

    def _tell(self, said: Said) -> None:
        if said == self._last:
            return
        self._last = said
        kind, member, reason = said
        turn = self._replica.turn
        turn.out.traces.append(Trace("autopilot", {"kind": kind, "member": member, "reason": reason}))
        self._telling = self._replica.fresh_key()
        data = commands.encode(Remark(turn.term, kind, member, reason), turn.wall)
        turn.events.append(Propose(self._telling, data, turn.term))

    # --- for views --------------------------------------------------------------------------------------------------

    @property
    def verdict(self) -> Act | Stay | None:
        """What was decided last."""
        return self._verdict

    @property
    def watched(self) -> dict[MemberId, Watched]:
        """What was seen last."""
        return self._watched


def _last_said(replica: "Replica") -> Said | None:
    remarks = replica.machine.state.autopilot.remarks
    return (remarks[-1].kind, remarks[-1].member, remarks[-1].reason) if remarks else None


def waits(replica: "Replica") -> bool:
    """Whether the autopilot works here and can't do what it should."""
    return replica.pilot is not None and _state(replica.pilot.verdict)[0] == "waiting"


def view(replica: "Replica") -> AutopilotView:
    """What the autopilot says here: all of it on the leader, elsewhere only what is replicated."""
    pilot, configuration = replica.pilot, replica.raft.configuration
    replicated = replica.machine.state.autopilot
    state, reason = _state(pilot.verdict if pilot is not None else None)
    return AutopilotView(
        settings=replicated.settings,
        state=state,
        reason=reason,
        voters=len(configuration.voters()),
        voters_wanted=autopilot.wanted(replicated.settings, configuration).voters,
        members=_members(replica, pilot) if pilot is not None else (),
        decisions=tuple(_decision(one) for one in reversed(replicated.remarks)),
    )


def _state(verdict: Act | Stay | None) -> tuple[PilotState, str]:
    match verdict:
        case None:
            return "unknown", "the autopilot works on the consensus leader, and begins to watch anew with each"
        case Act():
            return "acting", f"{verdict.kind} {verdict.member}: {verdict.reason}"
        case Stay(code="off"):
            return "off", verdict.reason
        case Stay(code="healthy"):
            return "healthy", verdict.reason
        case Stay():
            return "waiting", verdict.reason


def _members(replica: "Replica", pilot: Pilot) -> tuple[WatchedView, ...]:
    """All but the leader itself, which watches."""
    configuration = replica.raft.configuration
    rows: list[WatchedView] = []
    for seat in configuration.seats:
        one = pilot.watched.get(seat.id)
        if one is not None:
            deaf = tuple(other.name for other in configuration.seats if other.id in one.sight.unheard_by)
            rows.append(
                WatchedView(
                    seat.id, seat.name, seat.role, seat.standby, one.sight.answers, deaf, one.silent_ms, one.steady_ms,
                    one.sight.lag,
                )
            )  # fmt: skip
    return tuple(rows)


def _decision(one: Remarked) -> DecisionView:
    return DecisionView(rfc3339(one.at_ms), one.kind, one.member, one.reason)
