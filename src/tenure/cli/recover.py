"""`tenure recover`: when the majority of the members is lost for ever."""

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tenure.base.errors import Invalid
from tenure.base.instants import WallMs
from tenure.cli import printing
from tenure.cli.exits import Exit, Unsafe
from tenure.cli.snapshot import facts_of, served, told

if TYPE_CHECKING:
    from tenure.raft.entries import Seat
    from tenure.server.recovering import Remains

_MEANT = "--majority-is-lost-for-ever"
_AGAIN = "--again"
_OBSERVER = (
    "in no quorum, so any number of acknowledged writes may be missing here, not just the last. "
    "If a voter survives, compare (term, index) first."
)
_WITNESS = (
    "what it holds is a copy that a leader sent it, and the log since; it never served it. "
    "If another survives whose (term, index) is no less, recover from that one."
)
_INTERRUPTED = (
    "An earlier recovery was interrupted. What it had put aside ({aside}) is what is told of here: it is put back, "
    "and the recovery made anew. To undo it instead, give that its old name."
)
_NO_SEAT = (
    "This member has NO SEAT by the last change in its log: it had left, or was not taken in yet. Any number of "
    "acknowledged writes may be missing here. If a voter survives, compare (term, index) first."
)


@click.command("recover")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path("tenure-data"),
    show_default=True,
    help="Of the surviving member, which must be stopped.",
)
@click.option("--peer", metavar="HOST:PORT", help="Its peer address, if that is to be another.")
@click.option("--term-floor", type=int, help="No term below this is granted (when the wall clock can't be trusted).")
@click.option(_MEANT, "meant", is_flag=True, help="Do it. Without this it is only said what would be done.")
@click.option(_AGAIN, is_flag=True, help="Even if it is the only voter of its cluster, as after a recovery.")
@click.option("--json", "as_json", is_flag=True, help="Answer with JSON.")
def command(
    *, data_dir: Path, peer: str | None, term_floor: int | None, meant: bool, again: bool, as_json: bool
) -> int:
    """Make a new cluster of one out of a surviving member, when the majority is lost FOR EVER.

    What only the lost members had is lost, acknowledged or not. If any of them runs again there are two clusters.
    First read docs/operating/recovery.md.
    """  # fmt: skip
    from tenure.leadership.terms import founding_stamp
    from tenure.server.recovering import examine, interrupted, place_of, recover

    wall = WallMs(time.time_ns() // 1_000_000)
    if term_floor is not None:
        founding_stamp(wall, term_floor)  # refused here, or a dry run would recommend what will be refused
    given = None if peer is None else str(served({"peer": peer}).advertise_peer)
    data_dir = place_of(data_dir)
    left = interrupted(data_dir)
    remains = examine(data_dir if left is None else left.kept)
    aside = None if left is None else left.kept
    if remains.needs_nobody and not again:
        raise Unsafe(_not_lost(data_dir, remains) if aside is None else _undo(data_dir, aside, remains))
    at = given or remains.peer
    if at is None:
        raise Invalid("peer", "this member has no seat whose address could be kept; give --peer HOST:PORT")
    if not meant:
        if as_json:
            found = {"interrupted": None if aside is None else str(aside), **_facts(remains)}
            printing.say(printing.json_line({"dry_run": True, **found}))
        else:
            printing.say(_described(data_dir, aside, remains, _to_do_it(data_dir, given, term_floor, again)))
        return Exit.OK
    made, kept = recover(data_dir, remains, peer=at, floor=term_floor, wall=wall)
    if as_json:
        said = {"data_dir": str(data_dir), "kept": str(kept), "warnings": _warnings(remains), **facts_of(made)}
        printing.say(printing.json_line(said))
    else:
        lost = ", ".join(_names(remains))
        lines = (
            f"{data_dir} is a cluster of its own now: {told(made)}",
            *_warnings(remains),
            f"The old directory is {kept}; never start a member on it.",
            f"Never start these again, they would be a second cluster: {lost or 'nobody'}.",
            "Next step: start it as before, and let new members join it, each with an empty directory.",
        )
        printing.say("\n".join(lines))
    return Exit.OK


def _facts(remains: "Remains") -> dict[str, object]:
    from tenure.server.snapshot_files import contents

    return {
        "member": remains.member,
        "name": remains.name,
        "warnings": _warnings(remains),
        "lineage": remains.lineage,
        "last_index": remains.last_index,
        "last_term": remains.last_term,
        "snapshot_index": remains.snapshot_index,
        "lost": [{"id": seat.id, "name": seat.name, "role": seat.role} for seat in remains.others],
        "contents": contents(remains.state),
    }


def _names(remains: "Remains") -> list[str]:
    """Of the others; a name is shared while a member whose disk is lost is replaced."""
    everybody = [remains.name, *(seat.name for seat in remains.others)]
    return [seat.name if everybody.count(seat.name) == 1 else f"{seat.name}@{seat.id}" for seat in remains.others]


def _role(remains: "Remains", seat: "Seat") -> str:
    if remains.configuration.seat(seat.id) is None:
        return f"{seat.role}, unless its removal was decided"
    return seat.role


def _warnings(remains: "Remains") -> list[str]:
    """What it can't be trusted with as a voter that holds the state can. Which survivor has the most (term, index)
    says all the same: the log that is ahead lacks nothing that was committed in one behind it (Raft §5.4).
    """
    last = remains.configuration.seat(remains.member)
    found = [] if last is not None else [_NO_SEAT]
    roles = [seat.role for seat in remains.seats]
    for role, text in (("observer", _OBSERVER), ("witness", _WITNESS)):
        if role not in roles:
            continue
        is_or_was = "is" if last is not None and last.role == role else "was, before the last change in its log,"
        found.append(f"This member {is_or_was} {'an' if role == 'observer' else 'a'} {role.upper()}: {text}")
    return found


def _not_lost(data_dir: Path, remains: "Remains") -> str:
    before = " It was recovered or restored already." if len(remains.lineage) > 1 else ""
    return (
        f"{data_dir}: {remains.name} is the only voter of its cluster, so no majority is lost.{before} "
        f"Next step: start it as before; if this directory is an older copy: {_AGAIN}, which takes new terms"
    )


def _undo(data_dir: Path, aside: Path, remains: "Remains") -> str:
    undo = shlex.join(["mv", "-T", str(aside), str(data_dir)])
    return (
        f"{data_dir}: an earlier recovery was interrupted. What it had put aside ({aside}) is {remains.name}, the only "
        f"voter of its cluster, so no majority is lost. Next step: `{undo}`, and start it as before; or, if it is an "
        f"older copy: {_AGAIN}, which takes new terms"
    )


def _to_do_it(data_dir: Path, peer: str | None, term_floor: int | None, again: bool) -> str:
    """The command for the deed, with all that was given to the dry run: it is pasted into a shell."""
    words = ["tenure", "recover", "--data-dir", str(data_dir)]
    if peer is not None:
        words += ["--peer", peer]
    if term_floor is not None:
        words += ["--term-floor", str(term_floor)]
    if again:
        words.append(_AGAIN)
    return shlex.join([*words, _MEANT])


def _described(data_dir: Path, aside: Path | None, remains: "Remains", to_do_it: str) -> str:
    from tenure.server.snapshot_files import contents

    found = contents(remains.state)
    names = _names(remains)
    lost = ", ".join(f"{name} ({_role(remains, seat)})" for name, seat in zip(names, remains.others, strict=True))
    return "\n".join(
        (
            f"DRY RUN: nothing was changed in {data_dir}, member {remains.name} ({remains.member})",
            *([] if aside is None else [_INTERRUPTED.format(aside=aside)]),
            *_warnings(remains),
            "",
            f"KEPT: all that this member has, to index {remains.last_index} of consensus term {remains.last_term}:",
            f"  {found.sessions} sessions, {found.elections} elections ({found.held} held), {found.keys} keys,",
            f"  {found.client_sessions} client sessions, {found.idempotency_keys} idempotency keys.",
            f"  Of {remains.last_index - remains.snapshot_index} entries above its snapshot some may never have been",
            "  acknowledged to anybody; they count from now on",
            f"LOST: whatever only these had, acknowledged or not: {lost or 'nobody'}",
            f"ENDS: every holding ({found.held}), under a term above all that were ever granted; the sessions live on",
            "",
            "Of several survivors take the one with the greatest (term, index) above.",
            f"If any of {', '.join(names) or 'the others'} can still be started,",
            "or its disk read: STOP, and bring it back instead.",
            f"To do it: {to_do_it}",
        )
    )
