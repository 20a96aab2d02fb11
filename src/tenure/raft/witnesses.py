"""A witness (P8) votes and keeps what it acknowledged, but holds no state machine: past a bound it asks the leader for
a snapshot, keeps that unread, and cuts its log below it. (A bound by what every voter holds would grow for ever when
one is dead for a week.) If it wins, it only hands on what it alone may hold: snapshot, suffix, TimeoutNow.
"""

from tenure.base.ids import MemberId
from tenure.base.instants import after
from tenure.raft import replication, shipping, transfer
from tenure.raft.messages import WantSnapshot
from tenure.raft.progress import Shipment
from tenure.raft.state import Core, Leader, TransferUnderWay


def ask(core: Core, leader: MemberId) -> None:
    """On a heartbeat: past the bound ask for a snapshot, and again after a while: the answer may be lost."""
    settings, witness = core.settings, core.witness
    held = core.applied_to - core.log.base_index
    if held < settings.witness_entries_max and core.log.size < settings.witness_bytes_max:
        return
    if core.now < witness.ask_due or core.disk.install or not held:
        return
    witness.ask_due = after(core.now, 4 * settings.heartbeat_us + 4 * core.timing.srtt(leader))
    above = core.snapshot.index if core.snapshot is not None else 0
    core.say(leader, WantSnapshot(core.term, above))


def on_want(core: Core, sender: MemberId, want: WantSnapshot) -> None:
    """The leader's half: go on with the copy under way, begin one, or first take a snapshot that is worth it."""
    leader = core.role
    if not isinstance(leader, Leader) or want.term != core.term or sender not in leader.progress:
        return
    progress, snapshot = leader.progress[sender], core.snapshot
    if progress.state == "snapshot" or progress.next <= core.log.base_index:
        return  # it gets one anyway
    if progress.copy is not None and progress.copy.snapshot.index > want.above:
        chunks = progress.copy.chunks
        if not chunks or core.now - chunks[-1][1] >= replication.answer_after_us(core, sender):
            shipping.go_back(core, progress.copy)
        return
    stale = core.settings.witness_entries_max // 2
    if snapshot is None or snapshot.index <= want.above or core.applied_to - snapshot.index > stale:
        core.snapshot_wanted = True
        return
    progress.copy = Shipment(snapshot, core.settings.snapshot_chunk_bytes)
    core.trace("snapshot_copied", peer=sender, index=snapshot.index, bytes=snapshot.image.size)


def hand_on(core: Core, leader: Leader) -> None:
    """A witness that won serves nobody: whoever holds state and can be reached gets it all, then leads."""
    if leader.transfer is not None:
        return
    target = transfer.heir(core, leader)
    if target is None:
        return
    ends_at = after(core.now, max(4 * core.timing.vote_timeout, 2 * core.settings.timeout_max_us))
    leader.transfer = TransferUnderWay(None, target, ends_at)
    core.trace("transfer_begun", target=target, term=core.term)
