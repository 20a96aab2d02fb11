"""Connections that come and go: what is in flight on them, and whether the leader was lost with one (P5.4)."""

from typing import Literal

from tenure.base.ids import LogIndex
from tenure.raft import replication, suspicion, versions
from tenure.raft.disk import check_rollback
from tenure.raft.events import LinkLost, LinkUp
from tenure.raft.state import Core, Follower, Leader, Link


def up(core: Core, event: LinkUp) -> None:
    """A connection from a peer stands: what was on its way over the last one may be lost."""
    peer = event.peer
    check_rollback(core, event.told)
    versions.speaks(core, event.feature)
    core.heard_boots.add(peer)
    known = core.links.get(peer)
    core.links[peer] = Link(event.boot, event.speaks)
    core.listen()
    core.higher_told.pop(peer, None)
    leader = core.role
    if isinstance(leader, Leader) and peer in leader.progress:
        progress = leader.progress[peer]
        progress.speaks = event.speaks
        progress.again = 0
        progress.next = LogIndex(progress.match + 1) if progress.match else progress.next
        replication.to_probe(progress)
        if progress.match and progress.boot == event.boot:
            progress.state = "replicate"  # a life that has promised this much does not answer an empty probe again
        if progress.boot != event.boot:
            progress.probe_acked = 0  # an earlier life's disk: this one may have lost it
        progress.boot = event.boot
        leader.beat_due = core.now
    if core.watch.leader == peer:
        core.watch.beat_at = None  # a new connection: this gap is no sample (P6.2)
        if core.watch.boot is not None and core.watch.boot != event.boot:
            _suspect(core, "fin")  # P5.5: a restarted process never goes on leading in its term
    if known is None:
        suspicion.relinked(core)


def lost(core: Core, event: LinkLost) -> None:
    """The last connection from a peer is gone, behind all its frames (P5.4)."""
    known = core.links.get(event.peer)
    if known is not None and known.boot != event.boot:
        return  # an older life's connection
    core.links.pop(event.peer, None)
    core.listen()
    core.notes.pop(event.peer, None)  # P5.2
    if isinstance(core.role, Leader):
        progress = core.role.progress.get(event.peer)
        if progress is not None and progress.state != "probe":
            progress.next = LogIndex(progress.match + 1)
            replication.to_probe(progress)
            progress.probe_sent = True
    elif core.watch.leader == event.peer and not event.closing:  # P5.4
        _suspect(core, event.evidence)


def _suspect(core: Core, evidence: Literal["fin", "refused", "timeout", "resigned"]) -> None:
    if isinstance(core.role, Follower) and core.suspicion is None:
        suspicion.suspect(core, evidence)
