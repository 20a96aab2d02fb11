"""The decisions of `tenure run`: an input and the time in, actions out. Pure; the states are in `table`."""

from dataclasses import dataclass, field
from typing import Final, Literal

from tenure.agent.acts import (
    Action,
    Arm,
    Begin,
    Blank,
    Campaign,
    Candidate,
    CannotExecute,
    Continued,
    Demanded,
    Due,
    Executed,
    Exited,
    Finish,
    Granted,
    GuardianLost,
    Input,
    Kill,
    LeaseEnded,
    Protected,
    Ready,
    Refusal,
    Release,
    Renewed,
    Say,
    SigtermSent,
    Spawn,
    StopAsked,
    Stopped,
    Terminate,
    Unconfirmed,
)
from tenure.agent.endings import Ending, ending
from tenure.agent.ladder import Ladder, Rungs, sigkill_before_us
from tenure.agent.table import Do, Kind, State, row
from tenure.base.ids import Term
from tenure.base.instants import MS, NEVER, SECOND, Instant, Micros, after

exit_not_acquired: Final = 3
exit_lease_lost: Final = 124
exit_tenure_failed: Final = 125
exit_cannot_execute: Final = 126
exit_not_found: Final = 127
ENOENT: Final = 2

grace_us_default: Final = Micros(5 * SECOND)
quarantine_us_default: Final = Micros(30 * SECOND)
restart_delay_us: Final = Micros(100 * MS)
restart_delay_us_max: Final = Micros(5 * SECOND)
steady_us: Final = Micros(10 * SECOND)
"""An application that ran for this long has its restarts, and earlier quarantines, forgiven."""
quarantine_us_max: Final = Micros(600 * SECOND)
try_reach_us: Final = Micros(5 * SECOND)
try_grant_us_min: Final = Micros(500 * MS)
kill_repeat_us: Final = Micros(SECOND)

