"""The SQLite guard: every write into a guarded table needs a fencing token, in the same transaction.

    install(connection, "orders", ["ledger"])             # once, by whoever creates the tables
    guard = SqliteGuard(connection, lease.fence_token)
    guard.apply("order-42", lambda db: add_row(db, …))     # once, however often it is called; StaleTerm when replaced

or, without Python, in any tool (see `sqlite_schema` for why it can't be left out or left behind):

    PRAGMA foreign_keys = ON; BEGIN IMMEDIATE;
    INSERT INTO tenure_presented VALUES ('orders', 7, '<owner>');
    INSERT INTO ledger …;
    DELETE FROM tenure_presented; COMMIT;

A writer that is stopped in the middle of its transaction keeps SQLite's write lock: others wait for it or end it. What
it commits then is in order, before anything of its successor; what it writes after the successor's first write is
refused.

Works with connections of `sqlite3` and of APSW. A connection belongs to one thread at a time, as always in SQLite.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Generic, NoReturn, Protocol, TypeVar

import msgspec
from msgspec import Struct

from tenure.base.errors import Invalid
from tenure.base.ids import ElectionName, Term, election_name
from tenure.base.tokens import FencingToken, parse
from tenure.guards import sqlite_schema as schema
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

operation_id_chars_max: Final = 200
result_bytes_max: Final = 65_536
operations_max: Final = 100_000
"""Remembered operations per election; what is older is forgotten, and a repetition of it would run again (P9.2)."""
_PRUNE_EVERY: Final = 1_024


class Cursor(Protocol):
    """What `execute` returns."""

    def fetchall(self) -> list[Any]:
        """All rows."""
        ...


class Connection(Protocol):
    """What `sqlite3.Connection` and `apsw.Connection` have in common."""

    @property
    def in_transaction(self) -> bool:
        """A transaction is open."""
        ...

    def execute(self, sql: str, parameters: Any = ..., /) -> Cursor:
        """Run one statement."""
        ...


C = TypeVar("C", bound=Connection)


class Mark(Struct, frozen=True):
    """The newest token that the resource accepted; `term` 0 and no owner: none yet."""

    election: ElectionName
    term: Term
    owner: str


def install(connection: Connection, election: str, tables: Iterable[str]) -> None:
    """Guard `tables` for `election`: from now on nothing is written there without a token. Harmless when repeated.

    Run by whoever owns the schema, outside a transaction. `Invalid` for a table that is missing, is a view or a virtual
    table (SQLite has no such triggers there), or is guarded for another election already.
    """
    name = election_name(election)
    with _immediate(connection):
        for statement in schema.statements():
            connection.execute(statement)
        if not connection.execute("SELECT 1 FROM tenure_mark WHERE election = ?", (name,)).fetchall():
            connection.execute("INSERT INTO tenure_mark (election, term, owner) VALUES (?, 0, '')", (name,))
        for table in tables:
            _guard_table(connection, table, name)


def mark(connection: Connection, election: str) -> Mark:
    """The mark of one election; `UnknownMark` where no guard was installed for it."""
    name = election_name(election)
    found = [each for each in marks(connection) if each.election == name]
    if not found:
        raise UnknownMark(name)
    return found[0]


def marks(connection: Connection) -> tuple[Mark, ...]:
    """All marks of this database, in the order of the elections' names; none if it isn't guarded at all."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'tenure_mark'").fetchall():
        return ()
    rows = connection.execute("SELECT election, term, owner FROM tenure_mark ORDER BY election").fetchall()
    return tuple(Mark(ElectionName(row[0]), Term(row[1]), row[2]) for row in rows)


def audit(connection: Connection, election: str, issued: Term) -> Mark:
    """For operators: the mark, or `MarkAboveIssued` if it lies above `issued`, the newest term of the cluster (P2.3).

    Such a mark means that this resource was written under another cluster's terms. New leaders stay refused until an
    operator raises the cluster's floor above the mark.
    """
    found = mark(connection, election)
    if found.term > issued:
        raise MarkAboveIssued(found.election, found.term, issued)
    return found


