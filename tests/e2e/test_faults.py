"""Rounds of kill -9 and SIGSTOP on real members under load: what was acknowledged stays, and one leads at a time.

TENURE_TEST_ROUNDS   how many rounds with three members, 20 unless given; a fifth of that with five
TENURE_TEST_SEED     to choose the same faults again; timing is the machine's

`make faults ROUNDS=300` (`campaign`) does many more, and those of disks and clocks.
"""

import os
import random
from pathlib import Path
from typing import Final

import pytest

from tests.e2e import nemesis
from tests.e2e.story import drawn_seed, play

rounds: Final = int(os.environ.get("TENURE_TEST_ROUNDS", "20"))
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240 + 30 * rounds)]

plan: Final = (
    ("kill the leader",) * 7
    + ("stop the leader",) * 4
    + ("kill a follower",) * 2
    + ("stop a follower",)
    + ("stop an application", "kill an application")
    + ("step down",) * 2
    + ("kill all members", "stop the leader and kill a follower")
)
"""Twenty rounds; more rounds are more of the same, in another order."""
plan_of_five: Final = (
    "kill all members",
    "kill a minority with the leader",
    "stop a minority with the leader",
    "kill a minority with the leader",
    "stop the leader and kill a follower",
    "stop all members",
)


@pytest.mark.parametrize(("size", "share", "mix"), [(3, 1, plan), (5, 5, plan_of_five)], ids=["three", "five"])
def test_under_kills_and_stops_nothing_acknowledged_is_lost_and_at_most_one_leads(
    tmp_path: Path, size: int, share: int, mix: tuple[str, ...]
) -> None:
    seed = drawn_seed()
    print(f"TENURE_TEST_SEED={seed} TENURE_TEST_ROUNDS={rounds}, {size} members")
    rng = random.Random(seed)
    chosen: list[str] = []
    while len(chosen) < max(1, rounds // share):
        chosen += rng.sample(mix, len(mix))
    play(tmp_path, size, chosen[: max(1, rounds // share)], nemesis.ALL, rng.getrandbits(64))
