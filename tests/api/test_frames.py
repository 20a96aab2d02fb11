"""Our half of the frames (where they end, and the usual one) against the `websockets` library alone as the oracle."""

import inspect
import os
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import OPEN, SEND_EOF
from websockets.server import ServerProtocol

from tenure.api import frames
from tenure.api.frames import Frames, text

LIMIT = 300


def masked(opcode: int, payload: bytes, *, final: bool = True, reserved: int = 0) -> bytes:
    """As a client sends it, by hand: also what the library would never send."""
    mask = os.urandom(4)
    length = len(payload)
    head = bytes([(0x80 if final else 0) | reserved | opcode])
    if length < 126:
        head += bytes([0x80 | length])
    elif length < 65_536:
        head += bytes([0xFE]) + length.to_bytes(2, "big")
    else:
        head += bytes([0xFF]) + length.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def cut(sent: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(sent[at : at + size])
        at += size
    return [piece for piece in [*pieces, sent[at:]] if piece]


def heard(pieces: list[bytes], limit: int = LIMIT) -> tuple[list[bytes], bytes, bool]:
    """What ours makes of it: messages, what is said back, whether it has ended."""
    frames, messages, said = Frames(limit), list[bytes](), b""
    for piece in pieces:
        messages += frames.feed(piece)
        said += frames.unsent
    return messages, said, frames.has_ended


def oracle(sent: bytes, limit: int = LIMIT) -> tuple[list[bytes], bytes, bool]:
    """The same from the library alone, in one piece."""
    library, messages, parts = ServerProtocol(state=OPEN, max_size=limit), list[bytes](), b""
    library.receive_data(sent)
    for event in library.events_received():
        assert isinstance(event, Frame)
        if event.opcode in {Opcode.TEXT, Opcode.CONT}:
            parts += bytes(event.data)
            if event.fin:
                messages.append(parts)
                parts = b""
    said = library.data_to_send()
    return messages, b"".join(said), SEND_EOF in said


lengths = st.one_of(st.integers(0, 10), st.integers(120, 130), st.integers(LIMIT - 20, LIMIT + 20))
payloads = lengths.map(os.urandom)
good = st.one_of(
    st.builds(masked, st.just(1), payloads),
    st.builds(masked, st.sampled_from([9, 10]), st.binary(max_size=125)),
    st.builds(lambda one, two, ping: masked(1, one, final=False) + ping + masked(0, two), st.binary(max_size=150),
              st.binary(max_size=150), st.sampled_from([b"", masked(9, b"between")])),
)  # fmt: skip
bad = st.one_of(
    st.builds(masked, st.sampled_from([0, 1, 3, 7, 8, 9, 10, 11, 15]), payloads, final=st.booleans(),
              reserved=st.sampled_from([0, 0, 0, 0x10, 0x20, 0x40])),
    st.builds(lambda code, more: masked(8, code.to_bytes(2, "big") + more), st.integers(0, 5_000),
              st.binary(max_size=9)),
    payloads.map(lambda payload: Frame(Opcode.TEXT, payload).serialize(mask=False)),  # not masked
    st.just(b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff"),  # too long, and only announced
)  # fmt: skip
sizes = st.lists(st.integers(1, 60), max_size=40)


@given(st.lists(good, max_size=8), sizes)
def test_messages_come_out_as_the_library_reads_them_however_the_bytes_are_cut(
    frames: list[bytes], sizes: list[int]
) -> None:
    sent = b"".join(frames)
    assert heard(cut(sent, sizes)) == oracle(sent)


@given(st.lists(good, max_size=4), bad, st.lists(st.one_of(good, bad), max_size=3), sizes)
@example([], masked(1, b"", final=False) + masked(0, b"", final=False) * 50, [masked(1, b"no")], [])
@example([masked(1, b"x" * 200, final=False)], masked(0, b"x" * 200), [], [3])
def test_what_breaks_the_protocol_ends_it_where_the_library_ends_it(
    frames: list[bytes], wrong: bytes, more: list[bytes], sizes: list[int]
) -> None:
    sent = b"".join([*frames, wrong, *more])
    assert heard(cut(sent, sizes)) == oracle(sent)


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_whatever_raise_or_grow_beyond_the_limit(pieces: list[bytes]) -> None:
    frames = Frames(125)
    for piece in pieces:
        assert all(len(found) <= 125 for found in frames.feed(piece))
        assert len(frames._rest) <= 125 + 14
    messages, said, ended = oracle(b"".join(pieces), 125)
    ours = heard(pieces, 125)
    if ended == ours[2]:  # a frame that never becomes whole is refused by the library at once, by us never
        assert ours == (messages, said, ended)
    else:
        assert ended
        assert ours[0] == messages[: len(ours[0])]


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536, 70_000])
def test_every_form_of_length_is_read_and_written(length: int) -> None:
    payload = os.urandom(length)
    assert heard([masked(1, payload)], 100_000) == ([payload], b"", False)
    assert b"".join(text(payload)) == Frame(Opcode.TEXT, payload).serialize(mask=False)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (masked(2, b"x"), 1003),
        (masked(1, b"x" * 301), 1009),
        (masked(1, b"x", reserved=0x40), 1002),
        (masked(8, b"\x03\xe8bye"), 1000),
    ],
    ids=["binary", "too long", "reserved bits", "close"],
)
def test_the_end_has_a_code_and_nothing_is_read_behind_it(sent: bytes, code: int) -> None:
    frames = Frames(LIMIT)
    assert frames.feed(sent + masked(1, b"more")) == []
    assert Close.parse(frames.unsent[2:]).code == code
    assert frames.has_ended
    assert frames.feed(masked(1, b"more")) == []
    assert frames.close(1001, "bye") == b""


def test_a_reason_of_ours_fits_its_frame() -> None:
    said = Frames(LIMIT).close(1011, "ü" * 200)
    assert len(said) <= 127
    found: Any = Close.parse(said[2:])
    assert (found.code, found.reason) == (1011, "ü" * 60)


def test_the_usual_frame_is_unmasked_by_the_librarys_c_part() -> None:
    """ADR 0007: where the library keeps it has changed once, and cost two µs a keepalive until somebody looked."""
    assert not inspect.isfunction(vars(frames)["apply_mask"])
