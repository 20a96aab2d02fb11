"""`tenure member …`: who belongs to the coordination cluster, and changes of it (P7, P8)."""

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar, get_args

import click

from tenure.base.errors import Invalid
from tenure.base.ids import MemberId
from tenure.cli import printing
from tenure.cli.asking import Asking, asks
from tenure.cli.durations import DURATION
from tenure.cli.exits import Exit
from tenure.cli.printing import Cell, table
from tenure.client.errors import ClientError, NoQuorum, TimedOut, Unreachable
from tenure.client.http import Client
from tenure.client.members import change, list_members
from tenure.leadership.engine import (
    AddMember,
    AmendMember,
    AnyChange,
    DemoteMember,
    FormerMember,
    MemberSeat,
    MembersView,
    MemberView,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
)
from tenure.leadership.members import Standby, VotingRole

F = TypeVar("F", bound=Callable[..., Any])
Named = TypeVar("Named", MemberSeat, FormerMember)
_look_again_s: Final = 0.25
_PASSING: Final = frozenset({"not_caught_up", "change_pending"})
"""What may have gone by itself a moment later."""


def _changes(command: F) -> F:
    """Options of every change."""
    if_index = click.option(
        "--if-index",
        type=click.IntRange(min=0),
        metavar="INDEX",
        help="Only if the members are still those of this index (`member list`).",
    )
    dry_run = click.option("--dry-run", is_flag=True, help="Only say what would be done.")
    return dry_run(if_index(command))


_standbys: Final = click.Choice(get_args(Standby))
_wait = click.option("--wait", type=DURATION, help="Wait so long for it to join and catch up.  [default: don't]")


@click.group("member")
def command() -> None:
    """See and change who belongs to the coordination cluster.

    A change says how it shall be and is done step by step, each of them safe: repeat it if it was interrupted.
    """


@command.command("list")
@click.option("--stale", is_flag=True, help="What the member that answers knows, without asking the others.")
@asks
def list_command(asking: Asking, *, stale: bool) -> int:
    """List the members, and how far each of them is."""
    with asking.client() as client:
        view = list_members(client, stale=stale)
        seen = {} if asking.json else _seen(client, stale=stale)
    asking.answer(view, described(view, seen))
    return Exit.OK


@command.command("add")
@click.argument("name")
@click.option("--id", "member", required=True, metavar="HEX", help="The id that its data directory drew.")
@click.option("--peer", required=True, metavar="HOST:PORT", help="Where the others reach it.")
@click.option("--priority", type=int, default=0, show_default=True, help="Who leads first, the greater the sooner.")
@click.option("--standby", type=_standbys, default="no", show_default=True, help="What the autopilot may make of it.")
@_changes
@asks
def add(
    asking: Asking,
    *,
    name: str,
    member: str,
    peer: str,
    priority: int,
    standby: Standby,
    dry_run: bool,
    if_index: int | None,
) -> int:
    """Add NAME as an observer. `tenure serve --join` does this by itself."""
    return _make(asking, AddMember(MemberId(member), name, peer, priority, if_index, dry_run, standby))


@command.command("promote")
@click.argument("name")
@click.option("--witness", is_flag=True, help="It votes, but holds no state and never leads.")
@_wait
@_changes
@asks
def promote(asking: Asking, *, name: str, witness: bool, wait: int | None, dry_run: bool, if_index: int | None) -> int:
    """Let the observer NAME vote, once it has caught up."""
    return _make(asking, PromoteMember(name, "witness" if witness else "voter", if_index, dry_run), wait)


@command.command("demote")
@click.argument("name")
@_changes
@asks
def demote(asking: Asking, *, name: str, dry_run: bool, if_index: int | None) -> int:
    """Make the voter NAME an observer; a leader hands over first."""
    return _make(asking, DemoteMember(name, if_index, dry_run))


@command.command("remove")
@click.argument("name")
@_changes
@asks
def remove(asking: Asking, *, name: str, dry_run: bool, if_index: int | None) -> int:
    """Remove NAME for ever; a leader hands over first. It can only come back with an empty data directory."""
    return _make(asking, RemoveMember(name, if_index, dry_run))


@command.command("replace")
@click.argument("old")
@click.option("--by", required=True, metavar="NEW", help="An observer that has caught up.")
@click.option("--as", "role", type=click.Choice(["voter", "witness"]), help="What NEW becomes.  [default: as OLD]")
@_wait
@_changes
@asks
def replace(
    asking: Asking,
    *,
    old: str,
    by: str,
    role: VotingRole | None,
    wait: int | None,
    dry_run: bool,
    if_index: int | None,
) -> int:
    """Put the observer NEW in the place of OLD: promote it, then remove OLD (at seven voters the other way round)."""
    if role is None:
        with asking.client() as client:
            view = list_members(client)
        seat = _named(view.members, old) or _named(view.removed[::-1], old)  # halfway, and when it is told again
        role = "witness" if seat is not None and seat.role == "witness" else "voter"
    return _make(asking, ReplaceMember(old, by, role, if_index, dry_run), wait)


