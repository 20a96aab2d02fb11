"""What the agent says on stderr, for people or as JSON lines. Never on the renewal path."""

import json
import os
import select
import time
from typing import Final, Protocol

from tenure.agent.acts import Say
from tenure.base.instants import Instant

STDERR: Final = 2
_PIPE_BUF: Final = select.PIPE_BUF
_WORDS: Final = {
    "protected": "deadman stands: {by}",
    "connected": "connected to {endpoint}",
    "disconnected": "no connection: {reason}",
    "waiting": "waiting: {reason}",
    "refused": "refused: {reason}",
    "standing": "standing for election",
    "granted": "granted term {term}",
    "started": "leading: process {pid} runs {after_grant_ms} ms after the grant",
    "frozen": "the application was stopped; no more renewals for it until it goes on",
    "demanded": "asked to hand over to {successor}",
    "lost": "lease lost: {cause}",
    "stopping": "stopping on signal {signal}",
    "demoting": "SIGTERM to the application ({why})",
    "killing": "SIGKILL to the application's tree",
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
        _write(f"{clock} {self._who}: {words.format_map(_Known(said.data))}\n")


class Json:
    """One object a line: `event`, `at_us` (CLOCK_BOOTTIME), `election`, `node` and the event's own figures."""

    def __init__(self, election: str, node: str) -> None:
        self._who = {"election": election, "node": node}

    def say(self, said: Say, now: Instant) -> None:
        """As `Voice`."""
        _write(json.dumps({"event": said.what, "at_us": now, **self._who, **dict(said.data)}) + "\n")


class _Known(dict[str, object]):
    """A figure that is missing reads as a dash."""

    def __missing__(self, key: str) -> object:
        return "–"


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
