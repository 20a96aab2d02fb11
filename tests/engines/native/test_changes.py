"""Changes of the members at the desk: by name, told again, and when there is no time left to begin them."""

from tenure.base.ids import MemberId
from tenure.base.instants import MS
from tenure.engines.native.inputs import PeerFrame
from tenure.leadership.engine import (
    AnyRequest,
    DemoteMember,
    MembersView,
    PromoteMember,
    Refused,
    RemoveMember,
    ReplaceMember,
)
from tenure.raft.events import RttSample
from tenure.raft.messages import DurableProbeReply, Envelope
from tenure.wire.frames import CallReply
from tests.engines.native.cluster import Cluster, Site


def made(cluster: Cluster, request: AnyRequest, at: Site | None = None) -> MembersView:
    """A change that must be made, or be so already."""
    view = cluster.answer(at or cluster.leader, request)
    assert isinstance(view, MembersView), view
    return view


def refused(cluster: Cluster, request: AnyRequest) -> Refused:
    answer = cluster.answer(cluster.leader, request)
    assert isinstance(answer, Refused), answer
    return answer


def names(cluster: Cluster) -> set[str]:
    return {seat.name for seat in cluster.leader.alive.raft.configuration.seats}


def test_a_removal_may_be_told_again_by_the_name_of_who_has_left() -> None:
    cluster = Cluster(3)
    cluster.run(1_000)
    gone, other = cluster.followers()
    assert not made(cluster, RemoveMember(gone.name)).already
    for told in (gone.name, gone.member, f"{gone.name}@{gone.member}"):
        for site in (cluster.leader, other):
            again = made(cluster, RemoveMember(told), at=site)
            assert again.already
            assert {seat.name for seat in again.members} == names(cluster)
    never = refused(cluster, RemoveMember("m9"))
    assert (never.code, "m9" in (never.reason or "")) == ("unknown_member", True)


def test_who_has_the_name_now_is_meant_and_who_is_to_be_promoted_is_never_one_that_has_left() -> None:
    cluster = Cluster(4)
    cluster.run(1_000)
    gone = cluster.followers()[0]
    made(cluster, RemoveMember(gone.name))
    awaited = refused(cluster, PromoteMember(gone.name))
    assert awaited.code == "unknown_member", "it may be joining under that name"
    cluster.kill(gone)
    newer = cluster.join(gone.name)
    view = made(cluster, RemoveMember(gone.name))
    assert not view.already
    assert newer.member not in {seat.id for seat in view.members}
    assert made(cluster, RemoveMember(gone.name)).already


def test_a_replacement_may_be_told_again_and_takes_nobody_out_for_who_votes_already() -> None:
    cluster = Cluster(3)
    cluster.run(1_000)
    old, stays = cluster.followers()
    cluster.join("m4")
    cluster.run(200)
    assert not made(cluster, ReplaceMember(old.name, "m4")).already
    assert made(cluster, ReplaceMember(old.name, "m4")).already
    wrong = refused(cluster, ReplaceMember(stays.name, "m4"))
    assert wrong.code == "not_observer"
    assert names(cluster) == {cluster.leader.name, stays.name, "m4"}
    assert refused(cluster, ReplaceMember("m9", "m4")).code == "unknown_member"


def test_a_leader_is_replaced_across_its_hand_over() -> None:
    """The second step is another leader's, which must know that the first was made for it (P7.2, P7.3)."""
    for asked_at_the_leader in (True, False):
        cluster = Cluster(3)
        cluster.run(1_000)
        leader, follower = cluster.leader, cluster.followers()[0]
        cluster.join("m4")
        cluster.run(200)
        made(cluster, ReplaceMember(leader.name, "m4"), at=leader if asked_at_the_leader else follower)
        assert names(cluster) == {"m1", "m2", "m3", "m4"} - {leader.name}


class Deaf(Cluster):
    """What tells of others' disks gets lost, and what answers a request that was passed on."""

    is_deaf = False

    def _send(self, site: Site, peer: MemberId, frame: PeerFrame) -> None:
        said = frame.message if isinstance(frame, Envelope) else frame
        if not (self.is_deaf and isinstance(said, DurableProbeReply | CallReply)):
            super()._send(site, peer, frame)


def test_no_change_begins_after_it_was_said_that_it_did_not() -> None:
    """Over a long way the roll may be called for longer than a request waits (ADR 0033)."""
    cluster = Deaf(3)
    cluster.run(1_000)
    leader, other = cluster.leader, cluster.followers()[0]
    for _ in range(200):  # a path that became so long goes on being it: a burst would be taken for a frozen peer
        leader.inbox.extend(RttSample(site.member, 600 * MS) for site in cluster.followers())
        cluster.run(25)
    assert leader.alive.raft.timings()["rtt_p99_us"] >= 600 * MS
    before = leader.alive.raft.configuration
    cluster.is_deaf = True
    answer = cluster.answer(leader, DemoteMember(other.name))
    assert isinstance(answer, Refused)
    assert answer.code == "loses_quorum"
    cluster.is_deaf = False
    cluster.run(3_000)
    assert leader.alive.raft.configuration == before


def test_who_passed_a_change_on_says_that_it_may_still_take_effect() -> None:
    cluster = Deaf(3)
    cluster.run(1_000)
    cluster.is_deaf = True
    asked, other = cluster.followers()
    answer = cluster.answer(asked, DemoteMember(other.name))
    assert isinstance(answer, Refused)
    assert answer.code == "no_quorum"
    assert "may still take effect" in (answer.reason or "")
