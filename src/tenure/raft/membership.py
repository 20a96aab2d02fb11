"""Who belongs to the cluster, changed one voter at a time (P7; thesis §4.1; the bug in single-server changes, 2015).

Idea. A wish ("D is a voter, B is gone") is compared with the configuration in force; what it takes next is one small
change, or nothing any more, or a refusal with its reason. So a wish may be told again, to another leader, halfway
through: it goes on where it stands. A change is an entry with the whole new configuration, active from append, rolled
back with its entry.

Pure arithmetic on configurations: `next_change` plans, `refusal` judges a configuration that would come of it. What
only the leader of the moment knows (who is alive, who has caught up) is judged in `changing`.
"""

from typing import Final, Literal

import msgspec
from msgspec import Struct

from tenure.base.ids import LogIndex, MemberId
from tenure.raft.entries import Configuration, Left, Replacing, Seat, Standby, voters_max

members_max: Final = 31
"""Voters and observers together: each costs the leader heartbeats and appends."""
removed_kept_max: Final = 64
"""So many removed ids are remembered, to say so when they come back."""

ChangeCode = Literal[
    "unknown_member", "name_in_use", "address_in_use", "id_in_use", "was_removed", "change_pending",
    "stale_configuration", "not_caught_up", "loses_quorum", "last_voter", "too_many_voters", "too_many_members",
    "too_many_witnesses", "witness_stays", "not_observer", "not_voter",
]  # fmt: skip


class Refusal(Struct, frozen=True):
    """Why a change can't be: a stable code, and a sentence for the operator. What to do follows from the code: clients
    and docs/operating/members.md tell it, the sentence doesn't.
    """

    code: ChangeCode
    text: str


class Add(Struct, frozen=True):
    """A new member, as an observer first: the quorum never waits for an empty disk (thesis §4.2.1). `returns`: it comes
    back under a new id at the name and the address of a member whose disk is lost.
    """

    seat: Seat
    returns: bool = False


class Promote(Struct, frozen=True):
    """An observer counts from now on."""

    member: MemberId
    role: Literal["voter", "witness"] = "voter"


class Demote(Struct, frozen=True):
    """A voter goes on as an observer."""

    member: MemberId


class Remove(Struct, frozen=True):
    """A member leaves for ever; its id never returns."""

    member: MemberId


class Replace(Struct, frozen=True):
    """`by` votes in the place of `member`, which leaves. Two changes: promote first, at seven voters remove first."""

    member: MemberId
    by: MemberId
    role: Literal["voter", "witness"] = "voter"


class Amend(Struct, frozen=True):
    """Another peer address or priority of a member, or whether it is a standby; None leaves it as it is."""

    member: MemberId
    peer: str | None = None
    priority: int | None = None
    standby: Standby | None = None


Wish = Add | Promote | Demote | Remove | Replace | Amend


def next_change(now: Configuration, wish: Wish) -> Configuration | Refusal | None:
    """The next configuration on the way to `wish`, with the index still to be given; None when it is fulfilled."""
    match wish:
        case Add():
            return _add(now, wish)
        case Promote():
            return _promote(now, wish.member, wish.role)
        case Demote():
            return _demote(now, wish.member)
        case Remove():
            return _remove(now, wish.member)
        case Replace():
            return _replace(now, wish)
        case Amend():
            return _amend(now, wish)


def joins(now: Configuration, wish: Wish, then: Configuration) -> tuple[MemberId, ...]:
    """Who doesn't vote yet and shall: from the step to `then` on, or behind it, where somebody leaves first (P7.2)."""
    voters = now.voters()
    if isinstance(wish, Replace):
        return () if wish.by in voters else (wish.by,)
    return tuple(voter for voter in then.voters() if voter not in voters)


def moves(now: Configuration, then: Configuration) -> MemberId | None:
    """The voter whom the step from `now` to `then` takes out of the quorum, if it takes one."""
    return next((voter for voter in now.voters() if voter not in then.voters()), None)


def intends(now: Configuration, then: Configuration, *, heals: bool) -> Configuration:
    """`then` with what is wanted: what the operator makes of the voters is what he wants; the autopilot's steps are on
    the way there, and so are all that leave the voters alone.
    """
    if set(then.voters()) == set(now.voters()):
        return then
    return msgspec.structs.replace(then, wanted=(now.wanted or now.has()) if heals else None)


def former(now: Configuration, seat: Seat) -> tuple[Seat, ...]:
    """Other seats at the same name and address: who was there before the disk was lost."""
    here = (seat.name, seat.peer)
    return tuple(other for other in now.seats if other.id != seat.id and (other.name, other.peer) == here)


