"""Majorities, each against a slow twin."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenure.raft import quorum


@pytest.mark.parametrize("voters", range(1, 8))
def test_any_two_quorums_meet(voters: int) -> None:
    """Every pair of smallest majorities shares a voter."""
    names = [str(number) for number in range(voters)]
    quorums = [set(chosen) for chosen in combinations(names, quorum.size(voters))]
    assert all(one & other for one in quorums for other in quorums)
    assert all(quorum.reached(names, chosen) for chosen in quorums)


@pytest.mark.parametrize("voters", range(1, 8))
def test_one_less_than_a_quorum_is_none(voters: int) -> None:
    """A set one smaller never counts, whoever else is in it."""
    names = [str(number) for number in range(voters)]
    for chosen in combinations(names, quorum.size(voters) - 1):
        assert not quorum.reached(names, {*chosen, "a stranger", "another"})


def test_nobody_has_no_majority() -> None:
    """Without voters nothing is ever reached."""
    assert not quorum.reached([], {"a"})


@given(st.lists(st.integers(0, 9), min_size=1, max_size=7))
def test_the_commit_index_is_what_a_majority_has(values: list[int]) -> None:
    """Twin: the largest index that enough values are at or above."""
    enough = quorum.size(len(values))
    slow = max(index for index in range(10) if sum(value >= index for value in values) >= enough)
    assert quorum.held_by_quorum(values) == slow
