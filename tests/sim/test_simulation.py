"""The simulator itself: the same seed is the same run in any process (S23), and its parts are what they claim to be."""

import subprocess
import sys
from pathlib import Path

import pytest

from tenure.base.ids import BatchNumber, ConsensusTerm, LogIndex, MemberId
from tenure.raft.entries import Configuration, Entry, HardState, Seat
from tenure.raft.ready import Batch
from tests.sim.clock import Clock
from tests.sim.disk import Disk
from tests.sim.plan import RHO_PPM, SECOND, draw
from tests.sim.run import run
from tests.sim.world import World

ROOT = Path(__file__).parent.parent.parent


def entry(index: int, term: int) -> Entry:
    return Entry(LogIndex(index), ConsensusTerm(term), 0, b"")


def batch(number: int, *entries: Entry, truncate_from: int | None = None) -> Batch:
    return Batch(
        BatchNumber(number),
        entries=entries,
        truncate_from=None if truncate_from is None else LogIndex(truncate_from),
        hard_state=HardState(ConsensusTerm(number), MemberId("a")),
    )


@pytest.mark.parametrize("seed", [3, 10])
def test_a_seed_is_the_same_run_in_another_process_with_other_hashes(seed: int) -> None:
    here = run(seed, 2_000, 500).trace
    code = f"from tests.sim.run import run; print(run({seed}, 2_000, 500).trace)"
    for hashes in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONHASHSEED": hashes, "PYTHONPATH": "src:."},
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(there.stdout) == here


def test_another_seed_is_another_run() -> None:
    assert run(3, 500, 100).trace != run(4, 500, 100).trace


def test_a_plan_depends_on_its_seed_alone() -> None:
    assert draw(17) == draw(17)
    assert len({draw(seed).latency_us for seed in range(50)}) > 40


def test_a_clock_is_inverted_exactly_at_any_rate() -> None:
    for rate in (-RHO_PPM, -1, 0, 7, RHO_PPM):
        clock = Clock(rate)
        clock.step(3 * SECOND, 1_234)
        for local in range(13 * SECOND, 13 * SECOND + 500, 7):
            true = clock.true_of(local)
            assert clock.at(true) >= local > clock.at(true - 1)


def test_an_unsynced_write_is_lost_in_a_crash_and_a_synced_one_is_kept() -> None:
    disk = Disk(Configuration(LogIndex(0), ()))
    disk.submit(batch(1, entry(1, 1)))
    disk.complete()
    disk.submit(batch(2, entry(2, 1)))
    disk.crash(keep=False)
    assert (disk.last_index, disk.number, disk.hard_state.term) == (1, 1, 1)
    disk.submit(batch(2, entry(2, 2)))
    disk.crash(keep=True)
    assert (disk.last_index, disk.number, disk.hard_state.term) == (2, 2, 2)


def test_a_truncation_comes_before_the_new_entries_of_its_batch() -> None:
    disk = Disk(Configuration(LogIndex(0), ()))
    disk.submit(batch(1, entry(1, 1), entry(2, 1), entry(3, 1)))
    disk.complete()
    disk.submit(batch(2, entry(2, 2), truncate_from=2))
    disk.complete()
    assert [(held.index, held.term) for held in disk.entries] == [(1, 1), (2, 2)]


def test_every_delivered_event_is_counted() -> None:
    world = World(3, draw(3))

    def turn() -> None:
        world.steps += 1

    for delay in (1, 2, 2):
        world.later(delay, lambda: None)
    world.later(3, turn)
    world.later(4, turn)
    world.run_until_step(1)
    assert (world.events, world.superseded) == (4, 0)


def test_a_timer_that_was_set_anew_counts_for_nothing() -> None:
    world = World(3, draw(3))
    world.seat((Seat(MemberId("a"), "a", "a:1"),))
    host = world.hosts[0]
    world.revive(host)
    world.fired((host, host.timer))
    assert world.superseded == 0
    world.fired((host, host.timer - 1))
    assert world.superseded == 1