class SqliteGuard(Generic[C]):
    """Writes under one fencing token. A new lease needs a new guard."""

    __slots__ = ("_connection", "token")

    def __init__(self, connection: C, token: FencingToken | str) -> None:
        self._connection = connection
        self.token = parse(token) if isinstance(token, str) else token

    @contextmanager
    def transaction(self) -> Iterator[C]:
        """A transaction under the token: committed at the end, rolled back by any exception.

        It takes the write lock first (BEGIN IMMEDIATE, so the driver's busy timeout holds), then presents the token:
        `StaleTerm`, `Forked`, `UnknownMark` or `TermTooHigh` come before the body has run. Foreign keys are enforced
        inside, and the connection's own setting is put back.
        """
        with _foreign_keys(self._connection), _immediate(self._connection):
            present(self._connection, self.token)
            yield self._connection
            _still_open(self._connection)
            take_back(self._connection, self.token.election)

    def apply(self, operation_id: str, action: Callable[[C], Any], content: str | bytes = b"") -> Any:
        """Run `action` once for `operation_id` and return its result, or the earlier result if it has run before.

        The id, the result (JSON, at most `result_bytes_max`) and what `action` writes are committed together, so a
        caller that lost the answer repeats the call, also under a later term. `content` says what the operation is: the
        same id with another content is `OperationMismatch`. Ids belong to the election.
        """
        if not 0 < len(operation_id) <= operation_id_chars_max:
            raise Invalid("operation_id", f"must have 1 to {operation_id_chars_max} characters")
        digest = hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
        with self.transaction() as connection:
            earlier = _operation(connection, self.token.election, operation_id)
            if earlier is not None:
                if earlier[0] != digest:
                    raise OperationMismatch(operation_id)
                return msgspec.json.decode(earlier[1])
            result = msgspec.json.encode(action(connection))
            _still_open(connection)
            if len(result) > result_bytes_max:
                raise Invalid("result", f"must have at most {result_bytes_max} bytes, got {len(result)}")
            self._record(operation_id, digest, result.decode())
            return msgspec.json.decode(result)

    def apply_statements(self, operation_id: str, statements: Sequence[tuple[str, Sequence[Any]]]) -> list[list[Any]]:
        """`apply` for plain SQL: each statement with its parameters; returns the rows of the last one."""

        def run(connection: C) -> list[list[Any]]:
            rows: list[list[Any]] = []
            for sql, parameters in statements:
                rows = [list(row) for row in connection.execute(sql, tuple(parameters)).fetchall()]
            return rows

        content = msgspec.json.encode([[sql, list(parameters)] for sql, parameters in statements])
        rows: list[list[Any]] = self.apply(operation_id, run, content)
        return rows

    def _record(self, operation_id: str, digest: str, result: str) -> None:
        row = (self.token.election, operation_id, self.token.term, digest, result)
        self._connection.execute(
            "INSERT INTO tenure_operation (election, id, term, content, result) VALUES (?, ?, ?, ?, ?)", row
        )
        number = self._connection.execute("SELECT last_insert_rowid()").fetchall()[0][0]
        if number % _PRUNE_EVERY == 0:
            self._connection.execute(
                "DELETE FROM tenure_operation WHERE election = ? AND number <= "
                "(SELECT number FROM tenure_operation WHERE election = ? ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (self.token.election, self.token.election, operations_max),
            )


def outcome(connection: Connection, election: str, operation_id: str) -> tuple[Any] | None:
    """The result of an applied operation, in a tuple of one, or None. Needs no token: a replaced leader may ask too."""
    found = _operation(connection, election_name(election), operation_id)
    return None if found is None else (msgspec.json.decode(found[1]),)


def present(connection: Connection, token: FencingToken) -> None:
    """Show the token in the open transaction, which must have begun with foreign keys on. `take_back` ends it."""
    if not _is_open(connection):
        raise WrongTransaction("a token is presented inside a transaction")
    try:
        connection.execute(
            "INSERT INTO tenure_presented (election, term, owner) VALUES (?, ?, ?)",
            (token.election, token.term, token.owner),
        )
    except Exception as error:  # noqa: BLE001 - the driver is not known here, and `_translate` always raises
        _translate(connection, token, error)


def take_back(connection: Connection, election: ElectionName) -> None:
    """End the token's part of the transaction; COMMIT is refused before."""
    connection.execute("DELETE FROM tenure_presented WHERE election = ?", (election,))


def _translate(connection: Connection, token: FencingToken, error: Exception) -> NoReturn:
    """Our triggers' refusals as typed errors; everything else goes on as it came. No driver's classes are needed."""
    text = str(error)
    if text.startswith("no such table"):
        raise UnknownMark(token.election) from error
    if not text.startswith("tenure: "):
        raise error
    code = text.split(": ")[1]
    if code == "unknown_mark":
        raise UnknownMark(token.election) from error
    if code == "term_too_high":
        raise TermTooHigh(token.election, token.term) from error
    if code == "stale_term":
        raise StaleTerm(token.election, token.term, mark(connection, token.election).term) from error
    if code == "forked":
        raise Forked(token.election, token.term, token.owner, mark(connection, token.election).owner) from error
    raise GuardError(text) from error


def _is_open(connection: Connection) -> bool:
    """Asked anew each time: a transaction ends behind one's back."""
    return connection.in_transaction


def _still_open(connection: Connection) -> None:
    if not _is_open(connection):
        raise WrongTransaction("the guarded transaction was ended inside")


def _operation(connection: Connection, election: ElectionName, operation_id: str) -> tuple[str, str] | None:
    rows = connection.execute(
        "SELECT content, result FROM tenure_operation WHERE election = ? AND id = ?", (election, operation_id)
    ).fetchall()
    return (rows[0][0], rows[0][1]) if rows else None


def _guard_table(connection: Connection, table: str, election: ElectionName) -> None:
    found = connection.execute("SELECT type, sql FROM sqlite_schema WHERE name = ?", (table,)).fetchall()
    if not found or found[0][0] != "table" or str(found[0][1]).upper().startswith("CREATE VIRTUAL"):
        raise Invalid("tables", f"{table!r} is not an ordinary table of this database")
    for name, statement in schema.guarding(table, election).items():
        rows = connection.execute(
            "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ?", (name,)
        ).fetchall()
        if rows and rows[0][0] != statement:
            raise Invalid("tables", f"{table!r} is guarded already, for another election or by another version")
        if not rows:
            connection.execute(statement)


@contextmanager
def _immediate(connection: Connection) -> Iterator[None]:
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK on any exception."""
    if _is_open(connection):
        raise WrongTransaction("a transaction is open already; the guard begins its own")
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if _is_open(connection):
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _foreign_keys(connection: Connection) -> Iterator[None]:
    """Foreign keys on, then as they were. SQLite ignores the pragma inside a transaction; `_immediate` refuses that."""
    before = connection.execute("PRAGMA foreign_keys").fetchall()[0][0]
    if not before:
        connection.execute("PRAGMA foreign_keys = ON").fetchall()
    try:
        yield
    finally:
        if not before:
            connection.execute("PRAGMA foreign_keys = OFF").fetchall()
