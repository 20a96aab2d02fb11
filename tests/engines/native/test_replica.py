"""Three replicas, wired by hand: what happens to requests around elections, snapshots and lost members."""

import msgspec

from tenure.base.ids import ConsensusTerm, ElectionName, NodeId, SessionId
from tenure.engines.native.inputs import PeerCall, PeerReply, ReplicaSettings
from tenure.leadership.engine import (
    Campaign,
    Campaigning,
    ClientOpened,
    Keepalive,
    Kept,
    KvGet,
    KvPut,
    KvValue,
    KvWritten,
    MembersView,
    OpenClient,
    OpenSession,
    PromoteMember,
    ReadElection,
    Refused,
    Release,
    Released,
    Sequenced,
    SessionOpened,
    Status,
    StatusReport,
    Stepdown,
    Stepped,
)
from tenure.leadership.machine import Machine
from tenure.raft.entries import Image
from tenure.raft.ready import Accepted
from tenure.wire.frames import CallReply
from tests.engines.native.cluster import Cluster, Site

ORDERS = ElectionName("orders")


def elected(size: int = 3, limits: ReplicaSettings | None = None) -> Cluster:
    cluster = Cluster(size, limits)
    cluster.run(1_000)
    return cluster


def open_session(cluster: Cluster, site: Site, node: str, ttl_ms: int = 500) -> SessionId:
    opened = cluster.answer(site, OpenSession(NodeId(node), ttl_ms, f"{len(node):016x}"))
    assert isinstance(opened, SessionOpened), opened
    return opened.session


def keep(cluster: Cluster, site: Site, session: SessionId, number: int) -> Kept:
    kept = cluster.answer(site, Keepalive(session, number))
    assert isinstance(kept, Kept), kept
    assert kept.number == number
    return kept


def hold(cluster: Cluster, site: Site, session: SessionId) -> int:
    """Campaign and keep alive until the office is held; its term."""
    assert isinstance(cluster.answer(site, Campaign(session, ORDERS)), Campaigning)
    for number in range(1, 50):
        cluster.run(20)
        kept = keep(cluster, site, session, number)
        if kept.leases:
            return kept.leases[0].term
    raise AssertionError("never granted")


def test_a_single_member_elects_itself_and_serves() -> None:
    cluster = elected(1)
    only = cluster.sites[0]
    assert isinstance(cluster.answer(only, KvPut("a", b"1")), KvWritten)
    value = cluster.answer(only, KvGet("a"))
    assert isinstance(value, KvValue)
    assert value.value == b"1"


def test_a_put_is_answered_by_the_leader_and_by_any_other_member() -> None:
    cluster = elected()
    for number, site in enumerate(cluster.sites):
        written = cluster.answer(site, KvPut("a", b"%d" % number))
        assert isinstance(written, KvWritten)
        for other in cluster.sites:
            value = cluster.answer(other, KvGet("a"))
            assert isinstance(value, KvValue)
            assert (value.value, value.revision) == (b"%d" % number, written.revision)


def test_all_members_come_to_the_same_state() -> None:
    cluster = elected()
    for number in range(20):
        cluster.answer(cluster.sites[number % 3], KvPut(f"k{number}", b"x"))
    cluster.run(100)
    assert len({site.alive.machine.hash() for site in cluster.sites}) == 1


def test_puts_forwarded_while_the_leader_dies_are_answered_by_the_next_one() -> None:
    cluster = elected()
    leader, follower = cluster.leader, cluster.followers()[0]
    cluster.answer(follower, KvPut("warm", b"1"))
    tokens = [cluster.ask(follower, KvPut(f"k{number}", b"x")) for number in range(300)]
    cluster.run(0, until=lambda: bool(leader.inbox))
    cluster.kill(leader)
    cluster.run(3_000, until=lambda: all(token in follower.answers for token in tokens))
    assert {type(follower.answers[token]) for token in tokens} == {KvWritten}