def _known(now: Configuration, member: MemberId) -> Seat | Refusal:
    seat = now.seat(member)
    if seat is not None:
        return seat
    if member in now.removed:
        return Refusal("was_removed", f"member {member} was removed, and its id never returns")
    return _unknown(member)


def _add(now: Configuration, wish: Add) -> Configuration | Refusal | None:
    """A member that returns takes the place of its former self where that didn't vote; where it did, that stays, dead,
    until it is replaced: the voters are changed one at a time. It is a standby for what it was.
    """
    seat = wish.seat
    lost = former(now, seat) if wish.returns else ()
    for one in lost:
        standby = one.standby if one.role == "observer" else one.role
        seat = msgspec.structs.replace(seat, priority=one.priority, standby=standby)
    if seat.id in now.removed:
        return Refusal("was_removed", f"member {seat.id} was removed, and its id never returns")
    for other in now.seats:
        if other.id == seat.id:
            if (other.name, other.peer) == (seat.name, seat.peer):
                return None
            return Refusal("id_in_use", f"member {seat.id} is {other.name} at {other.peer} already")
        if other in lost:
            continue
        if other.name == seat.name:
            return Refusal("name_in_use", f"{seat.name} is the name of the member {other.id}")
        if other.peer == seat.peer:
            return Refusal("address_in_use", f"{seat.peer} is the address of {other.name}")
    gone = tuple(other for other in lost if other.role == "observer")
    left = tuple(other for other in now.seats if other not in gone)
    removed = (*now.removed, *(other.id for other in gone))[-removed_kept_max:]
    seats = (*left, msgspec.structs.replace(seat, role="observer"))
    return refusal(msgspec.structs.replace(now, seats=seats, removed=removed))


def _promote(now: Configuration, member: MemberId, role: Literal["voter", "witness"]) -> Configuration | Refusal | None:
    seat = _known(now, member)
    if isinstance(seat, Refusal):
        return seat
    if seat.role == role:
        return None
    if seat.role != "observer":
        return Refusal("witness_stays", f"{seat.name} is a {seat.role}; it can't become a {role}")
    return refusal(_seated(now, msgspec.structs.replace(seat, role=role, standby="no")))


def _demote(now: Configuration, member: MemberId) -> Configuration | Refusal | None:
    seat = _known(now, member)
    if isinstance(seat, Refusal):
        return seat
    if seat.role == "observer":
        return None
    if seat.role == "witness":
        return Refusal("witness_stays", f"{seat.name} is a witness and holds no state to observe with")
    return refusal(_seated(now, msgspec.structs.replace(seat, role="observer")))


def _remove(now: Configuration, member: MemberId) -> Configuration | Refusal | None:
    seat = now.seat(member)
    if seat is None:
        return None if member in now.removed else _unknown(member)
    removed = (*now.removed, member)[-removed_kept_max:]
    return refusal(msgspec.structs.replace(_without(now, member), removed=removed))


def _unknown(member: MemberId) -> Refusal:
    return Refusal("unknown_member", f"no member has the name or the id {member}")


def _replace(now: Configuration, wish: Replace) -> Configuration | Refusal | None:
    """P7.2: never both at once ({A,B,C} → {A,B,D}: the quorums {A,C} and {B,D} don't meet). Nothing is begun that can't
    be ended: what comes of it in the end is judged before the first step.
    """
    new, old = _known(now, wish.by), now.seat(wish.member)
    if isinstance(new, Refusal):
        return new
    if wish.member == wish.by:
        return Refusal("id_in_use", f"{new.name} can't take its own place")
    if old is None and wish.member not in now.removed:
        return _unknown(wish.member)
    is_halfway = Replacing(wish.member, wish.by) in now.replacements
    promoted = _promote(now, wish.by, wish.role)
    if promoted is None:
        if old is not None and not is_halfway:
            text = f"{new.name} is a {new.role} already; only an observer can take the place of {old.name}"
            return Refusal("not_observer", text)
        return _remove(now, wish.member)
    if new.role != "observer":
        return promoted
    if old is None:
        if not is_halfway:
            gone = _called(now, wish.member)
            return Refusal("was_removed", f"{gone} was removed, and no place of it is kept for {new.name}")
        return promoted
    if old.role == "observer":
        return Refusal(
            "not_voter", f"{old.name} is an observer and votes in no quorum: no place is free when it leaves"
        )
    taken = _taken(now, wish)
    if taken is not None:
        return taken
    end = refusal(_seated(_without(now, old.id), msgspec.structs.replace(new, role=wish.role)))
    if isinstance(end, Refusal):
        return end
    if isinstance(promoted, Configuration):
        return _halfway(promoted, wish)
    if promoted.code in {"too_many_voters", "too_many_witnesses"}:
        removed = _remove(now, wish.member)  # at seven voters, and between witnesses, the old one goes first
        return _halfway(removed, wish) if isinstance(removed, Configuration) else removed
    return promoted


