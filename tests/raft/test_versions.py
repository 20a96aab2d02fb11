"""P10: a member that meets a version which it doesn't speak stops, wherever it meets it."""

from zlib import crc32

from tenure.base.ids import BatchNumber, Boot, ConsensusTerm, LogIndex
from tenure.raft.entries import FEATURE
from tenure.raft.events import LinkUp, ReadIndex, Received
from tenure.raft.messages import Envelope, SnapshotChunk
from tenure.raft.settings import Settings
from tests.raft.play import more, play
from tests.raft.test_one_member import CONFIGURATION, M1, M3, Member

NAMES = ("m1", "m2", "m3")


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


def test_it_is_raised_once_also_in_the_step_in_which_that_is_committed() -> None:
    """The round of that read is a heartbeat, made before what is committed is handed out."""
    script = play("cluster 3", *(f"kill {name}" for name in NAMES), *(f"speaks {name} 2" for name in NAMES))
    more(script, *(f"restart {name}" for name in NAMES), "elect m1", "hold m3>m1 AppendReply", "hold m2>m1 AppendReply")
    more(script, "run 100ms")
    raft, stage = script.stage.raft("m1"), script.stage
    assert raft.feature == 1
    acknowledged = [one for _, kept in stage.held for one in kept if isinstance(one, Envelope)]
    stage.step(stage.actors["m1"], [*(Received(one) for one in acknowledged), ReadIndex(99)])
    assert raft.feature == 2
    log = raft._core.log
    assert [entry.kind for entry in log.between(log.first, log.last_index)].count(FEATURE) == 1
