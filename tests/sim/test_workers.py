"""A seed that hangs and a worker that dies are errors with the seed's name, never a silence."""

import os
import signal

import pytest

from tests.sim.observer import Broken
from tests.sim.plan import draw
from tests.sim.run import Outcome, failed_outcome
from tests.sim.workers import spread, watched
from tests.sim.world import World


def fine(seed: int) -> Outcome:
    return Outcome(seed, 1, 1, 1, 0, 0, 0, 0)


def dies_at_three(seed: int) -> Outcome:
    if seed == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return fine(seed)


def spins_at_three(seed: int) -> Outcome:
    while seed == 3:
        pass
    return fine(seed)


def is_deaf_at_three(seed: int) -> Outcome:
    if seed == 3:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.pause()
    return fine(seed)


def test_every_seed_has_one_outcome() -> None:
    assert sorted(outcome.seed for outcome in spread(fine, range(20), 3)) == list(range(20))


def test_a_worker_that_dies_is_a_failure_of_its_seed_and_the_others_go_on() -> None:
    outcomes = {outcome.seed: outcome.failure for outcome in spread(dies_at_three, range(6), 2)}
    assert set(outcomes) == set(range(6))
    assert outcomes.pop(3) == "its worker died (exit code -9)"
    assert set(outcomes.values()) == {""}


def test_a_seed_that_spins_is_interrupted_and_named() -> None:
    outcomes = {outcome.seed: outcome.failure for outcome in spread(spins_at_three, range(6), 2, core_seconds=0.2)}
    assert "no end after" in outcomes.pop(3)
    assert set(outcomes.values()) == {""}


def test_a_worker_that_hears_nothing_is_given_up() -> None:
    outcomes = {outcome.seed: outcome.failure for outcome in spread(is_deaf_at_three, range(6), 2, silent_seconds=0.2)}
    assert "said nothing" in outcomes.pop(3)
    assert set(outcomes.values()) == {""}


def test_after_the_budget_nothing_is_waited_for() -> None:
    assert list(spread(is_deaf_at_three, [3], 1, budget=0.1)) == []


def test_a_seed_run_here_is_watched_too() -> None:
    assert watched(fine, 5) == fine(5)
    assert watched(spins_at_three, 3, 0.1) == failed_outcome(3, "no end after 0 s of a core")


def test_a_world_in_which_time_stands_still_says_so() -> None:
    world = World(1, draw(1))

    def again() -> None:
        world.later(0, again)

    again()
    with pytest.raises(Broken, match="livelock"):
        world.run_until_step(10)


def test_a_world_in_which_no_member_lives_says_so() -> None:
    world = World(1, draw(1))

    def again() -> None:
        world.later(1, again)

    with pytest.raises(Broken, match="nothing will ever happen"):
        world.run_until_step(10)
    again()
    with pytest.raises(Broken, match="without a turn"):
        world.run_until_step(10)
