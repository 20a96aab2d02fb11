"""The SQLite guard, claim by claim, with both drivers."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenure.base.errors import Invalid
from tenure.base.ids import Term
from tenure.base.tokens import token
from tenure.guards.errors import (
    Forked,
    GuardError,
    MarkAboveIssued,
    OperationMismatch,
    StaleTerm,
    TermTooHigh,
    UnknownMark,
    WrongTransaction,
)
from tenure.guards.sqlite import (
    SqliteGuard,
    audit,
    install,
    mark,
    marks,
    operation_id_chars_max,
    outcome,
    present,
    result_bytes_max,
    take_back,
)
from tests.guards.databases import DRIVERS, A, B, add, make_ledger, orders, rows


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    make_ledger(path)
    return path


@pytest.fixture(params=sorted(DRIVERS))
def connection(request: pytest.FixtureRequest, ledger: Path) -> Iterator[Any]:
    opened = DRIVERS[request.param](ledger)
    yield opened
    opened.close()


def test_the_first_token_is_accepted_and_leaves_its_mark(connection: Any, ledger: Path) -> None:
    assert mark(connection, "orders").term == 0
    with SqliteGuard(connection, orders(7)).transaction() as db:
        add(db, "one", 7)
    assert rows(ledger) == [("one", 7)]
    assert (mark(connection, "orders").term, mark(connection, "orders").owner) == (7, A)


def test_a_token_in_its_text_form_serves_as_well(connection: Any, ledger: Path) -> None:
    SqliteGuard(connection, str(orders(7))).apply("one", lambda db: add(db, "one", 7))
    assert rows(ledger) == [("one", 7)]


def test_a_stale_term_is_refused_before_the_body_runs_and_the_error_names_the_current_one(
    connection: Any, ledger: Path
) -> None:
    SqliteGuard(connection, orders(8, B)).apply("new", lambda db: add(db, "new", 8))
    ran = []
    with pytest.raises(StaleTerm) as caught:
        SqliteGuard(connection, orders(7)).apply("old", lambda db: ran.append(add(db, "old", 7)))
    assert (caught.value.term, caught.value.current_term) == (7, 8)
    assert not ran
    assert rows(ledger) == [("new", 8)]


def test_the_same_owner_writes_again_under_its_term(connection: Any, ledger: Path) -> None:
    for line in ("one", "two"):
        with SqliteGuard(connection, orders(7)).transaction() as db:
            add(db, line, 7)
    assert rows(ledger) == [("one", 7), ("two", 7)]


def test_an_equal_term_of_another_owner_is_forked(connection: Any, ledger: Path) -> None:
    SqliteGuard(connection, orders(7, A)).apply("one", lambda db: add(db, "one", 7))
    with pytest.raises(Forked) as caught:
        SqliteGuard(connection, orders(7, B)).apply("two", lambda db: add(db, "two", 7))
    assert (caught.value.owner, caught.value.current_owner) == (B, A)
    assert rows(ledger) == [("one", 7)]


def test_a_mark_above_2_to_the_52_is_refused_and_shuts_nobody_out(connection: Any) -> None:
    with pytest.raises(TermTooHigh):
        SqliteGuard(connection, orders(2**52 + 1)).apply("one", lambda db: add(db, "one", 1))
    SqliteGuard(connection, orders(2**52)).apply("one", lambda db: add(db, "one", 2**52))


def test_an_election_without_a_guard_here_is_unknown(connection: Any) -> None:
    with pytest.raises(UnknownMark):
        SqliteGuard(connection, token("stock", 7, A)).apply("one", lambda db: add(db, "one", 7))
    with pytest.raises(UnknownMark):
        mark(connection, "stock")


@pytest.mark.parametrize("driver", sorted(DRIVERS))
def test_a_database_without_any_guard_says_so(tmp_path: Path, driver: str) -> None:
    connection = DRIVERS[driver](tmp_path / "plain.db")
    assert marks(connection) == ()
    with pytest.raises(UnknownMark):
        SqliteGuard(connection, orders(7)).apply("one", lambda db: None)
    connection.close()


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO ledger (line) VALUES ('x')",
        "INSERT OR IGNORE INTO ledger (line) VALUES ('x')",
        "INSERT OR REPLACE INTO ledger (id, line) VALUES (1, 'x')",
        "INSERT INTO ledger (id, line) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET line = 'x'",
        "UPDATE ledger SET line = 'x'",
        "UPDATE OR IGNORE ledger SET line = 'x'",
        "DELETE FROM ledger",
        "DELETE FROM ledger WHERE id = 1",
        "INSERT INTO tenure_mark VALUES ('orders', 0, '')",
        "INSERT OR REPLACE INTO tenure_mark VALUES ('orders', 0, '')",
        "INSERT OR REPLACE INTO tenure_mark VALUES ('orders', 9, '" + B + "')",
        "INSERT INTO tenure_mark VALUES ('stock', 9, '" + B + "')",
        "UPDATE tenure_mark SET term = 1",
        "UPDATE tenure_mark SET term = 9",
        "UPDATE tenure_mark SET owner = '" + B + "'",
        "UPDATE tenure_mark SET election = 'stock'",
        "DELETE FROM tenure_mark",
        "DELETE FROM tenure_operation",
        "UPDATE tenure_operation SET result = '0'",
        "INSERT INTO tenure_operation (election, id, term, content, result) VALUES ('orders', 'x', 9, '', '1')",
        "INSERT INTO tenure_never VALUES ('orders')",
        "INSERT INTO tenure_presented VALUES ('orders', 6, '" + A + "')",
        "INSERT INTO tenure_presented VALUES ('orders', '8', '" + A + "x')",
        "INSERT INTO tenure_presented VALUES ('orders', 8.5, '" + A + "')",
        "INSERT INTO tenure_presented VALUES ('orders', 0, '" + A + "')",
        "INSERT INTO tenure_presented VALUES ('orders', NULL, '" + A + "')",
        "INSERT INTO tenure_presented VALUES ('orders', 8, NULL)",
        "INSERT INTO tenure_presented VALUES ('orders', 8, x'" + "aa" * 32 + "')",
        "INSERT OR REPLACE INTO tenure_presented VALUES ('orders', 7, '" + B + "')",
    ],
)
@pytest.mark.parametrize("foreign_keys", ["ON", "OFF"])
@pytest.mark.parametrize("recursive", ["ON", "OFF"])
def test_plain_sql_without_a_token_changes_nothing(ledger: Path, sql: str, foreign_keys: str, recursive: str) -> None:
    guarded = sqlite3.connect(ledger)
    SqliteGuard(guarded, orders(7)).apply("one", lambda db: add(db, "one", 7))
    guarded.close()
    plain = sqlite3.connect(ledger, isolation_level=None)
    plain.execute(f"PRAGMA foreign_keys = {foreign_keys}")
    plain.execute(f"PRAGMA recursive_triggers = {recursive}")
    before = list(plain.iterdump())
    plain.execute("BEGIN")
    with pytest.raises(sqlite3.DatabaseError):
        plain.execute(sql)
    plain.execute("COMMIT")
    with pytest.raises(sqlite3.DatabaseError):
        plain.execute(sql)
    assert list(plain.iterdump()) == before
    plain.close()


def test_plain_sql_with_a_token_works_from_any_tool(ledger: Path) -> None:
    plain = sqlite3.connect(ledger, isolation_level=None)
    plain.executescript(f"""
        PRAGMA foreign_keys = ON;
        BEGIN IMMEDIATE;
        INSERT INTO tenure_presented VALUES ('orders', 7, '{A}');
        INSERT INTO ledger (line, term) VALUES ('by hand', 7);
        DELETE FROM tenure_presented;
        COMMIT;
    """)
    assert rows(ledger) == [("by hand", 7)]
    assert mark(plain, "orders").term == 7
    plain.close()


def test_a_token_that_was_not_taken_back_can_not_be_committed(ledger: Path) -> None:
    plain = sqlite3.connect(ledger, isolation_level=None)
    plain.execute("PRAGMA foreign_keys = ON")
    plain.execute("BEGIN IMMEDIATE")
    present(plain, orders(7))
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        plain.execute("COMMIT")
    plain.execute("ROLLBACK")
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        plain.execute("INSERT INTO tenure_presented VALUES ('orders', 7, ?)", (A,))
    assert mark(plain, "orders").term == 0
    plain.close()


def test_a_token_is_refused_where_foreign_keys_would_not_hold_it(ledger: Path) -> None:
    plain = sqlite3.connect(ledger, isolation_level=None)
    plain.execute("PRAGMA foreign_keys = OFF")
    plain.execute("BEGIN IMMEDIATE")
    with pytest.raises(GuardError, match="foreign_keys"):
        present(plain, orders(7))
    plain.execute("COMMIT")
    assert plain.execute("SELECT count(*) FROM tenure_probe").fetchall() == [(0,)]
    plain.close()


def test_the_guard_works_where_the_schema_is_not_trusted(connection: Any, ledger: Path) -> None:
    connection.execute("PRAGMA trusted_schema = OFF")
    SqliteGuard(connection, orders(7)).apply("one", lambda db: add(db, "one", 7))
    assert rows(ledger) == [("one", 7)]


def test_after_the_token_was_taken_back_the_rest_of_the_transaction_is_plain_sql(ledger: Path) -> None:
    plain = sqlite3.connect(ledger, isolation_level=None)
    plain.execute("PRAGMA foreign_keys = ON")
    plain.execute("BEGIN IMMEDIATE")
    present(plain, orders(7))
    add(plain, "one", 7)
    take_back(plain, orders(7).election)
    with pytest.raises(sqlite3.IntegrityError, match="no_token"):
        add(plain, "two", 7)
    plain.execute("COMMIT")
    assert rows(ledger) == [("one", 7)]
    plain.close()


def test_a_token_of_another_election_does_not_open_the_ledger(connection: Any, ledger: Path) -> None:
    install(connection, "stock", ["notes"])
    guard = SqliteGuard(connection, token("stock", 9, A))
    with pytest.raises(Exception, match="no_token"):
        guard.apply("one", lambda db: add(db, "one", 9))
    guard.apply("two", lambda db: db.execute("INSERT INTO notes VALUES ('fine')") and None)
    assert rows(ledger) == []


def test_the_body_can_not_end_the_transaction_and_keep_the_token(connection: Any, ledger: Path) -> None:
    def body(db: Any) -> None:
        add(db, "one", 7)
        db.execute("COMMIT")

    with pytest.raises(Exception, match="FOREIGN KEY"):
        SqliteGuard(connection, orders(7)).apply("one", body)
    with pytest.raises(WrongTransaction):
        SqliteGuard(connection, orders(7)).apply("two", lambda db: db.execute("ROLLBACK") and None)
    assert rows(ledger) == []


def test_an_error_in_the_body_undoes_row_mark_and_operation(connection: Any, ledger: Path) -> None:
    def body(db: Any) -> None:
        add(db, "one", 7)
        raise LookupError

    with pytest.raises(LookupError):
        SqliteGuard(connection, orders(7)).apply("one", body)
    assert rows(ledger) == []
    assert mark(connection, "orders").term == 0
    assert outcome(connection, "orders", "one") is None


def test_a_refused_writer_leaves_no_lock_behind(connection: Any, ledger: Path) -> None:
    SqliteGuard(connection, orders(8)).apply("new", lambda db: add(db, "new", 8))
    with pytest.raises(StaleTerm):
        SqliteGuard(connection, orders(7)).apply("old", lambda db: None)
    other = DRIVERS["sqlite3"](ledger, 0)
    SqliteGuard(other, orders(9)).apply("newer", lambda db: add(db, "newer", 9))
    other.close()


def test_the_guard_does_not_join_an_open_transaction(connection: Any) -> None:
    connection.execute("BEGIN")
    with pytest.raises(WrongTransaction):
        SqliteGuard(connection, orders(7)).apply("one", lambda db: None)
    connection.execute("ROLLBACK")
    with pytest.raises(WrongTransaction):
        present(connection, orders(7))


@pytest.mark.parametrize("setting", [0, 1])
def test_the_connections_own_setting_of_foreign_keys_is_put_back(connection: Any, setting: int) -> None:
    connection.execute(f"PRAGMA foreign_keys = {setting}")
    SqliteGuard(connection, orders(7)).apply("one", lambda db: add(db, "one", 7))
    assert connection.execute("PRAGMA foreign_keys").fetchall() == [(setting,)]


def test_a_repeated_operation_has_one_effect_and_the_earlier_result(connection: Any, ledger: Path) -> None:
    guard = SqliteGuard(connection, orders(7))
    first = guard.apply("order-1", lambda db: {"line": add(db, "one", 7)})
    again = guard.apply("order-1", lambda db: {"line": add(db, "twice?", 7)})
    assert first == again == {"line": "one"}
    assert rows(ledger) == [("one", 7)]
    assert outcome(connection, "orders", "order-1") == ({"line": "one"},)
    assert outcome(connection, "orders", "order-2") is None


def test_a_successor_that_repeats_its_predecessors_operation_gets_the_earlier_result(
    connection: Any, ledger: Path
) -> None:
    SqliteGuard(connection, orders(7, A)).apply("order-1", lambda db: add(db, "one", 7))
    assert SqliteGuard(connection, orders(8, B)).apply("order-1", lambda db: add(db, "twice?", 8)) == "one"
    assert rows(ledger) == [("one", 7)]
    assert mark(connection, "orders").term == 8


def test_one_operation_id_for_two_things_is_a_mismatch(connection: Any, ledger: Path) -> None:
    guard = SqliteGuard(connection, orders(7))
    guard.apply("order-1", lambda db: add(db, "one", 7), content="one")
    with pytest.raises(OperationMismatch):
        guard.apply("order-1", lambda db: add(db, "two", 7), content="two")
    assert rows(ledger) == [("one", 7)]


def test_statements_are_applied_once_and_give_their_rows(connection: Any, ledger: Path) -> None:
    guard = SqliteGuard(connection, orders(7))
    statements = [
        ("INSERT INTO ledger (line, term) VALUES (?, ?)", ["one", 7]),
        ("SELECT count(*), max(term) FROM ledger", []),
    ]
    assert guard.apply_statements("order-1", statements) == [[1, 7]]
    assert guard.apply_statements("order-1", statements) == [[1, 7]]
    with pytest.raises(OperationMismatch):
        guard.apply_statements("order-1", statements[:1])
    assert rows(ledger) == [("one", 7)]


@pytest.mark.parametrize("operation_id", ["", "x" * (operation_id_chars_max + 1)])
def test_an_operation_id_has_its_limits(connection: Any, operation_id: str) -> None:
    with pytest.raises(Invalid, match="operation_id"):
        SqliteGuard(connection, orders(7)).apply(operation_id, lambda db: None)


def test_a_result_beyond_its_limit_undoes_everything(connection: Any, ledger: Path) -> None:
    def body(db: Any) -> str:
        add(db, "one", 7)
        return "x" * result_bytes_max

    with pytest.raises(Invalid, match="result"):
        SqliteGuard(connection, orders(7)).apply("one", body)
    assert rows(ledger) == []


def test_a_mark_above_anything_issued_is_an_alarm(connection: Any) -> None:
    SqliteGuard(connection, orders(9)).apply("one", lambda db: None)
    assert audit(connection, "orders", Term(9)).term == 9
    with pytest.raises(MarkAboveIssued) as caught:
        audit(connection, "orders", Term(8))
    assert (caught.value.mark, caught.value.issued) == (9, 8)


def test_installing_again_changes_nothing(connection: Any, ledger: Path) -> None:
    SqliteGuard(connection, orders(7)).apply("one", lambda db: add(db, "one", 7))
    install(connection, "orders", ["ledger"])
    assert [each.term for each in marks(connection)] == [7]
    with pytest.raises(StaleTerm):
        SqliteGuard(connection, orders(6)).apply("two", lambda db: add(db, "two", 6))


def test_a_table_has_one_election(connection: Any) -> None:
    with pytest.raises(Invalid, match="guarded already"):
        install(connection, "stock", ["ledger"])
    assert [each.election for each in marks(connection)] == ["orders"]


def test_what_can_not_have_triggers_is_not_called_guarded(connection: Any) -> None:
    connection.execute("CREATE VIEW lines AS SELECT line FROM ledger")
    connection.execute("CREATE VIRTUAL TABLE texts USING fts5 (line)")
    for name in ("lines", "texts", "nothing"):
        with pytest.raises(Invalid, match="tables"):
            install(connection, "orders", [name])


def test_names_with_quotes_are_only_names(connection: Any) -> None:
    name = "le\"d'ger; DROP TABLE ledger"
    quoted = '"' + name.replace('"', '""') + '"'
    connection.execute(f"CREATE TABLE {quoted} (line TEXT)")
    install(connection, "orders", [name])
    with pytest.raises(Exception, match="no_token"):
        connection.execute(f"INSERT INTO {quoted} VALUES ('x')")


def test_a_guarded_child_is_not_emptied_through_its_parent(ledger: Path) -> None:
    plain = sqlite3.connect(ledger, isolation_level=None)
    plain.execute("PRAGMA foreign_keys = ON")
    plain.execute("CREATE TABLE customer (id INTEGER PRIMARY KEY)")
    plain.execute("CREATE TABLE account (customer REFERENCES customer (id) ON DELETE CASCADE)")
    plain.execute("INSERT INTO customer VALUES (1)")
    plain.execute("INSERT INTO account VALUES (1)")
    install(plain, "orders", ["account"])
    with pytest.raises(sqlite3.IntegrityError, match="no_token"):
        plain.execute("DELETE FROM customer")
    plain.close()
