"""The file of a snapshot: what was written is read back, and whatever happened to it is noticed and named."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenure.base.ids import ConsensusTerm, LogIndex, MemberId, Nonce
from tenure.leadership.members import MemberSeat
from tenure.wire.snapshot_file import BadSnapshot, Header, Reader, written

HEADER = Header(
    (Nonce("a" * 16), Nonce("b" * 16)), LogIndex(77), ConsensusTerm(3), 1,
    (MemberSeat(MemberId("1" * 16), "m1", "10.0.0.1:8369", "voter"),), "m1", "2026-01-01T00:00:00.000Z", "linearizable",
)  # fmt: skip
CHUNKS = (b"first", b"second\n", b"\0\0\0\0", b"x" * 3000)
FILE = b"".join(written(HEADER, CHUNKS))


def read(data: bytes, sizes: tuple[int, ...] = (1 << 20,)) -> tuple[Header, bytes]:
    reader, start, at = Reader(), 0, 0
    chunks: list[bytes] = []
    while start < len(data):
        size = sizes[at % len(sizes)]
        chunks += reader.feed(data[start : start + size])
        start, at = start + size, at + 1
    header, _ = reader.finish()
    return header, b"".join(chunks)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=4).map(tuple))
def test_it_is_read_back_however_it_arrives(sizes: tuple[int, ...]) -> None:
    assert read(FILE, sizes) == (HEADER, b"".join(CHUNKS))


def test_its_first_lines_and_its_last_are_for_people() -> None:
    lines = FILE.split(b"\n")
    assert lines[0] == b"tenure-snapshot 1"
    assert json.loads(lines[1])["index"] == 77
    assert set(json.loads(FILE.rstrip().rsplit(b"\n", 1)[-1].split(b"\0")[-1])) == {"bytes", "sha256"}


def test_a_file_that_was_cut_off_anywhere_is_told_as_that() -> None:
    for length in range(len(FILE)):
        with pytest.raises(BadSnapshot) as caught:
            read(FILE[:length])
        assert caught.value.what == "cut_off", length


@given(st.integers(0, len(FILE) - 1), st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_noticed(place: int, bit: int) -> None:
    changed = bytearray(FILE)
    changed[place] ^= 1 << bit
    with pytest.raises(BadSnapshot):
        read(bytes(changed))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"SQLite format 3\0", "foreign"),
        (b"tenure-snapsho\n", "foreign"),
        (b"tenure-snapshot x\n", "foreign"),
        (b"tenure-snapshot 2\n{}", "newer"),
        (b"tenure-snapshot 1\n{}\n", "damaged"),
        (b"tenure-snapshot 1\n" + b"x" * 70_000, "damaged"),
        (FILE + b"x", "damaged"),
        (FILE.split(b"first")[0][:-4] + b"\xff\xff\xff\xff", "damaged"),
        (b"", "cut_off"),
    ],
)
def test_what_is_no_snapshot_of_ours_is_named(data: bytes, what: str) -> None:
    with pytest.raises(BadSnapshot) as caught:
        read(data)
    assert caught.value.what == what


def test_an_empty_state_is_a_whole_file() -> None:
    assert read(b"".join(written(HEADER, ()))) == (HEADER, b"")
