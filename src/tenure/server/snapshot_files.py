"""Snapshots in files: written safely, read back and checked whole before anything is believed."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct

from tenure.base.errors import TenureError
from tenure.leadership.commands import UnknownCommand
from tenure.leadership.snapshots import Thawing
from tenure.leadership.state import State
from tenure.wire.snapshot_file import BadSnapshot, Header, Reader, Trailer

_read_bytes: Final = 256 * 1024


class FileError(TenureError):
    """A file can't be written or read."""


class Contents(Struct, frozen=True):
    """What a state holds, counted. `next_term` is the least that it could grant next."""

    sessions: int
    elections: int
    held: int
    keys: int
    key_bytes: int
    client_sessions: int
    idempotency_keys: int
    next_term: int


class Whole(Struct, frozen=True):
    """A snapshot file that was read and checked."""

    header: Header
    trailer: Trailer
    state: State


def contents(state: State) -> Contents:
    """Count."""
    return Contents(
        sessions=len(state.sessions),
        elections=len(state.elections),
        held=sum(1 for election in state.elections.values() if election.holder is not None),
        keys=len(state.kv),
        key_bytes=state.kv_bytes,
        client_sessions=len(state.clients),
        idempotency_keys=len(state.keyed),
        next_term=state.counter + 1,
    )


def save(path: Path, parts: Iterable[bytes], *, overwrite: bool) -> tuple[Header, Trailer]:
    """Write a file that comes in parts: under another name until it is whole and on the disk, its owner's alone.

    Raises `BadSnapshot` if what came is none, and `FileError`; then nothing is left behind.
    """
    if path.exists() and not overwrite:
        raise FileError(f"{path} exists. Next step: give another name, or --overwrite")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    reader = Reader()
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for part in parts:
                reader.feed(part)
                file.write(part)
            found = reader.finish()
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync(path.parent)
    except OSError as error:
        raise FileError(f"{path} can't be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return found


def load(path: Path) -> Whole:
    """Read a whole file. Raises `BadSnapshot`, `FileError`, and `UnknownCommand` for a state of another version."""
    reader, thawing = Reader(), Thawing()
    try:
        with open(path, "rb") as file:
            while data := file.read(_read_bytes):
                for chunk in reader.feed(data):
                    thawing.feed(chunk)
    except OSError as error:
        raise FileError(f"{path} can't be read: {error.strerror or error}") from error
    except UnknownCommand:
        _check(path)  # damage shows as nonsense first: the hash at the end tells it from another version
        raise
    header, trailer = reader.finish()
    state = thawing.finish()
    if state.lineage != header.lineage or state.applied > header.index:
        raise BadSnapshot("damaged", "the snapshot's header is not that of its state")
    return Whole(header, trailer, state)


def _check(path: Path) -> None:
    reader = Reader()
    with open(path, "rb") as file:
        while data := file.read(_read_bytes):
            reader.feed(data)
    reader.finish()


def sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
