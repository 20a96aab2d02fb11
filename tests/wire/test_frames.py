"""Frames, however they are chopped and whatever garbage comes."""

from itertools import pairwise
from typing import get_args

import msgspec
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from tenure.base.ids import BatchNumber, Boot, ConsensusTerm, ElectionName, LogIndex, MemberId, Nonce, SessionId
from tenure.leadership.engine import Campaign, Kept, KvGet, KvKeys, KvPut, Refused, Sequenced
from tenure.raft.entries import Configuration, Entry, Seat
from tenure.raft.founding import FoundAck, FoundHello, FoundPropose, FoundSeal, Listed, Record
from tenure.raft.messages import Append, AppendReply, Envelope, Heartbeat, SnapshotChunk
from tenure.wire.frames import (
    BadFrame,
    Call,
    CallReply,
    Closing,
    Decoder,
    EnvelopeEncoder,
    Frame,
    Hello,
    Introduce,
    Ping,
    Pong,
    Proof,
    Reject,
    Taken,
    Welcome,
    decode_hello,
    encode,
    encode_hello,
    frame_bytes_max,
)

ME, YOU, NONCE = MemberId("a" * 16), MemberId("b" * 16), Nonce("c" * 16)
TERM = ConsensusTerm(3)
CONFIGURATION = Configuration(LogIndex(0), (Seat(ME, "m1", "127.0.0.1:1"), Seat(YOU, "m2", "127.0.0.1:2")))
RECORD = Record(NONCE, CONFIGURATION, 7)
ENTRIES = tuple(Entry(LogIndex(index), TERM, 0, b"x" * index) for index in range(1, 20))
APPEND = Append(TERM, LogIndex(0), TERM, LogIndex(0), ENTRIES)
FRAMES: list[Frame] = [
    Envelope(ME, YOU, NONCE, APPEND),
    Envelope(ME, YOU, NONCE, AppendReply(TERM, LogIndex(3), BatchNumber(4))),
    Envelope(ME, YOU, NONCE, Heartbeat(TERM, Boot("b"), 1, LogIndex(0), 1, 2, (ME, YOU), {ME: BatchNumber(5)})),
    Envelope(ME, YOU, NONCE, SnapshotChunk(TERM, LogIndex(1), TERM, CONFIGURATION, 1, 0, 3, 7, b"\0\1\2")),
    Call(1, KvPut("k", b'{"a":[1,null]}'), Sequenced("1-" + "0" * 16, 2, 1)),
    Call(2, Campaign(SessionId("1-" + "0" * 16), ElectionName("orders"))),
    CallReply(1, Refused("no_quorum", "…", retry_after_ms=5)),
    CallReply(2, Kept(SessionId("1-" + "0" * 16), 9, (), ())),
    FoundHello("m1", ME, (Listed("m1", "127.0.0.1:1"),), "pending", RECORD),
    FoundPropose(RECORD),
    FoundAck(ME, NONCE),
    FoundSeal(RECORD),
    Introduce(b"h"),
    Welcome(b"h", b"p"),
    Proof(BatchNumber(3), b"p"),
    Taken(),
    Reject("why"),
    Ping(1, 2),
    Pong(1, 2),
    Closing(),
]
STREAM = b"".join(encode(frame) for frame in FRAMES)


def test_every_kind_of_frame_is_tried_here() -> None:
    assert {type(frame) for frame in FRAMES} == set(get_args(Frame))


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_comes_back_as_it_was(frame: Frame) -> None:
    assert Decoder().feed(encode(frame)) == [frame]


