"""Requests about the members, at the desk: names become ids, wishes become steps of the core, steps become answers.

A change is asked of the core again and again until the core says that nothing is left to do (`membership.next_change`).
So it needs no memory of where it stands, and survives a change of leader in its middle. The leader that is to leave
hands over first (P7.3); whoever leads then is asked the same.
"""

from typing import TYPE_CHECKING, Final

import msgspec

from tenure.base.ids import LogIndex, MemberId
from tenure.engines.native.pending import PARKED, PROPOSED, Pending
from tenure.leadership.engine import AnyRequest, Refused
from tenure.leadership.members import (
    AddMember,
    AmendMember,
    AnyChange,
    DemoteMember,
    FormerMember,
    Founding,
    MemberSeat,
    MembersView,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
)
from tenure.raft import membership
from tenure.raft.entries import Configuration, Replacing, Seat
from tenure.raft.events import ChangeMembership, Transfer
from tenure.raft.founding import Record
from tenure.raft.membership import Add, Amend, Demote, Promote, Refusal, Remove, Replace, Wish
from tenure.raft.ready import ChangeEnded, TransferEnded

if TYPE_CHECKING:
    from tenure.engines.native.desk import Desk
    from tenure.engines.native.replica import Replica

_steps_max: Final = 8
_FIRST_IS_DONE: Final = "; its first step is done"
retry_after_ms: Final = 500


class Changes:
    """Membership requests of one desk."""

    def __init__(self, replica: "Replica", desk: "Desk") -> None:
        self._replica = replica
        self._desk = desk
        self._handing: dict[int, int] = {}
        """Transfers begun so that the leader may leave, by token: who waits for it."""

    def name_ids(self, request: AnyRequest) -> AnyRequest:
        """Names become ids where the request comes in: told again after a removal, an id is still known as removed."""
        match request:
            case ReplaceMember():
                return msgspec.structs.replace(request, member=self._id(request.member), by=self._id(request.by))
            case PromoteMember() | DemoteMember() | RemoveMember() | AmendMember():
                return msgspec.structs.replace(request, member=self._id(request.member))
            case _:
                return request

    def _id(self, member: str) -> str:
        """A name may be that of two members while one whose disk is lost is replaced; then `NAME@ID` names one."""
        seats = self._replica.raft.configuration.seats
        named = [seat.id for seat in seats if member in (seat.name, f"{seat.name}@{seat.id}")]
        return named[0] if len(named) == 1 else member

    def _once_called(self, request: AnyChange) -> AnyChange:
        """Who has left is still known by its name, if nobody else has that name: a removal may be told again. Not so
        who is to be promoted: whoever is awaited under a former name is another member.
        """
        if not isinstance(request, RemoveMember | ReplaceMember):
            return request
        configuration, asked = self._replica.raft.configuration, request.member
        if any(asked in (seat.id, seat.name, f"{seat.name}@{seat.id}") for seat in configuration.seats):
            return request
        gone = [one.id for one in configuration.left if asked in (one.name, f"{one.name}@{one.id}")]
        return msgspec.structs.replace(request, member=gone[-1]) if gone else request

    def _which(self, request: AnyChange, refusal: Refusal) -> Refusal:
        """A name that is no id: of nobody, or of two."""
        if isinstance(request, AddMember) or refusal.code != "unknown_member":
            return refusal
        asked = (request.member, request.by) if isinstance(request, ReplaceMember) else (request.member,)
        for name in asked:
            two = [seat for seat in self._replica.raft.configuration.seats if seat.name == name]
            if len(two) > 1:
                shown = " or ".join(f"{seat.name}@{seat.id} ({seat.role})" for seat in two)
                return Refusal("unknown_member", f"{len(two)} members are called {name}: say {shown}")
        return refusal

    def propose(self, key: int, pending: Pending) -> None:
        """On the leader: the next step."""
        request = pending.request
        assert isinstance(request, AnyChange)
        request = pending.request = self._once_called(request)
        expected = LogIndex(request.if_index) if request.if_index is not None else None
        if isinstance(request, AddMember) and request.speaks < self._replica.raft.feature:  # P10
            feature = self._replica.raft.feature
            text = (
                f"{request.name} speaks feature version {request.speaks}, this cluster {feature}: upgrade its program"
            )
            self._desk.answer(key, pending, Refused("version_too_old", text, field="speaks"))
            return
        pending.stage = PROPOSED
        change = ChangeMembership(key, _wish(request), expected, request.dry_run, until=pending.deadline)
        self._replica.turn.events.append(change)

    def applied(self, pending: Pending) -> None:
        """A step of it is committed: the members are no longer those that it was asked for."""
        if isinstance(pending.request, AnyChange):
            pending.advanced = True
            pending.request = msgspec.structs.replace(pending.request, if_index=None)

    def ended(self, ended: ChangeEnded) -> None:
        """The core took no step."""
        pending = self._desk.book.get(ended.token)
        if pending is None:
            return
        request = pending.request
        assert isinstance(request, AnyChange)
        if ended.outcome == "refused":
            assert ended.refusal is not None
            self._desk.answer(ended.token, pending, refused_as(self._which(request, ended.refusal)))
        elif ended.outcome == "done" or request.dry_run:
            plan = self._plan(request) if request.dry_run else ()
            already = ended.outcome == "done" and not (request.dry_run or pending.advanced)
            self._desk.answer(ended.token, pending, view(self._replica, plan, already=already))
        else:  # the leader itself is to leave (P7.3)
            token = self._desk.book.fresh_key()
            self._handing[token] = ended.token
            pending.stage = PARKED
            self._replica.turn.events.append(Transfer(token, None))

    def told_halfway(self, pending: Pending, request: ReplaceMember, refused: Refused) -> Refused:
        """A refusal that comes between the two steps says so: here alone something has changed all the same. Where the
        first was taken at another desk, the configuration tells. It knows ids; who was asked for by name may not have
        been looked up, where no leader could be asked.
        """
        by_id = self.name_ids(request)
        assert isinstance(by_id, ReplaceMember)
        by_id = self._once_called(by_id)
        assert isinstance(by_id, ReplaceMember)
        halfway = Replacing(MemberId(by_id.member), MemberId(by_id.by))
        raft = self._replica.raft
        stands = halfway in raft.configuration.replacements and raft.configuration.index <= raft.commit
        if not (stands or pending.advanced) or _FIRST_IS_DONE in refused.reason:
            return refused
        return msgspec.structs.replace(refused, reason=refused.reason + _FIRST_IS_DONE)

    def transfer_ended(self, ended: TransferEnded) -> None:
        """A hand-over before a leader may leave. Done: the next leader is asked, as after any change of leader."""
        key = self._handing.pop(ended.token, None)
        pending = self._desk.book.get(key) if key is not None else None
        if key is None or pending is None or ended.outcome in {"done", "not_leader"}:
            return
        text = "the leader is to leave and must hand over first, but no other voter can take over now"
        self._desk.answer(key, pending, Refused("no_eligible_successor", text, retry_after_ms=retry_after_ms))

    def _plan(self, request: AnyChange) -> tuple[str, ...]:
        """The steps that are left, in words."""
        now, wish = self._replica.raft.configuration, _wish(request)
        leader = self._replica.raft.leader
        steps: list[str] = []
        for _ in range(_steps_max):
            then = membership.next_change(now, wish)
            if then is None or isinstance(then, Refusal):
                break
            if leader is not None and leader in now.voters() and leader not in then.voters():
                steps.append(f"hand the consensus leadership over from {_name(now, leader)}")
                leader = None
            steps.append(_step(now, then))
            now = then
        return tuple(steps)


