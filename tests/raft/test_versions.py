"""P10: a member that meets a version which it doesn't speak stops, wherever it meets it."""

from zlib import crc32

from tenure.base.ids import BatchNumber, Boot, ConsensusTerm, LogIndex
from tenure.raft.events import LinkUp
from tenure.raft.messages import SnapshotChunk
from tenure.raft.settings import Settings
from tests.raft.test_one_member import CONFIGURATION, M1, M3, Member


def test_at_its_start_by_its_own_snapshot() -> None:
    ready = Member(1, feature=2).step()
    assert ready.fatal is not None
    assert (ready.fatal.reason, "upgrade this member" in ready.fatal.text) == ("unknown_feature", True)
    assert Member(1, feature=2, settings=Settings(feature_max=2)).step().fatal is None


def test_by_a_handshake() -> None:
    member = Member(1)
    ready = member.step(LinkUp(M3, Boot("m3.1"), BatchNumber(0), 2, feature=2))
    assert ready.fatal is not None
    assert ready.fatal.reason == "unknown_feature"
    assert not ready.send


def test_a_peer_that_speaks_more_than_the_cluster_is_welcome() -> None:
    assert Member(1).step(LinkUp(M3, Boot("m3.1"), BatchNumber(0), 2, feature=1)).fatal is None


def test_by_a_snapshot_of_which_nothing_is_kept() -> None:
    member = Member(1)
    chunk = SnapshotChunk(
        ConsensusTerm(1), LogIndex(9), ConsensusTerm(1), CONFIGURATION, 2, 0, 3, crc32(b"two"), b"two"
    )
    ready = member.hear(M1, chunk)
    assert ready.fatal is not None
    assert ready.fatal.reason == "unknown_feature"
    assert ready.write is None
    assert not ready.committed
