"""Changes of the members at the desk: by name, told again, and when there is no time left to begin them."""

import pytest

from tenure.base.ids import MemberId
from tenure.base.instants import MS
from tenure.engines.native.inputs import PeerFrame
from tenure.leadership.engine import (
    AnyRequest,
    AnyResult,
    DemoteMember,
    KvPut,
    MembersView,
    PromoteMember,
    Refused,
    RemoveMember,
    ReplaceMember,
)
from tenure.raft.events import RttSample
from tenure.raft.messages import DurableProbeReply, Envelope, TimeoutNow
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


def asked_at_once(cluster: Cluster, *requests: AnyRequest) -> list[AnyResult | None]:
    leader = cluster.leader
    tokens = [cluster.ask(leader, request) for request in requests]
    cluster.run(3_000, until=lambda: all(token in leader.answers for token in tokens))
    return [leader.answers.get(token) for token in tokens]


def voters(cluster: Cluster) -> set[str]:
    return {seat.name for seat in cluster.leader.alive.raft.configuration.seats if seat.role != "observer"}


@pytest.mark.parametrize("size", [3, 5, 7])
def test_two_replacements_at_once_both_come_true_when_they_are_told_again(size: int) -> None:
    """Each is two steps, and the steps of both are taken in between (P7.1, P7.2)."""
    cluster = Cluster(size)
    cluster.run(1_000)
    old, other = cluster.followers()[:2]
    cluster.join("m8")
    cluster.join("m9")
    cluster.run(300)
    stay = voters(cluster) - {old.name, other.name}
    both = ReplaceMember(old.name, "m8"), ReplaceMember(other.name, "m9")
    for answer in asked_at_once(cluster, *both):
        assert not isinstance(answer, Refused) or answer.code in {"change_pending", "too_many_voters"}
    for request in both:
        made(cluster, request)
    assert voters(cluster) == stay | {"m8", "m9"}
    assert all(made(cluster, request).already for request in both)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_of_two_newcomers_for_one_place_one_is_refused_and_nothing_was_done_for_it(size: int) -> None:
    """Two operators, neither of whom knows of the other. As many vote in the end as before (P7.2)."""
    cluster = Cluster(size)
    cluster.run(1_000)
    old = cluster.followers()[0]
    cluster.join("m8")
    cluster.join("m9")
    cluster.run(300)
    stay = voters(cluster) - {old.name}
    both = ReplaceMember(old.name, "m8"), ReplaceMember(old.name, "m9")
    answers = asked_at_once(cluster, *both)
    codes = {answer.code for answer in answers if isinstance(answer, Refused)}
    assert codes <= {"change_pending", "was_removed"}, answers
    first = made(cluster, both[0])
    assert voters(cluster) == stay | {"m8"}
    late = refused(cluster, both[1])
    assert (late.code, "first step" in late.reason) == ("was_removed", False)
    assert cluster.leader.alive.raft.configuration.index == first.index
    assert made(cluster, both[0]).already


def test_a_replacement_goes_on_beside_a_promotion() -> None:
    cluster = Cluster(3)
    cluster.run(1_000)
    old = cluster.followers()[0]
    cluster.join("m4")
    cluster.join("m5")
    cluster.run(300)
    asked_at_once(cluster, ReplaceMember(old.name, "m4"), PromoteMember("m5"))
    made(cluster, PromoteMember("m5"))
    made(cluster, ReplaceMember(old.name, "m4"))
    assert voters(cluster) == {"m1", "m2", "m3", "m4", "m5"} - {old.name}


def test_who_left_earlier_has_no_place_for_another() -> None:
    """Said by a slip of the name, a replacement of who is long gone would make one voter more."""
    cluster = Cluster(3)
    cluster.run(1_000)
    gone = cluster.followers()[0]
    cluster.join("m4")
    cluster.run(300)
    made(cluster, ReplaceMember(gone.name, "m4"))
    cluster.kill(gone)
    cluster.join("m5")
    cluster.run(300)
    wrong = refused(cluster, ReplaceMember(gone.name, "m5"))
    assert (wrong.code, gone.name in wrong.reason, "first step" in wrong.reason) == ("was_removed", True, False)
    assert len(voters(cluster)) == 3
    assert made(cluster, ReplaceMember(gone.name, "m4")).already


