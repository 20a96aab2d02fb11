"""What the agent says on stderr, for people or as JSON lines. Never on the renewal path."""

import errno
import json
import os
import select
import signal
import time
from typing import Final, Protocol

from tenure.agent.acts import Say
from tenure.base.instants import Instant, rfc3339

STDERR: Final = 2
_PIPE_BUF: Final = select.PIPE_BUF
_WORDS: Final = {
    "protected": "deadman stands: {by}",
    "connected": "connected to {endpoint}",
    "disconnected": "no connection: {reason}",
    "session": "session {session}",
    "session_lost": "the session is over: {reason}",
    "waiting": "waiting: {reason}",
    "refused": "refused: {reason}",
    "standing": "standing for election",
    "granted": "granted term {term}",
    "started": "leading: process {pid} runs {after_grant_ms} ms after the grant",
    "frozen": "the application was stopped; no more renewals for it until it goes on",
    "demanded": "asked to hand over to {successor}",
    "not_acquired": "another node holds the office, and --try doesn't wait",
    "unreached": "no answer from the cluster, and --try doesn't wait: check --endpoints and that the members run",
    "lost": "lease lost: {cause}",
    "stopping": "stopping on signal {signal}",
    "demoting": "SIGTERM to the application ({why})",
    "killing": "SIGKILL to the application's tree",
    "unexecutable": "can't execute the command: {errno} ({code})",
    "gone": "the application has ended with {code} after {ran_ms} ms ({why}); nothing of it runs",
    "unguarded": "somebody killed the guardian; the application went with it",
    "restarting": "restart {attempt} in place in {in_ms} ms",
    "keeping": "holding the office without a process",
    "released": "released term {term}",
    "quarantined": "ALERT: failed too often; this node stays away for {for_ms} ms",
    "finished": "ended with {code}",
}


class Voice(Protocol):
    """Takes what is said."""

    def say(self, said: Say, now: Instant) -> None:
        """Must not block for long, and not raise."""
        ...


class Plain:
    """One line for people."""

    def __init__(self, election: str, node: str) -> None:
        self._who = f"tenure run {election} ({node})"

    def say(self, said: Say, now: Instant) -> None:
        """As `Voice`."""
        clock = time.strftime("%H:%M:%S")
        words = _WORDS.get(said.what, said.what)
        figures = {name: _worded(name, value) for name, value in said.data if value is not None}
        _write(f"{clock} {self._who}: {words.format_map(_Known(figures))}\n")


class Json:
    """One object a line: `event`, `at` (RFC 3339), `at_us` (CLOCK_BOOTTIME, for spans), and the event's own figures."""

    def __init__(self, election: str, node: str) -> None:
        self._who = {"election": election, "node": node}

    def say(self, said: Say, now: Instant) -> None:
        """As `Voice`."""
        at = rfc3339(time.time_ns() // 1_000_000)
        _write(json.dumps({"event": said.what, "at": at, "at_us": now, **self._who, **dict(said.data)}) + "\n")


class _Known(dict[str, object]):
    """A figure that is missing reads as a dash."""

    def __missing__(self, key: str) -> object:
        return "whoever is next" if key == "successor" else "–"


def _worded(name: str, value: object) -> object:
    """Numbers that people don't know by heart, in words."""
    if name == "errno" and isinstance(value, int):
        missing = " (it, or the interpreter after its #!)" if value == errno.ENOENT else ""
        return os.strerror(value) + missing
    if name in {"code", "signal"} and isinstance(value, int):
        number = value - 128 if name == "code" else value
        if number in set(signal.Signals):
            return f"{value} ({signal.Signals(number).name})"
    if name.endswith("_ms") and isinstance(value, float):
        return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
    return value


def _write(line: str) -> None:
    """Only if it doesn't block: an agent that waits for whoever reads its stderr supervises nobody.

    A pipe that is ready has room for PIPE_BUF bytes; longer lines are cut. (O_NONBLOCK would be the application's too.)
    """
    data = line.encode(errors="replace")[:_PIPE_BUF]
    poll = select.poll()
    poll.register(STDERR, select.POLLOUT)
    try:
        if any(events & select.POLLOUT for _, events in poll.poll(0)):
            os.write(STDERR, data)
    except OSError:
        return  # nobody listens any more; leading goes on