def _taken(now: Configuration, wish: Replace) -> Refusal | None:
    """Two newcomers for one place would be one voter more, one newcomer for two places one less. Before the first step
    of the pair itself, so each that is halfway is another. One whose second step can't be taken any more holds nothing:
    another has left meanwhile, and its newcomer has that one's place (found by the simulation, 4072153720005), or
    another has come, who has the place that was kept.
    """
    for one in now.replacements:
        is_seated = now.seat(one.member) is not None
        second = refusal(_without(now, one.member)) if is_seated else _promote(now, one.by, wish.role)
        if isinstance(second, Refusal):
            continue
        if one.member == wish.member or one.by == wish.by:
            text = f"the place of {_called(now, one.member)} goes to {_called(now, one.by)}: that is halfway"
            return Refusal("change_pending", text)
    return None


def _called(now: Configuration, member: MemberId) -> str:
    """Its name, also if it has left."""
    names = {one.id: one.name for one in now.left} | {seat.id: seat.name for seat in now.seats}
    return names.get(member, member)


def _halfway(then: Configuration, wish: Replace) -> Configuration:
    replacements = (*then.replacements, Replacing(wish.member, wish.by))
    return msgspec.structs.replace(then, replacements=replacements[-voters_max:])


def _amend(now: Configuration, wish: Amend) -> Configuration | Refusal | None:
    seat = _known(now, wish.member)
    if isinstance(seat, Refusal):
        return seat
    peer = seat.peer if wish.peer is None else wish.peer
    priority = seat.priority if wish.priority is None else wish.priority
    standby = seat.standby if wish.standby is None else wish.standby
    if (peer, priority, standby) == (seat.peer, seat.priority, seat.standby):
        return None
    if standby != "no" and seat.role != "observer":
        return Refusal("not_observer", f"{seat.name} is a {seat.role}; only an observer can be a standby")
    for other in now.seats:
        if other.id != seat.id and other.peer == peer:
            return Refusal("address_in_use", f"{peer} is the address of {other.name}")
    return _seated(now, msgspec.structs.replace(seat, peer=peer, priority=priority, standby=standby))


def _with(now: Configuration, seats: tuple[Seat, ...]) -> Configuration:
    return msgspec.structs.replace(now, seats=seats)


def _without(now: Configuration, member: MemberId) -> Configuration:
    return _with(now, tuple(seat for seat in now.seats if seat.id != member))


def _seated(now: Configuration, changed: Seat) -> Configuration:
    return _with(now, tuple(changed if seat.id == changed.id else seat for seat in now.seats))


def refusal(then: Configuration) -> Configuration | Refusal:
    """`then`, unless no cluster may ever look so."""
    voters, witnesses = len(then.voters()), sum(seat.role == "witness" for seat in then.seats)
    if voters > voters_max:
        return Refusal("too_many_voters", f"at most {voters_max} members vote")
    if len(then.seats) > members_max:
        return Refusal("too_many_members", f"at most {members_max} members, observers included")
    if voters == witnesses:
        return Refusal("last_voter", "the last voter that holds the state can't go")
    if 2 * witnesses >= voters:  # P8: every majority must hold somebody who can hand the state on
        text = f"{witnesses} of {voters} voters would be witnesses; fewer than half may be, so that no data is stranded"
        return Refusal("too_many_witnesses", text)
    return then


def at(now: Configuration, then: Configuration, index: LogIndex) -> Configuration:
    """`then` with the index of its entry, and with what `now` alone can tell: how they were called who leave. Whoever
    else comes or goes, a replacement stays halfway while just one of its two steps stands.
    """
    gone = tuple(Left(seat.id, seat.name, seat.role) for seat in now.seats if then.seat(seat.id) is None)
    left = (*now.left, *gone)[-removed_kept_max:]
    halfway = tuple(one for one in then.replacements if _is_halfway(then, one))
    return msgspec.structs.replace(then, index=index, left=left, replacements=halfway)


def _is_halfway(then: Configuration, one: Replacing) -> bool:
    """Either both are there and `by` votes, or `member` has left and `by` doesn't vote yet."""
    by = then.seat(one.by)
    return by is not None and (by.role != "observer") == (then.seat(one.member) is not None)
