"""The life of a member's process: start, SIGHUP, SIGTERM, end.

Exit status: 0 after a planned stop, 1 for an error at start (address in use, directory locked), 2 for a configuration
that can't be used, 65 for a data directory that needs a person, and for a member that had stopped taking part before it
was told to end (its disk went back, it was removed, its program is too old), 70 after a mistake of ours, 74 when the
disk failed.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from tenure.base.errors import TenureError
from tenure.server import config as configuration
from tenure.server.clock import RealClock
from tenure.server.config import Config, ConfigError
from tenure.server.logs import Forward, Log
from tenure.server.notify import Notifier

exit_error: Final = 1
exit_usage: Final = 2
exit_data: Final = 65
disk_patience_s: Final = 10.0
"""For the last batch and the last checkpoint of a planned stop, after the hand-over."""
_no_mark: Final = "the next start counts as one after a crash"
switch_interval_s: Final = 0.00005
"""The disk's thread gets the interpreter back within this, several times a batch (P6.4). Measured at 64 connections:
the default of 5 ms costs a third of the writes, and 5 ms is a vote's time."""


def main(argv_options: Mapping[str, object]) -> int:
    """Run a member until it is told to stop. `argv_options`: option names to values, None if not given."""
    try:
        config = configuration.load(argv_options, os.environ)
    except ConfigError as error:
        print(f"tenure serve: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        return exit_usage
    log = Log(RealClock(), config.name, config.log_level, config.log_format)
    logging.basicConfig(handlers=[Forward(log)], level=logging.WARNING, force=True)
    for doubt in config.doubts():
        log.tell("warning", "configuration", text=doubt)
    if config.realtime:
        _real_time(log)
    ended = _life(config, argv_options, log)
    if isinstance(ended, Lost) and config.rejoin:
        ended = _again(config, argv_options, log, ended)
    return exit_data if isinstance(ended, Lost) else ended


class Lost(Struct, frozen=True):
    """The data directory can't be used any more: only under a new id can this member come back (P1). `held`: it holds
    something that must be kept.
    """

    text: str
    held: bool = True


def _again(config: Config, argv_options: Mapping[str, object], log: Log, lost: Lost) -> "int | Lost":
    """Set aside what is left and come back as a standby, once: what fails twice needs a person."""
    from tenure.storage import StorageError, set_aside

    if lost.held:
        try:
            aside = set_aside(config.data_dir, lost.text)
        except StorageError as error:
            log.tell("error", "start_failed", text=str(error))
            return exit_data
        log.tell("warning", "quarantined", path=str(aside), text=lost.text)
    log.tell("info", "rejoining", through=",".join(config.rejoin))
    return _life(config.returning(), argv_options, log)


def _life(config: Config, argv_options: Mapping[str, object], log: Log) -> "int | Lost":
    """One member from its start to its end: the exit status, or that its directory is lost."""
    import uvloop  # late: `--help` and a wrong flag shouldn't load a loop

    from tenure.server import assembly
    from tenure.server.recovering import interrupted
    from tenure.storage import Corrupt, DiskFailed, Locked, NoSpace, StorageError

    left = interrupted(config.data_dir)
    if left is not None:  # a member that began here would take the place of the one that is to be recovered
        log.tell("error", "start_failed", text=left.text(config.data_dir))
        return exit_data
    try:
        listener = assembly.bind(config.api)
        assembly.bind(config.peer, "peer").close()  # the transport opens it again
    except ConfigError as error:
        log.tell("error", "start_failed", text=str(error))
        return exit_error
    try:
        opened = assembly.open_store(config)
    except StorageError as error:
        listener.close()
        log.tell("error", "start_failed", text=str(error))
        match error:
            case Corrupt():
                return Lost(str(error))
            case Locked() | NoSpace():
                return exit_error
            case DiskFailed():
                return assembly.exit_disk_failed
            case _:
                return exit_data
    for note in opened.notes:
        log.tell("warning", "store", text=note)
    log.tell("info", "store_opened", member=opened.identity.member, created=opened.created, clean=opened.clean)

    async def run() -> "int | Lost":
        try:
            assembled = assembly.Assembled(config, log, opened, listener)
            return await _live(assembled, argv_options, log)
        except (TenureError, OSError) as error:
            log.tell("error", "start_failed", text=str(error))
            return exit_usage if isinstance(error, ConfigError) else exit_error

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


async def _live(assembled: "object", argv_options: Mapping[str, object], log: Log) -> "int | Lost":
    from tenure.server.assembly import Assembled

    assert isinstance(assembled, Assembled)
    loop = asyncio.get_running_loop()
    notifier = Notifier(os.environ)
    stop = asyncio.Event()
    hurry = asyncio.Event()

    def on_stop() -> None:
        (hurry if stop.is_set() else stop).set()

    lost: list[Lost] = []

    def on_lost(text: str) -> None:
        """Only where the operator asked for it: else the member stays, and says why it takes no part."""
        if assembled.config.rejoin and not stop.is_set():
            lost.append(Lost(text, assembled.holds_something))
            stop.set()

    assembled.observing.on_lost = on_lost
    loop.add_signal_handler(signal.SIGTERM, on_stop)
    loop.add_signal_handler(signal.SIGINT, on_stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: _reload(assembled, argv_options, log, notifier))
    await assembled.start()
    gc.collect()
    gc.freeze()  # P6.4: what lives from the start is never looked at again
    gc.set_threshold(50_000, 20, 50)
    sys.setswitchinterval(switch_interval_s)
    log.tell("info", "serving", api=str(assembled.config.advertise_api), peer=str(assembled.config.advertise_peer))
    notifier.ready("serving")
    beat = loop.create_task(_watchdog(notifier), name="watchdog")
    await stop.wait()
    notifier.stopping()
    stopping = loop.create_task(assembled.stop(assembled.config.shutdown_ms / 1000), name="stop")
    hurried = loop.create_task(hurry.wait(), name="hurry")
    patience_s = assembled.config.shutdown_ms / 1000 + disk_patience_s
    await asyncio.wait({stopping, hurried}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
    beat.cancel()
    if not stopping.done():
        why = "asked twice" if hurry.is_set() else assembled.hindrance or "the disk does not end the last write"
        log.tell("warning", "stopped_in_haste", text=f"{why}; {_no_mark}")
        os._exit(exit_error)
    hurried.cancel()
    failed = _stopped(stopping, log)
    if failed:
        return failed
    if lost:
        return lost[0]
    return exit_data if assembled.observing.stopped_because is not None else 0


def _stopped(stopping: "asyncio.Task[None]", log: Log) -> int:
    """0, or what the last write came to."""
    from tenure.server.assembly import exit_disk_failed
    from tenure.storage import DiskFailed, StorageError

    try:
        stopping.result()
    except StorageError as error:
        log.tell("error", "stopped_without_mark", text=f"{error}; {_no_mark}")
        return exit_disk_failed if isinstance(error, DiskFailed) else exit_error
    log.tell("info", "stopped")
    return 0


async def _watchdog(notifier: Notifier) -> None:
    """A member whose loop hangs is restarted by systemd."""
    if notifier.watchdog_s is None:
        return
    while True:
        notifier.alive()
        await asyncio.sleep(notifier.watchdog_s)


def _reload(assembled: "object", argv_options: Mapping[str, object], log: Log, notifier: Notifier) -> None:
    """SIGHUP: take what can change, name what would need a restart. A wrong file changes nothing."""
    from tenure.api.taking import Access
    from tenure.server.assembly import Assembled

    assert isinstance(assembled, Assembled)
    notifier.reloading(time.monotonic_ns() // 1000)
    try:
        fresh = configuration.load(argv_options, os.environ)
        secret = fresh.secret()
    except ConfigError as error:
        log.tell("error", "reload_failed", text=str(error))
    else:
        log.set_level(fresh.log_level)
        assembled.transport.secret = secret
        assembled.app.door.access = Access(assembled.api_secret(secret))
        if assembled.config == assembled.config.returning():
            fresh = fresh.returning()
        needs = ", ".join(_changed(assembled.config, fresh))
        if needs:
            log.tell("warning", "reload_partial", text=f"these change only with a restart: {needs}")
        log.tell("info", "reloaded", log_level=fresh.log_level)
    notifier.ready("serving")


def _changed(old: Config, new: Config) -> list[str]:
    return [
        option.name
        for option in configuration.options
        if option.name != "config" and not option.reloads and getattr(old, option.name) != getattr(new, option.name)
    ]


def _real_time(log: Log) -> None:
    """P6.4: only where the operator asks; children don't inherit it."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError as error:
        log.tell("warning", "no_real_time_class", text=f"the kernel refused SCHED_RR: {error.strerror}")
