"""What the engine tells, on its way to the log and to the metrics."""

import os
import traceback
from collections.abc import Callable
from typing import Final

from tenure.api import Telemetry
from tenure.base.clock import Clock
from tenure.base.instants import MS, SECOND, Instant
from tenure.raft.entries import Configuration
from tenure.raft.founding import Record
from tenure.raft.ready import Fatal, Trace
from tenure.server.logs import Log

_DEBUG: Final = frozenset({"pre_vote_asked", "pre_vote_answered", "round_failed"})
"""Repeated every few milliseconds by a member that is alone."""


exit_software: Final = 70
"""EX_SOFTWARE."""
told_again_us: Final = 60 * SECOND
NEVER_TOLD: Final = Instant(-told_again_us)
noticed_us: Final = 20 * MS
"""A disk or a loop that takes longer is told at debug level …"""
slow_us: Final = 100 * MS
"""… and this long, as a warning."""


class Observing:
    """`native.driver.Observer` and `native.member.Tells`."""

    def __init__(self, log: Log, telemetry: Telemetry, clock: Clock) -> None:
        self.end: Callable[[int], None] = os._exit
        """How the process ends after a crash; tests that live in it put their own."""
        self._log = log
        self._clock = clock
        self._names: dict[object, str] = {}
        self._told: dict[str, Instant] = {}
        self._telemetry = telemetry
        self._stopped: str | None = None
        self.on_lost: Callable[[str], None] | None = None
        self._without_space = False

    @property
    def stopped_because(self) -> str | None:
        """Why the member takes no part any more."""
        return self._stopped

    # --- Observer ---------------------------------------------------------------------------------------------------

    def trace(self, trace: Trace) -> None:
        """One line per decision of the consensus core."""
        detail = {key: self._named(value) for key, value in dict(trace.detail).items()}
        self._log.write("debug" if trace.what in _DEBUG else "info", trace.what, detail)
        if trace.what in {"following", "leader_elected"}:
            self._telemetry.consensus_changed()

    def _named(self, value: object) -> object:
        """Operators know members by their names."""
        return self._names.get(value, value) if isinstance(value, str) else value

    def _is_news(self, text: str) -> bool:
        """Several members refuse us, again and again: each text is told once in a while."""
        now = self._clock.now()
        if now < self._told.get(text, NEVER_TOLD) + told_again_us:
            return False
        self._told[text] = now
        return True

    def disk_synced(self, micros: int) -> None:
        """For the histogram; a slow write is the usual reason for a slow answer, so it is worth a line."""
        self._telemetry.disk_synced(micros)
        if self._without_space:
            self._without_space = False
            self._told.clear()
            self._log.tell("info", "space_again")
        if micros > noticed_us:
            self._log.tell("warning" if micros > slow_us else "debug", "disk_slow", ms=micros // 1000)

    def no_space(self, text: str) -> None:
        """Tried again twice a second: told once a minute, or the log would fill what is freed."""
        self._without_space = True
        if self._is_news(text):
            self._log.tell("error", "no_space", text=text)

    def loop_late(self, micros: int) -> None:
        """For the histogram; a stall that others could take for death is worth a line."""
        self._telemetry.loop_late(micros)
        if micros > noticed_us:
            self._log.tell("warning" if micros > slow_us else "debug", "loop_stalled", ms=micros // 1000)

    def stopped(self, fatal: Fatal) -> None:
        """The member stops taking part; the API goes on to say so."""
        self._stopped = fatal.text
        self._log.tell("error", "member_stopped", reason=fatal.reason, text=fatal.text)
        if fatal.reason == "rolled_back":
            self.lost(fatal.text)

    def lost(self, text: str) -> None:
        """Only under a new id can this member come back: whoever can see to that is told."""
        if self.on_lost is not None:
            self.on_lost(text)

    def crashed(self, error: Exception) -> None:
        """A mistake of ours: the process ends at once, as by kill -9, and its next life goes on from the disk."""
        text = "".join(traceback.format_exception(error))
        self._log.tell("error", "member_crashed", text=f"a mistake in Tenure itself, please report it: {text}")
        self.end(exit_software)

    # --- Tells ------------------------------------------------------------------------------------------------------

    def founding(self, missing: tuple[str, ...], refused: str | None) -> None:
        """Who is waited for."""
        names = ",".join(missing)
        if refused is not None and self._is_news(refused):
            self._log.tell("error", "founding_refused", text=refused)
        elif refused is None and missing and self._is_news(names):
            self._log.tell("info", "founding_waits", missing=names)

    def joining(self, waits: tuple[str, ...], obstacle: str | None) -> None:
        """Who is asked to take us in, and why they don't."""
        if obstacle is None:
            self._log.tell("info", "joining", asks=",".join(waits))
        elif self._is_news(obstacle):
            self._log.tell("warning", "joining_waits", text=obstacle)

    def members(self, configuration: Configuration) -> None:
        """Who is called what from now on; who has left keeps the name."""
        self._names |= {seat.id: seat.name for seat in configuration.seats}

    def sealed(self, record: Record) -> None:
        """Part of a cluster."""
        self.members(record.configuration)
        names = ",".join(seat.name for seat in record.configuration.seats)
        self._log.tell("info", "member_of", lineage=record.lineage, members=names)

    def witness(self) -> None:
        """It was one before this start, or from the founding on."""
        self._log.tell("info", "witness", text="votes, holds no state and serves nobody: ask other members")

    def rejected(self, text: str) -> None:
        """A connection came to nothing."""
        self._log.tell("warning", "peer_rejected", text=text)

    def forked(self, how: str, text: str) -> None:
        """Two clusters of one past: only a person can end that."""
        if self._is_news(text):
            self._log.tell("error", "forked" if how == "forked" else "left_behind", text=text)

    def link(self, peer: str, state: str) -> None:
        """A peer came or went."""
        self._log.tell("info", "peer", name=peer, state=state)