def called(cluster: Cluster) -> Site:
    """Who has just been passed a request on, and has not taken it yet."""
    found: list[Site] = []

    def somebody() -> bool:
        alive = [site for site in cluster.sites if site.replica is not None]
        found.extend(site for site in alive if any(isinstance(item, PeerCall) for item in site.inbox))
        return bool(found)

    cluster.run(3_000, until=somebody)
    return found[0]


def told_that_the_queue_is_full(cluster: Cluster, follower: Site, token: int) -> Refused:
    """What a request ends with when the leader, instead of taking the call, says that it has too many."""
    leader = called(cluster)
    call = next(item.call for item in leader.inbox if isinstance(item, PeerCall))
    leader.inbox.clear()
    full = Refused("too_many", "too many requests wait at this member", retry_after_ms=200)
    follower.inbox.append(PeerReply(leader.member, CallReply(call.id, full)))
    cluster.run(10)
    refused = follower.answers[token]
    assert isinstance(refused, Refused)
    return refused


def test_a_full_queue_refuses_a_read_that_was_passed_on() -> None:
    cluster = elected()
    follower = cluster.followers()[-1]
    token = cluster.ask(follower, KvGet("a"))
    assert told_that_the_queue_is_full(cluster, follower, token).code == "too_many"


def test_a_full_queue_says_nothing_of_a_put_that_was_passed_on() -> None:
    """The call may have come twice, and been taken the first time (seed 1804787537032)."""
    cluster = elected()
    follower = cluster.followers()[-1]
    cluster.answer(follower, KvPut("warm", b"1"))
    token = cluster.ask(follower, KvPut("a", b"1"))
    refused = told_that_the_queue_is_full(cluster, follower, token)
    assert refused.code == "no_quorum"
    assert "may still take effect" in refused.reason


def test_a_full_queue_says_nothing_of_a_put_that_was_passed_on_before() -> None:
    """The first leader may have committed it before it died: 429 would say that it had no effect."""
    cluster = elected()
    follower = cluster.followers()[-1]
    cluster.answer(follower, KvPut("warm", b"1"))
    token = cluster.ask(follower, KvPut("a", b"1"))
    cluster.kill(called(cluster))
    refused = told_that_the_queue_is_full(cluster, follower, token)
    assert refused.code == "no_quorum"
    assert "may still take effect" in refused.reason
    assert refused.retry_after_ms == 200


def test_a_request_repeated_across_a_dead_leader_has_one_effect() -> None:
    cluster = elected()
    follower = cluster.followers()[0]
    opened = cluster.answer(follower, OpenClient("00000000000000c1"))
    assert isinstance(opened, ClientOpened)
    origin = Sequenced(opened.client, 1, 1)
    first = cluster.answer(cluster.leader, KvPut("a", b"1"), origin)
    cluster.kill(cluster.leader)
    cluster.run(1_000)
    second = cluster.answer(cluster.leader, KvPut("a", b"1"), origin)
    assert first == second


def test_without_a_majority_a_put_ends_with_no_quorum_and_later_ones_work_again() -> None:
    cluster = elected()
    leader, others = cluster.leader, cluster.followers()
    for other in others:
        cluster.kill(other)
    refused = cluster.answer(leader, KvPut("a", b"1"))
    assert isinstance(refused, Refused)
    assert refused.code == "no_quorum"
    assert refused.retry_after_ms is not None
    for other in others:
        cluster.restart(other)
    cluster.run(1_000)
    assert isinstance(cluster.answer(leader, KvPut("a", b"2")), KvWritten)


