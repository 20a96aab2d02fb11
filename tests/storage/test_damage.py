"""Bits flip, files shrink and vanish. Nothing that was acknowledged may disappear without an error or a note.

What may: the very last transaction, which looks torn (P1.3); and what a disk takes back together with all traces. Of
both the peers know, by the batch's number.
"""

import random
from pathlib import Path
from typing import Final, Literal

import pytest

from tenure.base.ids import BatchNumber
from tenure.raft.entries import Restored
from tenure.raft.ready import Batch
from tenure.storage import Corrupt, Foreign, Newer, Opened, StorageError
from tenure.storage.database import writes_of
from tenure.storage.wal import checksum, frame_bytes, wal_bytes, walk
from tests.storage.histories import Image, entries, history, opened, same, snapshot, states

WAL: Final = "tenure.db-wal"
DATABASE: Final = "tenure.db"
Outcome = Literal["whole", "torn", "refused"]


def crashed(directory: Path, shape: str) -> tuple[Image, list[Restored]]:
    """A store that was written and then crashed, and its states; the last batch has only itself behind it."""
    batches = history()
    store = opened(directory).store
    for batch in batches:
        store.write(batch)
        if shape == "checkpointed" and batch.number == 9:
            store.checkpoint("PASSIVE")  # the next batch starts a new round; older frames stay behind it
    if shape == "all checkpointed":
        store.checkpoint("PASSIVE")  # the round goes on to be read, though all of it is in the database
    if shape == "probes":  # the smallest transactions there are
        for number in range(len(batches) + 1, len(batches) + 5):
            batches.append(Batch(BatchNumber(number)))
            store.write(batches[-1])
    store.close(clean=False)
    return Image.of(directory), states(batches)


SHAPES = ["one round", "checkpointed", "all checkpointed", "probes"]


@pytest.fixture(scope="module", params=SHAPES)
def crash(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Image, list[Restored]]:
    return crashed(tmp_path_factory.mktemp("crash"), request.param)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Image, list[Restored]]:
    directory = tmp_path_factory.mktemp("stop")
    store = opened(directory).store
    for batch in history():
        store.write(batch)
    while store.tidy():
        pass
    store.close(clean=True)
    return Image.of(directory), states(history())


def judged(image: Image, wanted: list[Restored], directory: Path) -> Outcome:
    """Open it and hold the result against what was acknowledged; a store that opens must go on working."""
    image.lay_out(directory)
    try:
        found = opened(directory)
    except (Corrupt, Foreign, Newer) as error:
        assert error.file.parent == directory
        assert error.next_step
        return "refused"
    state = found.store.restored()
    try:
        _goes_on(found, state, directory)
    except Corrupt:
        return "refused"  # damage that shows only where it is touched is an error there, never a silent loss
    if same(state, wanted[-1]):
        return "whole"
    assert same(state, wanted[-2]), f"batch {state.batch} of {wanted[-1].batch}"
    assert any("unfinished last transaction" in note for note in found.notes), found.notes
    return "torn"


def _goes_on(found: Opened, state: Restored, directory: Path) -> None:
    last = state.entries[-1].index
    found.store.write(Batch(BatchNumber(state.batch + 1), entries=entries(last + 1, last + 9)))
    while found.store.tidy():
        pass
    found.store.close(clean=False)
    again = opened(directory)
    assert len(again.store.restored().entries) == len(state.entries) + 9
    again.store.close(clean=True)


def frames_of(wal: bytes) -> int:
    """How many frames of the current round there are."""
    salts = wal[16:24]
    count = 0
    while wal[32 + count * frame_bytes + 8 : 32 + count * frame_bytes + 16] == salts:
        count += 1
    return count


def transactions_of(wal: bytes) -> list[int]:
    """The first frame of each transaction of the current round, and the end of the last."""
    starts = [0]
    for frame in range(frames_of(wal)):
        place = 32 + frame * frame_bytes
        if wal[place + 4 : place + 8] != bytes(4):
            starts.append(frame + 1)
    return starts


def test_an_undamaged_crash_is_whole(crash: tuple[Image, list[Restored]], tmp_path: Path) -> None:
    image, wanted = crash
    assert judged(image, wanted, tmp_path / "d") == "whole"