@command.command("amend")
@click.argument("name")
@click.option("--peer", metavar="HOST:PORT", help="Where the others reach it from now on.")
@click.option("--priority", type=int, help="Who leads first, the greater the sooner.")
@click.option("--standby", type=_standbys, help="What the autopilot may make of an observer.")
@_changes
@asks
def amend(
    asking: Asking,
    *,
    name: str,
    peer: str | None,
    priority: int | None,
    standby: Standby | None,
    dry_run: bool,
    if_index: int | None,
) -> int:
    """Give NAME another peer address or priority, or make it a standby."""
    if peer is None and priority is None and standby is None:
        raise Invalid("NAME", "say what is to change: --peer, --priority or --standby")
    return _make(asking, AmendMember(name, peer, priority, if_index, dry_run, standby))


# --- making a change ------------------------------------------------------------------------------------------------


def _make(asking: Asking, request: AnyChange, wait_us: int | None = None) -> int:
    with asking.client() as client:
        view = _changed(client, request, wait_us or 0)
        seen = {} if asking.json or request.dry_run else _seen(client, stale=False)
    if request.dry_run:
        steps = [f"{number}. {step}" for number, step in enumerate(view.plan, 1)]
        asking.answer(view, "\n".join(steps) or "nothing to do: it is so already")
    else:
        done = f"{_so_already(request)}: nothing was to be done\n\n" if view.already else ""
        asking.answer(view, f"{done}{described(view, seen)}")
    return Exit.OK


def _so_already(request: AnyChange) -> str:
    match request:
        case RemoveMember(member=gone):
            return f"{gone} was removed already"
        case ReplaceMember(member=gone, by=by):
            return f"{gone} was removed already, and {by} votes"
        case _:
            return "it is so already"


def _changed(client: Client, request: AnyChange, wait_us: int) -> MembersView:
    """Make it so; wait for what passes, as long as was asked for: who isn't known yet may be joining, if it is the one
    who shall vote. Then whoever else isn't known is none any more, or never was.
    """
    deadline = time.monotonic() + wait_us / 1e6
    told, last, has_joined = "", "", False
    while True:
        try:
            return change(client, request)
        except ClientError as error:
            if wait_us and error.code == "unknown_member" and not has_joined:
                has_joined = _has_joined(client, request)
                if has_joined:  # maybe since it was asked: once more, and now it isn't because of that one
                    continue
            elif not wait_us or error.code not in _PASSING:
                if not last or not isinstance(error, Unreachable | NoQuorum | TimedOut):
                    raise
                # Whoever answers now, or doesn't, can't know that the first of two steps is done (P7.2). Whoever
                # decides does know, and has the last word.
                said = f"{error.reason}; before that: {last}"
                raise type(error)(said, error.refused, next_step=error.next_step) from error
            if time.monotonic() >= deadline:
                is_held_up = error.code == "change_pending"
                step = (
                    error.next_step if is_held_up else "Give it more time (--wait), and see its lag: `tenure status`."
                )
                raise TimedOut(f"waited {wait_us / 1e6:g} s: {error.reason}", next_step=step) from error
            if not told:
                told = error.reason
                printing.complain(f"tenure member: waiting: {told}")
            last = error.reason
        time.sleep(_look_again_s)


def _has_joined(client: Client, request: AnyChange) -> bool:
    match request:
        case ReplaceMember(by=awaited) | PromoteMember(member=awaited):
            return _named(list_members(client).members, awaited) is not None
        case _:
            raise AssertionError("only who shall vote is waited for")


# --- showing --------------------------------------------------------------------------------------------------------


def _seen(client: Client, *, stale: bool) -> dict[str, MemberView]:
    """How far the members are, by id; without a quorum nobody knows."""
    try:
        report = client.status(stale=stale)
    except ClientError:
        return {}
    return {member.id: member for member in report.members.values()}


def described(view: MembersView, seen: dict[str, MemberView]) -> str:
    """The members for people."""
    rows = [_row(seat, seen.get(seat.id)) for seat in sorted(view.members, key=lambda seat: (seat.name, seat.id))]
    voters = sum(seat.role != "observer" for seat in view.members)
    head = f"cluster {view.cluster_id}, members as of index {view.index}: {voters} vote, {voters // 2 + 1} decide"
    return f"{head}\n\n{table(('MEMBER', 'ROLE', 'STATE', 'LAG', 'RTT', 'PRIORITY', 'PEER', 'ID'), rows)}"


def _row(seat: MemberSeat, seen: MemberView | None) -> list[Cell]:
    leads = seen is not None and seen.role == "leader"
    return [
        seat.name,
        ("leader", "good") if leads else seat.role,
        "-" if seen is None else seen.state,
        "-" if seen is None or seen.lag is None else str(seen.lag),
        "-" if seen is None or seen.rtt_ms is None else f"{seen.rtt_ms:.2f} ms",
        str(seat.priority),
        seat.peer,
        seat.id,
    ]


def _named(seats: Iterable[Named], member: str) -> Named | None:
    """By its name or id; `NAME@ID` is one of two of a name."""
    return next((seat for seat in seats if member in (seat.name, seat.id, f"{seat.name}@{seat.id}")), None)
