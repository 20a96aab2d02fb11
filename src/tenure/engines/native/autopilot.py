"""The autopilot's judgement (DESIGN 11, P7): what it sees of the members, and at most one change that follows. PURE.

Gather, decide, act. `pilot` gathers on the consensus leader and acts; here it is decided. A voter that a majority of
voters hasn't heard for `dead_after` is *dead*. What is wanted is as many voters, and as many witnesses among them, as
an operator last made it (`Configuration.wanted`). From that alone follows each next step, so that it may be taken by
another leader than the one before:

* fewer live voters than wanted, and a *standby* that has been here and caught up for a while: promote it;
* a dead voter beyond what is wanted: remove it.

One after the other that is P7.2, promote first, then remove. Where no more may vote (seven voters, or too many
witnesses) the dead one goes first, but only if a standby is ready. It never removes who is heard, never goes below what
is wanted otherwise, never changes a thing while a change is under way, and nothing that the quorum would not survive. A
standby that hears the dead one doesn't take its place: with its vote nobody would be dead any more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from msgspec import Struct

from tenure.base.ids import Boot, MemberId
from tenure.base.instants import MS, SECOND, Instant
from tenure.leadership.engine import AutopilotSettings
from tenure.raft import membership, quorum
from tenure.raft.census import Sight
from tenure.raft.entries import Configuration, Seat, Wanted
from tenure.raft.membership import Promote, Refusal, Remove

VotingRole = Literal["voter", "witness"]
look_every_us_max: Final = 1 * SECOND
look_every_us_min: Final = 50 * MS


class Watched(Struct, frozen=True):
    """One other member. `silent_ms`: for how long a majority of voters hasn't heard it, `steady_ms`: for how long it
    has answered and been caught up, both as long as this leader has watched (P7.4).
    """

    sight: Sight
    silent_ms: int
    steady_ms: int


class View(Struct, frozen=True):
    """All that a decision rests on. `watched` has everybody but the leader `me` itself."""

    settings: AutopilotSettings
    configuration: Configuration
    me: MemberId
    watched: Mapping[MemberId, Watched]
    change_pending: bool
    handing_over: bool
    lag_max: int


class Act(Struct, frozen=True):
    """The one change to make now, and why. `member` is a name."""

    wish: Promote | Remove
    kind: Literal["promote", "remove"]
    member: str
    reason: str


Code = Literal[
    "off", "healthy", "change_pending", "handing_over", "no_quorum", "silent", "no_standby", "standby_behind",
    "standby_hears", "standby_settling", "quorum_at_risk", "no_room", "surplus",
]  # fmt: skip
passing: Final[frozenset[Code]] = frozenset({"change_pending", "handing_over", "silent", "standby_settling"})
"""These go by themselves: they are shown, but are no part of the history."""


class Stay(Struct, frozen=True):
    """Nothing to do, or nothing that may be done: why."""

    code: Code
    reason: str
    member: str | None = None


# --- gathering ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Memory:
    """What one leader has watched since it won (P7.4). Time that it slept through counts for nobody."""

    at: Instant
    silent_us: dict[MemberId, int] = field(default_factory=dict)
    steady_us: dict[MemberId, int] = field(default_factory=dict)
    boots: dict[MemberId, Boot | None] = field(default_factory=dict)

    def look(
        self, sights: Mapping[MemberId, Sight], voters: Sequence[MemberId], lag_max: int, now: Instant, every_us: int
    ) -> dict[MemberId, Watched]:
        """Take what is seen now."""
        passed = min(now - self.at, 2 * every_us)
        self.at = now
        watched = {}
        for member, sight in sights.items():
            lost = is_lost(sight, voters)
            same = self.boots.get(member) == sight.boot
            steady = sight.answers and not lost and sight.lag <= lag_max and same
            silent_us = _counted(self.silent_us, member, passed, going_on=lost)
            steady_us = _counted(self.steady_us, member, passed, going_on=steady)
            self.boots[member] = sight.boot
            watched[member] = Watched(sight, silent_us // MS, steady_us // MS)
        for gone in [member for member in self.boots if member not in sights]:
            del self.boots[gone]
            self.silent_us.pop(gone, None)
            self.steady_us.pop(gone, None)
        return watched


def _counted(sums: dict[MemberId, int], member: MemberId, passed: int, *, going_on: bool) -> int:
    """Add to what goes on; it begins with 0 when it is first seen, and ends without a trace."""
    if not going_on:
        sums.pop(member, None)
        return 0
    sums[member] = sums[member] + passed if member in sums else 0
    return sums[member]


def is_lost(sight: Sight, voters: Sequence[MemberId]) -> bool:
    """P7.4: a majority of voters says that it doesn't hear the member, not the leader alone."""
    return quorum.reached(voters, sight.unheard_by)


