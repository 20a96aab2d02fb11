"""The one place that builds concrete things: clock, chance, store, disk thread, transport, engine, API (DESIGN 3)."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any, Final, Literal

import msgspec
import uvicorn

from tenure import api
from tenure.base.chance import SplitMix64
from tenure.base.errors import Invalid
from tenure.base.ids import Boot, MemberId, Nonce
from tenure.base.instants import MS, WallMs
from tenure.base.versions import feature_newest
from tenure.engines.native import pilot
from tenure.engines.native.changes import record_of
from tenure.engines.native.driver import NativeEngine
from tenure.engines.native.inputs import ReplicaSettings, Stage, Staged
from tenure.engines.native.member import Member
from tenure.engines.native.replica import Replica
from tenure.engines.native.transport import Transport
from tenure.engines.native.transport_hub import Limits as LinkLimits
from tenure.leadership.engine import AddMember, MembersView
from tenure.leadership.machine import Machine
from tenure.leadership.terms import founding_stamp
from tenure.raft.entries import Configuration
from tenure.raft.founding import Founding, Listed, Record, Stored
from tenure.raft.ready import Batch
from tenure.raft.settings import Identity, Settings
from tenure.server.clock import RealClock
from tenure.server.config import Address, Config, ConfigError
from tenure.server.joining import Joiner
from tenure.server.logs import Log
from tenure.server.observing import Observing
from tenure.storage import DiskThread, NoSpace, Opened, StorageError, Store, StoredIdentity
from tenure.wire.frames import Hello

no_space_retry_s: Final = 0.5
ping_every_ms: Final = 500
"""Each ping wakes two idle processes; twice a second is enough for a figure that moves slowly."""


class ApiServer(uvicorn.Server):
    """uvicorn inside our loop; signals are ours (`serve`)."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    def capture_signals(self) -> Any:
        """Leave them alone."""
        return nullcontext()

    async def main_loop(self) -> None:
        """Until `end`. uvicorn's own looks for it ten times a second: a tenth of an idle member's wake-ups."""
        await self.on_tick(0)
        await self._ended.wait()

    def end(self) -> None:
        """Stop serving; what is under way is answered first."""
        self.should_exit = True
        self._ended.set()


