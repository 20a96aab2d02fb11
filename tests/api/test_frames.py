"""The frame reader against RFC 6455, a slow twin of its own, and the `websockets` library as the other side."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from tenure.api.frames import Closed, Ping, Pong, Reader, accept_key, close, ping, pong, text


def masked(opcode: int, payload: bytes, *, final: bool = True, reserved: int = 0) -> bytes:
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


def test_the_accept_key_is_that_of_the_standard() -> None:
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@given(
    st.lists(st.tuples(st.sampled_from(["text", "ping", "pong", "parts"]), st.binary(max_size=200)), max_size=8),
    st.integers(1, 400),
)
def test_messages_come_out_as_they_went_in_however_the_bytes_are_cut(items: list[tuple[str, bytes]], size: int) -> None:
    sent, expected = b"", list[object]()
    for kind, payload in items:
        match kind:
            case "text":
                sent += masked(1, payload)
                expected.append(payload)
            case "ping":
                sent += masked(9, payload[:125])
                expected.append(Ping(payload[:125]))
            case "pong":
                sent += masked(10, payload[:125])
                expected.append(Pong())
            case _:
                sent += masked(1, payload, final=False) + masked(9, b"between") + masked(0, payload)
                expected += [Ping(b"between"), payload * 2]
    reader, found = Reader(1_000), list[object]()
    for at in range(0, len(sent), size):
        found += reader.feed(sent[at : at + size])
    assert found == expected


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536, 70_000])
def test_every_form_of_length_is_read_and_written(length: int) -> None:
    payload = os.urandom(length)
    assert Reader(100_000).feed(masked(1, payload)) == [payload]
    written = b"".join(text(payload))
    assert written == Frame(Opcode.TEXT, payload).serialize(mask=False)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (masked(1, b"x", reserved=0x40), 1002),
        (b"\x81\x01x", 1002),  # not masked
        (masked(3, b"x"), 1002),
        (masked(11, b"x"), 1002),
        (masked(2, b"x"), 1003),
        (masked(9, b"x", final=False), 1002),
        (b"\x89\xfe\x00\x7e", 1002),  # a ping of 126 bytes
        (masked(0, b"x"), 1002),
        (masked(1, b"x", final=False) + masked(1, b"y"), 1002),
        (masked(1, b"x" * 201), 1009),
        (b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff", 1009),  # only announced
        (masked(1, b"x" * 120, final=False) + masked(0, b"x" * 120), 1009),
        (masked(1, b"", final=False) + masked(0, b"", final=False) * 1_100, 1008),
        (masked(8, b""), 1000),
        (masked(8, b"\x03\xe8bye"), 1000),
        (masked(8, b"\x03\xed"), 1002),
    ],
)
def test_what_breaks_the_protocol_ends_it_with_a_code_and_nothing_is_read_behind(sent: bytes, code: int) -> None:
    for size in (len(sent), 1):
        reader, found = Reader(200), list[object]()
        for at in range(0, len(sent), size):
            found += reader.feed(sent[at : at + size])
        last = found[-1]
        assert isinstance(last, Closed)
        assert last.code == code
        assert reader.feed(masked(1, b"more")) == []


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_whatever_raise_or_grow_beyond_the_limit(pieces: list[bytes]) -> None:
    reader = Reader(125)
    for piece in pieces:
        for found in reader.feed(piece):
            assert not isinstance(found, bytes) or len(found) <= 125


def test_what_is_written_is_what_the_library_writes() -> None:
    assert pong(b"abc") == Frame(Opcode.PONG, b"abc").serialize(mask=False)
    assert ping() == Frame(Opcode.PING, b"").serialize(mask=False)
    assert close(1001, "bye") == Frame(Opcode.CLOSE, b"\x03\xe9bye").serialize(mask=False)
