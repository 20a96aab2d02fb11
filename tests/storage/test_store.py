"""What a store keeps, over clean stops and crashes."""

import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from tenure.base.ids import BatchNumber, ConsensusTerm, LogIndex, MemberId
from tenure.raft.entries import (
    CONFIGURATION,
    Configuration,
    Entry,
    HardState,
    Restored,
    configuration_of,
    encode_configuration,
)
from tenure.raft.ready import Batch
from tenure.storage import Corrupt, Foreign, Locked, Newer, Store
from tenure.storage.wal import wal_bytes
from tests.storage.histories import (
    CONFIGURED,
    NOTHING,
    PEER,
    RECORD,
    after,
    entries,
    entry,
    history,
    opened,
    same,
    snapshot,
    states,
)


def restored(directory: Path) -> Restored:
    found = opened(directory)
    state = found.store.restored()
    found.store.close(clean=True)
    return state


def test_an_empty_directory_becomes_a_member_with_an_id_of_its_own(tmp_path: Path) -> None:
    found = Store.open(tmp_path / "not" / "there", "m1")
    assert found.created
    assert found.identity.founding == "empty"
    assert found.identity.lineage == ()
    assert len(found.identity.member) == 16
    assert same(found.store.restored(), NOTHING)
    found.store.close(clean=True)
    again = Store.open(tmp_path / "not" / "there", "m1")
    assert again.identity == found.identity
    assert not again.created
    again.store.close(clean=True)
    other = Store.open(tmp_path / "other", "m1")
    assert other.identity.member != found.identity.member
    other.store.close(clean=True)


