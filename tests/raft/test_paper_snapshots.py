"""Figure 13 of the Raft paper (InstallSnapshot), claim by claim, as `test_paper` does it with figure 2."""

from zlib import crc32

from tenure.base.ids import ConsensusTerm, LogIndex
from tenure.raft.entries import Configuration, Entry, Seat, Snapshot
from tenure.raft.messages import HigherTerm, SnapshotChunk, SnapshotChunkReply
from tests.raft import names
from tests.raft.test_one_member import CONFIGURATION, M1, M3, SEATS, Member, acknowledged, append, entries

STATE = b"abcdef"
GROWN = Configuration(LogIndex(2), (*SEATS, Seat(names.member_id("m4"), "m4", "m4:1", "observer")))


def chunk(
    data: bytes = STATE,
    *,
    term: int = 2,
    at: tuple[int, int] = (3, 2),
    offset: int = 0,
    image: bytes = STATE,
    seats: Configuration = CONFIGURATION,
) -> SnapshotChunk:
    """A piece of a snapshot of the state at index@term."""
    index, last = LogIndex(at[0]), ConsensusTerm(at[1])
    return SnapshotChunk(ConsensusTerm(term), index, last, seats, 1, offset, len(image), crc32(image), data)


def installed(member: Member) -> list[Snapshot]:
    """What its write in flight installs."""
    batch = member.batch
    return [batch.snapshot] if batch is not None and batch.install and batch.snapshot is not None else []


def test_a_chunk_of_an_older_term_is_not_taken() -> None:
    """Figure 13, step 1: a chunk of a past term is refused, with our term (P5.8)."""
    member = Member(1, term=5)
    member.hear(M3, chunk(term=2))
    assert [message for _, message in member.sent] == [HigherTerm(ConsensusTerm(5), None)]
    assert (member.raft.last_index, member.batch) == (1, None)


def test_pieces_gather_and_are_answered_until_all_are_there() -> None:
    """Figure 13, steps 2 to 4: each chunk is kept at its offset and answered; nothing is installed before the last."""
    member = Member(1)
    for offset in range(0, 6, 2):
        assert installed(member) == []
        member.hear(M3, chunk(STATE[offset : offset + 2], offset=offset))
    assert [one.received for _, one in member.sent if isinstance(one, SnapshotChunkReply)] == [2, 4, 6]
    while not installed(member):
        member.persist()
    (snapshot,) = installed(member)
    assert b"".join(snapshot.image.pieces) == STATE


def test_a_part_of_an_older_snapshot_gives_way() -> None:
    """Figure 13, step 5: what has come of an older snapshot makes room for a newer one."""
    member = Member(1)
    newer = b"ghijkl"
    member.hear(M3, chunk(STATE[:2]))
    member.hear(M3, chunk(newer, at=(4, 2), image=newer))
    while not installed(member):
        member.persist()
    (snapshot,) = installed(member)
    assert (snapshot.index, b"".join(snapshot.image.pieces)) == (4, newer)


def test_a_log_that_holds_its_last_entry_is_retained() -> None:
    """Figure 13, step 6: a log that has the snapshot's last entry keeps what follows it: nothing is installed, for the
    entries themselves will be applied.
    """
    member = Member(1, 2, 2, 2, 2)
    ready = member.hear(M3, chunk())
    assert (member.raft.last_index, member.raft.commit) == (5, 3)
    assert [one.index for one in ready.committed if isinstance(one, Entry)] == [1, 2, 3]
    assert installed(member) == []
    said = acknowledged(tuple(message for _, message in member.sent))
    while member.batch is not None:
        said += acknowledged(member.persist())
    assert said == [(2, 3)]


def test_any_other_log_is_discarded_as_a_whole() -> None:
    """Figure 13, steps 7 and 8: any other log goes, and the snapshot's state takes its place; acknowledged only when it
    is on the disk (P4.8).
    """
    member = Member(1, 1, 1, 1, 1)
    ready = member.hear(M3, chunk())
    assert (member.raft.last_index, member.raft.commit) == (3, 3)
    assert member.raft.term_at(LogIndex(3)) == 2
    assert [one.index for one in ready.committed] == [3]
    assert acknowledged(tuple(message for _, message in member.sent)) == []
    said: list[tuple[int, int]] = []
    while member.batch is not None:
        held = bool(installed(member))
        now = acknowledged(member.persist())
        assert held or not now
        said += now
    assert said == [(2, 3)]
    member.hear(M3, append(2, (3, 2), entries(2, first=4)))
    assert member.raft.last_index == 4


def test_its_configuration_is_loaded() -> None:
    """Figure 13, step 8: the configuration that comes with a snapshot is in force with it."""
    member = Member(1)
    ready = member.hear(M3, chunk(seats=GROWN))
    assert ready.configuration == GROWN
    assert member.raft.configuration == GROWN


def test_a_snapshot_of_what_is_committed_here_changes_nothing() -> None:
    """§7: a late or repeated snapshot of what is committed here anyway takes away nothing of what follows."""
    member = Member(2, 2, 2, 2)
    member.hear(M1, append(2, (4, 2), (), commit=4))
    member.hear(M1, chunk(at=(2, 2)))
    assert (member.raft.last_index, member.raft.commit) == (4, 4)
    assert installed(member) == []
