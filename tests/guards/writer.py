"""A writer in its own process: `python -m tests.guards.writer PATH TERM OWNER PLAN [OPERATION]`. Prints how it ended.

Plans: `stop-before` stops itself between its check and its write (SIGSTOP); `stop-inside` stops within its transaction;
`die-<where>` kills itself (`presented`, `written`, `recorded`, `committed`); `race` writes until it is refused.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from tenure.guards.errors import StaleTerm
from tenure.guards.sqlite import SqliteGuard, take_back
from tests.guards.databases import add, by_sqlite3, orders


def die() -> None:
    """No exception handler, no rollback of ours: SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


def write(plan: str, guard: SqliteGuard[Any], operation: str, term: int) -> None:
    """One operation, with what the plan wants to happen in its middle."""
    if plan == "stop-before":
        os.kill(os.getpid(), signal.SIGSTOP)
    if plan == "die-recorded":
        with guard.transaction() as db:
            add(db, operation, term)
            take_back(db, guard.token.election)
            die()

    def body(db: Any) -> str:
        if plan == "die-presented":
            die()
        add(db, operation, term)
        if plan == "die-written":
            die()
        if plan == "stop-inside":
            os.kill(os.getpid(), signal.SIGSTOP)
        return operation

    guard.apply(operation, body)
    if plan == "die-committed":
        die()


def main() -> None:
    """Write as planned."""
    path, term, owner, plan = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    guard: SqliteGuard[Any] = SqliteGuard(by_sqlite3(path, busy_ms=20_000), orders(term, owner))
    try:
        if plan == "race":
            for number in range(10_000):
                write(plan, guard, f"{owner[0]}{term}-{number}", term)
                if number == 0:
                    print("begun", flush=True)
        else:
            write(plan, guard, sys.argv[5], term)
        print("written", flush=True)
    except StaleTerm as error:
        print(f"stale {error.current_term}", flush=True)


if __name__ == "__main__":
    main()
