"""Many seeds, resumed where they stopped: the figures of a run, kept in a file of JSON lines if one is wanted.

One line a seed, and now and then a line with what was seen since the last one. Who starts again with the same file goes
on behind it; several shards may have a file each, and `figures` adds up any number of them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

from tests.sim.run import Outcome

SEEN_EVERY: Final = 50
"""Seeds between two lines of what was seen."""


@dataclass
class Figures:
    """What a number of seeds came to."""

    seeds: int = 0
    failed: dict[int, str] = field(default_factory=dict)
    steps: int = 0
    simulated_us: int = 0
    operations: int = 0
    granted: int = 0
    elected: int = 0
    expired: int = 0
    core_us: int = 0
    """Time of a core, as far as it was measured."""
    seen: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """One more seed."""
        self.seeds += 1
        self.steps += outcome.steps
        self.simulated_us += outcome.simulated_us
        self.operations += outcome.operations
        self.granted += outcome.granted
        self.elected += outcome.elected
        self.expired += outcome.expired
        self.core_us += outcome.core_us
        self.seen.update(outcome.seen)
        if outcome.failure:
            self.failed[outcome.seed] = outcome.failure

    def lines(self) -> Iterator[str]:
        """In words."""
        each = self.core_us / max(self.steps, 1)
        rate = f"{each:.1f} µs of a core each, {1e6 / each:,.0f} a second" if each else "not measured"
        yield (
            f"{self.seeds} seeds, {len(self.failed)} failed; {self.steps:,} steps ({rate}); "
            f"{self.simulated_us / 3.6e9:.1f} simulated hours, {self.operations:,} operations, "
            f"{self.elected:,} elections, {self.granted:,} grants, {self.expired:,} expiries"
        )
        faults = {what.removeprefix("fault "): count for what, count in self.seen.items() if what.startswith("fault ")}
        decisions = {what: count for what, count in self.seen.items() if not what.startswith("fault ")}
        for name, counts in (("faults", faults), ("seen", decisions)):
            yield f"  {name}: " + ", ".join(f"{what} {count}" for what, count in sorted(counts.items()))


class Progress:
    """What is done, in a file; without one, in memory alone."""

    def __init__(self, path: Path | None) -> None:
        self.figures = Figures()
        self.done: set[int] = set()
        self._since: Counter[str] = Counter()
        self._unsaid = 0
        self._file: TextIO | None = None
        if path is not None:
            if path.exists():
                self._read(path)
            self._file = path.open("a", encoding="utf-8")

    def _read(self, path: Path) -> None:
        for line in path.read_text(encoding="utf-8").splitlines():
            kept = json.loads(line)
            if "seed" in kept:
                self.figures.add(Outcome(**kept))
                self.done.add(kept["seed"])
            else:
                self.figures.seen.update(kept["seen"])

    def left(self, seeds: Iterable[int]) -> Iterator[int]:
        """Those that are still to be run."""
        return (seed for seed in seeds if seed not in self.done)

    def add(self, outcome: Outcome) -> None:
        """A seed is done."""
        self.figures.add(outcome)
        if self._file is None:
            return
        self._since.update(outcome.seen)
        self._unsaid += 1
        self._file.write(json.dumps({**vars(outcome), "seen": {}}) + "\n")
        self._file.flush()
        if self._unsaid >= SEEN_EVERY:
            self._say_seen()

    def close(self) -> None:
        """What was seen since the last line of it."""
        if self._file is not None:
            self._say_seen()
            self._file.close()

    def _say_seen(self) -> None:
        assert self._file is not None
        if self._since:
            self._file.write(json.dumps({"seen": dict(self._since)}) + "\n")
            self._file.flush()
        self._since.clear()
        self._unsaid = 0


def shard(seeds: Iterable[int], text: str) -> Iterator[int]:
    """`k/n`: the k-th of n parts of these seeds, k from 1 to n."""
    part, _, parts = text.partition("/")
    number, count = int(part), int(parts)
    if not 1 <= number <= count:
        raise ValueError(f"a shard is k/n with k from 1 to n, not {text}")
    return (seed for place, seed in enumerate(seeds) if place % count == number - 1)
