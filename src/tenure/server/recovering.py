"""Forced recovery: one surviving member's data directory becomes that of a new cluster of its own (P1.4).

Only for when a majority is lost for ever. What the lost members alone had is lost; what this one has is kept, also
what may never have been acknowledged to anybody. The old directory stays beside the new one, under another name.

Killed at whatever place, it leaves names that say where, and is told again: of DIR, with the new lineage's nonce N,
- .DIR.recovered, or .DIR.recovered-N alone: the new directory; DIR is as it was. Removed, and made anew
- .DIR.recovered-N and DIR.before-recovery-N: the old one is put aside, and nothing stands in its place
  (`Interrupted`). It is put back first. Until then no member starts at DIR: it would be another, or found a cluster
- DIR.before-recovery-N alone: it is done
"""

import re
import secrets
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import DecodeError, Struct

from tenure.base.errors import TenureError
from tenure.base.ids import ConsensusTerm, LogIndex, MemberId, Nonce
from tenure.base.instants import WallMs
from tenure.leadership.machine import Machine
from tenure.leadership.state import State
from tenure.raft.entries import (
    COMMAND,
    CONFIGURATION,
    FEATURE,
    Configuration,
    Entry,
    Restored,
    Seat,
    configuration_of,
)
from tenure.server.reviving import Heir, Revived, TooNew, check_feature, revive
from tenure.server.snapshot_files import sync
from tenure.storage import Store
from tenure.storage.folder import Folder

reason: Final = "the cluster was recovered from one member"


class NothingThere(TenureError):
    """The directory holds no member of a cluster."""


class Unmovable(TenureError):
    """The directory can't be put aside."""


class Interrupted(Struct, frozen=True):
    """A recovery was killed between its two renames. `kept`: the old directory; `fresh`: the one that was to come."""

    kept: Path
    fresh: Path

    def text(self, directory: Path) -> str:
        """For who would start a member there."""
        to_do = shlex.join(["tenure", "recover", "--data-dir", str(directory.resolve())])
        return (
            f"{directory}: a recovery was interrupted. The member's directory is {self.kept} now, and nothing has "
            f"taken its place. Next step: tell it again, `{to_do}`"
        )


def interrupted(directory: Path) -> Interrupted | None:
    """By the names alone; nothing is touched. Whatever makes the directories of services may have made an empty one, or
    a member that ended there at once one with a lock.
    """
    try:
        directory = directory.resolve()
        if directory.exists() and any(path.name != Folder(directory).lock_file.name for path in directory.iterdir()):
            return None
        there = {path.name: path for path in directory.parent.iterdir()}
    except (OSError, RuntimeError):
        return None  # whoever opens it says what is wrong
    for name, path in sorted(there.items()):
        kept = there.get(_kept_name(directory, name.removeprefix(_fresh_name(directory, ""))))
        if _is_fresh(directory, name) and kept is not None:
            return Interrupted(kept, path)
    return None


def _fresh_name(directory: Path, nonce: str) -> str:
    """Of the new directory when it is whole."""
    return f".{directory.name}.recovered-{nonce}"


def _is_fresh(directory: Path, name: str) -> bool:
    return re.fullmatch(re.escape(_fresh_name(directory, "")) + "[0-9a-f]{16}", name) is not None


def _kept_name(directory: Path, nonce: str) -> str:
    return f"{directory.name}.before-recovery-{nonce}"


def place_of(directory: Path) -> Path:
    """Where it is: `.` has no name that another could be put beside, and a link stays one. Raises `NothingThere`."""
    try:
        return directory.resolve()
    except (OSError, RuntimeError) as error:  # the latter is a link that leads to itself
        raise _closed(directory, error) from None


def _closed(directory: Path, error: OSError | RuntimeError) -> NothingThere:
    why = error.strerror if isinstance(error, OSError) else "it is a link that leads to itself"
    return NothingThere(
        f"{directory} can't be looked into: {why}. Next step: give the --data-dir of the surviving one, "
        "to a process that may read it"
    )


