"""The whole state as bytes and back: sessions, candidacies, holdings, terms, answers given, history, keys, the counter
with its newest stamp, and the number of the last transition. Who restores it goes on as if the log had been applied.
"""

import hashlib
from typing import Final

import msgspec
from msgspec import Struct

from tenure.leadership.commands import UnknownCommand
from tenure.leadership.state import State

snapshot_format: Final = 1

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(State)


class _Head(Struct, frozen=True, array_like=True):
    format: int


def encode(state: State) -> bytes:
    """Equal states give equal bytes: dicts keep their order of insertion, which the log decides."""
    return _encoder.encode(state)


def decode(data: bytes) -> State:
    """Read a state back; `UnknownCommand` for a format that this program doesn't know (P10)."""
    try:
        found = msgspec.msgpack.decode(data, type=_Head).format
        if found != snapshot_format:
            raise UnknownCommand(f"snapshot format {found}, this program knows {snapshot_format}")
        return _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise UnknownCommand(f"not a snapshot of the state machine: {error}") from error


def digest(state: State) -> str:
    """32 hex digits; equal at equal index on every member (S12)."""
    return hashlib.blake2b(encode(state), digest_size=16).hexdigest()
