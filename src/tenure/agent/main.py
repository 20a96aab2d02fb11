"""`tenure run`: put the parts together and run until the end."""

import sys
import time
from pathlib import Path

from tenure.agent.machine import exit_tenure_failed
from tenure.agent.options import Options
from tenure.agent.page import Page
from tenure.agent.supervisor import Signals, Supervisor
from tenure.agent.voice import Json, Plain
from tenure.agent.warden import Warden
from tenure.base.instants import MS, Instant, WallMs
from tenure.client import Keeper
from tenure.client.endpoints import read_secret


class BootClock:
    """The machine's clocks."""

    def now(self) -> Instant:
        """Microseconds of CLOCK_BOOTTIME."""
        return Instant(time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000)

    def wall(self) -> WallMs:
        """Unix time in ms."""
        return WallMs(time.time_ns() // 1_000_000)


def run(options: Options) -> int:
    """Run an application while its node leads; the exit code of DESIGN 8. To be called in the main thread."""
    signals = Signals()  # before the keeper's thread, so that a stop during the start is heard
    try:
        secret = read_secret(Path(options.secret_file)) if options.secret_file else None
        keeper = Keeper(
            options.endpoints, node=options.node, ttl_ms=options.ttl_us // MS, secret=secret, meta={"agent": "run"}
        )

        def guard(page: Page) -> Warden:
            return Warden(options.command, options.tree, page.fd, subreaper=True)

        voice = (Json if options.json else Plain)(options.election, options.node)
        supervisor = Supervisor(options, keeper, guard, BootClock(), voice)  # the guardian is forked before any thread
        keeper.start()
    except OSError as error:
        sys.stderr.write(f"tenure run: {error}\n")
        return exit_tenure_failed
    return supervisor.run(signals.fd)
