"""Directories for a cluster that goes on from an older state, and what a crash or a refusal leaves (P1.4, P2.1)."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from tenure.base.errors import Invalid
from tenure.base.ids import BatchNumber, LogIndex
from tenure.base.instants import WallMs
from tenure.base.versions import feature_newest
from tenure.leadership.machine import Machine
from tenure.leadership.reviving import indexes_skipped
from tenure.leadership.terms import stamp_of
from tenure.raft.entries import COMMAND, FEATURE, NOOP, Entry
from tenure.raft.ready import Batch
from tenure.server.recovering import NothingThere, examine, recover
from tenure.server.reviving import Heir, NoDirectory, Occupied, Revived, TooNew, revive
from tenure.server.snapshot_files import load
from tenure.storage import Locked, Store
from tests.server.past import LINEAGE, NOW, ORDERS, SEATS, drawn, lived, stopped_member, written_file

M1 = "10.0.0.1:8369"


def restored(
    path: Path, heirs: list[Heir], *, floor: int | None = None, wall: WallMs = NOW, seed: int = 1, feature: int = 1
) -> Revived:
    whole = load(written_file(path))
    return revive(
        whole.state, heirs, index=whole.header.index, term=whole.header.term, feature=feature, floor=floor, wall=wall,
        why="restored", draw=drawn(seed),
    )  # fmt: skip


def opened(directory: Path) -> tuple[Store, Machine]:
    store = Store.open(directory, directory.name).store
    found = store.restored()
    assert found.snapshot is not None
    return store, Machine.restore(found.snapshot.image.pieces)


def test_the_directory_is_that_of_a_sealed_member_of_the_new_cluster(tmp_path: Path) -> None:
    made = restored(tmp_path / "s", [Heir("m1", M1, tmp_path / "d")])
    assert made.lineage[0] == LINEAGE
    assert len(made.lineage) == 2
    store = Store.open(tmp_path / "d", "m1").store
    identity, found = store.identity, store.restored()
    store.close(clean=True)
    assert (identity.founding, identity.lineage, identity.member) == ("sealed", made.lineage, made.seats[0].id)
    assert identity.member not in {seat.id for seat in SEATS}, "a new id, so that the old one can't vote (P1.4)"
    assert found.hard_state.term > 1, "above the old consensus term"
    assert found.configuration.seats == made.seats
    assert found.clean
    assert found.snapshot is not None
    assert found.snapshot.index == made.index > indexes_skipped


def test_all_of_a_list_belong_to_one_cluster(tmp_path: Path) -> None:
    heirs = [Heir(name, f"{name}:1", tmp_path / "d" / name) for name in ("a", "b", "c")]
    made = restored(tmp_path / "s", heirs)
    hashes, ids = set(), set()
    for heir in heirs:
        store, machine = opened(heir.directory)
        hashes.add(machine.hash())
        ids.add(store.identity.member)
        assert store.identity.lineage == made.lineage
        store.close(clean=True)
    assert (len(hashes), len(ids)) == (1, 3)


def test_no_term_goes_back(tmp_path: Path) -> None:
    """P2.1: above the stored ones, above the stamp of now, above the operator's floor."""
    for at, (floor, expected) in enumerate(((None, stamp_of(NOW)), (2**51, 2**51))):
        directory = tmp_path / f"d{at}"
        made = restored(tmp_path / "s", [Heir("m1", M1, directory)], floor=floor)
        store, machine = opened(directory)
        store.close(clean=True)
        assert machine.state.counter + 1 == made.first_term == expected


def test_with_the_clock_behind_nothing_is_made_without_a_floor(tmp_path: Path) -> None:
    """P2.2."""
    heir = Heir("m1", M1, tmp_path / "d")
    with pytest.raises(Invalid, match="term_floor"):
        restored(tmp_path / "s", [heir], wall=WallMs(1_600_000_000_000))
    assert not heir.directory.exists()
    made = restored(tmp_path / "s", [heir], wall=WallMs(1_600_000_000_000), floor=2**40)
    assert made.first_term == 2**40


def test_a_directory_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    heirs = [Heir("a", M1, tmp_path / "a"), Heir("b", M1, tmp_path / "b")]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "precious").write_text("x")
    with pytest.raises(Occupied):
        restored(tmp_path / "s", heirs)
    assert not (tmp_path / "a").exists()
    (tmp_path / "b" / "precious").unlink()
    restored(tmp_path / "s", heirs)
    assert (tmp_path / "b" / "tenure.db").exists()


@pytest.mark.parametrize("second", ["b", "b/m1"])
def test_a_file_where_a_directory_should_be_is_named_before_any_is_made(tmp_path: Path, second: str) -> None:
    (tmp_path / "b").write_text("precious")
    heirs = [Heir("a", M1, tmp_path / "a"), Heir("b", M1, tmp_path / second)]
    with pytest.raises(NoDirectory, match=f"^{tmp_path / 'b'} is no directory"):
        restored(tmp_path / "s", heirs)
    (tmp_path / "b").unlink()
    (tmp_path / "b").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NoDirectory):
        restored(tmp_path / "s", heirs)
    assert not (tmp_path / "a").exists()


def test_a_directory_that_the_system_does_not_make_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(NoDirectory, match=r"^/proc/nothing/d can't be made: No such file"):
        restored(tmp_path / "s", [Heir("m1", M1, Path("/proc/nothing/d"))])