class Remains(Struct, frozen=True):
    """What a stopped member's directory holds. `last_index` and `last_term` say how fresh: of several survivors the one
    with the greatest (term, index) has the most.

    `configuration` is the last one in the log, in force whether it was committed or not (P7.1). Nobody is left who
    could say which: `before` is the one in force if it wasn't. None: the last is that of the snapshot or of the
    founding, and committed for certain. Older ones are out of the question: a change waits for the one before.
    """

    member: MemberId
    name: str
    lineage: tuple[Nonce, ...]
    configuration: Configuration
    before: Configuration | None
    snapshot_index: LogIndex
    last_index: LogIndex
    last_term: ConsensusTerm
    term: ConsensusTerm
    feature: int
    state: State

    @property
    def peer(self) -> str | None:
        """Where the others reached it, by the last configuration that has a seat for it."""
        seat = next(iter(self.seats), None)
        return seat.peer if seat is not None else None

    @property
    def seats(self) -> tuple[Seat, ...]:
        """Its own in each configuration that may be the committed one, in the last one first."""
        return tuple(seat for one in self._possible() if (seat := one.seat(self.member)) is not None)

    @property
    def needs_nobody(self) -> bool:
        """It is the only voter, whichever configuration is the committed one: no majority is lost."""
        return all(one.voters() == (self.member,) for one in self._possible())

    @property
    def others(self) -> tuple[Seat, ...]:
        """Everybody else who belongs to the cluster by the last configuration, and then by the one before alone: who is
        in either may have what nobody else has, and must never run again.
        """
        found: dict[MemberId, Seat] = {}
        for one in self._possible():
            for seat in one.seats:
                found.setdefault(seat.id, seat)
        return tuple(seat for seat in found.values() if seat.id != self.member)

    def _possible(self) -> tuple[Configuration, ...]:
        return (self.configuration,) if self.before is None else (self.configuration, self.before)


def examine(directory: Path) -> Remains:
    """Read it all, and leave it as it was. Raises `StorageError`, `UnknownCommand`, `TooNew`, `NothingThere`."""
    try:
        nobody = not directory.is_dir() or Folder(directory).is_unmade()
    except OSError as error:
        raise _closed(directory, error) from None
    if nobody:
        raise NothingThere(f"{directory} holds no member. Next step: give the --data-dir of the surviving one")
    opened = Store.open(directory, directory.name)
    try:
        restored = opened.store.restored()
        identity = opened.identity
        if opened.created or identity.record is None or identity.founding != "sealed":
            raise NothingThere(
                f"{directory} never became part of a cluster. Next step: start it as it was started before"
            )
        check_feature(restored.feature)
        base = restored.configuration if restored.configuration.seats else identity.record.configuration
        lineage = identity.lineage or (identity.record.lineage,)
        if restored.snapshot is not None:
            machine = Machine.restore(restored.snapshot.image.pieces)
        else:
            machine = Machine.founded(identity.record.lineage, identity.record.stamp)
        return _replayed(restored, machine, identity.member, identity.name, lineage, base)
    finally:
        opened.store.close(clean=opened.clean)


def _replayed(
    restored: Restored,
    machine: Machine,
    member: MemberId,
    name: str,
    lineage: tuple[Nonce, ...],
    configuration: Configuration,
) -> Remains:
    """The whole log applied: nobody is left who could say how much of it was committed. `configuration` is the one
    below the entries.
    """
    before: Configuration | None = None
    snapshot = restored.snapshot
    index = snapshot.index if snapshot is not None else LogIndex(0)
    term = snapshot.term if snapshot is not None else ConsensusTerm(0)
    feature = restored.feature
    first = index
    for entry in restored.entries:
        if entry.index <= index:
            continue
        if entry.kind == COMMAND:
            machine.apply(entry.index, entry.term, entry.data)
        elif entry.kind == FEATURE:
            feature = int(entry.data)
            check_feature(feature)
        elif entry.kind == CONFIGURATION:
            before, configuration = configuration, _configuration(entry)
        index, term = entry.index, entry.term
    newest = max(restored.hard_state.term, term)
    return Remains(member, name, lineage, configuration, before, first, index, term, newest, feature, machine.state)


