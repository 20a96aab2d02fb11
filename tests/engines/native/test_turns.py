"""Turns of a replica before its sockets are drained, and after its entries were lost."""

from tenure.base.ids import BatchNumber, Boot, MemberId
from tenure.base.instants import MS, Instant
from tenure.engines.native.inputs import PeerFrame
from tenure.leadership.engine import DemoteMember, KvGet, KvPut, KvWritten
from tenure.raft.entries import COMMAND, NOOP
from tenure.raft.messages import HeartbeatReply
from tests.engines.native.cluster import WALL, Cluster, Site
from tests.engines.native.test_replica import hold, keep, open_session


class Split(Cluster):
    """Members may be cut off from all others, in silence."""

    def __init__(self, size: int) -> None:
        self.cut: set[MemberId] = set()
        super().__init__(size)

    def _send(self, site: Site, peer: MemberId, frame: PeerFrame) -> None:
        if site.member not in self.cut and peer not in self.cut:
            super()._send(site, peer, frame)


def test_nothing_is_decided_before_the_sockets_are_drained() -> None:
    """P4.7, P3.7: what waits there may be the very renewal."""
    cluster = Cluster(1)
    cluster.run(1_000)
    only = cluster.sites[0]
    session = open_session(cluster, only, "a")
    term = hold(cluster, only, session)
    cluster.now = Instant(cluster.now + 2_000 * MS)
    effects = only.alive.step([], cluster.now, WALL, drained=False)
    assert effects.write is None
    assert keep(cluster, only, session, 1_000).leases[0].term == term


def test_a_proposal_that_lost_its_place_is_not_answered_with_what_took_it() -> None:
    """Whoever waits compares index and term with what was applied there; then it is asked again."""
    cluster = Split(3)
    cluster.run(1_000)
    old = cluster.leader
    cluster.cut.add(old.member)
    lost = [cluster.ask(old, KvPut(f"old{number}", b"x")) for number in range(3)]
    cluster.run(5)
    others = [site for site in cluster.sites if site is not old]
    cluster.run(1_000, until=lambda: any(site.alive.raft.is_serving for site in others))
    for number in range(4):
        assert isinstance(cluster.answer(cluster.leader, KvPut(f"new{number}", b"x")), KvWritten)
    cluster.cut.clear()
    cluster.run(2_000, until=lambda: all(token in old.answers for token in lost))
    for number, token in enumerate(lost):
        answer = old.answers[token]
        assert isinstance(answer, KvWritten)
        assert answer.key == f"old{number}"


def test_what_waited_for_an_election_is_written_together_with_the_no_op() -> None:
    """P5.7: one sync of the winner's disk for both, not one after the other."""
    cluster = Split(3)
    cluster.run(1_000)
    old = cluster.leader
    others = [site for site in cluster.sites if site is not old]
    for site in others:
        assert isinstance(cluster.answer(site, KvPut("before", b"x")), KvWritten)  # its own client session stands
    cluster.cut.add(old.member)
    waiting = {
        site.name: [cluster.ask(site, KvPut(f"{site.name}/{number}", b"x")) for number in range(3)] for site in others
    }
    cluster.run(1_000, until=lambda: any(site.alive.raft.won_at is not None for site in others))
    (winner,) = [site for site in others if site.alive.raft.won_at is not None]
    won = next(
        effects
        for effects in reversed(winner.effects)
        if any(trace.what == "leader_elected" for trace in effects.traces)
    )
    assert won.write is not None
    assert [entry.kind for entry in won.write.entries] == [NOOP, COMMAND, COMMAND, COMMAND]
    cluster.run(1_000, until=lambda: all(token in winner.answers for token in waiting[winner.name]))


def test_only_an_answer_that_can_end_the_oldest_round_is_waited_for() -> None:
    """Others go with the next turn: under load the second follower's would else take a turn each."""
    cluster = Split(3)
    cluster.run(1_000)
    leader = cluster.leader
    raft = leader.alive.raft

    def waiting() -> int | None:
        return raft.awaited_beat

    def awaits(number: int) -> bool:
        reply = HeartbeatReply(raft.term, Boot("any"), number, BatchNumber(1), 1)
        return leader.alive.awaits(reply)

    assert waiting() is None
    assert not awaits(10**6)
    cluster.cut = {site.member for site in cluster.sites if site is not leader}
    token = cluster.ask(leader, KvGet("k"))
    cluster.run(5)
    number = waiting()
    assert number is not None
    assert not awaits(number - 1)
    assert awaits(number)
    assert awaits(number + 1)
    cluster.cut.clear()
    cluster.run(1_000, until=lambda: token in leader.answers)
    assert waiting() is None


def test_while_the_roll_is_called_every_sign_of_life_is_waited_for() -> None:
    """Else a change of the members stands still until the next beat (ADR 0033)."""
    cluster = Split(3)
    cluster.run(1_000)
    leader = cluster.leader
    gone = next(site.name for site in cluster.sites if site is not leader)
    reply = HeartbeatReply(leader.alive.raft.term, Boot("any"), 10**6, BatchNumber(1), 1)
    assert not leader.alive.awaits(reply)
    cluster.cut = {site.member for site in cluster.sites if site is not leader}
    token = cluster.ask(leader, DemoteMember(gone))
    cluster.run(5)
    assert leader.alive.awaits(reply)
    cluster.cut.clear()
    cluster.run(1_000, until=lambda: token in leader.answers)
    assert not leader.alive.awaits(reply)
