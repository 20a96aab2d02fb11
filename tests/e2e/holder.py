"""A process that stands for an election and says when it believed to lead: `python -m tests.e2e.holder …`.

It samples its own `check()`, with CLOCK_BOOTTIME read before and after, and writes what follows from that as JSON lines
to its standard output. What it claims is proved: between two samples of one term that both pass, the second of them
taken before the first one's `remaining()` was over, it believed all the time; outside of that it claims nothing.
"""

import json
import signal
import sys
import threading
import time
from dataclasses import dataclass
from types import FrameType
from typing import Any

import tenure
from tenure.client.errors import ClientError, LeaseLost
from tenure.client.http import Client
from tenure.client.lease import Lease

not_yet = tenure.TimedOut | tenure.NodeInUse | tenure.NoQuorum | tenure.Unreachable
"""What `lead` may say after a second while members die."""
sample_s = 0.002
told_every_us = 100_000
"""A stretch is told in pieces: whoever is killed has told nearly all of it."""
late_us = 20_000
"""A sample that comes later than this shows that this process did not run."""
set_us = 1_000_000
"""A wall clock that moves by more against CLOCK_BOOTTIME was set."""


def now_us() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000


def wall_ahead_us() -> int:
    return time.time_ns() // 1_000 - now_us()


_never = threading.Event()


def rest(seconds: float) -> None:
    """Not `time.sleep`: libfaketime breaks it, as it takes an absolute time of CLOCK_MONOTONIC for one of its own."""
    _never.wait(seconds)


_saying = threading.Lock()


def say(kind: str, **what: Any) -> None:
    with _saying:
        sys.stdout.write(json.dumps({"kind": kind, **what}) + "\n")
        sys.stdout.flush()


@dataclass
class Belief:
    """One stretch of samples that passed: proved from `begin` to `end`, surely valid until `until`."""

    term: int
    begin: int
    end: int
    until: int


def sample(lease: Lease, belief: Belief | None) -> Belief | None:
    """One look; the stretch that it begins or extends, None when the check fails."""
    before = now_us()
    try:
        lease.check()
        remaining_us = int(lease.remaining() * 1_000_000)
    except LeaseLost:
        remaining_us = 0
    after = now_us()
    if remaining_us <= 0:
        flush(belief)
        return None
    if belief is not None and before <= belief.until:
        belief.end = before
        belief.until = before + remaining_us
        if belief.end - belief.begin < told_every_us:
            return belief
        flush(belief)
        return Belief(belief.term, belief.end, belief.end, belief.until)
    flush(belief)
    return Belief(lease.term, after, after, before + remaining_us)


def flush(belief: Belief | None) -> None:
    if belief is not None and belief.end > belief.begin:
        say("believed", term=belief.term, begin=belief.begin, end=belief.end)


class Late:
    """Notices when this process did not run, and when its wall clock was set."""

    def __init__(self) -> None:
        self.ahead = 0
        """Microseconds of CLOCK_REALTIME before CLOCK_BOOTTIME."""
        self.begin()

    def begin(self) -> None:
        """From here on it is looked at all the time."""
        self.last = now_us()

    def look(self) -> None:
        now = now_us()
        if now - self.last > late_us:
            say("late", begin=self.last, end=now)
        self.last = now
        ahead = wall_ahead_us()
        if abs(ahead - self.ahead) > set_us:
            say("wall", ahead=ahead)
            self.ahead = ahead


class Writer(threading.Thread):
    """Writes under the term while the lease passes, as an application would: check, then a fenced write."""

    def __init__(self, endpoints: str, election: str, node: str) -> None:
        super().__init__(daemon=True)
        self.client = Client(endpoints, timeout=1.0)
        self.election = election
        self.node = node
        self.lease: Lease | None = None
        self.count = 0

    def run(self) -> None:
        while True:
            rest(0.02)
            lease = self.lease
            if lease is None:
                continue
            self.count += 1
            try:
                lease.check()
                value = f"{self.node}.{self.count}"
                written = self.client.kv_put(f"ledger/{self.election}", value, election=self.election, term=lease.term)
            except LeaseLost:
                continue
            except ClientError as error:
                say("not_written", term=lease.term, code=str(error.code or type(error).__name__))
            except OSError as error:  # under libfaketime: the client rests with `time.sleep` between two tries
                say("not_written", term=lease.term, code=type(error).__name__)
            else:
                say("wrote", term=lease.term, revision=written.revision)


def main(endpoints: str, election: str, node: str, ttl_ms: int) -> None:
    stand(Writer(endpoints, election, node), endpoints, ttl_ms)


def stand(writer: Writer, endpoints: str, ttl_ms: int) -> None:
    """As a candidate or as the holder, until SIGTERM; the writer works meanwhile."""
    stop = threading.Event()

    def on_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_stop)
    writer.start()
    late = Late()
    old: list[Lease] = []
    while not stop.is_set():
        try:
            with tenure.lead(
                writer.election, endpoints=endpoints, node=writer.node, ttl_ms=ttl_ms, timeout=1.0
            ) as lease:
                late.begin()
                hold(lease, writer, late, stop)
                old.append(lease)
        except ClientError as error:
            if not isinstance(error, not_yet):
                say("trouble", what=str(error))
        for lease in old[-20:]:
            if sample(lease, None) is not None:
                say("revived", term=lease.term)
    say("bye")


def hold(lease: Lease, writer: Writer, late: Late, stop: threading.Event) -> None:
    say("led", term=lease.term, at=now_us())
    writer.lease = lease
    belief: Belief | None = None
    while not stop.is_set() and not lease.lost:
        belief = sample(lease, belief)
        late.look()
        rest(sample_s)
    writer.lease = None
    asked_at = now_us()
    while lease.demand is not None and not stop.is_set() and now_us() - asked_at < 50_000:
        belief = sample(lease, belief)  # asked to hand over: finish what was begun, then go
        rest(sample_s)
    belief = sample(lease, belief)
    flush(belief)
    late.look()
    say("ended", term=lease.term, at=now_us(), cause=str(lease.cause), demanded=lease.demand is not None)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
