"""`tenure run` with a keeper that needs no cluster: the agent of the tests with real processes.

    python -m tests.agent.puppet SCRIPT OPTION=VALUE… -- COMMAND ARG…

SCRIPT, letters in order, one per holding: `k` renew for ever; `l` never renew; `d` ask to hand over after a while;
`n` never grant.
"""

import os
import sys
import threading
from collections import deque

from tenure.agent import options
from tenure.agent.main import BootClock
from tenure.agent.page import Page
from tenure.agent.supervisor import Signals, Supervisor
from tenure.agent.voice import Json
from tenure.agent.warden import Warden
from tenure.base.ids import ElectionName, Term
from tenure.base.instants import MS, Instant
from tenure.client import events
from tenure.client.events import Event
from tenure.leadership.engine import ReleaseCause


class Puppet:
    """Grants as soon as it is asked, with terms from 7 on, and renews as its script says."""

    def __init__(self, script: str, given: options.Options) -> None:
        self._script, self._options = deque(script), given
        self._clock = BootClock()
        self._lock = threading.Lock()
        self._queue: list[Event] = []
        self._read, self._write = os.pipe()
        self._term = Term(6)
        self._held: Term | None = None

    def fileno(self) -> int:
        return self._read

    def events(self) -> tuple[Event, ...]:
        with self._lock:
            os.read(self._read, 4096)
            taken, self._queue = tuple(self._queue), []
        return taken

    def _put(self, event: Event) -> None:
        with self._lock:
            self._queue.append(event)
            os.write(self._write, b"1")

    def campaign(self, election: str, priority: int = 0) -> None:
        name = ElectionName(election)
        self._put(events.Campaigning(name))
        act = self._script.popleft() if self._script else "n"
        if act == "n":
            return
        self._term = Term(self._term + 1)
        self._held = self._term
        until = self._end()
        self._put(events.Granted(name, self._term, f"t1.{name}.{self._term}.{'0' * 32}", until))
        if act == "d":
            demand = events.Demanded(name, self._term, None, 5_000, Instant(self._clock.now() + 5_000 * MS))
            threading.Timer(0.15, self._put, [demand]).start()
        if act in {"k", "d"}:
            threading.Thread(target=self._renew, args=(name, self._term), daemon=True).start()
        else:
            delay = (until - self._clock.now()) / 1e6
            threading.Timer(delay, self._put, [events.Ended(name, self._term, "expired", until)]).start()

    def _end(self) -> Instant:
        return Instant(self._clock.now() + self._options.policy.ladder.validity_us)

    def _renew(self, name: ElectionName, term: Term) -> None:
        pause = threading.Event()
        while self._held == term:
            pause.wait(self._options.policy.ladder.renew_us / 1e6)
            self._put(events.Renewed(name, term, self._end()))

    def release(self, election: str, term: int, *, cause: ReleaseCause = "released", reason: str | None = None) -> None:
        self._held = None

    def close(self, timeout: float = 1.0) -> bool:
        self._held = None
        return True


def main() -> int:
    split = sys.argv.index("--")
    script, pairs, command = sys.argv[1], sys.argv[2:split], sys.argv[split + 1 :]
    given: dict[str, str | bool | int | None] = {
        "node": "a",
        "ttl": "600ms",
        **dict(pair.split("=", 1) for pair in pairs),
    }
    parsed = options.parse("orders", command, given)
    signals = Signals()

    def guard(page: Page) -> Warden:
        return Warden(parsed.command, parsed.tree, page.fd, subreaper=True)

    return Supervisor(parsed, Puppet(script, parsed), guard, BootClock(), Json("orders", "a")).run(signals.fd)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)
