"""Many seeds, resumed where they stopped: the figures of a run, kept in a file of JSON lines if one is wanted.

One line a seed, and now and then a line with what was seen since the last one; each says of which *state* of the code
it is, a checksum over the sources. Who starts again with the same file goes on behind it: a seed that has passed is
done, one that failed is run again once the code is another. Several shards have a file each, and all of them together
give one summary: how many seeds of which state have passed.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

from tests.sim.run import Outcome

ROOT: Final = Path(__file__).parent.parent.parent
SEEN_EVERY: Final = 50
"""Seeds between two lines of what was seen."""
NAMED_MAX: Final = 20
"""So many failed seeds are named in one line."""


def state_of_code(root: Path = ROOT) -> str:
    """What a run is made of: a checksum over the product and the simulator, without the tests of the latter."""
    digest = hashlib.sha256()
    for folder in (root / "src" / "tenure", root / "tests" / "sim"):
        for path in sorted(folder.rglob("*.py")):
            if not path.name.startswith("test_"):
                digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


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
    events: int = 0
    """Delivered events, timers and completions of a disk: what VERIFICATION calls steps."""
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
        self.events += outcome.events
        self.seen.update(outcome.seen)
        if outcome.failure:
            self.failed[outcome.seed] = outcome.failure

    def lines(self) -> Iterator[str]:
        """In words."""
        cost = self.core_us / 1e6
        turns, events = (f"{self.steps / cost:,.0f}", f"{self.events / cost:,.0f}") if cost else ("?", "?")
        yield (
            f"{self.seeds} seeds, {len(self.failed)} failed; "
            f"{self.steps:,} turns of members ({turns} a second on one core), "
            f"{self.events:,} events ({events} a second); "
            f"{self.simulated_us / 3.6e9:.1f} simulated hours, {self.operations:,} operations, "
            f"{self.elected:,} elections, {self.granted:,} grants, {self.expired:,} expiries"
        )
        if self.failed:
            named = ", ".join(map(str, sorted(self.failed)[:NAMED_MAX]))
            yield f"  failed: {named}" + (" …" if len(self.failed) > NAMED_MAX else "")
        faults = {what.removeprefix("fault "): count for what, count in self.seen.items() if what.startswith("fault ")}
        decisions = {what: count for what, count in self.seen.items() if not what.startswith("fault ")}
        for name, counts in (("faults", faults), ("seen", decisions)):
            yield f"  {name}: " + ", ".join(f"{what} {count}" for what, count in sorted(counts.items()))


class Progress:
    """What is done, in a file; without one, in memory alone. `state`: of the code that runs now."""

    def __init__(self, path: Path | None, state: str = "") -> None:
        self.state = state
        self.by_state: dict[str, Figures] = {}
        """In the order in which they were first met."""
        self.last: dict[int, tuple[str, bool]] = {}
        """By seed: of which state it was run last, and whether it held."""
        self._since: Counter[str] = Counter()
        self._unsaid = 0
        self._file: TextIO | None = None
        if path is not None:
            if path.exists():
                whole = self.read(path)
                if path.stat().st_size > whole:
                    os.truncate(path, whole)
            self._file = path.open("a", encoding="utf-8")

    @property
    def figures(self) -> Figures:
        """Of the code that runs now."""
        return self._of(self.state)

    def _of(self, state: str) -> Figures:
        return self.by_state.setdefault(state, Figures())

    def read(self, path: Path) -> int:
        """What is in a file. The last line may be half of one (it is being written, or the process was ended there) and
        then doesn't count. Returns how many bytes are whole lines.
        """
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        for line in whole.decode().splitlines():
            kept = json.loads(line)
            state = kept.pop("state", "")
            if "seed" in kept:
                self._count(state, Outcome(**kept))
            else:
                self._of(state).seen.update(kept["seen"])
        return len(whole)

    def _count(self, state: str, outcome: Outcome) -> None:
        self._of(state).add(outcome)
        self.last[outcome.seed] = (state, not outcome.failure)

    def left(self, seeds: Iterable[int]) -> Iterator[int]:
        """Those that are still to be run: all but those that held, and those that failed with just this code."""
        return (seed for seed in seeds if not self._is_done(seed))

    def _is_done(self, seed: int) -> bool:
        state, held = self.last.get(seed, ("", False))
        return held or (seed in self.last and state == self.state)

    def add(self, outcome: Outcome) -> None:
        """A seed is done."""
        self._count(self.state, outcome)
        if self._file is None:
            return
        self._since.update(outcome.seen)
        self._unsaid += 1
        self._file.write(json.dumps({"state": self.state, **vars(outcome), "seen": {}}) + "\n")
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
            self._file.write(json.dumps({"state": self.state, "seen": dict(self._since)}) + "\n")
            self._file.flush()
        self._since.clear()
        self._unsaid = 0

    def summary(self) -> Iterator[str]:
        """Everything in words: each state of the code for itself, then how the seeds stand."""
        for state, figures in self.by_state.items():
            if figures.seeds:
                lines = figures.lines()
                yield f"code {state or 'unknown'}: {next(lines)}"
                yield from lines
        failed = sorted(seed for seed, (_, held) in self.last.items() if not held)
        named = f": {', '.join(map(str, failed[:NAMED_MAX]))}" if failed else ""
        yield f"{len(self.last)} different seeds; {len(failed)} failed when they were last run{named}"


def shard(seeds: Iterable[int], text: str) -> Iterator[int]:
    """`k/n`: the k-th of n parts of these seeds, k from 1 to n."""
    part, _, parts = text.partition("/")
    number, count = (int(one) if one.isdecimal() else 0 for one in (part, parts))
    if not 1 <= number <= count:
        raise ValueError(f"a shard is k/n with k from 1 to n, not {text!r}")
    return (seed for place, seed in enumerate(seeds) if place % count == number - 1)
