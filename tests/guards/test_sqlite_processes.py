"""The guard among real processes: frozen, killed and racing writers."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tenure.guards.sqlite import SqliteGuard, mark, outcome
from tests.guards.databases import A, B, add, by_sqlite3, make_ledger, orders, rows

pytestmark = pytest.mark.e2e
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    make_ledger(path)
    return path


@pytest.fixture
def start(ledger: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def begin(term: int, owner: str, *plan: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "tests.guards.writer", str(ledger), str(term), owner, *plan]
        root = Path(__file__).parents[2]
        env = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env=env))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def wait_until_stopped(process: "subprocess.Popen[str]") -> None:
    """Blocks in the kernel until the child has stopped itself."""
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)


def last_word(process: "subprocess.Popen[str]") -> str:
    """The last line that the writer printed."""
    return process.communicate()[0].strip().splitlines()[-1]


def write_as_successor(ledger: Path, term: int, busy_ms: int = 5_000) -> None:
    """The next leader's write."""
    connection = by_sqlite3(ledger, busy_ms)
    try:
        SqliteGuard(connection, orders(term, B)).apply(f"successor-{term}", lambda db: add(db, "successor", term))
    finally:
        connection.close()


def test_a_writer_frozen_between_its_check_and_its_write_is_refused_when_it_wakes(ledger: Path, start: Start) -> None:
    frozen = start(7, A, "stop-before", "late")
    wait_until_stopped(frozen)
    write_as_successor(ledger, 8)
    frozen.send_signal(signal.SIGCONT)
    assert last_word(frozen) == "stale 8"
    assert rows(ledger) == [("successor", 8)]


def test_a_writer_frozen_inside_its_transaction_commits_before_its_successor_or_not_at_all(
    ledger: Path, start: Start
) -> None:
    frozen = start(7, A, "stop-inside", "slow")
    wait_until_stopped(frozen)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        write_as_successor(ledger, 8, busy_ms=0)
    frozen.send_signal(signal.SIGCONT)
    assert last_word(frozen) == "written"
    write_as_successor(ledger, 8)
    assert rows(ledger) == [("slow", 7), ("successor", 8)]


def test_a_writer_killed_while_it_holds_the_lock_leaves_nothing(ledger: Path, start: Start) -> None:
    frozen = start(7, A, "stop-inside", "slow")
    wait_until_stopped(frozen)
    frozen.kill()
    frozen.wait()
    write_as_successor(ledger, 8)
    assert rows(ledger) == [("successor", 8)]


@pytest.mark.parametrize("where", ["presented", "written", "recorded", "committed"])
def test_a_crash_leaves_all_of_an_operation_or_nothing_and_the_repetition_completes_it(
    ledger: Path, start: Start, where: str
) -> None:
    killed = start(7, A, f"die-{where}", "order-1")
    assert killed.wait() == -signal.SIGKILL
    connection = by_sqlite3(ledger)
    done = where == "committed"
    assert rows(ledger) == ([("order-1", 7)] if done else [])
    assert mark(connection, "orders").term == (7 if done else 0)
    assert outcome(connection, "orders", "order-1") == (("order-1",) if done else None)
    assert connection.execute("SELECT count(*) FROM tenure_presented").fetchall() == [(0,)]

    repeated = SqliteGuard(connection, orders(8, B)).apply("order-1", lambda db: add(db, "order-1", 8))
    assert repeated == "order-1"
    assert len(rows(ledger)) == 1
    connection.close()


def test_racing_writers_never_mix_their_terms(ledger: Path, start: Start) -> None:
    writers = []
    for term in range(1, 7):
        writers.append(start(term, (A, B)[term % 2], "race"))
        assert writers[-1].stdout is not None
        assert writers[-1].stdout.readline() == "begun\n"  # each begins while its predecessor is writing
    newest = writers.pop()
    for writer in writers:
        assert last_word(writer).startswith("stale ")
    newest.kill()
    newest.wait()
    terms = [term for _, term in rows(ledger)]
    assert terms == sorted(terms)
    assert set(terms) == set(range(1, 7))
