"""A guarded ledger to write into, by either of the two SQLite drivers."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from tenure.base.tokens import FencingToken, token
from tenure.guards.sqlite import install

A = "a" * 32
B = "b" * 32


def orders(term: int, owner: str = A) -> FencingToken:
    """A token of the election that guards the ledger."""
    return token("orders", term, owner)


def by_sqlite3(path: Path, busy_ms: int = 5_000) -> sqlite3.Connection:
    """The standard library's driver, in its default (implicit transactions) mode."""
    return sqlite3.connect(path, timeout=busy_ms / 1_000)


def by_apsw(path: Path, busy_ms: int = 5_000) -> apsw.Connection:
    """APSW."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(busy_ms)
    return connection


DRIVERS: dict[str, Callable[..., Any]] = {"sqlite3": by_sqlite3, "apsw": by_apsw}


def make_ledger(path: Path) -> None:
    """A database with a guarded `ledger` and an unguarded `notes`."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE ledger (id INTEGER PRIMARY KEY, line TEXT, term INTEGER)")
    connection.execute("CREATE TABLE notes (line TEXT)")
    connection.commit()
    install(connection, "orders", ["ledger"])
    connection.close()


def rows(path: Path) -> list[tuple[str, int]]:
    """What the ledger holds, in the order of writing."""
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT line, term FROM ledger ORDER BY id").fetchall()
    connection.close()
    return found


def add(connection: Any, line: str, term: int) -> str:
    """One entry of the ledger."""
    connection.execute("INSERT INTO ledger (line, term) VALUES (?, ?)", (line, term))
    return line