@pytest.mark.slow
def test_a_flip_in_the_wal_never_loses_more_than_the_last_transaction(
    crash: tuple[Image, list[Restored]], tmp_path: Path
) -> None:
    image, wanted = crash
    chance = random.Random(1)
    used = 32 + frames_of(image.files[WAL]) * frame_bytes
    places = [chance.randrange(used) for _ in range(16)]
    places += [chance.randrange(used - 3 * frame_bytes, used) for _ in range(10)]
    places += [chance.randrange(32) for _ in range(4)]
    outcomes = {judged(image.flipped(WAL, place, 1 << chance.randrange(8)), wanted, tmp_path / "d") for place in places}
    assert "refused" in outcomes
    assert outcomes <= {"refused", "torn"}, "every byte of the round is under a checksum"


@pytest.mark.slow
def test_the_walk_tells_each_byte_of_the_last_three_transactions(crash: tuple[Image, list[Restored]]) -> None:
    """All bytes of the frame headers, with several masks, and many of the pages: only the last one may look torn."""
    wal, file = crash[0].files[WAL], Path("wal")
    starts = transactions_of(wal)
    used = 32 + starts[-1] * frame_bytes
    first, last = starts[-4], starts[-2]
    refused = 0
    for frame in range(first, starts[-1]):
        place = 32 + frame * frame_bytes
        for offset in [*range(24), *range(24, frame_bytes, 601)]:
            mask = 0x80 if offset % 2 else 0x01
            broken = bytearray(wal[: used + 3 * frame_bytes])
            broken[place + offset] ^= mask
            try:
                found = walk(bytes(broken), file, None)
            except Corrupt:
                refused += 1
                continue
            assert frame >= last, f"frame {frame}, byte {offset}, mask {mask:#x}: {found} would lose a whole batch"
            assert found.frames == last
            assert found.torn is not None
    assert refused > 20


def test_the_walk_takes_what_sqlite_takes(crash: tuple[Image, list[Restored]]) -> None:
    wal = crash[0].files[WAL]
    found = walk(wal, Path("wal"), None)
    assert found.frames == frames_of(wal)
    assert found.torn is None


@pytest.mark.slow
def test_any_torn_last_transaction_is_dropped_and_noted(crash: tuple[Image, list[Restored]], tmp_path: Path) -> None:
    """Before its sync any part of a transaction may be on the disk, its end too: some frames, and half frames."""
    image, wanted = crash
    wal = image.files[WAL]
    starts = transactions_of(wal)
    chance = random.Random(2)
    for _ in range(12):
        torn = bytearray(wal)
        whole = True
        for frame in range(starts[-2], starts[-1]):
            place = 32 + frame * frame_bytes
            fate = chance.choice(["written", "not", "half"])
            size = {"written": 0, "not": frame_bytes, "half": chance.randrange(1, frame_bytes)}[fate]
            if size:
                whole = False
                torn[place + frame_bytes - size : place + frame_bytes] = bytes(size)
        outcome = judged_torn(image.with_file(WAL, bytes(torn)), wanted, tmp_path / "d")
        assert outcome == ("whole" if whole else "torn")


def judged_torn(image: Image, wanted: list[Restored], directory: Path) -> Outcome:
    """As `judged`; a transaction of which nothing reached the disk leaves nothing to note."""
    image.lay_out(directory)
    found = opened(directory)
    state = found.store.restored()
    _goes_on(found, state, directory)
    if same(state, wanted[-1]):
        return "whole"
    assert same(state, wanted[-2])
    return "torn"


def test_a_transaction_that_is_wiped_out_in_front_of_another_is_damage(crash: tuple[Image, list[Restored]]) -> None:
    wal = bytearray(crash[0].files[WAL])
    starts = transactions_of(bytes(wal))
    start, stop = (32 + frame * frame_bytes for frame in starts[-3:-1])
    wal[start:stop] = bytes(stop - start)
    with pytest.raises(Corrupt, match="later"):
        walk(bytes(wal), Path("wal"), None)


def test_the_first_transaction_of_a_round_is_known_by_the_databases_own_count(tmp_path: Path) -> None:
    """With two transactions in the round and the first one's end flipped, no whole head is left in front."""
    store = opened(tmp_path / "d").store
    store.write(Batch(BatchNumber(1), entries=entries(1, 2)))
    store.checkpoint("RESTART")
    store.write(Batch(BatchNumber(2)))
    store.write(Batch(BatchNumber(3)))
    store.close(clean=False)
    image = Image.of(tmp_path / "d")
    ends = transactions_of(image.files[WAL])
    assert len(ends) == 3
    below = writes_of(tmp_path / "d" / DATABASE)
    commit = 32 + (ends[1] - 1) * frame_bytes
    for offset in range(16):
        with pytest.raises(Corrupt):
            walk(image.flipped(WAL, commit + offset, 0x04).files[WAL], Path("wal"), below)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 32 + frame_bytes, 32 + 3 * frame_bytes + 17, wal_bytes - 1])