class Clinging(Cluster):
    """No hand-over comes about."""

    clings = False

    def _send(self, site: Site, peer: MemberId, frame: PeerFrame) -> None:
        if not (self.clings and isinstance(frame, Envelope) and isinstance(frame.message, TimeoutNow)):
            super()._send(site, peer, frame)


def test_a_refusal_between_two_steps_says_that_the_first_is_done() -> None:
    """Also where another member passed it on; and it goes on from there."""
    for asked_at_the_leader in (True, False):
        cluster = Clinging(3)
        cluster.run(1_000)
        cluster.join("m4")
        cluster.run(300)
        cluster.clings = True
        leader = cluster.leader
        asked = leader if asked_at_the_leader else cluster.followers()[0]
        answer = cluster.answer(asked, ReplaceMember(leader.name, "m4"))
        assert isinstance(answer, Refused), answer
        assert answer.reason.endswith("; its first step is done"), answer
        assert answer.reason.count("first step") == 1
        assert voters(cluster) == {"m1", "m2", "m3", "m4"}
        again = cluster.answer(leader, ReplaceMember(leader.name, "m4"))
        assert isinstance(again, Refused)
        assert again.reason.endswith("; its first step is done"), "it was done for who asked before"
        cluster.clings = False
        cluster.run(1_500)
        made(cluster, ReplaceMember(leader.name, "m4"))
        assert voters(cluster) == {"m1", "m2", "m3", "m4"} - {leader.name}


def test_between_two_steps_the_first_is_known_by_the_name_of_who_left_too() -> None:
    """At seven voters he leaves first (P7.2). Told again by name where no leader could look, it was not said."""
    cluster = Cluster(7)
    cluster.run(1_000)
    old, *others = cluster.followers()
    newcomer = cluster.join("m8")
    cluster.run(300)
    leader = cluster.leader
    token = cluster.ask(leader, ReplaceMember(old.name, "m8"))
    cluster.run(1_000, until=lambda: old.name not in voters(cluster))
    cluster.kill(newcomer)
    cluster.run(2_000, until=lambda: token in leader.answers)
    first = leader.answers[token]
    assert isinstance(first, Refused)
    assert first.reason.endswith("; its first step is done"), first
    asked = others[0]
    for site in (leader, *others[1:]):
        cluster.kill(site)
    cluster.run(1_000)
    for told in (old.name, f"{old.name}@{old.member}", old.member):
        answer = cluster.answer(asked, ReplaceMember(told, "m8"))
        assert isinstance(answer, Refused)
        assert (answer.code, answer.reason.endswith("; its first step is done")) == ("no_quorum", True), answer


def test_a_refusal_before_the_first_step_speaks_of_none() -> None:
    cluster = Cluster(3)
    cluster.run(1_000)
    gone = cluster.join("m4")
    cluster.run(300)
    cluster.kill(gone)
    cluster.run(300)
    answer = refused(cluster, ReplaceMember(cluster.followers()[0].name, "m4"))
    assert (answer.code, "first step" in answer.reason) == ("not_caught_up", False)


@pytest.mark.parametrize("is_left_behind", [True, False])
def test_who_has_met_a_sibling_cluster_is_no_less_a_member_than_the_others(is_left_behind: bool) -> None:
    """P1.4: `no_part` says that others went on without it; of a sibling that isn't known."""
    cluster = Cluster(3)
    cluster.run(1_000)
    alone, other = cluster.followers()
    alone.alive.forked, alone.alive.is_left_behind = "forked: x is of another branch", is_left_behind
    assert not isinstance(cluster.answer(alone, KvPut("a", b"1")), Refused)
    cluster.kill(cluster.leader)
    cluster.kill(other)
    cluster.run(1_000)
    answer = cluster.answer(alone, KvPut("a", b"1"))
    assert isinstance(answer, Refused)
    assert (answer.code, "x is of another branch" in answer.reason) == (
        "no_part" if is_left_behind else "no_quorum",
        True,
    )


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
