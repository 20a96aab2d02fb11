"""Who leads, how soon, and how often that changes (VERIFICATION 3): one fault each, on true time."""

import pytest

from tenure.base.instants import MS, SECOND
from tests.raft.net import Net

pytestmark = pytest.mark.slow


def fresh(size: int, **options: int) -> Net:
    net = Net(size, **options)  # type: ignore[arg-type]
    net.until_led(2 * SECOND)
    net.run(1 * SECOND)
    return net


def led(net: Net) -> str:
    name = net.leader()
    assert name is not None, net.show()
    return name


def others(net: Net) -> list[str]:
    return [name for name in net.nodes if name != net.leader()]


@pytest.mark.parametrize("size", [3, 5, 7])
def test_the_first_leader_stays_under_loss_and_jitter(size: int) -> None:
    """L3: loss 5 %, jitter half a step."""
    net = fresh(size)
    net.loss_percent, net.jitter_us = 5, 2_500
    net.run(20 * SECOND)
    assert net.changes() == 1


@pytest.mark.parametrize("size", [3, 5, 7])
def test_a_killed_leader_is_replaced_in_three_round_trips_and_two_writes(size: int) -> None:
    """DESIGN 4, the floor: 3 RTT + 2 fsync, here 5 ms."""
    net = fresh(size)
    net.kill(led(net))
    assert net.until_led(1 * SECOND) <= 5 * MS
    assert net.run(2 * SECOND).changes() == 2


@pytest.mark.parametrize("size", [3, 5, 7])
def test_a_silent_death_costs_the_timeout_and_the_same(size: int) -> None:
    net = fresh(size)
    net.kill(led(net), silently=True)
    assert net.until_led(1 * SECOND) <= 110 * MS
    assert net.run(2 * SECOND).changes() == 2


@pytest.mark.parametrize("silently", [False, True])
@pytest.mark.parametrize("size", [3, 5])
def test_one_broken_way_from_the_leader_deposes_nobody(size: int, silently: bool) -> None:
    """P5.3."""
    net = fresh(size)
    net.cut(f"{led(net)}>{others(net)[-1]}", silently=silently)
    net.run(5 * SECOND)
    net.heal()
    assert net.run(2 * SECOND).changes() == 1


@pytest.mark.parametrize("silently", [False, True])
@pytest.mark.parametrize("deaf", [False, True], ids=["unheard", "deaf"])
def test_a_leader_that_is_deaf_or_unheard_goes_once(deaf: bool, silently: bool) -> None:
    """P5.5: it says that it resigns, or hears its successor; nothing changes when it can speak again."""
    net = fresh(5)
    old = led(net)
    net.cut(*(f"{name}>{old}" if deaf else f"{old}>{name}" for name in others(net)), silently=silently)
    net.run(300 * MS)
    assert led(net) != old
    net.run(5 * SECOND)
    net.heal()
    assert net.run(3 * SECOND).changes() == 2


@pytest.mark.parametrize("size", [3, 5])
def test_flapping_single_links_depose_nobody(size: int) -> None:
    """P5.2: five times a second, another one each time."""
    net = fresh(size)
    for turn in range(50):
        here, there = led(net), others(net)[turn % (size - 1)]
        net.cut(f"{here}>{there}", f"{there}>{here}")
        net.run(100 * MS)
        net.heal()
        net.run(100 * MS)
    assert net.changes() == 1


@pytest.mark.parametrize("silently", [False, True])
def test_a_chain_of_five_finds_a_leader_in_its_middle_and_keeps_it(silently: bool) -> None:
    """L6: m1 at the end reaches no majority; m2, m3 and m4 do."""
    net = fresh(5)
    net.only("m1-m2", "m2-m3", "m3-m4", "m4-m5", silently=silently)
    net.run(1 * SECOND)
    assert led(net) in {"m2", "m3", "m4"}
    net.run(10 * SECOND)
    net.heal()
    assert net.run(3 * SECOND).changes() == 2


@pytest.mark.parametrize("silently", [False, True])
def test_the_only_one_who_reaches_all_leads(silently: bool) -> None:
    """L6, loss of quorum: all links but those of m5 are cut, and m1 leads."""
    net = fresh(5)
    net.only("m5-m1", "m5-m2", "m5-m3", "m5-m4", silently=silently)
    net.run(1 * SECOND)
    assert led(net) == "m5"
    assert net.run(5 * SECOND).changes() == 2


@pytest.mark.parametrize("frozen_ms", [60, 90, 95, 98, 99, 100, 101, 102, 105, 130, 250, 5_000])
@pytest.mark.parametrize("size", [3, 5, 7])
def test_a_frozen_leader_costs_two_changes_at_most(size: int, frozen_ms: int) -> None:
    """L5, ADR 0006. It once cost all: asked by the stale one that woke amid the election, all who were fresher stood at
    the same moment, split their votes, and were asked again.
    """
    net = fresh(size)
    net.freeze(led(net), frozen_ms * MS)
    net.run(frozen_ms * MS)
    net.until_led(100 * MS)
    net.run(1 * SECOND)
    changes = net.changes()
    assert changes <= 3
    assert net.run(4 * SECOND).changes() == changes


def test_a_frozen_follower_deposes_nobody() -> None:
    net = fresh(5)
    net.freeze(others(net)[0], 5 * SECOND)
    assert net.run(10 * SECOND).changes() == 1


@pytest.mark.parametrize("slow_ms", [20, 200])
@pytest.mark.parametrize(("size", "slow"), [(2, "m2"), (4, "m2 m3"), (3, "m2 m3")])
def test_voters_with_slower_disks_are_waited_for(size: int, slow: str, slow_ms: int) -> None:
    """P5.6 takes the candidate's own disk for the voters': every round ended before the answers of slow ones came."""
    net = Net(size)
    for name in slow.split():
        net.nodes[name].sync_us = slow_ms * MS
    net.until_led(3 * SECOND)
    changes = net.changes()
    assert net.run(5 * SECOND).changes() == changes


def test_a_leader_whose_disk_alone_stalls_is_replaced_once() -> None:
    """P4.1."""
    net = fresh(3)
    old = led(net)
    net.stall(old, 20 * SECOND)
    for _ in range(200):
        net.propose(net.leader() or old)
        net.run(25 * MS)
    assert led(net) != old
    assert net.run(20 * SECOND).changes() == 2


def test_when_all_disks_stall_the_leader_stays() -> None:
    """P4.1."""
    net = fresh(3)
    old = led(net)
    for name in net.nodes:
        net.stall(name, 10 * SECOND)
    for _ in range(600):
        net.propose(old)
        net.run(25 * MS)
    assert net.changes() == 1


def test_priorities_name_the_successors() -> None:
    net = Net(7, priorities=(0, 0, 5, 3, 9, 0, 1))
    net.until_led(2 * SECOND)
    order = []
    for _ in range(4):
        net.run(1 * SECOND)
        order.append(led(net))
        net.kill(order[-1])
        if len(order) < 4:
            assert net.until_led(1 * SECOND) <= 10 * MS
    assert order == ["m5", "m3", "m4", "m7"]


def test_a_leader_that_restarts_within_the_timeout_is_not_followed_in_its_old_term() -> None:
    """P5.5."""
    net = fresh(3)
    old, term = led(net), net.reigns[-1][1]
    net.kill(old, silently=True)
    net.run(5 * MS)
    net.start(old)
    net.until_led(200 * MS)
    assert net.reigns[-1][1] > term
    assert net.run(3 * SECOND).changes() == 2