def test_a_shortened_wal_is_damage(crash: tuple[Image, list[Restored]], tmp_path: Path, size: int) -> None:
    image = crash[0]
    cut = image.with_file(WAL, image.files[WAL][:size])
    cut.lay_out(tmp_path / "d")
    with pytest.raises(Corrupt, match="never less than"):
        opened(tmp_path / "d")
    assert Image.of(tmp_path / "d") == cut, "what was found damaged stays as it is"


def test_a_missing_wal_without_the_mark_is_damage(crash: tuple[Image, list[Restored]], tmp_path: Path) -> None:
    crash[0].without(WAL).lay_out(tmp_path / "d")
    with pytest.raises(Corrupt, match="missing, although the last stop was not clean"):
        opened(tmp_path / "d")


def test_a_wal_whose_header_is_gone_is_damage(crash: tuple[Image, list[Restored]], tmp_path: Path) -> None:
    image = crash[0]
    image.with_file(WAL, bytes(32) + image.files[WAL][32:]).lay_out(tmp_path / "d")
    with pytest.raises(Corrupt, match="header"):
        opened(tmp_path / "d")


def test_a_tail_taken_back_without_a_trace_shows_in_the_number_for_the_peers(
    crash: tuple[Image, list[Restored]], tmp_path: Path
) -> None:
    """P1.3: nothing here can tell this from a crash two batches earlier; a peer that was told the number can."""
    image, wanted = crash
    starts = transactions_of(image.files[WAL])
    keep = 32 + starts[-3] * frame_bytes
    image.with_file(WAL, image.files[WAL][:keep].ljust(wal_bytes, b"\0")).lay_out(tmp_path / "d")
    try:
        found = opened(tmp_path / "d")
    except Corrupt:
        return  # the database had it already, and doesn't fit what is left
    assert found.store.restored().batch == wanted[-3].batch
    found.store.close(clean=False)


# --- the database


@pytest.mark.slow
def test_a_flip_in_the_database_is_found_or_harmless(stopped: tuple[Image, list[Restored]], tmp_path: Path) -> None:
    outcomes = flips_in_database(*stopped, tmp_path / "d")
    assert outcomes.count("refused") > len(outcomes) // 4
    assert "torn" not in outcomes


@pytest.mark.slow
def test_a_flip_in_the_database_below_a_wal_is_found_or_harmless(
    crash: tuple[Image, list[Restored]], tmp_path: Path
) -> None:
    assert "torn" not in flips_in_database(*crash, tmp_path / "d")


