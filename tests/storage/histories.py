"""Batches to write, the state that each must leave, and disks that fail on demand."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import msgspec

from tenure.base.ids import BatchNumber, ConsensusTerm, LogIndex, MemberId, Nonce
from tenure.raft.entries import COMMAND, Configuration, Entry, HardState, Restored, Seat, Snapshot
from tenure.raft.entries import Image as Bytes
from tenure.raft.founding import Record
from tenure.raft.ready import Batch
from tenure.storage import Opened, Store

PEER = MemberId("f" * 16)
CONFIGURED = Configuration(LogIndex(0), (Seat(PEER, "m2", "127.0.0.1:2"),))
RECORD = Record(Nonce("1" * 16), CONFIGURED, 7)
NOTHING = Restored(
    HardState(ConsensusTerm(0), None), Configuration(LogIndex(0), ()), 1, None, (), BatchNumber(0), True, {}
)


def entry(index: int, term: int = 1, size: int = 100, kind: int = COMMAND) -> Entry:
    data = f"{index}.{term}.".encode() * (size // 4 + 1)
    return Entry(LogIndex(index), ConsensusTerm(term), kind, data[:size])


def entries(first: int, last: int, term: int = 1, size: int = 100) -> tuple[Entry, ...]:
    return tuple(entry(index, term, size) for index in range(first, last + 1))


def cut(data: bytes) -> list[bytes]:
    """Three pieces of different sizes."""
    third = len(data) // 3
    return [data[: third + 1], data[third + 1 : 2 * third], data[2 * third :]]


def snapshot(index: int, term: int = 1, size: int = 1000) -> Snapshot:
    return Snapshot(LogIndex(index), ConsensusTerm(term), CONFIGURED, 1, Bytes.of(cut(f"{index}.".encode() * size)))


def after(state: Restored, batch: Batch) -> Restored:
    """What a batch means, said in the slow and obvious way (ready.Batch)."""
    held = list(state.entries)
    kept = state.snapshot
    if batch.snapshot is not None:
        kept = batch.snapshot
        if batch.install:
            held = []
    if batch.compact_to is not None:
        held = [one for one in held if one.index >= batch.compact_to]
    if batch.truncate_from is not None:
        held = [one for one in held if one.index < batch.truncate_from]
    held.extend(batch.entries)
    configuration = kept.configuration if kept is not None else Configuration(LogIndex(0), ())
    return Restored(
        hard_state=batch.hard_state or state.hard_state,
        configuration=configuration,
        feature=1,
        snapshot=kept,
        entries=tuple(held),
        batch=batch.number,
        clean=state.clean,
        known_batches=state.known_batches if batch.known_batches is None else batch.known_batches,
    )


def history() -> list[Batch]:
    """A bit of everything that a member writes."""
    put: list[Callable[[BatchNumber], Batch]] = [
        lambda n: Batch(n, hard_state=HardState(ConsensusTerm(1), PEER)),
        lambda n: Batch(n, entries=entries(1, 3)),
        Batch,
        lambda n: Batch(n, entries=entries(4, 60, size=300), known_batches={PEER: BatchNumber(9)}),
        lambda n: Batch(n, truncate_from=LogIndex(41), entries=entries(41, 50, 2)),
        lambda n: Batch(n, snapshot=snapshot(30), compact_to=LogIndex(25)),
        lambda n: Batch(n, entries=entries(51, 51, 2, 9000)),
        lambda n: Batch(n, hard_state=HardState(ConsensusTerm(3), None), truncate_from=LogIndex(51)),
        lambda n: Batch(n, entries=entries(51, 55, 3)),
        lambda n: Batch(n, snapshot=snapshot(100, 3, 5000), install=True, truncate_from=None),
        lambda n: Batch(n, entries=entries(101, 140, 3)),
        lambda n: Batch(n, snapshot=snapshot(140, 3), compact_to=LogIndex(141)),
        lambda n: Batch(n, entries=entries(141, 141, 3)),
        lambda n: Batch(n, entries=entries(142, 145, 3)),
        lambda n: Batch(n, hard_state=HardState(ConsensusTerm(4), PEER), known_batches={PEER: BatchNumber(11)}),
        Batch,
        lambda n: Batch(n, entries=entries(146, 148, 4)),
    ]
    return [make(BatchNumber(number)) for number, make in enumerate(put, 1)]


def states(batches: list[Batch]) -> list[Restored]:
    """State number `n` is what batch `n` leaves; number 0 is an empty store."""
    found = [NOTHING]
    for batch in batches:
        found.append(after(found[-1], batch))
    return found


def same(found: Restored, wanted: Restored) -> bool:
    """Equal, whatever the last stop was."""
    return msgspec.structs.replace(found, clean=True) == msgspec.structs.replace(wanted, clean=True)


def draw(member: int = 1) -> Callable[[], str]:
    return lambda: f"{member:016x}"


def opened(directory: Path, **more: str) -> Opened:
    return Store.open(directory, "m1", draw=draw(), **more)


@dataclass
class Image:
    """The files of a data directory at one moment, to be damaged and laid out anew."""

    files: dict[str, bytes]

    @staticmethod
    def of(directory: Path) -> "Image":
        return Image({file.name: file.read_bytes() for file in directory.iterdir() if file.name != "lock"})

    def lay_out(self, directory: Path) -> Path:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        for name, content in self.files.items():
            (directory / name).write_bytes(content)
        return directory

    def flipped(self, name: str, place: int, mask: int) -> "Image":
        content = bytearray(self.files[name])
        content[place] ^= mask
        return Image(self.files | {name: bytes(content)})

    def with_file(self, name: str, content: bytes) -> "Image":
        return Image(self.files | {name: content})

    def without(self, name: str) -> "Image":
        return Image({one: content for one, content in self.files.items() if one != name})


# --- disks that fail on demand


@dataclass
class Faults:
    """Asked before each operation on a file; may return the error to raise."""

    rules: list[Callable[[str, str], Exception | None]] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)

    def check(self, operation: str, file: str) -> None:
        self.seen.append((operation, file))
        for rule in self.rules:
            error = rule(operation, file)
            if error is not None:
                raise error


def sync_error(on: str) -> Callable[[str, str], Exception | None]:
    """EIO from fsync of files whose name ends so."""

    def rule(operation: str, file: str) -> Exception | None:
        if operation != "sync" or not file.endswith(on):
            return None
        error = apsw.IOError("EIO, injected")
        error.extendedresult = apsw.SQLITE_IOERR_FSYNC  # type: ignore[attr-defined]
        return error

    return rule


def full(on: str) -> Callable[[str, str], Exception | None]:
    """ENOSPC from writes to files whose name ends so."""
    return lambda operation, file: (
        apsw.FullError("ENOSPC, injected") if operation == "write" and file.endswith(on) else None
    )


class FaultyFile(apsw.VFSFile):
    def __init__(self, faults: Faults, base: str, name: apsw.URIFilename | str | None, flags: list[int]) -> None:
        super().__init__(base, name, flags)
        self._faults = faults
        self._name = name.filename() if isinstance(name, apsw.URIFilename) else str(name)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._faults.check("write", self._name)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._faults.check("sync", self._name)
        super().xSync(flags)


class FaultyDisk(apsw.VFS):
    """A VFS under `name` over SQLite's own; give it to `Store.open(vfs=…)`."""

    def __init__(self, name: str) -> None:
        self.faults = Faults()
        self.name = name
        super().__init__(name, "")

    def xOpen(self, name: apsw.URIFilename | str | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return FaultyFile(self.faults, "", name, flags)