def _configuration(entry: Entry) -> Configuration:
    try:
        return configuration_of(entry)
    except DecodeError as error:
        raise TooNew(
            f"entry {entry.index} is no configuration that this program knows: {error}. "
            "Next step: use the tenure that the members ran, or a newer one"
        ) from None


def recover(
    directory: Path,
    remains: Remains,
    *,
    peer: str,
    floor: int | None,
    wall: WallMs,
    draw: Callable[[], str] = lambda: secrets.token_hex(8),
) -> tuple[Revived, Path]:
    """Make the new directory in the old one's place; where the old one is now. Raises as `revive`, `Unmovable`, and
    `Locked` if another recovery is at it, or a member runs.
    """
    directory = place_of(directory)
    if not directory.name:
        raise Unmovable(f"{directory} has no place beside it. Next step: move what it holds to a directory of its own")
    left = interrupted(directory)
    fresh = directory.with_name(f".{directory.name}.recovered")
    old = Folder(directory if left is None else left.kept)
    old.lock()  # also while it gets another name: what another recovery is making isn't taken for a leftover
    try:
        if left is not None:
            _put_back(directory, left)
        _clear(directory, fresh)
        revived = revive(
            remains.state,
            [Heir(remains.name, peer, fresh)],
            index=remains.last_index,
            term=remains.term,
            feature=remains.feature,
            floor=floor,
            wall=wall,
            why=reason,
            draw=draw,
        )
        kept = _put_in_place(fresh, directory, revived.lineage[-1])
    finally:
        old.unlock()
    return revived, kept


def _put_back(directory: Path, left: Interrupted) -> None:
    """The old directory has its name again, in one step. Under its lock: the one that put it aside is no more."""
    if interrupted(directory) != left:
        raise Unmovable(f"{directory}: another recovery has just been at it. Next step: look again, without the deed")
    try:
        Folder(directory).lock_file.unlink(missing_ok=True)
        left.kept.rename(directory)  # over an empty one too
    except OSError as error:
        raise Unmovable(
            f"{left.kept} can't be renamed to {directory.name}: {error.strerror}, and nothing was changed. "
            "Next step: do that by hand, and tell it again"
        ) from error
    sync(directory.parent)


def _clear(directory: Path, fresh: Path) -> None:
    """Remove what a recovery left that was killed before it put the old directory aside. The names are ours alone, and
    no member was ever started there; a link or a file isn't of our making, and stays.
    """
    try:
        whole = sorted(path for path in directory.parent.iterdir() if _is_fresh(directory, path.name))
    except OSError as error:
        raise Unmovable(
            f"{directory.parent} can't be looked into, and nothing was changed: {error.strerror}. Next step: let this "
            "process read and write there"
        ) from error
    for one in (fresh, *whole):
        try:
            shutil.rmtree(one)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Unmovable(
                f"{one} is in the way, and nothing was changed: {error.strerror or error}. Next step: look what it is, "
                "and remove it or give it another name"
            ) from error


def _put_in_place(fresh: Path, directory: Path, nonce: Nonce) -> Path:
    """The old directory's new name. Whoever is killed on the way leaves names that tell where he was."""
    whole = directory.with_name(_fresh_name(directory, nonce))
    kept = directory.with_name(_kept_name(directory, nonce))
    try:
        fresh.rename(whole)
    except OSError as error:
        raise Unmovable(
            f"{fresh} can't be renamed, and nothing was changed: {error.strerror}. Next step: tell it again"
        ) from error
    try:
        directory.rename(kept)
    except OSError as error:
        shutil.rmtree(whole)
        raise Unmovable(
            f"{directory} can't be renamed to {kept.name}, and nothing was changed: {error.strerror}. Next step: if it "
            "is a mount point, move what it holds to a directory below it, and give that one with --data-dir"
        ) from error
    try:
        whole.rename(directory)
    except OSError as error:
        raise Unmovable(
            f"{directory} is {kept.name} now, and {whole.name} can't take its place: {error.strerror}. Next step: move "
            "away whatever is there meanwhile, and tell it again"
        ) from error
    sync(directory.parent)
    return kept