_NO_TERM: Final = Term(0)
Why = Literal["", "frozen", "demanded", "lost", "stop"]
_WEIGHT: Final[tuple[Why, ...]] = ("", "frozen", "demanded", "lost", "stop")
_ITS_OWN: Final[frozenset[Why]] = frozenset({"", "frozen"})


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator wants, in µs."""

    ladder: Ladder
    restart: Literal["no", "on-failure", "always"] = "no"
    restarts_max: int = 5
    on_exit: Literal["release", "keep"] = "release"
    once: bool = False
    try_: bool = False
    grace_us: Micros = grace_us_default
    quarantine_us: Micros = quarantine_us_default


@dataclass(slots=True)
class Machine:
    """State of one `tenure run`."""

    policy: Policy
    state: State = State.IDLE
    deadline: Instant = NEVER
    code: int = 0
    term: Term = _NO_TERM
    token: str = ""
    rungs: Rungs | None = None  # of the last confirmed renewal
    armed: Rungs | None = None  # what the guardian was told; never later than `rungs`
    limit: Instant = NEVER  # end of the grace; the guardian kills no later
    begun: bool = False
    ready: bool = False  # a stub stands
    told: bool = False  # the application was told to start and its tree isn't gone
    frozen: bool = False
    errno: int = 0
    why: Why = ""
    ended: Ending | None = None  # how the application ended by itself, for the history
    candidate: bool = False
    tried: bool = False
    granted_at: Instant = NEVER
    started_at: Instant = NEVER
    restarts: int = 0
    quarantines: int = 0
    _out: list[Action] = field(default_factory=list)

    def step(self, happened: Input, now: Instant) -> tuple[Action, ...]:
        """Take one input; what is to be done, in order."""
        kind = self._classify(happened, now)
        if kind is not None:
            was = self.state
            self.state, duties = row(was, kind)
            if self.state is not was:
                self.deadline = NEVER
            for duty in duties:
                self._do(duty, happened, now)
        done, self._out = tuple(self._out), []
        return done

    # --- gather ------------------------------------------------------------------------------------------------------

    def _classify(self, happened: Input, now: Instant) -> Kind | None:  # noqa: C901 - one flat arm per input
        """The kind, once the facts that it carries are noted; None if it means nothing (another term's, a repeat)."""
        match happened:
            case Begin():
                self.begun = True
                return Kind.BEGIN if self.ready else None  # who can't start anything doesn't stand
            case Candidate():
                return Kind.CANDIDATE
            case Granted():
                return Kind.GRANTED
            case Renewed() | Unconfirmed() | Demanded() | LeaseEnded():
                return self._of_lease(happened)
            case Refusal():
                self.code = exit_tenure_failed
                return Kind.REFUSED
            case Protected():
                self._say("protected", by=",".join(happened.kinds))
                return None
            case Ready():
                self.ready = True
                return Kind.BEGIN if self.state is State.IDLE and self.begun else Kind.READY
            case Executed():
                self._say("started", pid=happened.pid, after_grant_ms=_ms(now - self.granted_at))
                return Kind.EXECUTED
            case CannotExecute():
                self.errno = happened.errno
                return None
            case Stopped() | Continued():
                self.frozen = isinstance(happened, Stopped)
                return Kind.FROZEN if self.frozen else Kind.THAWED
            case SigtermSent():
                return Kind.SIGTERMED
            case Exited():
                return self._gone(happened.code, now)
            case GuardianLost():
                return self._unguarded(happened.code, now)
            case StopAsked():
                self._say("stopping", signal=happened.signal)
                return self._stop()
            case Due():
                return self._due()

    def _of_lease(self, happened: Renewed | Unconfirmed | Demanded | LeaseEnded) -> Kind | None:
        if happened.term != self.term:
            return None
        idle = self.state is State.BACKOFF or (self.state is State.STARTING and not self.told)
        match happened:
            case Renewed():
                return Kind.RENEWED
            case Unconfirmed():
                return Kind.UNCONFIRMED
            case Demanded():
                self._say("demanded", term=self.term, successor=happened.successor)
                return self._over("demanded") if idle else Kind.DEMANDED
            case LeaseEnded():
                self._say("lost", term=self.term, cause=happened.cause)
                return self._over("lost") if idle else Kind.LOST

    def _stop(self) -> Kind:
        """Where nothing runs, the holding is over at once."""
        if self.state is State.STARTING and not self.told:
            return self._over("stop")
        return Kind.STOP

    def _due(self) -> Kind:
        if self.state is State.CAMPAIGNING:
            self.code = exit_not_acquired if self.candidate else exit_tenure_failed
            self._say("not_acquired" if self.candidate else "unreached", code=self.code)
        if self.state is State.STARTING and not self.told:
            return self._over("lost")
        return Kind.DUE

    def _over(self, why: Why) -> Kind:
        """A holding that ends while nothing of ours runs."""
        self._note(why)
        return self._judge(self.code)

    def _unguarded(self, code: int, now: Instant) -> Kind | None:
        was_ready, self.ready = self.ready, False
        if self.told:
            self._say("unguarded", guardian=code)
            return self._gone(128 + 9, now)
        if was_ready:
            return None  # the shell starts another one
        self.code = exit_tenure_failed
        return Kind.BROKEN

    def _gone(self, code: int, now: Instant) -> Kind:
        """The application's tree is gone: what next?"""
        if not self.why and self.armed is not None and now >= self.armed.sigterm_at:
            self._note("frozen" if self.frozen else "lost")  # the deadman acted while we ourselves were stopped
        self.ended = ending(code, self.errno, self.why == "frozen") if self.why in _ITS_OWN else None
        self.told = False
        self.frozen = False
        self.armed = None
        if self.errno:
            code = exit_not_found if self.errno == ENOENT else exit_cannot_execute
            self._say("unexecutable", code=code, errno=self.errno)
        else:
            self._say("gone", code=code, why=self.why or "by itself", ran_ms=_ms(now - self.started_at))
        if now - self.started_at >= steady_us:
            self.restarts = self.quarantines = 0
        return self._judge(code)

    def _judge(self, code: int) -> Kind:
        """One decision per reason, the weightiest first; sets the exit code for the case that we end."""
        policy = self.policy
        self.code = code
        if self.errno or self.why == "stop":
            return Kind.GONE_DONE
        if self.why == "lost":
            self.code = exit_lease_lost
            return Kind.GONE_DONE if policy.once else Kind.GONE_AGAIN
        if self.why == "demanded":
            return Kind.GONE_DONE if policy.once else Kind.GONE_AGAIN
        wanted = policy.restart == "always" or (policy.restart == "on-failure" and code != 0)
        if self.why == "frozen":
            return Kind.GONE_AGAIN if wanted and not policy.once else Kind.GONE_DONE
        if wanted and self.restarts < policy.restarts_max:
            return Kind.GONE_RESTART
        if wanted and not policy.once:
            return Kind.GONE_WORN
        return Kind.GONE_KEEP if policy.on_exit == "keep" and not wanted else Kind.GONE_DONE

    def _note(self, why: Why) -> None:
        """The weightiest reason counts."""
        self.why = max(self.why, why, key=_WEIGHT.index)

    # --- act ---------------------------------------------------------------------------------------------------------

    def _do(self, duty: Do, happened: Input, now: Instant) -> None:  # noqa: C901 - one flat arm per duty
        match duty:
            case Do.BEGIN:
                if self.policy.try_:
                    self.deadline = after(now, try_reach_us)
            case Do.STAND:
                self.code = 0
                self._out.append(Campaign())
            case Do.TRY:
                self._try(now)
            case Do.HOLD:
                self._hold(happened, now)
            case Do.SPAWN:
                self._spawn(now)
            case Do.EXTEND:
                assert isinstance(happened, Renewed)
                self.rungs = self.policy.ladder.rungs(happened.valid_until)
            case Do.ARM:
                self._arm()
            case Do.BLANK:
                self._out.append(Blank(self.term))
            case Do.RUNS:
                self.started_at = now
                assert self.armed is not None
                self.deadline = self.armed.sigterm_at
            case Do.FREEZE:
                self._say("frozen", term=self.term)
            case Do.WHY:
                self._note(self._reason(happened))
            case Do.TERMINATE:
                self._terminate(happened, now)
            case Do.KILL:
                self._say("killing", term=self.term)
                self._out.append(Kill())
                self.deadline = after(now, kill_repeat_us)
            case Do.DELAY:
                delay = min(restart_delay_us * 2**self.restarts, restart_delay_us_max)
                self.restarts += 1
                self.deadline = after(now, delay)
                self._say("restarting", attempt=self.restarts, in_ms=_ms(delay))
            case Do.KEEP:
                self._say("keeping", term=self.term)
            case Do.RELEASE:
                self._say("released", term=self.term)
                self._release(happened)
                self._forget()
            case Do.QUARANTINE:
                stay = min(self.policy.quarantine_us * 2**self.quarantines, quarantine_us_max)
                self.quarantines += 1
                self.restarts = 0
                self.deadline = after(now, stay)
                self._say("quarantined", for_ms=_ms(stay))
            case Do.FINISH:
                if self.term != _NO_TERM:  # goes before the session's closing: the history says why it ended
                    self._release(happened)
                self._forget()
                self._out.append(Finish(self.code))

    def _try(self, now: Instant) -> None:
        self.candidate = True
        self._say("standing")
        if self.policy.try_ and not self.tried:
            self.deadline = after(now, max(try_grant_us_min, self.policy.ladder.renew_us))

    def _hold(self, happened: Input, now: Instant) -> None:
        assert isinstance(happened, Granted)
        assert not self.told
        self.term, self.token = happened.term, happened.token
        self.rungs, self.limit = self.policy.ladder.rungs(happened.valid_until), NEVER
        self.why, self.errno, self.code, self.ended = "", 0, 0, None
        self.tried, self.granted_at, self.restarts = True, now, 0
        self._say("granted", term=self.term)

    def _release(self, happened: Input) -> None:
        """Only an application that has just ended by itself is a reason for the history; whoever stopped it isn't."""
        if self.ended is not None and isinstance(happened, Exited | GuardianLost):
            self._out.append(Release(self.term, *self.ended))
        else:
            self._out.append(Release(self.term))

    def _forget(self) -> None:
        """The holding is over: nothing that comes late belongs to it."""
        assert not self.told
        self.term, self.token, self.rungs, self.armed = _NO_TERM, "", None, None

    def _spawn(self, now: Instant) -> None:
        assert self.rungs is not None
        if self.told:
            return  # a second stub was reported while the first one's GO was on its way
        self.deadline = self.rungs.sigterm_at
        if not self.ready:
            return  # its stub is being forked; READY comes
        if now >= self.rungs.sigterm_at:
            return  # too late to start anything; DUE comes
        self.ready, self.told, self.frozen, self.limit = False, True, False, NEVER
        self.started_at, self.armed = now, self.rungs
        self._out.append(Spawn(self.term, self.token, self.rungs))

    def _arm(self) -> None:
        """A frozen application gets no renewal, and one that was told to end no longer grace."""
        assert self.rungs is not None
        rungs = self.rungs
        if not self.told:
            self.deadline = rungs.sigterm_at
            return
        if self.frozen:
            return
        sigkill_at = min(rungs.sigkill_at, self.limit)
        self.armed = Rungs(min(rungs.sigterm_at, sigkill_at), sigkill_at, rungs.valid_until)
        self._out.append(Arm(self.term, self.armed))
        self.deadline = sigkill_at if self.state is State.DEMOTING else self.armed.sigterm_at

    def _reason(self, happened: Input) -> Why:
        match happened:
            case StopAsked():
                return "stop"
            case Demanded():
                return "demanded"
            case Due() | SigtermSent() if self.frozen:
                return "frozen"
            case _:
                return "lost"

    def _terminate(self, happened: Input, now: Instant) -> None:
        """SIGTERM now; SIGKILL when the grace, the demand's time or the lease is over, whatever comes first."""
        assert self.armed is not None
        self.limit = after(now, self.policy.grace_us)
        if isinstance(happened, Demanded):
            self.limit = min(self.limit, Instant(happened.until - sigkill_before_us))
        if self.why == "frozen":  # SIGCONT wakes it for its last moments, not for a whole grace
            self.limit = min(self.limit, self.armed.sigkill_at)
        self._say("demoting", term=self.term, why=self.why)
        self._out.append(Terminate())
        sigkill_at = min(self.armed.sigkill_at, self.limit)
        self.armed = Rungs(min(self.armed.sigterm_at, sigkill_at), sigkill_at, self.armed.valid_until)
        self._out.append(Arm(self.term, self.armed))
        self.deadline = sigkill_at

    def _say(self, what: str, **data: str | int | float | None) -> None:
        self._out.append(Say(what, tuple(data.items())))


def _ms(micros: int) -> float:
    return round(micros / MS, 3)
