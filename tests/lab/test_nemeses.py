"""Partitions cut what their names say."""

import pytest

from lab.fabric import Pair
from lab.nemeses import NEMESES

MEMBERS = {3: (1, 2, 3), 5: (1, 2, 3, 4, 5)}


def cuts(name: str, size: int, leader: int) -> frozenset[Pair]:
    """Of its first phase."""
    return NEMESES[name](MEMBERS[size], leader)[0].cuts


def reach(name: str, size: int, leader: int) -> dict[int, set[int]]:
    """With whom each member can still talk in both directions."""
    gone = cuts(name, size, leader)
    return {
        a: {b for b in MEMBERS[size] if b != a and (a, b) not in gone and (b, a) not in gone} for a in MEMBERS[size]
    }


@pytest.mark.parametrize("name", sorted(NEMESES))
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("leader", [1, 2, 3])
def test_every_partition_cuts_something_and_leaves_a_majority_somewhere(name: str, size: int, leader: int) -> None:
    assert cuts(name, size, leader)
    assert all(a != b and {a, b} <= set(MEMBERS[size]) for a, b in cuts(name, size, leader))
    assert max(len(others) + 1 for others in reach(name, size, leader).values()) > size // 2


def test_halves_leave_the_leader_in_the_smaller_one() -> None:
    groups = reach("halves", 5, 3)
    assert {frozenset({member} | others) for member, others in groups.items()} == {
        frozenset({3, 1}),
        frozenset({2, 4, 5}),
    }


def test_a_leader_alone_reaches_nobody() -> None:
    assert reach("isolate-leader", 5, 2)[2] == set()
    assert len(cuts("isolate-leader", 5, 2)) == 8


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("leader-mute", {(2, 1), (2, 3)}),
        ("leader-deaf", {(1, 2), (3, 2)}),
        ("leader-mute-to-one", {(2, 1)}),
        ("leader-deaf-to-one", {(1, 2)}),
    ],
)
def test_one_way_cuts_leave_the_other_way_whole(name: str, expected: set[Pair]) -> None:
    assert cuts(name, 3, 2) == expected


def test_a_bridge_is_all_that_two_groups_have_in_common() -> None:
    leads = reach("bridge-leads", 5, 3)
    assert leads == {3: {1, 2, 4, 5}, 1: {2, 3}, 2: {1, 3}, 4: {3, 5}, 5: {3, 4}}
    follows = reach("bridge-follows", 5, 3)
    bridges = [member for member, others in follows.items() if len(others) == 4]
    assert len(bridges) == 1
    assert bridges != [3]
    assert len(follows[3]) == 2


def test_in_a_chain_everybody_reaches_only_its_neighbours() -> None:
    assert reach("chain", 5, 3) == {3: {1}, 1: {3, 2}, 2: {1, 4}, 4: {2, 5}, 5: {4}}
    around = reach("chain-around-leader", 5, 3)
    assert around[3] == {2, 4}
    assert sorted(len(others) for others in around.values()) == [1, 1, 2, 2, 2]


def test_flapping_heals_and_breaks_by_turns() -> None:
    for name in ("flapping-cable", "flapping-leader"):
        broken, whole = NEMESES[name](MEMBERS[3], 1)
        assert broken.cuts
        assert not whole.cuts
        assert broken.seconds == whole.seconds < 1
