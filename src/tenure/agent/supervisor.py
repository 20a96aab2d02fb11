"""The shell around `machine`: a poll loop over keeper, guardian, signals and one deadline. It decides nothing."""

import os
import select
import signal
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from tenure.agent.acts import (
    Action,
    Arm,
    Begin,
    Blank,
    Campaign,
    Candidate,
    Demanded,
    Due,
    Finish,
    Granted,
    GuardianLost,
    Input,
    Kill,
    LeaseEnded,
    Refusal,
    Release,
    Renewed,
    Say,
    Spawn,
    StopAsked,
    Terminate,
    Unconfirmed,
)
from tenure.agent.ladder import Rungs
from tenure.agent.machine import Machine
from tenure.agent.options import Options
from tenure.agent.page import Page, Reading
from tenure.agent.voice import Voice
from tenure.base.clock import Clock
from tenure.base.ids import Term
from tenure.base.instants import MS, NEVER
from tenure.client import events
from tenure.leadership.engine import ReleaseCause

_OURS: Final = {"released", "withdrawn", "closed"}
close_wait_s: Final = 2.0


class KeeperLike(Protocol):
    """What the agent uses of `tenure.client.Keeper`."""

    def fileno(self) -> int:
        """Readable when there is something to take."""
        ...

    def events(self) -> tuple[events.Event, ...]:
        """Take what waits."""
        ...

    def campaign(self, election: str, priority: int = 0) -> None:
        """Stand."""
        ...

    def release(self, election: str, term: int, *, cause: ReleaseCause = "released", reason: str | None = None) -> None:
        """Give back, and stop standing."""
        ...

    def close(self, timeout: float = 1.0) -> bool:
        """Close the session."""
        ...


class WardenLike(Protocol):
    """What the agent uses of `warden.Warden`."""

    @property
    def pid(self) -> int:
        """The guardian's."""
        ...

    def fileno(self) -> int:
        """Readable when there is something to take."""
        ...

    def hear(self) -> tuple[Input, ...]:
        """Take what it said."""
        ...

    def go(self, rungs: Rungs, environment: Mapping[str, str]) -> None:
        """Start the application."""
        ...

    def arm(self, rungs: Rungs) -> None:
        """Move its deadlines."""
        ...

    def terminate(self) -> None:
        """SIGTERM."""
        ...

    def kill(self) -> None:
        """SIGKILL to the tree."""
        ...

    def close(self) -> None:
        """Let it go."""
        ...