def test_a_put_whose_entry_was_truncated_is_asked_again_only_if_that_is_harmless() -> None:
    """Another log may still hold the entry, and win: without an origin a repetition could take effect twice."""
    cluster = elected()
    leader = cluster.leader
    opened = cluster.answer(leader, OpenClient("00000000000000c1"))
    assert isinstance(opened, ClientOpened)
    for other in cluster.followers():
        cluster.kill(other)
    plain = cluster.ask(leader, KvPut("a", b"1"))
    cluster.ask(leader, KvPut("b", b"1"), Sequenced(opened.client, 1, 1))
    cluster.ask(leader, KvPut("c", b"1"))
    cluster.run(5)
    replica = leader.alive
    places = sorted(replica._desk._by_index.items())[-3:]
    for (index, _), (_, late) in zip(places[:2], [places[2]] * 2, strict=True):
        replica._desk.accepted(Accepted(late.token, index, ConsensusTerm(late.term + 2)))
    answered = dict(replica.turn.out.answers)
    assert set(answered) == {plain}
    refused = answered[plain]
    assert isinstance(refused, Refused)
    assert refused.code == "outcome_unknown"
    assert replica._desk.book.get(places[0][1].token) is None


def test_without_a_majority_status_says_so_with_what_is_known() -> None:
    cluster = elected()
    leader = cluster.leader
    for other in cluster.followers():
        cluster.kill(other)
    cluster.run(2_000)
    report = cluster.answer(leader, Status())
    assert isinstance(report, StatusReport)
    assert not report.quorum
    assert set(report.members) == {"m1", "m2", "m3"}


def test_status_names_the_leader_and_how_far_the_others_are() -> None:
    cluster = elected()
    cluster.answer(cluster.leader, KvPut("a", b"1"))
    cluster.run(100)
    for site in cluster.sites:
        report = cluster.answer(site, Status())
        assert isinstance(report, StatusReport)
        assert report.member == site.name
        assert report.quorum
        assert report.consensus.leader == cluster.leader.name
        assert {view.lag for view in report.members.values()} == {0}
        assert [view.role for view in report.members.values()].count("leader") == 1


def test_keepalives_through_a_follower_confirm_the_lease() -> None:
    cluster = elected()
    follower = cluster.followers()[0]
    session = open_session(cluster, follower, "a")
    assert hold(cluster, follower, session) > 0


def test_the_holder_keeps_its_lease_when_the_consensus_leader_dies() -> None:
    cluster = elected()
    follower = cluster.followers()[0]
    session = open_session(cluster, follower, "a")
    term = hold(cluster, follower, session)
    cluster.kill(cluster.leader)
    for number in range(100, 120):
        kept = keep(cluster, follower, session, number)
        assert [lease.term for lease in kept.leases] == [term]
        cluster.run(100)


def test_a_silent_session_expires_and_the_next_candidate_is_granted_a_higher_term() -> None:
    cluster = elected()
    site = cluster.leader
    first, second = open_session(cluster, site, "a"), open_session(cluster, site, "bb")
    term = hold(cluster, site, first)
    assert isinstance(cluster.answer(site, Campaign(second, ORDERS)), Campaigning)
    for number in range(1, 60):
        kept = keep(cluster, site, second, number)
        if kept.leases:
            assert kept.leases[0].term > term
            return
        cluster.run(50)
    raise AssertionError("the second was never granted")


def test_a_stepdown_waits_at_the_member_that_was_asked_until_the_successor_is_granted() -> None:
    cluster = elected()
    asked, site = cluster.followers()[0], cluster.leader
    first, second = open_session(cluster, site, "a"), open_session(cluster, site, "bb")
    term = hold(cluster, site, first)
    cluster.answer(site, Campaign(second, ORDERS))
    keep(cluster, site, second, 1)
    token = cluster.ask(asked, Stepdown(ORDERS))
    cluster.run(50)
    assert token not in asked.answers
    kept = keep(cluster, site, first, 1_000)
    assert [demand.term for demand in kept.demands] == [term]
    released = cluster.answer(site, Release(first, ORDERS, kept.demands[0].term))
    assert isinstance(released, Released)
    cluster.run(200, until=lambda: token in asked.answers)
    done = asked.answers[token]
    assert isinstance(done, Stepped)
    assert (done.state, done.to) == ("done", "bb")


def test_a_stepdown_without_time_to_wait_is_under_way() -> None:
    cluster = elected()
    site = cluster.leader
    first, second = open_session(cluster, site, "a"), open_session(cluster, site, "bb")
    hold(cluster, site, first)
    cluster.answer(site, Campaign(second, ORDERS))
    keep(cluster, site, second, 1)
    begun = cluster.answer(site, Stepdown(ORDERS, wait_ms=0))
    assert isinstance(begun, Stepped)
    assert begun.state == "under_way"