def test_what_a_member_keeps_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        opened(tmp_path).store.close(clean=False)
    finally:
        os.umask(before)
    for name in ("tenure.db", "tenure.db-wal"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_a_wiped_directory_is_empty_and_a_new_id(tmp_path: Path) -> None:
    found = Store.open(tmp_path / "d", "m1")
    found.store.set_founding("sealed", RECORD)
    found.store.close(clean=True)
    for file in (tmp_path / "d").iterdir():
        file.unlink()
    wiped = Store.open(tmp_path / "d", "m1")
    assert wiped.created
    assert wiped.identity.founding == "empty"
    assert wiped.identity.member != found.identity.member
    wiped.store.close(clean=True)


@pytest.mark.parametrize("clean", [True, False])
def test_every_batch_is_there_after_a_stop(tmp_path: Path, clean: bool) -> None:
    batches = history()
    wanted = states(batches)
    for number, batch in enumerate(batches):
        found = opened(tmp_path)
        assert found.clean is (clean or number == 0)
        state = found.store.restored()
        assert same(state, wanted[number])
        assert state.clean is found.clean
        found.store.write(batch)
        while number % 3 == 0 and found.store.tidy():
            pass
        found.store.close(clean)
    assert same(restored(tmp_path), wanted[-1])


def test_batches_in_one_life_leave_the_same(tmp_path: Path) -> None:
    found = opened(tmp_path)
    for batch in history():
        found.store.write(batch)
    found.store.close(clean=False)
    assert same(restored(tmp_path), states(history())[-1])


@pytest.mark.slow
@seed(5)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_sequence_of_batches_leaves_what_it_says(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("any")
    state, number = NOTHING, 0
    lives = st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=4)
    for lifetime, clean in data.draw(lives):
        found = opened(directory)
        try:
            assert same(found.store.restored(), state)
            for _ in range(lifetime):
                number += 1
                batch = _any_batch(data, state, BatchNumber(number))
                found.store.write(batch)
                state = after(state, batch)
                if data.draw(st.booleans()):
                    found.store.tidy()
        finally:
            found.store.close(clean)
    assert same(restored(directory), state)


def _any_batch(data: st.DataObject, state: Restored, number: BatchNumber) -> Batch:
    base = state.snapshot.index if state.snapshot is not None else 0
    first = state.entries[0].index if state.entries else base + 1
    last = state.entries[-1].index if state.entries else base
    kind = data.draw(st.sampled_from(["append", "truncate", "compact", "install", "vote"]))
    term = number
    if kind == "install":
        return Batch(number, snapshot=snapshot(last + 5, term), install=True, entries=entries(last + 6, last + 8, term))
    if kind == "compact" and last > base:
        at = data.draw(st.integers(base + 1, last))
        keep = data.draw(st.integers(min(first, at + 1), at + 1))
        return Batch(
            number, snapshot=snapshot(at, term), compact_to=LogIndex(keep), entries=entries(last + 1, last + 2, term)
        )
    if kind == "truncate" and last > base:
        start = data.draw(st.integers(max(first, base + 1), last + 1))
        return Batch(number, truncate_from=LogIndex(start), entries=entries(start, start + 3, term))
    if kind == "vote":
        return Batch(number, hard_state=HardState(ConsensusTerm(term), PEER), known_batches={PEER: number})
    size = data.draw(st.sampled_from([0, 1, 100, 5000]))
    return Batch(number, entries=entries(last + 1, last + data.draw(st.integers(1, 200)), term, size))


def test_the_founding_is_durable_step_by_step(tmp_path: Path) -> None:
    found = opened(tmp_path)
    found.store.set_founding("pending", RECORD)
    assert found.store.identity.record == RECORD
    found.store.close(clean=False)
    found = opened(tmp_path)
    assert (found.identity.founding, found.identity.record, found.identity.lineage) == ("pending", RECORD, ())
    found.store.set_founding("sealed", RECORD)
    assert found.store.restored().configuration == CONFIGURED
    found.store.close(clean=False)
    found = opened(tmp_path)
    assert (found.identity.founding, found.identity.lineage) == ("sealed", (RECORD.lineage,))
    assert found.store.restored().configuration == CONFIGURED
    found.store.close(clean=True)


def test_a_configuration_in_the_log_is_found_again_as_an_entry(tmp_path: Path) -> None:
    later = Configuration(LogIndex(2), ())
    found = opened(tmp_path)
    found.store.set_founding("sealed", RECORD)
    changed = Entry(LogIndex(2), ConsensusTerm(1), CONFIGURATION, encode_configuration(later))
    found.store.write(Batch(BatchNumber(1), entries=(entry(1), changed)))
    found.store.close(clean=True)
    assert restored(tmp_path).configuration == RECORD.configuration
    assert configuration_of(restored(tmp_path).entries[1]) == later


def test_a_member_keeps_the_name_it_was_made_with_and_says_so(tmp_path: Path) -> None:
    opened(tmp_path).store.close(clean=True)
    found = Store.open(tmp_path, "m9")
    assert found.identity.name == "m1"
    assert any("'m1'" in note for note in found.notes)
    found.store.close(clean=True)


def test_two_processes_on_one_directory_are_told_apart(tmp_path: Path) -> None:
    found = opened(tmp_path)
    with pytest.raises(Locked, match=f"process {os.getpid()}"):
        opened(tmp_path)
    code = (
        "import sys; from pathlib import Path; from tenure.storage import Store, Locked\n"
        "try: Store.open(Path(sys.argv[1]), 'm1')\n"
        "except Locked as error: print(error)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True, env=_env()
    )
    assert f"process {os.getpid()}" in told.stdout
    found.store.close(clean=True)
    opened(tmp_path).store.close(clean=True)


def test_a_person_with_sqlite_can_neither_write_nor_empty_the_wal_while_a_member_runs(tmp_path: Path) -> None:
    found = opened(tmp_path)
    found.store.write(Batch(BatchNumber(1), entries=entries(1, 3)))
    person = apsw.Connection(str(tmp_path / "tenure.db"))
    with pytest.raises(apsw.BusyError):
        person.execute("SELECT * FROM entries").fetchall()
    person.close()
    found.store.close(clean=False)
    assert len(restored(tmp_path).entries) == 3


def test_after_a_clean_stop_a_person_can_read_it(tmp_path: Path) -> None:
    found = opened(tmp_path)
    found.store.write(Batch(BatchNumber(1), entries=entries(1, 3)))
    found.store.close(clean=True)
    person = apsw.Connection(str(tmp_path / "tenure.db"), flags=apsw.SQLITE_OPEN_READONLY)
    assert person.execute("SELECT idx, term FROM entries").fetchall() == [(1, 1), (2, 1), (3, 1)]
    assert "tenure-head" in str(person.execute("SELECT text FROM head").get)
    person.close()
    assert len(restored(tmp_path).entries) == 3


def test_another_programs_database_is_foreign_and_stays_untouched(tmp_path: Path) -> None:
    other = apsw.Connection(str(tmp_path / "tenure.db"))
    other.execute("CREATE TABLE accounts(id)")
    other.close()
    before = (tmp_path / "tenure.db").read_bytes()
    (tmp_path / "clean-shutdown").write_text('{"member":"a","writes":0,"number":0,"chain":0}')
    with pytest.raises(Foreign, match="not a store of Tenure"):
        opened(tmp_path)
    assert (tmp_path / "tenure.db").read_bytes() == before


def test_a_newer_format_is_refused_by_its_number(tmp_path: Path) -> None:
    opened(tmp_path).store.close(clean=True)
    newer = apsw.Connection(str(tmp_path / "tenure.db"))
    newer.pragma("user_version", 2)
    newer.close()
    with pytest.raises(Newer, match="format 2") as caught:
        opened(tmp_path)
    assert caught.value.found == 2
    assert "newer Tenure" in caught.value.next_step


def test_freed_space_goes_back_to_the_file_system(tmp_path: Path) -> None:
    found = opened(tmp_path)
    store = found.store
    for number in range(1, 41):
        store.write(Batch(BatchNumber(number), entries=entries(number * 100 - 99, number * 100, size=2000)))
        store.tidy()
    store.write(Batch(BatchNumber(41), snapshot=snapshot(4000), compact_to=LogIndex(3991)))
    store.checkpoint("PASSIVE")
    full_size = (tmp_path / "tenure.db").stat().st_size
    assert full_size > 8_000_000
    while store.tidy():
        pass
    store.close(clean=True)
    assert (tmp_path / "tenure.db").stat().st_size < full_size // 4
    state = restored(tmp_path)
    assert [one.index for one in state.entries] == list(range(3991, 4001))


def test_the_wal_stays_bounded_and_comes_back_to_its_size_after_a_large_snapshot(tmp_path: Path) -> None:
    store = opened(tmp_path).store
    wal = tmp_path / "tenure.db-wal"
    for number in range(1, 301):
        store.write(Batch(BatchNumber(number), entries=entries(number * 10 - 9, number * 10, size=500)))
        store.tidy()
    assert wal.stat().st_size == wal_bytes
    store.write(Batch(BatchNumber(301), snapshot=snapshot(3000, size=4_000_000), compact_to=LogIndex(3001)))
    assert wal.stat().st_size > wal_bytes
    while store.tidy():
        pass
    store.write(Batch(BatchNumber(302)))
    assert wal.stat().st_size == wal_bytes
    store.close(clean=True)
    assert wal.stat().st_size == 0


def test_old_batch_rows_go_and_the_chain_of_the_rest_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenure.storage.database.batches_kept", 8)
    store = opened(tmp_path).store
    for number in range(1, 60):
        store.write(Batch(BatchNumber(number), hard_state=HardState(ConsensusTerm(number), None)))
        while store.tidy():
            pass
    store.close(clean=True)
    person = apsw.Connection(str(tmp_path / "tenure.db"))
    rows = person.execute("SELECT number FROM batches ORDER BY number").fetchall()
    person.close()
    assert 8 <= len(rows) <= 16
    assert restored(tmp_path).batch == 59


# --- making a store, interrupted


def test_a_making_that_was_interrupted_is_begun_anew(tmp_path: Path) -> None:
    opened(tmp_path).store.close(clean=True)
    made = (tmp_path / "tenure.db").read_bytes()
    mark = (tmp_path / "clean-shutdown").read_bytes()
    for number, files in enumerate([{"tenure.db.new": made[:5000]}, {"tenure.db.new": made, "clean-shutdown": mark}]):
        directory = tmp_path / str(number)
        directory.mkdir()
        for name, content in files.items():
            (directory / name).write_bytes(content)
        found = Store.open(directory, "m1")
        assert found.created
        assert found.identity.member != MemberId(f"{1:016x}")
        found.store.close(clean=True)


def test_a_crash_while_the_wal_is_being_stretched_is_a_clean_stop_still(tmp_path: Path) -> None:
    opened(tmp_path).store.close(clean=True)
    (tmp_path / "tenure.db-wal").write_bytes(bytes(10_000))
    found = opened(tmp_path)
    assert found.clean
    found.store.close(clean=True)


@pytest.mark.parametrize("left", ["tenure.db-wal", "clean-shutdown"])
def test_a_database_that_is_gone_while_other_files_are_left_is_damage(tmp_path: Path, left: str) -> None:
    opened(tmp_path).store.close(clean=True)
    for file in tmp_path.iterdir():
        if file.name != left:
            file.unlink()
    with pytest.raises(Corrupt, match="missing"):
        opened(tmp_path)


# --- kill -9

_WRITER = """
import sys
from pathlib import Path
from tenure.base.ids import BatchNumber
from tenure.raft.ready import Batch
from tests.storage.histories import entries, opened, snapshot
store = opened(Path(sys.argv[1])).store
number = store.restored().batch
while True:
    number += 1
    more = {}
    if number % 50 == 0:
        more = {"snapshot": snapshot(number * 3 - 3), "compact_to": number * 3 - 20}
    store.write(Batch(BatchNumber(number), entries=entries(number * 3 - 2, number * 3), **more))
    print(number, flush=True)
    store.tidy()
"""


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@pytest.mark.e2e
def test_what_a_killed_process_said_was_durable_is_there(tmp_path: Path) -> None:
    for lines in (1, 7, 120, 33, 260):
        command = [sys.executable, "-c", _WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_env()) as writer:
            assert writer.stdout is not None
            said = [int(writer.stdout.readline()) for _ in range(lines)]
            writer.kill()
            said += [int(line) for line in writer.stdout if line.endswith("\n")]
        found = opened(tmp_path)
        state = found.store.restored()
        assert not found.clean
        assert state.batch in {said[-1], said[-1] + 1}
        assert state.entries[-1].index == state.batch * 3
        first = state.entries[0].index
        assert state.entries == entries(first, state.batch * 3)
        found.store.close(clean=False)