def test_a_link_to_an_empty_directory_stays_one(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "d").symlink_to(tmp_path / "disk")
    restored(tmp_path / "s", [Heir("m1", M1, tmp_path / "d")])
    assert (tmp_path / "d").is_symlink()
    assert (tmp_path / "disk" / "tenure.db").exists()


def test_what_was_begun_and_broke_off_is_done_anew(tmp_path: Path) -> None:
    half = tmp_path / ".d.new"
    half.mkdir()
    (half / "tenure.db").write_text("half")
    restored(tmp_path / "s", [Heir("m1", M1, tmp_path / "d")])
    assert not half.exists()
    store, _ = opened(tmp_path / "d")
    store.close(clean=True)


# --- forced recovery ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clean", [True, False])
def test_a_look_finds_all_and_changes_nothing(tmp_path: Path, clean: bool) -> None:
    directory = stopped_member(tmp_path / "m1", clean=clean)
    remains = examine(directory)
    log = lived()
    assert remains.state == log.machine.state, "snapshot and entries"
    assert (remains.last_index, remains.last_term, remains.term) == (len(log.entries), 1, 4)
    assert (remains.snapshot_index, remains.peer, remains.name) == (10, M1, "m1")
    store = Store.open(directory, "m1")
    assert store.clean == clean
    store.store.close(clean=False)


def test_no_ops_features_and_unknown_kinds_have_their_places(tmp_path: Path) -> None:
    directory = stopped_member(tmp_path / "m1")
    store = Store.open(directory, "m1").store
    found = store.restored()
    last = found.entries[-1]
    more = (
        Entry(LogIndex(last.index + 1), last.term, NOOP, b""),
        Entry(LogIndex(last.index + 2), last.term, FEATURE, b"1"),
        Entry(LogIndex(last.index + 3), last.term, COMMAND, last.data),
        Entry(LogIndex(last.index + 4), last.term, NOOP, b""),
    )
    store.write(Batch(store.batch + 1, entries=more))  # type: ignore[arg-type]
    store.close(clean=True)
    remains = examine(directory)
    assert (remains.last_index, remains.feature) == (last.index + 4, 1)
    made, _ = recover(directory, remains, peer=M1, floor=None, wall=NOW, draw=drawn())
    assert made.index == last.index + 4 + indexes_skipped


def test_a_recovery_leaves_the_old_directory_beside_the_new(tmp_path: Path) -> None:
    directory = stopped_member(tmp_path / "m1")
    made, kept = recover(directory, examine(directory), peer="10.9.9.9:1", floor=None, wall=NOW, draw=drawn())
    store, machine = opened(directory)
    assert store.identity.lineage == made.lineage
    record = store.identity.record
    assert record is not None
    assert [seat.peer for seat in record.configuration.seats] == ["10.9.9.9:1"]
    store.close(clean=True)
    assert machine.state.elections[ORDERS].holder is not None
    assert machine.state.elections[ORDERS].handover is not None, "its term ends (P2.1)"
    old = Store.open(kept, "m1").store
    assert old.identity.lineage == (LINEAGE,)
    old.close(clean=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["m1", kept.name])


def test_both_sides_of_a_recovery_are_siblings(tmp_path: Path) -> None:
    one, other = stopped_member(tmp_path / "m1"), stopped_member(tmp_path / "m2")
    first, _ = recover(one, examine(one), peer=M1, floor=None, wall=NOW, draw=drawn(1))
    second, _ = recover(other, examine(other), peer=M1, floor=None, wall=NOW, draw=drawn(2))
    assert first.lineage[0] == second.lineage[0]
    assert first.lineage[1] != second.lineage[1]


def test_a_running_member_is_not_touched(tmp_path: Path) -> None:
    directory = stopped_member(tmp_path / "m1")
    running = Store.open(directory, "m1").store
    with pytest.raises(Locked):
        examine(directory)
    running.close(clean=True)


def test_a_directory_that_was_never_founded_has_nothing_to_recover(tmp_path: Path) -> None:
    Store.open(tmp_path / "m1", "m1").store.close(clean=True)
    with pytest.raises(NothingThere, match="never became part"):
        examine(tmp_path / "m1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingThere, match="holds no member"):
        examine(tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_state_of_a_newer_version_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(TooNew, match=f"feature version {feature_newest + 1}, and this program speaks {feature_newest}"):
        restored(tmp_path / "s", [Heir("m1", M1, tmp_path / "d")], feature=feature_newest + 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]


@pytest.mark.parametrize("where", ["the log", "the snapshot"])
def test_the_log_of_a_newer_version_is_not_recovered(tmp_path: Path, where: str) -> None:
    directory = stopped_member(tmp_path / "m1")
    store = Store.open(directory, "m1").store
    found = store.restored()
    last, newer = found.entries[-1], feature_newest + 1
    if where == "the log":
        raised = Entry(LogIndex(last.index + 1), last.term, FEATURE, b"%d" % newer)
        store.write(Batch(BatchNumber(3), entries=(raised,)))
    else:
        assert found.snapshot is not None
        store.write(Batch(BatchNumber(3), snapshot=replace(found.snapshot, feature=newer), install=True))
    store.close(clean=True)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(TooNew, match=f"feature version {newer}"):
        examine(directory)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