def test_a_consensus_stepdown_asked_anywhere_moves_the_leader_once() -> None:
    cluster = elected()
    for asked in (cluster.leader, cluster.followers()[0]):
        before, term = cluster.leader.name, cluster.leader.alive.raft.term
        done = cluster.answer(asked, Stepdown())
        cluster.run(500)
        assert isinstance(done, Stepped), done
        assert (done.from_, done.to) == (before, cluster.leader.name)
        assert cluster.leader.name != before
        assert cluster.leader.alive.raft.term == term + 1


def test_a_named_consensus_successor_takes_over_and_an_unknown_one_is_refused() -> None:
    cluster = elected()
    target = cluster.followers()[1]
    done = cluster.answer(cluster.leader, Stepdown(successor=target.name))
    assert isinstance(done, Stepped)
    cluster.run(500)
    assert cluster.leader is target
    refused = cluster.answer(target, Stepdown(successor="nobody"))
    assert isinstance(refused, Refused)
    assert refused.code == "unknown_member"


def test_snapshots_are_taken_and_a_member_restarts_from_its_own() -> None:
    cluster = elected(limits=ReplicaSettings(snapshot_entries=20))
    for number in range(90):
        cluster.answer(cluster.leader, KvPut(f"k{number}", b"x"))
    cluster.run(200)
    site = cluster.followers()[0]
    assert site.disk.snapshot is not None
    cluster.kill(site)
    cluster.restart(site)
    cluster.run(500)
    assert site.alive.machine.hash() == cluster.leader.alive.machine.hash()


def test_a_member_that_was_away_too_long_is_brought_up_by_a_snapshot() -> None:
    cluster = elected(limits=ReplicaSettings(snapshot_entries=20))
    site = cluster.followers()[0]
    cluster.kill(site)
    for number in range(90):
        cluster.answer(cluster.leader, KvPut(f"k{number}", b"x"))
    cluster.restart(site)
    cluster.run(1_000)
    assert any(effects.replaced for effects in site.effects)
    assert site.alive.machine.hash() == cluster.leader.alive.machine.hash()


def large(**more: int) -> ReplicaSettings:
    """Even a small state is taken, staged and installed in pieces."""
    return ReplicaSettings(snapshot_entries=20, snapshot_piece_bytes=1, **more)


def test_a_large_snapshot_is_taken_over_many_turns_while_the_state_goes_on() -> None:
    """It holds the state of its index, not what was written while it was encoded."""
    cluster = elected(limits=large())
    for number in range(90):
        cluster.answer(cluster.leader, KvPut(f"k{number % 7}", b"%d" % number))
    cluster.run(200)
    assert cluster.staged > 20
    for site in cluster.sites:
        assert site.disk.snapshot is not None
        machine = Machine.restore(site.disk.snapshot.image.pieces)
        assert machine.state.applied <= site.disk.snapshot.index
        assert len(site.disk.snapshot.image.pieces) > 2
    images: dict[int, set[int]] = {}
    for site in cluster.sites:
        assert site.disk.snapshot is not None
        images.setdefault(site.disk.snapshot.index, set()).add(site.disk.snapshot.image.crc)
    assert all(len(found) == 1 for found in images.values()), "S11: equal at equal index"
    site = cluster.followers()[0]
    cluster.kill(site)
    cluster.restart(site)
    cluster.run(500)
    assert site.alive.machine.hash() == cluster.leader.alive.machine.hash()


