"""Whole runs in which nothing is wrong but what is planted in them: the check that is about it finds it.

What is planted acts from outside, once or again and again: it cuts, kills, or forges what the observer sees.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import pytest
from msgspec.structs import replace

from tenure.base.ids import ElectionName, LogIndex, NodeId, SessionId, Term
from tenure.leadership.engine import KvGet, Transition
from tenure.leadership.state import KvEntry
from tenure.raft.state import Note
from tests.sim.healing import ENTRIES_BEHIND
from tests.sim.host import Host
from tests.sim.observer import Broken
from tests.sim.plan import KINDS, MS, SECOND, draw
from tests.sim.run import Run
from tests.sim.twins import Twins
from tests.sim.users import Pending

LOOK_US = 500


def quiet(*, voters: int = 3, seed: int = 3) -> Run:
    """A cluster in which nothing ever fails by itself, with 1 500 steps until the liveness phase and 2 000 in it."""
    plan = draw(seed)
    engine = dataclasses.replace(
        plan.engine, snapshot_entries=10_000, pending_max=50_000, features=(1,) * len(plan.engine.features)
    )
    return Run(
        seed,
        1_500,
        2_000,
        dataclasses.replace(
            plan, voters=voters, clients=2, nodes=2, watchers=0, changing=False, founding=False, latency_us=1 * MS,
            jitter_us=0, ordered=True, loss=0, duplicate=0, replay=0, spike=0, silent_death=0, healed_loss=0,
            sync_us=1 * MS, weights=dict.fromkeys(KINDS, 0), boundary_ppm=0, wild=False, busy_us=0, late_us=0,
            rates_ppm=(0,) * len(plan.rates_ppm), ttls_ms=(300,) * 8, think_us=5 * MS, engine=engine,
        ),
    )  # fmt: skip


def plant(run: Run, act: Callable[[], bool]) -> None:
    """Look every half millisecond whether it can be done, until it says that it is."""

    def look() -> None:
        if not act():
            run.world.later(LOOK_US, look)

    run.world.later(LOOK_US, look)


def serving(run: Run) -> Host | None:
    """The leader, once there is one."""
    return next((host for host in run.world.hosts if host.is_serving), None)


def led() -> tuple[Run, Host]:
    """A run with a leader that serves, after some hundred steps."""
    run = quiet()
    run.faults_steps = run.healing_steps = 0
    world = run.world
    run.found()
    for host in world.hosts:
        world.revive(host)
    for client in run.clients:
        world.later(400 * MS, client.wake)
    run.steps(600)
    leader = serving(run)
    assert leader is not None
    run.twins.look()
    return run, leader


def test_where_nothing_is_planted_all_holds() -> None:
    run = quiet()
    run.go()
    assert run.world.seen["killed"] == 1
    assert run.world.seen["stayed"] == 1


# --- safety ---------------------------------------------------------------------------------------------------------


def test_a_second_leader_of_a_term_is_found() -> None:
    run, leader = led()
    core = leader.core
    assert core is not None
    run.world.observer.leaders[core.term] = "another"
    with pytest.raises(Broken, match="S1:"):
        run.world.observer.elected(leader, core)
    with pytest.raises(Broken, match="S1:"):
        Twins(run.world).look()


def test_a_leader_that_cuts_its_log_is_found() -> None:
    run, leader = led()
    leader.led_last += 50  # as if it had been so much longer at the last look
    with pytest.raises(Broken, match="S6"):
        run.steps(run.world.steps + 200)


def test_a_leader_that_misses_what_was_committed_before_is_found() -> None:
    run, leader = led()
    core = leader.core
    assert core is not None
    run.world.observer.led_commits = {core.term - 1: core.log.last_index + 1}
    with pytest.raises(Broken, match="S4"):
        run.world.observer.elected(leader, core)


def test_a_leader_without_votes_and_one_that_counts_others_are_found() -> None:
    run, leader = led()
    core = leader.core
    assert core is not None
    run.world.observer.seats.elected(leader, core)
    for host in run.world.hosts:
        if host is not leader:
            host.voted.clear()
    with pytest.raises(Broken, match="S10"):
        run.world.observer.seats.elected(leader, core)
    core.voters = core.voters[:-1]
    with pytest.raises(Broken, match="S10"):
        Twins(run.world).look()


def test_a_change_before_the_last_one_is_committed_and_one_by_two_voters_are_found() -> None:
    run, leader = led()
    core, seats = leader.core, run.world.observer.seats
    assert core is not None
    founded = core.configurations[0]
    one, *rest = founded.seats
    last = core.log.last_index
    first = replace(founded, index=LogIndex(last + 1), seats=(replace(one, role="observer"), *rest))
    second = replace(first, index=LogIndex(last + 2))
    core.configurations = [founded, first]
    seats.changed(leader, core)
    core.configurations = [founded, first, second]
    with pytest.raises(Broken, match="S9"):
        seats.changed(leader, core)
    core.configurations = [founded, replace(first, seats=tuple(rest[1:]))]
    with pytest.raises(Broken, match="S9"):
        seats.changed(leader, core)


def test_states_that_differ_and_a_state_that_the_log_does_not_give_are_found() -> None:
    run, leader = led()
    twins = run.twins
    twins.look()
    leader.machine.state.kv["planted"] = KvEntry(b"1", LogIndex(1), None, None)
    with pytest.raises(Broken, match="S12"):
        twins.look()
    fresh = Twins(run.world)
    fresh.state(leader)
    with pytest.raises(Broken, match="S12"):
        fresh.replay()


def test_a_session_that_expires_early_is_found_unless_a_clock_leapt_unnoticed() -> None:
    run, _ = led()
    now, observer = run.world.now, run.world.observer
    leases = observer.leases
    session = SessionId("1-a")
    leases.ttl_us[session], leases.last_kept[session] = 100 * MS, now - 94 * MS
    revision = max(index for index, entry in observer.committed.items() if entry.data)
    told = Transition(1, revision, "session_expired", 0, session=session)
    for leaps in ([], [(now - 95 * MS, 6 * MS)], [(now - 50 * MS, 4 * MS)]):
        leases.leaps = leaps
        with pytest.raises(Broken, match="S16: 1-a expired 94000"):
            leases.on_expired(told)
    leases.leaps = [(now - 50 * MS, 5 * MS)]
    leases.on_expired(told)


def test_a_term_that_is_granted_twice_is_found() -> None:
    run = quiet()
    leases = run.world.observer.leases
    leases.last_term = 7
    mail = ElectionName("mail")
    told = Transition(1, 1, "granted", 0, mail, SessionId("1-a"), NodeId("n"), Term(7), fence_token="t")
    with pytest.raises(Broken, match="S17"):
        leases.on_granted(told)


# --- liveness -------------------------------------------------------------------------------------------------------


def test_a_cluster_without_a_leader_is_found() -> None:
    run = quiet()

    def cut_all() -> bool:
        for host in run.world.hosts:
            for way in host.ways:
                way.cut = True
        return False

    plant(run, lambda: run.world.healed and cut_all())
    with pytest.raises(Broken, match="L1"):
        run.go()


def test_a_fail_over_that_takes_too_long_is_found() -> None:
    run = quiet()
    world = run.world

    def keep_apart() -> bool:
        if world.seen["killed"]:
            for host in world.hosts:
                for way in host.ways:
                    way.cut = True
        return False

    plant(run, keep_apart)
    with pytest.raises(Broken, match=r"L1.* died"):
        run.go()


def test_an_operation_without_an_end_is_found() -> None:
    run, _ = led()
    client = run.clients[0]
    run.steps(run.world.steps + 400)
    assert client.done > 0
    client.stopped = True
    client.pending = Pending(KvGet("a"), None, 0)
    assert run.healing.unrest().startswith("L2: operations without an end")


def test_a_request_that_a_member_never_answers_is_found() -> None:
    run, leader = led()
    for client in run.clients:
        client.stopped = True
    leader.asked[1] = (run.clients[0], 1)
    with pytest.raises(Broken, match=r"L2.*leave unanswered"):
        run.healing.come_to_rest()


def test_a_leader_that_changes_while_nothing_fails_is_found() -> None:
    run = quiet()
    world = run.world
    since: list[int] = []

    def depose() -> bool:
        leader = serving(run)
        if not world.healed or leader is None:
            return False
        since.append(world.steps)
        if world.steps < since[0] + 1_000 or world.seen["stayed"]:
            return False
        world.crash(leader, keep=True)
        return True

    plant(run, depose)
    with pytest.raises(Broken, match="L3"):
        run.go()


def test_a_member_that_never_catches_up_is_found() -> None:
    run, leader = led()
    assert leader.core is not None
    for client in run.clients:
        client.stopped = True
    run.steps(run.world.steps + 400)
    assert run.healing.unrest() == ""
    run.world.observer.commit_top += 2 * ENTRIES_BEHIND
    assert run.healing.unrest().startswith("L4")


def test_one_that_comes_back_and_deposes_the_leader_is_found() -> None:
    run = quiet()
    world = run.world
    down: list[Host] = []

    def depose() -> bool:
        if not world.seen["killed"]:
            return False
        if not down:
            down.extend(host for host in world.hosts if host.replica is None)
            return False
        leader = serving(run)
        if down[0].replica is None or leader is None:
            return False
        world.crash(leader, keep=True)
        return True

    plant(run, depose)
    with pytest.raises(Broken, match="L5"):
        run.go()


def test_a_leader_that_does_not_stay_where_links_are_cut_is_found() -> None:
    """The first seeds of which the liveness phase cuts links."""
    found = 0
    for seed in range(20):
        run = quiet(seed=seed)
        world = run.world

        def strike(run: Run = run) -> bool:
            leader = serving(run)
            if leader is not None and any(name.startswith("partial ") for name in run.world.seen):
                run.world.crash(leader, keep=True)
                run.world.revive(leader)
            return False

        def again(strike: Callable[[], bool] = strike, run: Run = run) -> None:
            strike()
            run.world.later(300 * MS, again)

        world.later(LOOK_US, again)
        try:
            run.go()
        except Broken as error:
            found += str(error).startswith("L6")
            break
    assert found == 1


def test_a_hand_over_that_is_never_done_is_found() -> None:
    run = quiet()
    world = run.world

    def kill_who_was_asked() -> bool:
        for host in world.hosts:
            if any(user is run.healing for user, _ in host.asked.values()):
                world.crash(host, keep=True)
                world.later(50 * MS, partial(world.revive, host))
        return False

    plant(run, kill_who_was_asked)
    with pytest.raises(Broken, match="L7"):
        run.go()


def test_a_queue_beyond_its_limit_is_found() -> None:
    run, leader = led()
    core, replica = leader.core, leader.replica
    assert core is not None
    assert replica is not None
    calls = replica._desk.forwarding._calls
    for number in range(50):
        calls[(leader.id, number)] = number
    with pytest.raises(Broken, match=r"L8: .* calls of others"):
        Twins(run.world).look()
    calls.clear()
    note = Note.__new__(Note)
    for host in range(10):
        core.notes[f"{host:016x}"] = note  # type: ignore[index]
    with pytest.raises(Broken, match=r"L8: .* notes"):
        Twins(run.world).look()


def test_a_session_that_outlives_its_ttl_is_found() -> None:
    run = quiet()

    def forget() -> bool:
        if not run.clients[0].stopped:
            return False
        run.world.observer.leases.ttl_us = dict.fromkeys(run.world.observer.leases.ttl_us, -100 * SECOND)
        return True

    plant(run, forget)
    with pytest.raises(Broken, match="L9"):
        run.go()
