"""Who belonged to the cluster of which one member is left: by its log, decided or not (P7.1)."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from tenure.base.ids import BatchNumber, LogIndex, MemberId
from tenure.raft.entries import CONFIGURATION, Entry, Seat
from tenure.raft.ready import Batch
from tenure.server.recovering import Interrupted, Unmovable, examine, interrupted, recover
from tenure.server.reviving import TooNew
from tenure.storage import Store
from tenure.storage.errors import Locked
from tests.server.past import NOW, SEATS, changed, drawn, joined_member, stopped_member

M4 = Seat(MemberId("4" * 16), "m4", "10.0.0.4:8369", "observer")
M5 = Seat(MemberId("5" * 16), "m5", "10.0.0.5:8369", "observer")


def test_the_members_are_those_of_the_log_and_not_of_the_snapshot(tmp_path: Path) -> None:
    m1, m2, m3 = SEATS
    directory = stopped_member(tmp_path / "m1")
    assert examine(directory).others == (m2, m3), "nothing changed since the snapshot"
    moved = replace(m1, peer="10.9.9.9:1")
    changed(directory, (m1, m2, m3, M4), (m1, m2, m3, M4, M5), (moved, m2, m3, M4, M5))
    remains = examine(directory)
    assert remains.others == (m2, m3, M4, M5)
    assert remains.peer == moved.peer, "it is at its new address"


def test_who_left_for_certain_is_not_named_and_who_may_be_left_is(tmp_path: Path) -> None:
    """The last change in the log is in force, but it alone may never have been committed: the one before was, or this
    one would have had to wait (P7.1).
    """
    m1, m2, m3 = SEATS
    directory = changed(stopped_member(tmp_path / "m1"), (m1, m2))
    remains = examine(directory)
    assert remains.configuration.seats == (m1, m2)
    assert remains.others == (m2, m3), "m3 may still count"
    changed(directory, (m1, m2, M4))
    assert examine(directory).others == (m2, M4), "m3 is gone, or M4 could not have been added"


def test_one_that_joined_later_keeps_its_address(tmp_path: Path) -> None:
    directory = joined_member(tmp_path / "m4", M4)
    remains = examine(directory)
    assert (remains.peer, remains.others) == (M4.peer, SEATS)
    made, _ = recover(directory, remains, peer=M4.peer, floor=None, wall=NOW, draw=drawn())
    assert [seat.peer for seat in made.seats] == [M4.peer]


def test_one_whose_removal_may_not_have_been_decided_keeps_its_address(tmp_path: Path) -> None:
    remains = examine(changed(stopped_member(tmp_path / "m1"), SEATS[1:]))
    assert (remains.peer, remains.others) == (SEATS[0].peer, SEATS[1:])
    assert remains.seats == SEATS[:1]


def test_a_directory_that_can_t_be_put_aside_stays_as_it_is(tmp_path: Path) -> None:
    """As a mount point can't: here something has the name that it would get."""
    directory = stopped_member(tmp_path / "m1")
    remains = examine(directory)
    taken = tmp_path / f"m1.before-recovery-{drawn()()}"
    (taken / "something").mkdir(parents=True)
    with pytest.raises(Unmovable, match="nothing was changed"):
        recover(directory, remains, peer="10.0.0.1:8369", floor=None, wall=NOW, draw=drawn())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m1", taken.name]
    assert examine(directory).lineage == remains.lineage


def test_what_a_recovery_left_that_was_killed_is_made_anew(tmp_path: Path) -> None:
    """Killed between making the new directory and renaming the old one: told again it goes through, for nobody can
    give another --data-dir.
    """
    directory = stopped_member(tmp_path / "m1")
    remains = examine(directory)
    aside, _ = recover(directory, remains, peer="10.0.0.1:8369", floor=None, wall=NOW)
    directory.rename(tmp_path / ".m1.recovered")
    (tmp_path / f"m1.before-recovery-{aside.lineage[-1]}").rename(directory)
    for others in ("m1.recovered", ".m2.recovered", ".m1"):
        (tmp_path / others / "precious").mkdir(parents=True)
    made, kept = recover(directory, remains, peer="10.0.0.1:8369", floor=None, wall=NOW)
    assert examine(directory).lineage == made.lineage != aside.lineage
    there = {path.name: sorted(inner.name for inner in path.iterdir()) for path in tmp_path.iterdir()}
    assert there.keys() == {"m1", kept.name, "m1.recovered", ".m2.recovered", ".m1"}
    assert all(there[others] == ["precious"] for others in ("m1.recovered", ".m2.recovered", ".m1"))


