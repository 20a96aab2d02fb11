"""Any sequence of writers against the plainest possible guard: a dictionary in Python."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tenure.guards.errors import Forked, StaleTerm
from tenure.guards.sqlite import SqliteGuard, mark
from tests.guards.databases import A, B, add, by_sqlite3, make_ledger, orders, rows

attempts = st.lists(
    st.tuples(st.integers(1, 5), st.sampled_from([A, B]), st.integers(1, 6), st.booleans()), min_size=1, max_size=25
)


class PlainGuard:
    """The slow twin: what P2.3 and P9 say, and nothing else."""

    def __init__(self) -> None:
        self.term, self.owner = 0, ""
        self.lines: list[tuple[str, int]] = []
        self.done: dict[str, str] = {}

    def apply(self, term: int, owner: str, operation: str, line: str, crash: bool) -> str:
        if term < self.term:
            return "stale"
        if term == self.term and owner != self.owner:
            return "forked"
        if crash and operation not in self.done:
            return "crash"
        self.term, self.owner = term, owner
        if operation not in self.done:
            self.done[operation] = line
            self.lines.append((line, term))
        return self.done[operation]


@settings(max_examples=60, deadline=None)
@given(attempts)
def test_the_guard_does_what_the_rule_says(sequence: list[tuple[int, str, int, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        make_ledger(path)
        twin = PlainGuard()
        connection = by_sqlite3(path)
        for number, (term, owner, operation, crash) in enumerate(sequence):
            line = f"{number}"

            def body(db: object, term: int = term, line: str = line, crash: bool = crash) -> str:
                add(db, line, term)
                if crash:
                    raise InterruptedError
                return line

            try:
                got = SqliteGuard(connection, orders(term, owner)).apply(f"op{operation}", body)
            except StaleTerm as error:
                assert error.current_term == twin.term
                got = "stale"
            except Forked:
                got = "forked"
            except InterruptedError:
                got = "crash"
            assert got == twin.apply(term, owner, f"op{operation}", line, crash)
            assert (mark(connection, "orders").term, mark(connection, "orders").owner) == (twin.term, twin.owner)
        connection.close()
        assert rows(path) == twin.lines
        terms = [term for _, term in twin.lines]
        assert terms == sorted(terms)
