"""Data directories for a cluster that goes on from an older state: after `tenure snapshot restore`, and after
`tenure recover` (P1.4, P2.1).

Each is made under another name and renamed when it is whole and on the disk, so what a crash leaves behind is never
taken for a member. All that are made at once belong to one cluster, with ids drawn here and now.
"""

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from tenure.base.errors import TenureError
from tenure.base.ids import BatchNumber, ConsensusTerm, LogIndex, MemberId, Nonce
from tenure.base.instants import WallMs
from tenure.base.lineages import lineage_max
from tenure.base.versions import feature_newest
from tenure.leadership.machine import Machine
from tenure.leadership.reviving import revived
from tenure.leadership.state import State
from tenure.leadership.terms import founding_stamp
from tenure.raft.entries import Configuration, HardState, Image, Seat, Snapshot
from tenure.raft.founding import Record
from tenure.raft.ready import Batch
from tenure.server.snapshot_files import sync
from tenure.storage import Store

stamp_rest_s: Final = 0.002
"""P2.1: it takes no less time than this after its stamp."""


class Heir(Struct, frozen=True):
    """A member of the new cluster, and where its data directory is to be."""

    name: str
    peer: str
    directory: Path


class Revived(Struct, frozen=True):
    """What was made. No term below `first_term` is granted."""

    lineage: tuple[Nonce, ...]
    index: LogIndex
    term: ConsensusTerm
    first_term: int
    seats: tuple[Seat, ...]


class Occupied(TenureError):
    """A directory that should be made is there and not empty."""


class NoDirectory(TenureError):
    """Where a directory should be made there is something else, or none can be made."""


class TooNew(TenureError):
    """A state of a feature version that this program doesn't speak (P10): to write it again would lose part of it."""


def check_feature(feature: int) -> None:
    """Raise `TooNew` if a state of this feature version isn't this program's to read."""
    if feature > feature_newest:
        raise TooNew(
            f"the state is of feature version {feature}, and this program speaks {feature_newest}. "
            "Next step: use the tenure that the members ran, or a newer one"
        )


def revive(
    state: State,
    heirs: Sequence[Heir],
    *,
    index: LogIndex,
    term: ConsensusTerm,
    feature: int,
    floor: int | None,
    wall: WallMs,
    why: str,
    draw: Callable[[], str] = lambda: secrets.token_hex(8),
) -> Revived:
    """Turn `state` into that of a new cluster of these members and make their directories. `index` is its place
    in the log, `term` the newest consensus term that is known of the old cluster.

    Raises `TooNew`, `Invalid` for a clock that is behind (P2.2), `NoDirectory`, `Occupied`, `StorageError`.
    """
    check_feature(feature)
    for heir in heirs:
        _check_place(heir.directory)
        if heir.directory.exists() and any(heir.directory.iterdir()):
            raise Occupied(
                f"{heir.directory} is not empty. Next step: give a --data-dir that is empty or doesn't exist"
            )
    assert len(state.lineage) < lineage_max, "restored too often"
    first = founding_stamp(wall, floor, newest=state.stamp)
    state.applied = index  # no-ops and changes of members have their places too
    index = revived(state, Nonce(draw()), first, wall, why)
    seats = tuple(Seat(MemberId(draw()), heir.name, heir.peer) for heir in heirs)
    configuration = Configuration(index, seats)
    found = Revived(state.lineage, index, ConsensusTerm(term + 1), max(first, state.counter + 1), seats)
    image = Image.of(Machine(state).freeze().sections())
    snapshot = Snapshot(index, found.term, configuration, feature, image)
    record = Record(state.lineage[0], configuration, first)
    for heir, seat in zip(heirs, seats, strict=True):
        with _made(heir.directory) as directory:
            _fill(directory, seat, snapshot, record, found)
    time.sleep(stamp_rest_s)
    return found


def _check_place(directory: Path) -> None:
    """What is on the way to it must be directories; found out before any of several is made."""
    for place in (directory, *directory.parents):
        if place.is_dir():
            return
        if os.path.lexists(place):
            raise NoDirectory(
                f"{place} is no directory. Next step: give a --data-dir that is an empty directory or doesn't exist"
            )


def _fill(directory: Path, seat: Seat, snapshot: Snapshot, record: Record, found: Revived) -> None:
    store = Store.open(directory, seat.name, draw=lambda: seat.id).store
    try:
        store.write(Batch(BatchNumber(1), HardState(found.term, None), snapshot, install=True))
        store.set_founding("sealed", record, found.lineage)
    except BaseException:
        store.close(clean=False)
        raise
    store.close(clean=True)
    (directory / "lock").unlink()


@contextmanager
def _made(directory: Path) -> Iterator[Path]:
    """A directory under another name, that takes its own when all went well."""
    directory = directory.resolve()  # a link stays one
    temporary = directory.with_name(f".{directory.name}.new")
    try:
        with _told(directory):
            directory.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
        yield temporary
        with _told(directory):
            temporary.rename(directory)  # over an empty one too
        sync(directory.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _told(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NoDirectory(
            f"{directory} can't be made: {error.strerror}. Next step: give a --data-dir where this process may make one"
        ) from error
