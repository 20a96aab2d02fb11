"""The autopilot on replicas wired by hand: who is replaced by whom, when, and what it says of that."""

from itertools import pairwise

import pytest

from tenure.base.chance import SplitMix64
from tenure.base.ids import MemberId
from tenure.leadership.engine import (
    AmendMember,
    AutopilotConfigured,
    AutopilotSettings,
    AutopilotView,
    ConfigureAutopilot,
    DemoteMember,
    MembersView,
    ReadAutopilot,
    Stepdown,
    Stepped,
)
from tenure.raft.entries import Configuration
from tests.engines.native.cluster import Cluster, Site

QUICK = AutopilotSettings(dead_after_ms=2_000, stabilise_ms=500)


def flying(size: int = 3, settings: AutopilotSettings = QUICK) -> Cluster:
    cluster = Cluster(size)
    cluster.run(1_000)
    answer = cluster.answer(cluster.leader, ConfigureAutopilot(settings))
    assert answer == AutopilotConfigured(settings)
    return cluster


def voters(cluster: Cluster) -> set[str]:
    return {seat.name for seat in cluster.leader.alive.raft.configuration.seats if seat.role != "observer"}


def said(cluster: Cluster) -> AutopilotView:
    answer = cluster.answer(cluster.leader, ReadAutopilot())
    assert isinstance(answer, AutopilotView), answer
    return answer


def decisions(cluster: Cluster) -> list[tuple[str, str | None]]:
    """Oldest first, without what an operator set."""
    return [(one.kind, one.member) for one in reversed(said(cluster).decisions) if one.kind != "configured"]


def hand_over(cluster: Cluster) -> None:
    moved = cluster.answer(cluster.leader, Stepdown())
    assert isinstance(moved, Stepped), moved
    lives = [site.alive for site in cluster.sites if site.replica is not None]
    cluster.run(1_000, until=lambda: any(replica.raft.is_serving for replica in lives))


def follower(cluster: Cluster) -> Site:
    return next(site for site in cluster.followers() if site.name in voters(cluster))


def test_a_dead_voter_is_replaced_by_a_standby_without_a_person() -> None:
    cluster = flying()
    cluster.join("m4", standby="voter")
    dead = follower(cluster)
    cluster.kill(dead)
    cluster.run(6_000, until=lambda: voters(cluster) == {"m1", "m2", "m3", "m4"} - {dead.name})
    assert len(voters(cluster)) == 3
    assert "m4" in voters(cluster)
    cluster.run(2_000)
    assert decisions(cluster) == [("promote", "m4"), ("remove", dead.name), ("healthy", None)]
    assert dead.member in cluster.leader.alive.raft.configuration.removed
    kinds = [one.reason for site in cluster.followers() for one in site.transitions if one.kind == "autopilot"]
    assert any(reason is not None and reason.startswith("promote: in place of") for reason in kinds)


def test_a_voter_that_comes_back_in_time_stays() -> None:
    cluster = flying()
    cluster.join("m4", standby="voter")
    away = follower(cluster)
    before = voters(cluster)
    cluster.kill(away)
    cluster.run(1_500)
    assert said(cluster).state == "waiting"
    cluster.restart(away)
    cluster.run(6_000)
    assert voters(cluster) == before
    assert said(cluster).state == "healthy"
    assert decisions(cluster) == []


def test_without_a_standby_it_says_so_once_and_waits() -> None:
    cluster = flying()
    cluster.join("m4")  # an observer far away is no standby
    dead = follower(cluster)
    cluster.kill(dead)
    cluster.run(8_000)
    assert len(voters(cluster)) == 3
    assert decisions(cluster) == [("declined", dead.name)]
    assert "no observer is its standby" in said(cluster).reason
    amended = cluster.answer(cluster.leader, AmendMember("m4", standby="voter"))
    assert isinstance(amended, MembersView)
    cluster.run(3_000, until=lambda: dead.name not in voters(cluster))
    assert voters(cluster) == {"m1", "m2", "m3", "m4"} - {dead.name}


def test_a_member_that_only_the_leader_does_not_hear_is_alive() -> None:
    """P7.4: a broken cable between the leader and one voter makes nobody dead."""
    cluster = flying()
    cluster.join("m4", standby="voter")
    other, third = [site for site in cluster.followers() if site.name in voters(cluster)]
    leader = cluster.leader
    cluster.break_link(leader, other)
    cluster.run(6_000)
    assert cluster.leader is leader
    watched = {one.name: one for one in said(cluster).members}
    assert (watched[other.name].unheard_by, watched[other.name].silent_ms) == ((leader.name,), 0)
    assert not watched[other.name].answers
    assert voters(cluster) == {leader.name, other.name, third.name}
    cluster.break_link(third, other)
    cluster.run(6_000)
    assert "m4 hears it" in said(cluster).reason
    assert voters(cluster) == {leader.name, other.name, third.name}
    cluster.break_link(cluster.sites[-1], other)
    cluster.run(6_000, until=lambda: other.name not in voters(cluster))
    assert voters(cluster) == {leader.name, third.name, "m4"}


def test_dead_after_begins_anew_with_a_new_leader() -> None:
    """P7.4: what the last one had watched counts for nothing."""
    cluster = flying()
    cluster.join("m4", standby="voter")
    leader, dead = cluster.leader, follower(cluster)
    cluster.kill(dead)
    cluster.run(1_800)
    hand_over(cluster)
    assert cluster.leader is not leader
    begun = cluster.now
    cluster.run(1_500)
    assert dead.name in voters(cluster)
    cluster.run(6_000, until=lambda: dead.name not in voters(cluster))
    assert cluster.now - begun >= 2_000_000


