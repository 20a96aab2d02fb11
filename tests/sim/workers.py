"""Processes that run seeds side by side, none of which can be lost in silence.

A pool of the standard library starts another process for one that has died and waits for ever for the seed that went
with it. Here each worker has one seed at a time and a pipe of its own, so a death, and a silence, has a seed's name.

Three things end a seed that doesn't end by itself: its world notices that virtual time stands still (`World.watch`);
its process notices that it has used too much time of its core, and says where it was; and if not even that is heard,
its process is ended from here.
"""

import gc
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Final

from tests.sim.run import Outcome, failed_outcome

CORE_SECONDS_MAX: Final = 90.0
"""Time of a core that one seed may take; two seconds are usual. Not real time: the machine may be busy."""
SILENT_SECONDS_MAX: Final = 600.0
"""Real time after which a worker that said nothing is given up."""

Job = Callable[[int], Outcome]


class TookTooLong(Exception):
    """A seed has used up its time of a core."""


def watched(job: Job, seed: int, core_seconds: float = CORE_SECONDS_MAX) -> Outcome:
    """`job(seed)` in this process (its main thread), interrupted when it has used too much of a core."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise TookTooLong(f"no end after {core_seconds:.0f} s of a core")

    before = signal.signal(signal.SIGPROF, interrupt)
    signal.setitimer(signal.ITIMER_PROF, core_seconds)
    try:
        return job(seed)
    except TookTooLong as error:  # between two places that would have caught it
        return failed_outcome(seed, str(error))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@dataclass
class Worker:
    """A process with the seed that it was given last; None: it has said what came of it."""

    process: BaseProcess
    pipe: Connection
    seed: int | None = None
    since: float = 0.0

    def give(self, seed: int) -> None:
        """The next seed."""
        self.seed, self.since = seed, time.monotonic()
        self.pipe.send(seed)

    def end(self) -> None:
        """This process and nothing else."""
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.pipe.close()


def start(job: Job, core_seconds: float) -> Worker:
    """A worker without a seed."""
    ours, theirs = get_context("fork").Pipe()
    process = get_context("fork").Process(target=_serve, args=(theirs, os.getpid(), job, core_seconds), daemon=True)
    process.start()
    theirs.close()
    return Worker(process, ours)


def _serve(pipe: Connection, parent: int, job: Job, core_seconds: float) -> None:
    """Seed after seed, until nobody wants more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us ends us
    gc.freeze()
    gc.set_threshold(
        20_000, 50, 50
    )  # a run makes much that lives to its end: a tenth of the time went into looking at it
    while True:
        while not pipe.poll(5):
            if os.getppid() != parent:
                return
        try:
            pipe.send(watched(job, pipe.recv(), core_seconds))
        except EOFError:
            return


def spread(
    job: Job,
    seeds: Iterable[int],
    jobs: int,
    budget: float = float("inf"),
    core_seconds: float = CORE_SECONDS_MAX,
    silent_seconds: float = SILENT_SECONDS_MAX,
) -> Iterator[Outcome]:
    """Run seeds on `jobs` processes until they or the budget (seconds) are used up: an outcome for each one begun, in
    the order in which they end. After the budget nothing new begins, and what runs is given up without an outcome.
    """
    end = time.monotonic() + budget
    remaining = iter(seeds)
    workers = [start(job, core_seconds) for _ in range(jobs)]
    try:
        for place in range(jobs):
            _next(workers, place, remaining)
        while any(worker.seed is not None for worker in workers) and time.monotonic() < end:
            for place in _heard(workers, end):
                worker = workers[place]
                outcome = _outcome(worker, silent_seconds)
                if outcome is None:
                    continue
                worker.seed = None
                if not worker.process.is_alive():
                    worker.end()
                    workers[place] = start(job, core_seconds)
                yield outcome
                _next(workers, place, remaining)
    finally:
        for worker in workers:
            worker.end()


def _next(workers: list[Worker], place: int, remaining: Iterator[int]) -> None:
    seed = next(remaining, None)
    if seed is not None:
        workers[place].give(seed)


def _heard(workers: list[Worker], end: float) -> list[int]:
    """Workers to look at: those that said something or died; after a while without any, all that have a seed."""
    busy = {place: worker for place, worker in enumerate(workers) if worker.seed is not None}
    signs = [worker.pipe for worker in busy.values()]
    ended = [worker.process.sentinel for worker in busy.values()]
    wait([*signs, *ended], timeout=max(0.0, min(1.0, end - time.monotonic())))
    return list(busy)


def _outcome(worker: Worker, silent_seconds: float) -> Outcome | None:
    """What came of its seed; a dead or a silent worker is an outcome too."""
    assert worker.seed is not None
    alive = worker.process.is_alive()  # before the look into the pipe: what it said before it died counts
    if worker.pipe.poll():
        try:
            said = worker.pipe.recv()
        except EOFError:
            alive = False
            worker.process.join()
        else:
            assert isinstance(said, Outcome)
            return said
    if not alive:
        return failed_outcome(worker.seed, f"its worker died (exit code {worker.process.exitcode})")
    silent = time.monotonic() - worker.since
    if silent < silent_seconds:
        return None
    worker.process.kill()
    worker.process.join()
    return failed_outcome(worker.seed, f"its worker said nothing for {silent:.0f} s")