class Supervisor:
    """One `tenure run`. `guard` starts a guardian, and another when the first was killed."""

    def __init__(
        self,
        options: Options,
        keeper: KeeperLike,
        guard: Callable[[Page], WardenLike],
        clock: Clock,
        voice: Voice,
    ) -> None:
        self._options = options
        self._keeper = keeper
        self._guard = guard
        self._clock = clock
        self._voice = voice
        self._page = Page()
        self._warden = guard(self._page)
        self._machine = Machine(options.policy)
        self._code: int | None = None

    def run(self, signals: int) -> int:
        """Until the end; the exit code. `signals` is readable when a signal came: one byte each, its number."""
        self._happen(Begin())
        poll = select.poll()
        poll.register(self._keeper.fileno(), select.POLLIN)
        poll.register(signals, select.POLLIN)
        poll.register(self._warden.fileno(), select.POLLIN)
        while self._code is None:
            ready = {fd for fd, _ in poll.poll(self._wait_ms())}
            # Renewals before deadlines: one that has come is not to be overtaken by its predecessor's end (as P4.7).
            if self._keeper.fileno() in ready:
                self._hear_keeper()
            if self._warden.fileno() in ready and self._code is None:
                self._hear_guardian(poll)
            if signals in ready and self._code is None:
                for number in os.read(signals, 64):
                    self._happen(StopAsked(number))
            self._look_at_the_clock()
        self._warden.close()
        self._page.close()
        return self._code

    def _look_at_the_clock(self) -> None:
        if self._code is None and self._clock.now() >= self._machine.deadline:
            self._happen(Due())

    def _wait_ms(self) -> int | None:
        """Rounded up, else the loop spins through the last millisecond."""
        if self._machine.deadline >= NEVER:
            return None
        return max(0, -(-(self._machine.deadline - self._clock.now()) // MS))

    def _hear_keeper(self) -> None:
        for event in self._keeper.events():
            heard = self._translate(event)
            if isinstance(heard, Say):
                self._voice.say(heard, self._clock.now())
            elif heard is not None:
                self._happen(heard)

    def _hear_guardian(self, poll: select.poll) -> None:
        fd = self._warden.fileno()
        for said in self._warden.hear():
            self._happen(said)
            if isinstance(said, GuardianLost):
                poll.unregister(fd)
                self._warden.close()
                if self._code is None:
                    self._warden = self._guard(self._page)
                    poll.register(self._warden.fileno(), select.POLLIN)

    def _translate(self, event: events.Event) -> Input | Say | None:
        match event:
            case events.Granted():
                return Granted(event.term, event.fence_token, event.valid_until)
            case events.Renewed():
                return Renewed(event.term, event.valid_until)
            case events.Unconfirmed():
                return Unconfirmed(event.term)
            case events.Demanded():
                return Demanded(event.term, event.successor, event.until)
            case events.Ended():
                return None if event.cause in _OURS else LeaseEnded(event.term, event.cause)
            case events.Campaigning():
                return Candidate()
            case events.Rejected():
                self._voice.say(Say("refused", (("reason", event.reason), ("code", event.code))), self._clock.now())
                return Refusal(event.reason)
            case events.Waiting():
                return Say("waiting", (("reason", event.reason), ("code", event.code)))
            case events.Connected():
                return Say("connected", (("endpoint", event.endpoint),))
            case events.Disconnected():
                return Say("disconnected", (("endpoint", event.endpoint), ("reason", event.reason)))
            case events.SessionOpened():
                return Say("session", (("session", event.session),))
            case events.SessionLost():
                return Say("session_lost", (("session", event.session), ("reason", event.reason)))
            case events.Closed():
                return None

    def _happen(self, happened: Input) -> None:
        if self._code is not None:
            return  # what was on its way when we ended
        now = self._clock.now()
        actions = self._machine.step(happened, now)
        spoken = [action for action in actions if isinstance(action, Say)]
        for action in actions:
            self._act(action)
        for said in spoken:  # after the acts: talking is never worth a late one
            self._voice.say(said, now)

    def _act(self, action: Action) -> None:
        match action:
            case Campaign():
                self._keeper.campaign(self._options.election, self._options.priority)
            case Spawn():
                self._show(action.term, action.rungs)
                self._warden.go(action.rungs, self._environment(action))
            case Arm():
                self._warden.arm(action.rungs)
                self._show(action.term, action.rungs)
            case Blank():
                self._page.write(Reading(0, action.term, 0, 0))
            case Terminate():
                self._warden.terminate()
            case Kill():
                self._warden.kill()
            case Release():
                self._page.write(Reading(0, 0, 0, 0))
                self._keeper.release(self._options.election, action.term, cause=action.cause, reason=action.reason)
            case Finish():
                self._code = action.code
                self._page.write(Reading(0, 0, 0, 0))
                self._keeper.close(close_wait_s)
            case Say():
                pass

    def _show(self, term: Term, rungs: Rungs) -> None:
        self._page.write(Reading(rungs.valid_until, term, rungs.sigterm_at, rungs.sigkill_at))

    def _environment(self, spawn: Spawn) -> dict[str, str]:
        environment = {
            "TENURE_ELECTION": self._options.election,
            "TENURE_NODE": self._options.node,
            "TENURE_TERM": str(spawn.term),
            "TENURE_FENCE_TOKEN": spawn.token,
            "TENURE_ENDPOINTS": ",".join(self._options.endpoints),
            "TENURE_LEASE_FD": str(self._page.fd),
        }
        if self._options.tree != "namespace":  # there the application sees a /proc of its own
            environment["TENURE_LEASE_PATH"] = f"/proc/{self._warden.pid}/fd/{self._page.fd}"
        return environment


class Signals:
    """SIGTERM, SIGINT and SIGHUP as bytes on a pipe. The keeper's threads don't see them; the main thread does."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe()
        os.set_blocking(self._write, False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _heard)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)


def _heard(number: int, frame: object) -> None:
    """The wake-up pipe carries the number; nothing else is to be done in a handler."""