def test_what_one_leader_began_the_next_goes_on_with() -> None:
    """Between promotion and removal the wish stands in the configuration itself."""
    cluster = flying()
    cluster.join("m4", standby="voter")
    leader, dead = cluster.leader, follower(cluster)
    cluster.kill(dead)
    cluster.run(6_000, until=lambda: len(voters(cluster)) == 4)
    hand_over(cluster)
    assert cluster.leader is not leader
    assert len(voters(cluster)) == 4
    assert said(cluster).voters_wanted == 3
    cluster.run(8_000, until=lambda: len(voters(cluster)) == 3)
    assert voters(cluster) == {"m1", "m2", "m3", "m4"} - {dead.name}


def test_what_an_operator_makes_of_the_voters_is_what_is_wanted() -> None:
    cluster = flying(5)
    demoted = follower(cluster)
    assert isinstance(cluster.answer(cluster.leader, DemoteMember(demoted.name)), MembersView)
    assert said(cluster).voters_wanted == 4
    assert isinstance(cluster.answer(cluster.leader, AmendMember(demoted.name, standby="voter")), MembersView)
    cluster.run(4_000)
    assert len(voters(cluster)) == 4, "four are what the operator made it"
    cluster.kill(follower(cluster))
    cluster.run(8_000, until=lambda: demoted.name in voters(cluster))
    cluster.run(3_000)
    assert len(voters(cluster)) == 4


def test_switched_off_it_does_nothing_and_says_so() -> None:
    cluster = flying(settings=AutopilotSettings(enabled=False, dead_after_ms=1_000, stabilise_ms=0))
    cluster.join("m4", standby="voter")
    cluster.kill(follower(cluster))
    cluster.run(5_000)
    assert len(voters(cluster)) == 3
    assert "m4" not in voters(cluster)
    assert said(cluster).state == "off"
    assert decisions(cluster) == [("off", None)]


def test_a_voter_more_than_there_are_is_wanted_and_found() -> None:
    cluster = flying()
    cluster.join("m4", standby="voter")
    cluster.join("m5", standby="voter")
    wanted = AutopilotSettings(dead_after_ms=2_000, stabilise_ms=500, voters_wanted=5)
    cluster.answer(cluster.leader, ConfigureAutopilot(wanted))
    cluster.run(5_000, until=lambda: len(voters(cluster)) == 5)
    assert voters(cluster) == {"m1", "m2", "m3", "m4", "m5"}


def test_a_follower_knows_what_was_decided_but_not_what_is_seen() -> None:
    cluster = flying()
    cluster.join("m4")
    cluster.kill(follower(cluster))
    cluster.run(6_000)
    answer = cluster.answer(cluster.followers()[0], ReadAutopilot(stale=True))
    assert isinstance(answer, AutopilotView)
    assert (answer.state, answer.members) == ("unknown", ())
    assert [one.kind for one in answer.decisions] == ["declined", "configured"]


def test_a_dead_observer_goes_only_if_the_settings_say_so() -> None:
    cluster = flying()
    observer = cluster.join("m4")
    cluster.kill(observer)
    cluster.run(6_000)
    assert seated(cluster, observer.member)
    asked = AutopilotSettings(dead_after_ms=2_000, stabilise_ms=500, observers_dead_after_ms=3_000)
    cluster.answer(cluster.leader, ConfigureAutopilot(asked))
    cluster.run(6_000, until=lambda: not seated(cluster, observer.member))
    assert not seated(cluster, observer.member)


@pytest.mark.parametrize("seed", range(3))
def test_however_members_come_and_go_it_ends_at_full_strength_one_step_at_a_time(seed: int) -> None:
    rng = SplitMix64(seed)
    cluster = flying(settings=AutopilotSettings(dead_after_ms=1_000, stabilise_ms=200))
    for name in ("m4", "m5"):
        cluster.join(name, standby="voter")
    seen: list[Configuration] = [cluster.leader.alive.raft.configuration]
    for _ in range(14):
        seats = {seat.id: seat.role for seat in seen[-1].seats}
        live = [site for site in cluster.sites if site.replica is not None and site.member in seats]
        dead = [site for site in cluster.sites if site.replica is None and site.member in seats]
        living_voters = [site for site in live if seats[site.member] == "voter"]
        dice = rng.below(3)
        if dice == 0 and len(living_voters) == 3:
            cluster.kill(living_voters[rng.below(3)])
        elif dice == 1 and dead:
            cluster.restart(dead[rng.below(len(dead))])
        watch(cluster, seen, 200 + rng.below(1_600))
    for site in cluster.sites:
        if site.replica is None and seen[-1].seat(site.member) is not None:
            cluster.restart(site)
    watch(cluster, seen, 8_000)
    assert len(seen) > 2, "somebody was replaced"
    last = seen[-1]
    living = {site.member for site in cluster.sites if site.replica is not None and not site.replica.stopped}
    assert len(last.voters()) == 3
    assert set(last.voters()) <= living
    for before, after in pairwise(seen):
        assert len(set(before.voters()) ^ set(after.voters())) <= 1, "one voter at a time"
        assert len(after.voters()) >= 3, "never below what is wanted"


def watch(cluster: Cluster, seen: list[Configuration], ms: int) -> None:
    """Let time pass, and note every configuration that the leader has had in force."""

    def look() -> bool:
        for site in cluster.sites:
            if site.replica is not None and site.replica.raft.is_serving:
                now = site.replica.raft.configuration
                if now.index > seen[-1].index:
                    assert seen[-1].index <= site.replica.raft.commit, "one change at a time"
                    seen.append(now)
        return False

    cluster.run(ms, until=look)


def seated(cluster: Cluster, member: MemberId) -> bool:
    return cluster.leader.alive.raft.configuration.seat(member) is not None
