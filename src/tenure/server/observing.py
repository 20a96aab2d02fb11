"""What the engine tells, on its way to the log and to the metrics."""

from typing import Final

from tenure.api import Telemetry
from tenure.base.instants import MS
from tenure.raft.founding import Record
from tenure.raft.ready import Fatal, Trace
from tenure.server.logs import Log

_DEBUG: Final = frozenset({"pre_vote_asked", "pre_vote_answered", "round_failed"})
"""Repeated every few milliseconds by a member that is alone."""


noticed_us: Final = 20 * MS
"""A disk or a loop that takes longer is told at debug level …"""
slow_us: Final = 100 * MS
"""… and this long, as a warning."""


class Observing:
    """`native.driver.Observer` and `native.member.Tells`."""

    def __init__(self, log: Log, telemetry: Telemetry) -> None:
        self._log = log
        self._telemetry = telemetry
        self._stopped: str | None = None

    @property
    def stopped_because(self) -> str | None:
        """Why the member takes no part any more."""
        return self._stopped

    # --- Observer ---------------------------------------------------------------------------------------------------

    def trace(self, trace: Trace) -> None:
        """One line per decision of the consensus core."""
        self._log.write("debug" if trace.what in _DEBUG else "info", trace.what, dict(trace.detail))
        if trace.what in {"following", "leader_elected"}:
            self._telemetry.consensus_changed()

    def disk_synced(self, micros: int) -> None:
        """For the histogram; a slow write is the usual reason for a slow answer, so it is worth a line."""
        self._telemetry.disk_synced(micros)
        if micros > noticed_us:
            self._log.tell("warning" if micros > slow_us else "debug", "disk_slow", ms=micros // 1000)

    def loop_late(self, micros: int) -> None:
        """For the histogram; a stall that others could take for death is worth a line."""
        self._telemetry.loop_late(micros)
        if micros > noticed_us:
            self._log.tell("warning" if micros > slow_us else "debug", "loop_stalled", ms=micros // 1000)

    def stopped(self, fatal: Fatal) -> None:
        """The member stops taking part; the API goes on to say so."""
        self._stopped = fatal.text
        self._log.tell("error", "member_stopped", reason=fatal.reason, text=fatal.text)

    # --- Tells ------------------------------------------------------------------------------------------------------

    def founding(self, missing: tuple[str, ...], refused: str | None) -> None:
        """Who is waited for."""
        if refused is not None:
            self._log.tell("error", "founding_refused", text=refused)
        elif missing:
            self._log.tell("info", "founding_waits", missing=",".join(missing))

    def sealed(self, record: Record) -> None:
        """Part of a cluster."""
        names = ",".join(seat.name for seat in record.configuration.seats)
        self._log.tell("info", "member_of", lineage=record.lineage, members=names)

    def rejected(self, text: str) -> None:
        """A connection came to nothing."""
        self._log.tell("warning", "peer_rejected", text=text)

    def link(self, peer: str, state: str) -> None:
        """A peer came or went."""
        self._log.tell("info", "peer", name=peer, state=state)