class Assembled:
    """A member, built and not yet started."""

    def __init__(self, config: Config, log: Log, opened: Opened, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self.config = config
        self.log = log
        self.clock = RealClock()
        self.rng = SplitMix64(int.from_bytes(os.urandom(8), "big"))
        self.telemetry = api.Telemetry(since_ms=self.clock.wall())
        self.observing = Observing(log, self.telemetry, self.clock)
        self.secret = config.secret()
        self._opened = opened
        self._loop = loop
        self._listener = listener
        self._serving: asyncio.Task[None] | None = None
        self._joiner: Joiner | None = None
        self.disk: DiskThread | None = None
        self.name = opened.identity.name
        self.engine = NativeEngine(loop, self.clock, self.name, self.observing)
        self.boot = Boot(f"{self.rng.u64():016x}")
        self.member = Member(
            loop, self.clock, self.engine, self._founding(), self, self._hello(), self._begin, self.observing
        )
        limits = LinkLimits(ping_every_ms=ping_every_ms)
        self.transport = Transport(self.member.identify, self.secret, self.member, self.clock, limits)
        info = api.ServerInfo(self.name, _version(), self.api_secret(self.secret))
        self.app = api.build(self.engine, info, telemetry=self.telemetry)
        self.server = ApiServer(uvicorn.Config(**api.serve_config(self.app, host=config.api.host)))

    def api_secret(self, secret: bytes | None) -> bytes | None:
        """What API callers must show: the secret beyond loopback, or where it is asked for."""
        needed = self.config.require_secret or not self.config.api.loopback
        return secret if needed else None

    @property
    def holds_something(self) -> bool:
        """Whether the directory was ever part of a founding."""
        return self._opened.store.identity.founding != "empty"

    async def start(self, with_api: bool = True) -> None:
        """Listen on both ports, then take part. Tests of the engine alone do without the API."""
        config = self.config
        await self.transport.start(config.peer.host, config.peer.port)
        if with_api:
            self._serving = self._loop.create_task(self.server._serve([self._listener]), name="api")  # noqa: SLF001
        self.member.start(self.transport)
        if config.join and self._opened.identity.founding == "empty":
            self._join()

    @property
    def hindrance(self) -> str | None:
        """What keeps the last batch from the disk, if it is known."""
        return self.engine.replica.hindrance if self.engine.replica is not None else None

    async def stop(self, hand_over_s: float) -> None:
        """A planned stop: transfer first and serve until that is done, then go with a word and a clean mark."""
        moved = await self.engine.hand_over(hand_over_s)
        self.log.tell("info", "stopping", handed_over=moved)
        await self._end(clean=True)

    async def crash(self) -> None:
        """End as if the process had died: no word to the others, no clean mark. For tests in one process."""
        await self._end(clean=False)

    async def _end(self, clean: bool) -> None:
        self.member.stop()
        if self._joiner is not None:
            self._joiner.stop()
        await self.engine.close()
        await self.transport.stop(say_closing=clean)
        self.server.end()
        if self._serving is not None:
            await self._serving
        self._listener.close()
        await asyncio.to_thread(self._close_store, clean)  # a disk that hangs must not keep SIGTERM from being heard

    def _close_store(self, clean: bool) -> None:
        if self.disk is not None:
            self.disk.stop()
        self._opened.store.close(clean=clean)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _hello(self) -> Hello:
        config, identity = self.config, self._opened.identity
        return Hello(
            member=identity.member,
            name=self.name,
            boot=self.boot,
            cluster=tuple(str(one) for one in config.founders),
            api=str(config.advertise_api),
            peer=str(config.advertise_peer),
            speaks=feature_newest,
        )

    def _founding(self) -> Founding:
        """What comes before taking part. A sealed directory needs no list any more, and one that joins never has it."""
        config, identity = self.config, self._opened.identity
        is_sealed = identity.founding == "sealed"
        if is_sealed and config.name != self.name:
            text = f"is {config.name!r}, but {config.data_dir} was made with the name {self.name!r} and keeps it"
            raise ConfigError("name", "configuration", f"{text}. Next step: give --name {self.name}")
        if config.join:
            self._check_join(identity)
        me = next((one for one in config.founders if one.name == self.name), None)
        if me is None and config.founders and (config.cluster or not is_sealed):
            text = f"does not list {self.name!r}, the name that {config.data_dir} was made with and keeps"
            raise ConfigError("cluster", "configuration", f"{text}. Next step: give --name {self.name}, and list it")
        me = me or Listed(self.name, str(config.advertise_peer))
        listed = () if is_sealed else config.founders
        stored = Stored(identity.founding, identity.record)
        floor = config.term_floor or None

        def stamp(wall: WallMs) -> int | str:
            try:
                return founding_stamp(wall, floor)
            except Invalid as error:
                return str(error)

        return Founding(me, identity.member, listed, stored, self.rng, stamp)

    def _check_join(self, identity: StoredIdentity) -> None:
        """Only an empty directory joins; one that does belong to a cluster goes on there."""
        if identity.founding == "pending":
            text = f"{self.config.data_dir} takes part in a founding that isn't finished"
            step = "start it with --cluster as before, or give an empty --data-dir"
            raise ConfigError("join", "configuration", f"{text}. Next step: {step}")
        if identity.founding == "sealed":
            text = (
                f"{self.name} belongs to the cluster {identity.lineage[0]} already; --join is only for its first start"
            )
            self.log.tell("info", "joined_already", text=text)

    def _compare(self, record: Record, replica: Replica) -> None:
        """P1.2: `--cluster` is only compared, with how the cluster was founded and with how it is by now."""
        given = {(one.name, one.peer) for one in self.config.cluster}
        founded, present = (
            {(seat.name, seat.peer) for seat in seats}
            for seats in (record.configuration.seats, replica.raft.configuration.seats)
        )
        if not given or given in (founded, present):
            return
        shown = ",".join(f"{name}={peer}" for name, peer in sorted(present))
        text = f"the members are {shown}, and only `tenure member` changes that; --cluster is only compared: mend it"
        self.log.tell("warning", "cluster_differs", text=text)

    def _join(self) -> None:
        """Ask a cluster to take us in, until it does."""
        config, identity = self.config, self._opened.identity
        request = AddMember(
            identity.member,
            self.name,
            str(config.advertise_peer),
            standby=config.standby,
            returns=bool(config.rejoin),
            speaks=feature_newest,
        )

        def secret() -> str | None:
            read = config.secret()
            return None if read is None else read.decode()

        self.member.joins(config.join, None)
        self._joiner = Joiner(self._loop, config.join, secret, request, self._taken, self._hindered)
        self._joiner.start()

    def _taken(self, view: MembersView) -> None:
        """The cluster has taken us in."""
        if view.founding is None or all(seat.id != self._opened.identity.member for seat in view.members):
            self._hindered("the answer is not that of a cluster that has taken this member in")
            return
        self.member.joined(record_of(view.founding), view.lineage)

    def _hindered(self, text: str) -> None:
        self.member.joins(self.config.join, text)

    def set_founding(
        self, state: Literal["pending", "sealed"], record: Record, lineage: tuple[Nonce, ...] = ()
    ) -> None:
        """`native.founder.FoundingStore`. A disk that fails here ends the process, as later."""
        try:
            self._opened.store.set_founding(state, record, lineage)
        except StorageError as error:
            self.log.tell("error", "founding_not_stored", text=str(error))
            os._exit(exit_no_space if isinstance(error, NoSpace) else exit_disk_failed)

    def _begin(self, record: Record) -> "tuple[Replica, _Disk]":
        """Founded: what the store holds becomes a replica."""
        config, opened = self.config, self._opened
        identity = opened.store.identity
        restored = opened.store.restored()
        if not restored.configuration.seats:
            restored = msgspec.structs.replace(restored, configuration=record.configuration)
        is_readable = restored.feature <= feature_newest  # else the core stops at once (P10)
        is_held = is_readable and not _is_witness(restored.configuration, identity.member)
        if restored.snapshot is not None and is_held:
            machine = Machine.restore(restored.snapshot.image.pieces)
        else:
            machine = Machine.founded(record.lineage, record.stamp)
        replica = Replica(
            Identity(identity.member, self.boot, identity.lineage or (record.lineage,)),
            self.name,
            restored,
            machine,
            Settings(
                heartbeat_us=config.heartbeat_ms * MS,
                floor_us=config.election_floor_ms * MS,
                log_kept_entries=config.log_kept_entries,
                log_held_entries_max=config.log_held_entries,
                snapshot_bytes_per_s=config.snapshot_rate_bytes,
            ),
            self.rng,
            self.clock.now(),
            limits=ReplicaSettings(snapshot_entries=config.snapshot_entries, snapshot_bytes=config.snapshot_bytes),
            api=str(config.advertise_api),
            protection={"scheduling": _scheduling()},
            record=record,
        )
        self._gauges(replica)
        self._compare(record, replica)
        if replica.witness:
            self.observing.witness()
        call = self._loop.call_soon_threadsafe
        self.disk = DiskThread(
            opened.store,
            lambda number, sync_us: _quietly(call, self.engine.persisted, number, sync_us),
            self._disk_failed,
        )
        self.disk.start()
        return replica, _Disk(self.disk, lambda staged: _quietly(call, self.engine.staged, staged))

    def _disk_failed(self, error: Exception) -> None:
        """In the disk's thread. Without space the batch waits; anything else ends the process at once (DESIGN 5)."""
        if isinstance(error, NoSpace):
            self._loop.call_soon_threadsafe(self._no_space, error)
            return
        self.log.tell("error", "disk_failed", text=str(error))
        os._exit(exit_disk_failed)

    def _no_space(self, error: NoSpace) -> None:
        self.observing.no_space(str(error))
        self.engine.hindered(str(error))
        self._loop.call_later(no_space_retry_s, self.engine.resubmit)

    def _gauges(self, replica: Replica) -> None:
        gauge = self.telemetry.gauge
        gauge("tenure_consensus_term", "Raft's term.", lambda: replica.raft.term)
        gauge("tenure_consensus_leader", "1 on the consensus leader.", lambda: replica.raft.role == "leader")
        gauge("tenure_commit_index", "Committed log index.", lambda: replica.raft.commit)
        gauge("tenure_applied_index", "Applied log index.", lambda: replica.applied)
        gauge("tenure_feature_version", "What the cluster speaks (P10).", lambda: replica.raft.feature)
        gauge("tenure_autopilot_waiting", "1 on the leader while the autopilot waits.", lambda: pilot.waits(replica))
        gauge("tenure_answers_failed", "Answers whose client had gone.", lambda: self.engine.answers_failed)


class _Disk:
    """The disk's thread as the engine knows it."""

    def __init__(self, thread: DiskThread, staged: Callable[[Staged], None]) -> None:
        self._thread = thread
        self._staged = staged

    def submit(self, batch: Batch) -> None:
        """Make it durable."""
        self._thread.submit(batch)

    def stage(self, stage: Stage) -> None:
        """Make it durable in between."""

        def done(kept: bool) -> None:
            self._staged(Staged(stage.index, stage.number, kept))

        self._thread.stage(stage.number, stage.data, done)


exit_no_space: Final = 1
"""As for everything else that keeps a member from its start, and that goes away."""
exit_disk_failed: Final = 74
"""EX_IOERR: the disk failed while we ran; nothing that was not acknowledged was promised."""


def _is_witness(configuration: Configuration, member: MemberId) -> bool:
    """P8: a witness's snapshot stays unread."""
    seat = configuration.seat(member)
    return seat is not None and seat.role == "witness"


def _quietly(call: Callable[..., object], *arguments: object) -> None:
    """The loop may have ended while the disk's last batch was under way."""
    with suppress(RuntimeError):
        call(*arguments)


def bind(address: Address, key: str = "api") -> socket.socket:
    """A listening socket, made first: an address in use is said before anything else is touched."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(2048)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        step = _next_steps.get(error.errno or 0, f"give another --{key}")
        raise ConfigError(key, str(address), f"can't listen: {error.strerror or error}. Next step: {step}") from None
    return listener


_next_steps: Final = {
    errno.EADDRINUSE: "stop what listens there, or give each member addresses of its own (--api, --peer)",
    errno.EADDRNOTAVAIL: "listen on an address of this machine, and say with --advertise-… how others reach it",
    errno.EACCES: "take a port above 1023, or give this process CAP_NET_BIND_SERVICE",
}


def open_store(config: Config) -> Opened:
    """The data directory; raises the store's own errors."""
    return Store.open(config.data_dir, config.name)


def _scheduling() -> str:
    """Which class the kernel runs us in (P6.4); what it granted, not what was asked for."""
    policy = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
    return {os.SCHED_RR: "real-time (SCHED_RR)", os.SCHED_FIFO: "real-time (SCHED_FIFO)"}.get(policy, "ordinary")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # late: only where it serves

    try:
        return version("tenure")
    except PackageNotFoundError:
        return "0"