def test_the_next_snapshot_is_begun_only_when_the_last_one_is_on_the_disk() -> None:
    """Else its first pieces would take the place of those that the batch on its way names."""
    cluster = elected(1, limits=large())
    only = cluster.leader
    cluster.disk_rounds = 3
    writes: list[int] = []
    begun: list[tuple[int, int]] = []

    def watch() -> bool:
        for effects in only.effects:
            if effects.stage is not None and effects.stage.number == 0:
                begun.append((effects.stage.index, len(writes)))
            if effects.write is not None and effects.write.snapshot is not None:
                writes.append(effects.write.snapshot.index)
        only.effects.clear()
        return False

    for number in range(300):
        cluster.ask(only, KvPut(f"k{number % 7}", b"%d" % number))
        if number % 10 == 9:
            cluster.run(5, until=watch)
    cluster.run(5_000, until=watch)
    assert len(writes) > 3
    assert [done for _, done in begun] == list(range(len(begun))), "one begins, one is written, the next begins"


def test_without_space_for_its_pieces_a_snapshot_is_given_up_and_taken_later() -> None:
    cluster = elected(1, limits=large())
    cluster.space = False
    for number in range(50):
        cluster.answer(cluster.leader, KvPut(f"k{number}", b"x"))
    assert cluster.leader.disk.snapshot is None
    cluster.space = True
    for number in range(50):
        cluster.answer(cluster.leader, KvPut(f"k{number}", b"x"))
    assert cluster.leader.disk.snapshot is not None


def installs(site: Site) -> bool:
    """A snapshot is being put in place."""
    return site.alive._installing is not None


def brought_up(limits: ReplicaSettings) -> tuple[Cluster, Site]:
    """A member that was away for long comes back; the others serve."""
    cluster = elected(limits=limits)
    site = cluster.followers()[0]
    cluster.kill(site)
    for number in range(90):
        cluster.answer(cluster.leader, KvPut(f"k{number}", b"x"))
    cluster.restart(site)
    return cluster, site


def test_a_large_snapshot_is_installed_over_many_turns_and_what_follows_waits_for_it() -> None:
    cluster, site = brought_up(large(installing_entries_max=1))
    cluster.run(1_000, until=lambda: installs(site))
    before = site.alive.applied
    for number in range(10):
        cluster.answer(cluster.leader, KvPut(f"late{number}", b"x"))
    cluster.run(1_000)
    assert not installs(site)
    assert sum(effects.replaced for effects in site.effects) == 1
    assert before < site.alive.applied == cluster.leader.alive.applied
    assert site.alive.machine.hash() == cluster.leader.alive.machine.hash()


def test_who_is_elected_in_the_middle_of_an_install_ends_it_first() -> None:
    """A steward must stand on the state that it decides on."""
    cluster, site = brought_up(large(installing_entries_max=1))
    cluster.run(1_000, until=lambda: installs(site))
    assert installs(site)
    site.alive._move(("leader", ConsensusTerm(99), site.member, False))
    assert not installs(site)
    assert site.alive.steward is not None
    assert site.alive.machine.state.kv


def test_an_unknown_snapshot_stops_the_member_with_a_clear_error() -> None:
    """P10: of a newer version, which this one doesn't know."""
    cluster = elected(limits=ReplicaSettings(snapshot_entries=20))
    site = cluster.followers()[0]
    cluster.kill(site)
    for number in range(90):
        cluster.answer(cluster.leader, KvPut(f"k{number}", b"x"))
    core = cluster.leader.alive.raft._core
    assert core.snapshot is not None
    foreign = msgspec.structs.replace(core.snapshot, image=Image.of([b"\x01\0\0\0?"]))
    core.snapshot = foreign
    cluster.restart(site)
    cluster.run(1_000)
    assert site.alive.stopped
    assert site.alive.obstacle is not None
    assert "not a snapshot" in site.alive.obstacle


def test_an_unknown_command_stops_the_member_with_a_clear_error() -> None:
    cluster = elected(1)
    only = cluster.sites[0]
    from tenure.raft.events import Propose

    only.inbox.append(Propose(12345, b"\x95\x63\x00\xa0\xc0\xc0"))
    cluster.run(100)
    fatal = next(effects.fatal for effects in only.effects if effects.fatal is not None)
    assert fatal.reason == "unknown_feature"
    refused = cluster.answer(only, KvPut("a", b"1"))
    assert isinstance(refused, Refused)
    assert fatal.text in refused.reason
    for stale in (False, True):
        report = cluster.answer(only, Status(stale))
        assert isinstance(report, StatusReport)
        assert (report.state, report.quorum, report.obstacle) == ("stopped", False, fatal.text)


