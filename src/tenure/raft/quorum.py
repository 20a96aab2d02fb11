"""The arithmetic of majorities: pure, small, each with a slow twin in the tests."""

from collections.abc import Container, Iterable


def size(voters: int) -> int:
    """How many of `voters` make a majority. 0 voters have none: 1, which nobody can reach."""
    return voters // 2 + 1


def reached(voters: Iterable[str], granted: Container[str]) -> bool:
    """Whether a majority of `voters` is among `granted`; others in `granted` don't count."""
    total = count = 0
    for voter in voters:
        total += 1
        if voter in granted:
            count += 1
    return count >= size(total)


def held_by_quorum(values: list[int]) -> int:
    """The largest value that a majority has reached, given one value for each voter (Raft §5.3: the commit index)."""
    ordered = sorted(values, reverse=True)
    return ordered[size(len(ordered)) - 1]
