"""A user on one node that stands for an office and works under it: `python -m lab.holder …`.

It tells what it believes as `tests.e2e.holder` does. While it holds the office it does two kinds of guarded work with
its token: it writes keys of the cluster, each once, and rows of a ledger under the SQLite guard. That ledger stands for
a resource that everybody reaches whatever is cut, so the guard alone keeps out who was replaced and doesn't know it.
When a term has ended here its token is not forgotten but presented again, at both guards, until it is refused: someone
who slept too long would do the same. What a guard accepts although the term is over is told as what it is, a write.
"""

import sqlite3
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Final, Protocol

from tenure.base.tokens import FencingToken, parse
from tenure.client.errors import ClientError, LeaseLost, StaleTerm
from tenure.client.lease import Lease
from tenure.guards import errors as guarded
from tenure.guards.sqlite import SqliteGuard, install
from tests.e2e.holder import Writer, now_us, rest, say, stand

pace_s: Final = 0.05
busy_s: Final = 20.0
table: Final = "entries"


class Work(Protocol):
    """What is done under a token at one of the guards."""

    where: str

    def do(self, token: FencingToken, name: str) -> None:
        """Once; raises one of the two `StaleTerm`s, or says what was accepted."""
        ...


class Keys:
    """Of the cluster, which guards them by the election itself."""

    where = "cluster"

    def __init__(self, holder: "Holder") -> None:
        self._client = holder.client

    def do(self, token: FencingToken, name: str) -> None:
        key, asked = f"{token.election}/{name}", now_us()
        try:
            written = self._client.kv_put(key, name, election=token.election, term=token.term)
        except StaleTerm:
            raise
        except ClientError as error:  # who is cut off gets no answer
            say("not_written", term=token.term, code=str(error.code or type(error).__name__))
        else:
            what = {"key": key, "value": name, "revision": written.revision}
            say("wrote", term=token.term, asked=asked, at=now_us(), **what)


class Ledger:
    """Rows of a database on this machine; of the thread that makes it."""

    where = "ledger"

    def __init__(self, holder: "Holder") -> None:
        self._database = opened(holder.ledger)

    def do(self, token: FencingToken, name: str) -> None:
        asked = now_us()
        statement = (f"INSERT INTO {table} (term, name) VALUES (?, ?) RETURNING id", (token.term, name))
        ((row,),) = SqliteGuard(self._database, token).apply_statements(name, [statement])
        say("entered", term=token.term, asked=asked, at=now_us(), row=row, name=name)


class Worker(threading.Thread):
    """Works at one guard while its node has a lease, and presents the tokens of those that it had."""

    def __init__(self, holder: "Holder", kind: type[Keys] | type[Ledger]) -> None:
        super().__init__(daemon=True)
        self._holder = holder
        self._kind = kind
        self._held: Lease | None = None
        self._over: deque[FencingToken] = deque()
        self._count = 0

    def run(self) -> None:
        work: Work = self._kind(self._holder)
        while True:
            rest(pace_s)
            if resting(self._holder.ledger).exists():
                continue
            lease = self._holder.lease
            if self._held is not None and self._held is not lease:
                self._over.append(parse(self._held.fence_token))
                say("over", term=self._held.term, where=work.where)
            self._held = lease
            if lease is not None:
                self._in_time(work, lease)
            if self._over:
                self._too_late(work, self._over[0])

    def _in_time(self, work: Work, lease: Lease) -> None:
        """Check, then write, as an application would: between the two anything may happen."""
        try:
            lease.check()
        except LeaseLost:
            return
        token = parse(lease.fence_token)
        try:
            work.do(token, self._named(token, "held"))
        except (StaleTerm, guarded.StaleTerm):
            say("overtaken", term=token.term, where=work.where)

    def _too_late(self, work: Work, token: FencingToken) -> None:
        """Accepted only as long as nobody newer was here."""
        try:
            work.do(token, self._named(token, "late"))
        except (StaleTerm, guarded.StaleTerm):
            say("refused", term=token.term, where=work.where)
            self._over.popleft()

    def _named(self, token: FencingToken, when: str) -> str:
        self._count += 1
        return f"{self._holder.node}/{token.term}/{when}/{self._count}"


class Holder(Writer):
    """Both kinds of work; `lease` is what they are done under."""

    def __init__(self, endpoints: str, election: str, node: str, ledger: Path) -> None:
        super().__init__(endpoints, election, node)
        self.ledger = ledger

    def run(self) -> None:
        workers = [Worker(self, Keys), Worker(self, Ledger)]
        for worker in workers:
            worker.start()
        while all(worker.is_alive() for worker in workers):
            rest(pace_s)
        say("trouble", what="a worker has ended")


def resting(ledger: Path) -> Path:
    """While this file is there nobody works, so that members settle; offices are held on."""
    return ledger.with_suffix(".resting")


def opened(path: Path) -> sqlite3.Connection:
    """The ledger. It needs to outlive processes only."""
    database = sqlite3.connect(path, timeout=busy_s)
    database.execute("PRAGMA synchronous = OFF")
    return database


def found(path: Path, election: str) -> None:
    """Make the ledger, guarded for `election`."""
    database = opened(path)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, term INTEGER, name TEXT)")
    database.commit()
    install(database, election, [table])
    database.close()


def main(endpoints: str, election: str, node: str, ttl_ms: int, ledger: Path) -> None:
    stand(Holder(endpoints, election, node, ledger), endpoints, ttl_ms)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), Path(sys.argv[5]))