def test_watchers_see_every_transition_once_and_in_order() -> None:
    cluster = elected()
    for number in range(10):
        cluster.answer(cluster.sites[number % 3], KvPut(f"k{number}", b"x"))
    cluster.run(100)
    for site in cluster.sites:
        numbers = [transition.number for transition in site.transitions]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) == 10


def test_a_minute_of_writes_in_which_nobody_asked_makes_no_state_old() -> None:
    """ADR 0025: a round trip and four heartbeats, whenever it is asked for."""
    cluster = Cluster(3)
    cluster.run(1_000)
    follower = cluster.followers()[0]
    for number in range(551):
        cluster.ask(cluster.leader, KvPut("a", b"%d" % number))
        cluster.run(100)
    lags = []
    for _ in range(20):
        value = cluster.answer(follower, KvGet("a", stale=True))
        assert isinstance(value, KvValue)
        assert value.as_of is not None
        assert value.as_of.lag_ms is not None
        lags.append(value.as_of.lag_ms)
        cluster.run(7)
    assert max(lags) <= 105, lags


def test_a_stale_read_is_answered_at_once_from_the_member_asked() -> None:
    cluster = elected()
    cluster.answer(cluster.leader, KvPut("a", b"1"))
    cluster.run(100)
    alone = cluster.followers()[0]
    for site in cluster.sites:
        if site is not alone:
            cluster.kill(site)
    value = cluster.answer(alone, KvGet("a", stale=True), within_ms=1)
    assert isinstance(value, KvValue)


def test_election_view_through_a_follower_names_the_holder() -> None:
    cluster = elected()
    follower = cluster.followers()[0]
    session = open_session(cluster, follower, "a")
    term = hold(cluster, follower, session)
    view = cluster.answer(follower, ReadElection(ORDERS))
    assert not isinstance(view, Refused)
    assert (view.node_id, view.term) == ("a", term)  # type: ignore[union-attr]


def test_the_first_command_of_a_term_is_told_once_by_the_leader_that_serves_it() -> None:
    cluster = elected()
    first = cluster.leader
    cluster.answer(first, KvPut("a", b"1"))
    written = cluster.answer(first, KvPut("a", b"2"))
    assert isinstance(written, KvWritten)
    cluster.kill(first)
    cluster.run(2_000)
    second = cluster.leader
    cluster.answer(second, KvPut("a", b"3"))
    told = {site.name: first_commands(site) for site in cluster.sites}
    assert told[first.name] == [{"term": 1, "index": written.revision - 1}]
    assert told[second.name] == [{"term": second.alive.raft.term, "index": written.revision + 2}], "behind the no-op"
    assert sum(len(each) for each in told.values()) == 2


def first_commands(site: Site) -> list[dict[str, int | str | bool | None]]:
    traces = [trace for effects in site.effects for trace in effects.traces]
    return [trace.detail for trace in traces if trace.what == "first_command"]


def test_what_waits_at_a_member_that_learns_that_it_is_a_witness_is_passed_on() -> None:
    """To pass it on it opens a client session of its own, which is no request to a member without state (P8; seed
    2398682511455).
    """
    cluster = elected(4)
    site = cluster.join("m5")
    cluster.run(1_000)
    promoted = cluster.answer(cluster.leader, PromoteMember("m5", "witness"))
    assert isinstance(promoted, MembersView), promoted
    cluster.kill(site)
    cluster.restart(site)
    token = cluster.ask(site, KvPut("k", b"v"))
    cluster.run(2_000, until=lambda: token in site.answers)
    assert isinstance(site.answers.get(token), KvWritten), site.answers
    assert set(site.answers) <= {token, *range(1, token)}, "and nothing is told that nobody has asked"