def _name(configuration: Configuration, member: MemberId) -> str:
    seat = configuration.seat(member)
    return seat.name if seat is not None else member


def _step(now: Configuration, then: Configuration) -> str:
    """What one change does, in words, with the voters before and after."""
    before, after = {seat.id: seat for seat in now.seats}, {seat.id: seat for seat in then.seats}
    counts = f"voters {len(now.voters())} → {len(then.voters())}"
    for member in sorted(before.keys() | after.keys()):
        old, new = before.get(member), after.get(member)
        if old == new:
            continue
        if old is None and new is not None:
            return f"add {new.name} ({new.id}) at {new.peer} as {new.role}; {counts}"
        if new is None and old is not None:
            return f"remove {old.name} ({old.id}); {counts}"
        assert old is not None
        assert new is not None
        if old.role != new.role:
            return f"{new.name}: {old.role} → {new.role}; {counts}"
        return _amended(old, new)
    return "nothing"


def _amended(old: Seat, new: Seat) -> str:
    rows = (
        ("peer", old.peer, new.peer),
        ("priority", old.priority, new.priority),
        ("standby", old.standby, new.standby),
    )
    return f"{new.name}: " + ", ".join(f"{what} {before} → {then}" for what, before, then in rows if before != then)


def _wish(request: AnyChange) -> Wish:
    match request:
        case AddMember():
            seat = Seat(request.id, request.name, request.peer, "observer", request.priority, request.standby)
            return Add(seat, request.returns)
        case PromoteMember():
            return Promote(MemberId(request.member), request.role)
        case DemoteMember():
            return Demote(MemberId(request.member))
        case RemoveMember():
            return Remove(MemberId(request.member))
        case ReplaceMember():
            return Replace(MemberId(request.member), MemberId(request.by), request.role)
        case AmendMember():
            return Amend(MemberId(request.member), request.peer, request.priority, request.standby)


def refused_as(refusal: Refusal) -> Refused:
    """The core's reason under the API's code, which is the same word."""
    waits = refusal.code in {"change_pending", "not_caught_up"}
    return Refused(refusal.code, refusal.text, retry_after_ms=retry_after_ms if waits else None)


def seats_of(configuration: Configuration) -> tuple[MemberSeat, ...]:
    """Seats as the API shows them."""
    return tuple(
        MemberSeat(seat.id, seat.name, seat.peer, seat.role, seat.priority, seat.standby)
        for seat in configuration.seats
    )


def view(replica: "Replica", plan: tuple[str, ...] = (), *, already: bool = False) -> MembersView:
    """Who belongs to the cluster, as this member has it."""
    configuration, record = replica.raft.configuration, replica.record
    return MembersView(
        cluster_id=replica.lineage[0],
        lineage=replica.lineage,
        index=configuration.index,
        members=seats_of(configuration),
        founding=founding_of(record) if record is not None else None,
        plan=plan,
        already=already,
        removed=tuple(FormerMember(one.id, one.name, one.role) for one in configuration.left),
    )


def founding_of(record: Record) -> Founding:
    """What a member that joins must know of the founding."""
    return Founding(record.lineage, record.stamp, seats_of(record.configuration))


def record_of(founding: Founding) -> Record:
    """The other way, at the member that joins."""
    seats = tuple(Seat(**msgspec.structs.asdict(seat)) for seat in founding.seats)
    return Record(founding.lineage, Configuration(LogIndex(0), seats), founding.stamp)