@seed(1)
@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_it_does_not_matter_how_the_stream_is_chopped(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    decoder = Decoder()
    found = [frame for start, stop in pairwise(places) for frame in decoder.feed(STREAM[start:stop])]
    assert found == FRAMES
    assert decoder.held_bytes == 0


def test_byte_by_byte() -> None:
    decoder = Decoder()
    assert [frame for byte in STREAM for frame in decoder.feed(bytes([byte]))] == FRAMES


def test_an_envelope_for_several_is_encoded_as_if_for_each() -> None:
    encoder = EnvelopeEncoder()
    for number in range(200):
        envelope = Envelope(ME, MemberId(f"{number % 90:016x}"), NONCE, APPEND)
        assert encoder.encode(envelope) == encode(envelope)
    other = Envelope(ME, YOU, NONCE, AppendReply(TERM, LogIndex(3), BatchNumber(4)))
    assert encoder.encode(other) == encode(other)
    assert encoder.encode(Envelope(ME, YOU, NONCE, APPEND)) == encode(Envelope(ME, YOU, NONCE, APPEND))


@seed(2)
@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(STREAM) - 1), st.integers(1, 255))
def test_a_flipped_byte_gives_other_frames_or_a_bad_frame_and_nothing_else(place: int, mask: int) -> None:
    broken = bytearray(STREAM)
    broken[place] ^= mask
    decoder = Decoder()
    try:
        found = decoder.feed(bytes(broken))
    except BadFrame as bad:
        found = list(bad.before)
    good = 0
    for frame in FRAMES:  # all that lies in front of the flipped byte is there
        good += len(encode(frame))
        if good > place:
            break
        assert found.pop(0) == frame


@seed(3)
@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_a_bad_frame_or_an_unfinished_one(data: bytes) -> None:
    decoder = Decoder(4096)
    try:
        decoder.feed(data)
    except BadFrame as bad:
        assert bad.what in {"too_large", "empty", "version", "undecodable"}
    assert decoder.held_bytes <= 4096 + 4


@seed(4)
@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_a_hello_that_is_none_is_a_bad_frame(data: bytes) -> None:
    try:
        decode_hello(data)
    except BadFrame as bad:
        assert bad.what == "undecodable"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\0\0\0\0\1", "empty"),
        (b"\0\0\0\1\1", "empty"),
        (b"\0\0\0\2\2\xc0", "version"),
        ((frame_bytes_max + 1).to_bytes(4) + b"\1", "too_large"),
        (b"\0\0\0\2\1\xc0", "undecodable"),
        (b"\0\0\0\6\1\x91\xa3zzz", "undecodable"),
    ],
)
def test_what_is_wrong_has_a_name(data: bytes, what: str) -> None:
    with pytest.raises(BadFrame) as caught:
        Decoder().feed(encode(FRAMES[0]) + data)
    assert caught.value.what == what
    assert caught.value.before == (FRAMES[0],)


def test_an_answer_that_fits_no_frame_becomes_a_refusal_that_says_so() -> None:
    keys = tuple(f"{number:04}" + "k" * 1_000 for number in range(5_000))
    data = encode(CallReply(7, KvKeys(keys, True)))
    assert len(data) < 1_000
    (frame,) = Decoder().feed(data)
    assert isinstance(frame, CallReply)
    assert isinstance(frame.result, Refused)
    assert (frame.id, frame.result.code) == (7, "too_large")
    with pytest.raises(AssertionError, match="Call of"):
        encode(Call(7, KvPut("k", b"x" * frame_bytes_max)))


def test_too_large_is_said_before_anything_is_buffered() -> None:
    decoder = Decoder(limit=100)
    with pytest.raises(BadFrame):
        decoder.feed(encode(FRAMES[0])[:5])
    assert decoder.held_bytes == 0


def test_a_request_with_unknown_fields_is_refused_and_one_of_a_newer_hello_is_not() -> None:
    hello = Hello(ME, "m1", Boot("b"))
    longer = msgspec.msgpack.encode([*msgspec.msgpack.decode(encode_hello(hello)), "a later field"])
    assert decode_hello(longer) == hello
    call = msgspec.msgpack.encode(["c", 1, {"type": "kv_get", "key": "k", "more": 1}, None])
    with pytest.raises(BadFrame):
        Decoder().feed((len(call) + 1).to_bytes(4) + b"\1" + call)
    assert Decoder().feed(encode(Call(1, KvGet("k")))) == [Call(1, KvGet("k"))]


@pytest.mark.parametrize("payload", [b"\x91" * 100_000, b"\x92\xa1c" + b"\x81\xa1x" * 50_000 + b"\xc0"])
def test_a_bottomless_nesting_is_a_bad_frame(payload: bytes) -> None:
    with pytest.raises(BadFrame):
        Decoder().feed((len(payload) + 1).to_bytes(4) + b"\1" + payload)