def between_the_renames(directory: Path) -> Interrupted:
    """A recovery as it leaves things that was killed after the old directory was put aside, before the new one came."""
    made, kept = recover(directory, examine(directory), peer="10.0.0.1:8369", floor=None, wall=NOW)
    fresh = directory.with_name(f".{directory.name}.recovered-{made.lineage[-1]}")
    directory.rename(fresh)
    return Interrupted(kept, fresh)


@pytest.mark.parametrize("there", ["nothing", "an empty directory", "a lock alone"])
def test_a_recovery_that_was_killed_between_its_renames_is_made_anew(tmp_path: Path, there: str) -> None:
    """Where the directory was there is nothing, or what makes the directories of services has made an empty one, or a
    member that ended there at once one with a lock.
    """
    directory = stopped_member(tmp_path / "m1")
    remains = examine(directory)
    assert interrupted(directory) is None
    found = between_the_renames(directory)
    if there != "nothing":
        directory.mkdir()
    if there == "a lock alone":
        (directory / "lock").touch()
    assert interrupted(directory) == found
    again = examine(found.kept)
    assert (again.lineage, again.last_index) == (remains.lineage, remains.last_index), "nothing of it is lost"
    assert interrupted(directory) == found, "to look changes nothing"
    made, kept = recover(directory, again, peer="10.0.0.9:1", floor=None, wall=NOW)
    assert examine(directory).lineage == made.lineage == (*remains.lineage, made.lineage[-1])
    assert (examine(directory).peer, examine(kept).lineage) == ("10.0.0.9:1", remains.lineage)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m1", kept.name]
    assert interrupted(directory) is None


@pytest.mark.parametrize("step", ["finished", "undone", "made", "of another"])
def test_what_is_no_recovery_between_its_renames_is_not_taken_for_one(tmp_path: Path, step: str) -> None:
    directory = stopped_member(tmp_path / "m1")
    found = between_the_renames(directory)
    match step:
        case "finished":
            found.fresh.rename(directory)
        case "undone":
            found.kept.rename(directory)
        case "made":  # somebody made another member there
            stopped_member(directory)
        case _:  # of an earlier one, and the directory was removed by somebody
            found.kept.rename(found.kept.with_name(f"m1.before-recovery-{'0' * 16}"))
    assert interrupted(directory) is None


def test_two_who_make_an_interrupted_recovery_anew_don_t_meet(tmp_path: Path) -> None:
    """Nor one with the recovery itself, which is between its renames for a moment."""
    directory = stopped_member(tmp_path / "m1")
    found = between_the_renames(directory)
    remains = examine(found.kept)
    there = sorted(path.name for path in tmp_path.iterdir())
    running = Store.open(found.kept, "m1").store
    try:
        with pytest.raises(Locked):
            recover(directory, remains, peer="10.0.0.1:8369", floor=None, wall=NOW)
    finally:
        running.close(clean=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == there


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_has_the_new_directory_s_name_and_is_none_of_ours_stays(tmp_path: Path, kind: str) -> None:
    directory = stopped_member(tmp_path / "m1")
    remains = examine(directory)
    there = tmp_path / ".m1.recovered"
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "something").touch()
    if kind == "file":
        there.write_text("precious")
    else:
        there.symlink_to(precious)
    with pytest.raises(Unmovable, match=r"\.m1\.recovered is in the way, and nothing was changed"):
        recover(directory, remains, peer="10.0.0.1:8369", floor=None, wall=NOW, draw=drawn())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".m1.recovered", "m1", "precious"]
    assert (there.is_symlink(), (precious / "something").exists()) == (kind == "link", True)


def test_two_recoveries_of_one_directory_don_t_meet(tmp_path: Path) -> None:
    """Nor does a recovery meet a member that was started in the meantime."""
    directory = stopped_member(tmp_path / "m1")
    remains = examine(directory)
    (tmp_path / ".m1.recovered").mkdir()
    running = Store.open(directory, "m1").store
    try:
        with pytest.raises(Locked):
            recover(directory, remains, peer="10.0.0.1:8369", floor=None, wall=NOW, draw=drawn())
    finally:
        running.close(clean=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".m1.recovered", "m1"]


def test_a_configuration_that_this_program_does_not_know_is_refused(tmp_path: Path) -> None:
    directory = stopped_member(tmp_path / "m1")
    store = Store.open(directory, "m1").store
    last = store.restored().entries[-1]
    store.write(Batch(BatchNumber(3), entries=(Entry(LogIndex(last.index + 1), last.term, CONFIGURATION, b"\xc1"),)))
    store.close(clean=True)
    with pytest.raises(TooNew, match=f"entry {last.index + 1} is no configuration"):
        examine(directory)
