"""A cluster's past for stories of restores and recoveries: a file, and the directory of a stopped member."""

from collections.abc import Callable
from pathlib import Path

from tenure.base.chance import SplitMix64
from tenure.base.ids import BatchNumber, ConsensusTerm, ElectionName, LogIndex, MemberId, NodeId, Nonce, Term
from tenure.base.instants import WallMs
from tenure.leadership import commands
from tenure.leadership.commands import AnyBody, Campaign, Grant, KvPut, OpenSession
from tenure.leadership.engine import SessionOpened
from tenure.leadership.machine import Machine
from tenure.raft.entries import (
    COMMAND,
    CONFIGURATION,
    Configuration,
    Entry,
    HardState,
    Image,
    Seat,
    Snapshot,
    encode_configuration,
)
from tenure.raft.founding import Record
from tenure.raft.ready import Batch
from tenure.storage import Store
from tenure.wire.snapshot_file import Header, written

NOW = WallMs(1_800_000_000_000)
LINEAGE = Nonce("a" * 16)
ORDERS = ElectionName("orders")
SEATS = tuple(Seat(MemberId(f"{at}" * 16), f"m{at}", f"10.0.0.{at}:8369") for at in (1, 2, 3))
FOUNDED = Configuration(LogIndex(0), SEATS)
RECORD = Record(LINEAGE, FOUNDED, 1_000)


class Log:
    """Commands, and the machine that has applied them."""

    def __init__(self) -> None:
        self.machine = Machine.founded(LINEAGE, RECORD.stamp)
        self.entries: list[Entry] = []

    def do(self, body: AnyBody, term: int = 1) -> object:
        index = LogIndex(len(self.entries) + 1)
        data = commands.encode(body, NOW + index, None)
        self.entries.append(Entry(index, ConsensusTerm(term), COMMAND, data))
        return self.machine.apply(index, ConsensusTerm(term), data).result


def lived() -> Log:
    """Somebody leads, and wrote something."""
    log = Log()
    opened = log.do(OpenSession(NodeId("a"), 3_000, "1" * 16, {}))
    assert isinstance(opened, SessionOpened)
    log.do(Campaign(opened.session, ORDERS, 0))
    log.do(Grant(ConsensusTerm(1), opened.session, ORDERS, Term(0)))
    for number in range(20):
        log.do(KvPut(f"k{number}", b"%d" % number, None, None, None))
    return log


def written_file(path: Path) -> Path:
    """A snapshot of that."""
    machine = lived().machine
    header = Header(
        (LINEAGE,), machine.state.applied, ConsensusTerm(1), 1, (), "m1", "2026-01-01T00:00:00.000Z", "linearizable"
    )
    path.write_bytes(b"".join(written(header, machine.freeze().sections())))
    return path


def stopped_member(directory: Path, *, clean: bool = True, snapshot_at: int = 10) -> Path:
    """The directory of m1 of three: a snapshot, and entries above it."""
    log = lived()
    past = Log()
    for entry in log.entries[:snapshot_at]:
        past.machine.apply(entry.index, entry.term, entry.data)
    store = Store.open(directory, "m1", draw=lambda: SEATS[0].id).store
    store.restored()
    store.set_founding("sealed", RECORD)
    image = Image.of(past.machine.snapshot())
    snapshot = Snapshot(LogIndex(snapshot_at), ConsensusTerm(1), FOUNDED, 1, image)
    store.write(Batch(BatchNumber(1), HardState(ConsensusTerm(4), None), entries=tuple(log.entries)))
    store.write(Batch(BatchNumber(2), snapshot=snapshot, compact_to=LogIndex(snapshot_at - 2)))
    store.close(clean=clean)
    return directory


def joined_member(directory: Path, seat: Seat) -> Path:
    """The directory of one that was added later and has the whole log: no snapshot, and a founding without it."""
    store = Store.open(directory, seat.name, draw=lambda: seat.id).store
    store.restored()
    store.set_founding("sealed", RECORD)
    store.write(Batch(BatchNumber(1), HardState(ConsensusTerm(4), None), entries=tuple(lived().entries)))
    store.close(clean=True)
    return changed(directory, (*SEATS, seat))


def changed(directory: Path, *memberships: tuple[Seat, ...]) -> Path:
    """One change of the members after another at the end of its log."""
    store = Store.open(directory, directory.name).store
    last, number = store.restored().entries[-1], BatchNumber(store.batch + 1)
    store.write(
        Batch(
            number,
            entries=tuple(
                Entry(
                    LogIndex(index), last.term, CONFIGURATION, encode_configuration(Configuration(LogIndex(0), seats))
                )
                for index, seats in enumerate(memberships, last.index + 1)
            ),
        )
    )
    store.close(clean=True)
    return directory


def drawn(seed: int = 1) -> Callable[[], str]:
    """Ids that are the same in every run."""
    rng = SplitMix64(seed)
    return lambda: f"{rng.u64():016x}"
