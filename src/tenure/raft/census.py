"""Who hears whom, and how far everybody is: what the leader knows of the others, for views and for the autopilot.

A member *hears* another while a connection from it stands; the transport ends one on which nothing comes any more, so a
frozen process is heard no longer than a connection may be silent. Voters tell the leader with each heartbeat's answer
whom they don't hear: nobody is dead by the leader's view alone (P7.4).
"""

from typing import Literal

from msgspec import Struct

from tenure.base.ids import Boot, LogIndex, MemberId
from tenure.base.instants import Instant
from tenure.raft.progress import Progress
from tenure.raft.roll import RollCall
from tenure.raft.state import Core, Leader


class ProgressView(Struct, frozen=True):
    """How far one member is, as the leader knows it. `rtt_us` 0: not measured. `speaks`: the newest feature version
    that it is known to know (P10).
    """

    match: LogIndex
    lag: int
    rtt_us: int
    state: Literal["probe", "replicate", "snapshot", "lost"]
    speaks: int = 1


class Sight(Struct, frozen=True):
    """What the leader sees of one other member now. `unheard_by`: these say that they don't hear it (P7.4); `boot`: the
    life that is linked with the leader.
    """

    answers: bool
    unheard_by: frozenset[MemberId]
    lag: int
    boot: Boot | None


def progress(core: Core) -> dict[MemberId, ProgressView]:
    """On the leader, how far the others are; elsewhere empty."""
    leader = core.role
    if not isinstance(leader, Leader):
        return {}
    last = core.log.last_index
    return {
        peer: ProgressView(
            one.match,
            last - one.match,
            core.timing.srtt(peer),
            one.state if _answers(core, one) else "lost",
            one.speaks,
        )
        for peer, one in leader.progress.items()
    }


def sights(core: Core) -> dict[MemberId, Sight]:
    """On the leader, what is seen of each other member; elsewhere empty. Only the word of who answers counts, the
    leader's own among them.
    """
    leader = core.role
    if not isinstance(leader, Leader):
        return {}
    answering_now = answering(core, leader)
    answers = {peer: peer in answering_now for peer in leader.progress}
    words = [(peer, one.unheard) for peer, one in leader.progress.items() if answers[peer]] + [(core.me, core.unheard)]
    last = core.log.last_index
    return {
        peer: Sight(
            answers[peer],
            frozenset(said for said, unheard in words if peer in unheard),
            last - one.match,
            _boot(core, peer),
        )
        for peer, one in leader.progress.items()
    }


def _boot(core: Core, peer: MemberId) -> Boot | None:
    link = core.links.get(peer)
    return link.boot if link is not None else None


def dependable(core: Core, leader: Leader) -> set[MemberId]:
    """On whom a quorum to come may be built: who answers, and is connected. The end of a connection is known at once,
    silence only when it has lasted.
    """
    return {peer for peer in answering(core, leader) if peer == core.me or peer in core.links}


def answering(core: Core, leader: Leader) -> set[MemberId]:
    """Who has answered lately, and in this term, ourselves among them. Whom a new leader has not heard yet isn't late
    (`become_leader`), but it may be dead: no quorum must be built on it.
    """
    heard = {peer for peer, one in leader.progress.items() if (one.beat_acked or one.acked_at) and _answers(core, one)}
    return heard | {core.me}


def promising(core: Core, leader: Leader) -> set[MemberId]:
    """Of whom an answer can be hoped for: who is connected and hasn't been silent for long, also if a new leader has
    heard nothing of it yet. After a stall of our own what they said may still lie in our sockets (P6.3).
    """
    excused = core.now < core.grace_until
    hoped = {peer for peer, one in leader.progress.items() if peer in core.links and (excused or _answers(core, one))}
    return hoped | {core.me}


def present(core: Core, leader: Leader, call: RollCall) -> set[MemberId]:
    """Whose disks have done what the call asked for, and who is there still: connected, and heard a few beats ago. Our
    own disk as well.
    """
    recent = core.now - 4 * core.settings.heartbeat_us - core.timing.rtt_p99
    there = {
        peer
        for peer, one in leader.progress.items()
        if peer in core.links and one.probe_acked >= call.number and one.heard_at >= recent
    }
    return there | {core.me} if core.disk.durable >= call.own_batch else there


def patience_us(core: Core) -> int:
    """How long a member may be silent until it is taken for dead."""
    return max(core.settings.timeout_max_us, 10 * core.timing.rtt_p99)


def _answers(core: Core, one: Progress) -> bool:
    return one.heard_at >= Instant(core.now - patience_us(core))
