"""The demo's resource: one SQLite ledger behind the guard, and the final check of what was written there."""

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from tenure.base.instants import wall_ms_of
from tenure.guards import sqlite as guards
from tenure.leadership.engine import HoldingView

ELECTION: Final = "orders"
clock_slack_ms: Final = 2
"""A row's and a grant's times are cut to whole milliseconds, each on its own."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the ledger, in the order of writing. `at_us` is CLOCK_BOOTTIME, `wall_ms` unix time."""

    id: int
    term: int
    node: str
    at_us: int
    wall_ms: int


def now_us() -> int:
    """Microseconds of CLOCK_BOOTTIME."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def connect(path: Path) -> sqlite3.Connection:
    """A connection that waits for its turn."""
    connection = sqlite3.connect(path, timeout=10, isolation_level=None)
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def create(path: Path) -> sqlite3.Connection:
    """The ledger with its guard."""
    connection = connect(path)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute(
        "CREATE TABLE ledger (id INTEGER PRIMARY KEY AUTOINCREMENT, term INTEGER NOT NULL, node TEXT NOT NULL, "
        "number INTEGER NOT NULL, at_us INTEGER NOT NULL, wall_ms INTEGER NOT NULL)"
    )
    guards.install(connection, ELECTION, ["ledger"])
    return connection


class Writer:
    """Appends under one fencing token."""

    def __init__(self, path: Path, node: str, term: int, token: str) -> None:
        self._node, self._term = node, term
        self._number = 0
        self._guard = guards.SqliteGuard(connect(path), token)

    def append(self) -> None:
        """One row, once: its name makes a repetition harmless. `StaleTerm` if a newer leader has written."""
        self._number += 1
        row = (self._term, self._node, self._number)

        def insert(connection: sqlite3.Connection) -> None:
            times = (now_us(), time.time_ns() // 1_000_000)
            connection.execute(
                "INSERT INTO ledger (term, node, number, at_us, wall_ms) VALUES (?, ?, ?, ?, ?)", row + times
            )

        self._guard.apply(f"{self._node}-{self._term}-{self._number}", insert)


def rows(connection: sqlite3.Connection) -> list[Row]:
    """All of it."""
    found = connection.execute("SELECT id, term, node, at_us, wall_ms FROM ledger ORDER BY id").fetchall()
    return [Row(*each) for each in found]


def first_under(connection: sqlite3.Connection, above: int) -> Row | None:
    """The first row under a term greater than `above`."""
    found = connection.execute(
        "SELECT id, term, node, at_us, wall_ms FROM ledger WHERE term > ? ORDER BY id LIMIT 1", (above,)
    ).fetchone()
    return Row(*found) if found else None


def longest_gap_us(written: Sequence[Row], begin_us: int, end_us: int) -> int:
    """The longest time without a row between two instants."""
    times = [begin_us, *(row.at_us for row in written if begin_us < row.at_us < end_us), end_us]
    return max(later - earlier for earlier, later in pairwise(times))


def findings(written: Sequence[Row], holdings: Sequence[HoldingView]) -> list[str]:
    """What is wrong with the ledger; empty if no row was written under a stale term.

    Two proofs that share nothing: the order of the rows themselves, and the cluster's own history of grants (one clock,
    as all of the demo is one machine).
    """
    wrong: list[str] = []
    for before, after in pairwise(written):
        if after.term < before.term:
            wrong.append(f"row {after.id} of term {after.term} stands behind row {before.id} of term {before.term}")
    granted: dict[int, tuple[str, int]] = {
        holding.term: (holding.node_id, _granted_ms(holding)) for holding in holdings
    }
    ends = dict(zip(sorted(granted), [granted[term][1] for term in sorted(granted)[1:]], strict=False))
    for row in written:
        holder = granted.get(row.term)
        if holder is None:
            wrong.append(f"row {row.id} carries term {row.term}, which was never granted")
        elif holder[0] != row.node:
            wrong.append(f"row {row.id} of term {row.term} was written by {row.node}, but {holder[0]} held it")
        elif row.wall_ms + clock_slack_ms < holder[1]:
            wrong.append(f"row {row.id} was written before its term {row.term} was granted")
        elif row.term in ends and row.wall_ms > ends[row.term] + clock_slack_ms:
            wrong.append(f"row {row.id} of term {row.term} was written after the next term was granted")
    return wrong


def _granted_ms(holding: HoldingView) -> int:
    return next(wall_ms_of(phase.at) for phase in holding.phases if phase.name == "granted")