def look_every_us(settings: AutopilotSettings) -> int:
    """How often to look: a tenth of the shortest time that is waited for."""
    shortest_ms = min(settings.dead_after_ms, settings.stabilise_ms or settings.dead_after_ms)
    return min(look_every_us_max, max(look_every_us_min, shortest_ms * MS // 10))


# --- deciding -------------------------------------------------------------------------------------------------------


def decide(view: View) -> Act | Stay:
    """At most one change, or why there is none."""
    settings, voters = view.settings, view.configuration.voters()
    if not settings.enabled:
        return Stay("off", "the autopilot is switched off")
    if view.change_pending:
        return Stay("change_pending", "a change of the members is under way")
    if view.handing_over:
        return Stay("handing_over", "the leadership is being handed over")
    if not quorum.reached(voters, _answering(view)):
        return Stay("no_quorum", "too few voters answer: nothing could be committed")
    roles: tuple[VotingRole, ...] = ("voter", "witness")
    moves = [move for role in roles if (move := _restore(view, role)) is not None]
    moves += [move for move in [_tidy(view)] if move is not None]
    acts = [move for move in moves if isinstance(move, Act)]
    if acts or moves:
        return acts[0] if acts else moves[0]
    silent = [seat for seat in _seats(view) if seat.role != "observer" and _is_lost(view, seat)]
    if silent:
        names = ", ".join(seat.name for seat in silent)
        return Stay("silent", f"a majority of voters doesn't hear {names}", silent[0].name)
    more = len(voters) - wanted(settings, view.configuration).voters
    if more > 0:
        return Stay("surplus", f"{more} more voters live than are wanted: demote or remove as many, or want more")
    return Stay("healthy", "as many voters live as are wanted")


def wanted(settings: AutopilotSettings, configuration: Configuration) -> Wanted:
    """How many shall vote: as the settings say, else as an operator last made it."""
    made = configuration.wanted or configuration.has()
    if settings.voters_wanted is None:
        return made
    return Wanted(settings.voters_wanted, min(made.witnesses, (settings.voters_wanted - 1) // 2))


def _restore(view: View, role: VotingRole) -> Act | Stay | None:
    """Bring one role back to as many as are wanted; None if it is."""
    seats = [seat for seat in _seats(view) if seat.role == role]
    dead = sorted((seat for seat in seats if _is_dead(view, seat)), key=lambda seat: (-_silent(view, seat), seat.id))
    total = wanted(view.settings, view.configuration)
    number = total.witnesses if role == "witness" else total.voters - total.witnesses
    surplus = _remove_one(view, dead) if len(seats) > number else None
    if isinstance(surplus, Act) or len(seats) - len(dead) >= number:
        return surplus
    gone = dead[0] if dead else None
    standby = _standby(view, role, gone)
    if isinstance(standby, Stay):
        return standby
    then = membership.next_change(view.configuration, Promote(standby.id, role))
    if isinstance(then, Refusal):
        if gone is not None:
            return _remove(view, gone, f"{standby.name} is to take its place, and no more may vote ({then.code})")
        return Stay("no_room", f"{standby.name} can't vote: {then.text}", standby.name)
    why = f"in place of {gone.name}, {_long(view, gone)}" if gone else f"{number} are wanted, {len(seats)} vote"
    return _checked(view, Act(Promote(standby.id, role), "promote", standby.name, why))


def _standby(view: View, role: VotingRole, gone: Seat | None) -> Seat | Stay:
    """The observer to promote: the former self of who is gone first, then by priority and lag."""
    lacking = f"{gone.name} is gone ({_long(view, gone)})" if gone else f"fewer {role}s vote than are wanted"
    found = [seat for seat in _seats(view) if seat.role == "observer" and seat.standby == role]
    if not found:
        return Stay("no_standby", f"{lacking}, and no observer is its standby", gone.name if gone else None)
    if gone is not None:
        here = (gone.name, gone.peer)
        found.sort(key=lambda seat: ((seat.name, seat.peer) != here, -seat.priority, _lag(view, seat), seat.id))
    else:
        found.sort(key=lambda seat: (-seat.priority, _lag(view, seat), seat.id))
    here_now = [seat for seat in found if _is_steady(view, seat)]
    if not here_now:
        names = ", ".join(sorted(seat.name for seat in found))
        return Stay("standby_behind", f"{lacking}, but {names} isn't here or hasn't caught up", found[0].name)
    if gone is not None:
        sight = view.watched[gone.id].sight
        deaf = [seat for seat in here_now if is_lost(sight, (*view.configuration.voters(), seat.id))]
        if not deaf:
            return Stay("standby_hears", f"{lacking}, but {here_now[0].name} hears it: a broken link?", gone.name)
        here_now = deaf
    settled = [seat for seat in here_now if view.watched[seat.id].steady_ms >= view.settings.stabilise_ms]
    if not settled:
        name = here_now[0].name
        return Stay("standby_settling", f"{lacking}; {name} has not been here and caught up for long enough", name)
    return settled[0]


def _remove(view: View, seat: Seat, why: str) -> Act | Stay:
    return _checked(view, Act(Remove(seat.id), "remove", seat.name, f"{_long(view, seat)}; {why}"))


def _remove_one(view: View, dead: Sequence[Seat]) -> Act | Stay | None:
    """The longest dead whose removal the quorum survives: one may answer the leader though nobody else hears it."""
    verdicts = [_remove(view, seat, "its place is taken") for seat in dead]
    return next((verdict for verdict in verdicts if isinstance(verdict, Act)), verdicts[0] if verdicts else None)


def _checked(view: View, act: Act) -> Act | Stay:
    """Nothing that the quorum to come would not survive."""
    then = membership.next_change(view.configuration, act.wish)
    if then is None or isinstance(then, Refusal):
        text = then.text if then is not None else "it is so already"
        return Stay("no_room", f"can't {act.kind} {act.member}: {text}", act.member)
    voters, answering = then.voters(), _answering(view)
    if not quorum.reached(voters, answering):
        live = sum(voter in answering for voter in voters)
        text = f"can't {act.kind} {act.member}: {live} of {len(voters)} voters would answer, too few for a quorum"
        return Stay("quorum_at_risk", text, act.member)
    return act


def _tidy(view: View) -> Act | Stay | None:
    """Dead observers, if the settings say so."""
    after_ms = view.settings.observers_dead_after_ms
    if after_ms is None:
        return None
    for seat in _seats(view):
        if seat.role == "observer" and _is_lost(view, seat) and _silent(view, seat) >= after_ms:
            return _remove(view, seat, "dead observers are removed")
    return None


# --- looking --------------------------------------------------------------------------------------------------------


def _seats(view: View) -> tuple[Seat, ...]:
    return view.configuration.seats


def _answering(view: View) -> set[MemberId]:
    return {member for member, one in view.watched.items() if one.sight.answers} | {view.me}


def _is_lost(view: View, seat: Seat) -> bool:
    one = view.watched.get(seat.id)
    return one is not None and is_lost(one.sight, view.configuration.voters())


def _is_dead(view: View, seat: Seat) -> bool:
    return _is_lost(view, seat) and _silent(view, seat) >= view.settings.dead_after_ms


def _is_steady(view: View, seat: Seat) -> bool:
    sight = view.watched[seat.id].sight
    return sight.answers and sight.lag <= view.lag_max and not _is_lost(view, seat)


def _silent(view: View, seat: Seat) -> int:
    return view.watched[seat.id].silent_ms


def _lag(view: View, seat: Seat) -> int:
    return view.watched[seat.id].sight.lag


def _long(view: View, seat: Seat) -> str:
    """For how long it has been silent, at least; coarse, so that a reason doesn't change while it lasts."""
    after_ms = view.settings.dead_after_ms if seat.role != "observer" else view.settings.observers_dead_after_ms or 0
    return f"silent for more than {after_ms / 1000:g} s"