def used_pages(data: bytes) -> list[int]:
    """Those that aren't on SQLite's list of free ones, from 0: a flip in a free page is harmless."""

    def number(place: int) -> int:
        return int.from_bytes(data[place : place + 4], "big")

    free: set[int] = set()
    trunk = number(32)
    while trunk:
        start = (trunk - 1) * 4096
        free |= {trunk, *(number(start + 8 + 4 * at) for at in range(number(start + 4)))}
        trunk = number(start)
    return [page for page in range(len(data) // 4096) if page + 1 not in free]


def flips_in_database(image: Image, wanted: list[Restored], directory: Path) -> list[Outcome]:
    chance = random.Random(3)
    used = used_pages(image.files[DATABASE])
    places = [chance.choice(used) * 4096 + chance.randrange(4096) for _ in range(20)] + [
        chance.randrange(100) for _ in range(8)
    ]
    return [judged(image.flipped(DATABASE, place, 1 << chance.randrange(8)), wanted, directory) for place in places]


@pytest.mark.parametrize("keep", [0, 1, 100, 4096, 3 * 4096, -4096])
def test_a_shortened_database_is_refused(stopped: tuple[Image, list[Restored]], tmp_path: Path, keep: int) -> None:
    image = stopped[0]
    image.with_file(DATABASE, image.files[DATABASE][:keep]).lay_out(tmp_path / "d")
    with pytest.raises(StorageError):
        opened(tmp_path / "d")


def test_a_page_that_went_back_to_an_earlier_version_is_found(tmp_path: Path) -> None:
    """A write that the disk swallowed: each page of the database, as it was one batch earlier."""
    store = opened(tmp_path / "d").store
    for number in range(1, 30):
        store.write(Batch(BatchNumber(number), entries=entries(number * 10 - 9, number * 10)))
    store.checkpoint("RESTART")
    before = (tmp_path / "d" / DATABASE).read_bytes()
    store.write(Batch(BatchNumber(30), snapshot=snapshot(290), entries=entries(291, 300)))
    store.close(clean=True)
    image = Image.of(tmp_path / "d")
    after = image.files[DATABASE]
    changed = [page for page in range(0, len(before), 4096) if before[page : page + 4096] != after[page : page + 4096]]
    assert len(changed) >= 4
    for page in changed:
        older = after[:page] + before[page : page + 4096] + after[page + 4096 :]
        image.with_file(DATABASE, older).lay_out(tmp_path / "e")
        with pytest.raises(Corrupt):
            opened(tmp_path / "e")


def test_an_older_copy_of_the_database_does_not_pass_for_the_one_that_was_closed(tmp_path: Path) -> None:
    store = opened(tmp_path / "d").store
    store.write(Batch(BatchNumber(1)))
    store.close(clean=True)
    older = Image.of(tmp_path / "d").files[DATABASE]
    store = opened(tmp_path / "d").store
    store.write(Batch(BatchNumber(2)))
    store.close(clean=True)
    Image.of(tmp_path / "d").with_file(DATABASE, older).lay_out(tmp_path / "e")
    with pytest.raises(Corrupt, match="not the store that was closed cleanly"):
        opened(tmp_path / "e")


def test_a_mark_beside_a_wal_that_holds_something_is_damage(
    crash: tuple[Image, list[Restored]], tmp_path: Path
) -> None:
    mark = b'{"member":"0000000000000001","writes":1,"number":1,"chain":1}'
    crash[0].with_file("clean-shutdown", mark).lay_out(tmp_path / "d")
    with pytest.raises(Corrupt, match="neither empty nor"):
        opened(tmp_path / "d")


def interrupted(directory: Path, batches: int) -> Image:
    """A clean stop that ended right behind its mark: all is in the database, and the `-wal` is still there."""
    store = opened(directory).store
    first = store.restored().batch
    for number in range(first + 1, first + batches + 1):
        store.write(Batch(BatchNumber(number)))
    store.checkpoint("RESTART")
    wal = (directory / WAL).read_bytes()
    store.close(clean=True)
    assert (directory / WAL).stat().st_size == 0
    return Image.of(directory).with_file(WAL, wal)


@pytest.mark.parametrize("batches", [0, 1, 5])
def test_a_clean_stop_that_was_interrupted_behind_its_mark_is_clean_still(tmp_path: Path, batches: int) -> None:
    """kill -9 after SIGTERM, or a truncation that never reached the disk."""
    image = interrupted(tmp_path / "d", batches)
    found = opened(image.lay_out(tmp_path / "e"))
    assert found.clean
    assert found.store.restored().batch == batches
    found.store.write(Batch(BatchNumber(batches + 1)))
    found.store.close(clean=False)
    found = opened(tmp_path / "e")
    assert found.store.restored().batch == batches + 1
    found.store.close(clean=True)


def test_the_wal_of_an_interrupted_clean_stop_is_held_against_the_mark(tmp_path: Path) -> None:
    image = interrupted(tmp_path / "d", 3)
    later = interrupted(tmp_path / "d", 2)
    with pytest.raises(Corrupt):
        opened(later.with_file(WAL, image.files[WAL]).lay_out(tmp_path / "an older one"))
    with pytest.raises(Corrupt):
        opened(image.with_file(WAL, later.files[WAL]).lay_out(tmp_path / "a newer one"))
    last = 32 + (frames_of(image.files[WAL]) - 1) * frame_bytes
    for place in (40, last + 100):
        with pytest.raises(Corrupt):
            opened(image.flipped(WAL, place, 0x10).lay_out(tmp_path / "a flip"))


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"member":"x","writes":0,"number":0,"chain":0}'])
def test_a_damaged_mark_is_damage(stopped: tuple[Image, list[Restored]], tmp_path: Path, content: bytes) -> None:
    stopped[0].with_file("clean-shutdown", content).lay_out(tmp_path / "d")
    with pytest.raises(Corrupt):
        opened(tmp_path / "d")


def test_the_checksum_is_sqlites_own(crash: tuple[Image, list[Restored]]) -> None:
    """Word by word as in walChecksumBytes, against the header that SQLite wrote."""
    wal = crash[0].files[WAL]
    first = second = 0
    order: Literal["big", "little"] = "big" if wal[3] & 1 else "little"
    for place in range(0, 24, 8):
        first = (first + int.from_bytes(wal[place : place + 4], order) + second) % 2**32
        second = (second + int.from_bytes(wal[place + 4 : place + 8], order) + first) % 2**32
    assert (first, second) == (int.from_bytes(wal[24:28]), int.from_bytes(wal[28:32]))
    assert checksum(wal[:24], 0, 0, swap=bool(wal[3] & 1)) == (first, second)
