"""The demo's application, twice: under `tenure run`, and with the SDK in its own process (no agent, no deadman).

python -m tenure.cli.demo_worker LEDGER          under `tenure run`, which gives term and token
python -m tenure.cli.demo_worker LEDGER NODE     leads by itself; `freeze` on stdin stops it before its next write
"""

import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Final

from tenure.cli.demo_ledger import ELECTION, Writer, now_us
from tenure.guards.errors import StaleTerm

between_rows_s: Final = 0.005
ttl_ms: Final = 500


def tell(event: str, **data: object) -> None:
    """One JSON line on stdout."""
    sys.stdout.write(json.dumps({"event": event, "at_us": now_us(), **data}) + "\n")
    sys.stdout.flush()


def under_agent(ledger: Path) -> int:
    """Write until somebody ends us: the agent does, in time."""
    writer = Writer(ledger, os.environ["TENURE_NODE"], int(os.environ["TENURE_TERM"]), os.environ["TENURE_FENCE_TOKEN"])
    while True:
        try:
            writer.append()
        except StaleTerm as error:
            tell("refused", term=error.term, current_term=error.current_term)
            return 1
        time.sleep(between_rows_s)


def by_sdk(ledger: Path, node: str) -> int:
    """Lead, check, write; and on request fall asleep between the check and the write."""
    from tenure.client import lead  # under the agent it isn't needed, and start-up is fail-over time

    with lead(ELECTION, node=node, ttl_ms=ttl_ms, priority=10) as lease:
        tell("leading", term=lease.term)
        writer = Writer(ledger, node, lease.term, lease.fence_token)
        while True:
            lease.check()
            if select.select([sys.stdin], [], [], 0)[0]:
                sys.stdin.readline()
                lease.check()
                tell("checked", remaining_ms=round(lease.remaining() * 1000, 1))
                os.kill(os.getpid(), signal.SIGSTOP)
                tell("woke", remaining_ms=round(lease.remaining() * 1000, 1))
            try:
                writer.append()
            except StaleTerm as error:
                tell("refused", term=error.term, current_term=error.current_term)
                return 0
            time.sleep(between_rows_s)


def main(arguments: list[str]) -> int:
    """See above."""
    ledger = Path(arguments[0])
    return by_sdk(ledger, arguments[1]) if len(arguments) > 1 else under_agent(ledger)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
