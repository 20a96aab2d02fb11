"""Whole members in one process: real sockets, real stores, the real loop; only death is played (`Assembled.crash`)."""

import asyncio
import io
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop

from tenure.server.assembly import Assembled, bind, open_store
from tenure.server.clock import RealClock
from tenure.server.config import Config, load
from tenure.server.logs import Log

patience_s = 20.0
"""How long a test waits for what must come; only a failure ever waits so long."""


def run(story: Awaitable[None]) -> None:
    """Run one asynchronous story on the loop that members use."""

    async def tell() -> None:
        await story

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(tell())


async def eventually(true: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(patience_s):
        while not true():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.005)


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Members:
    """A cluster of `size` members under `folder`."""

    def __init__(self, folder: Path, size: int, **flags: object) -> None:
        self._folder = folder
        self._ports = free_ports(size)
        self._flags = flags
        self.running: dict[str, Assembled] = {}
        self.names = [f"m{number + 1}" for number in range(size)]
        self.logs = {name: io.StringIO() for name in self.names}
        self.crashes: list[int] = []

    def config(self, name: str, **flags: object) -> Config:
        """The configuration of one member."""
        peers = dict(zip(self.names, self._ports, strict=True))
        given: dict[str, object] = {
            "name": name,
            "data_dir": str(self._folder / name),
            "api": "127.0.0.1:0",
            "peer": f"127.0.0.1:{peers[name]}",
            "cluster": ",".join(f"{other}=127.0.0.1:{port}" for other, port in peers.items()),
        }
        return load({**given, **self._flags, **flags}, {}, files=())

    async def start(self, name: str, **flags: object) -> Assembled:
        """Start one member."""
        config = self.config(name, **flags)
        log = Log(RealClock(), name, config.log_level, config.log_format, self.logs[name])
        member = Assembled(config, log, open_store(config), bind(config.api))
        member.observing.end = self.crashes.append
        await member.start(with_api=False)
        self.running[name] = member
        return member

    async def crash(self, name: str) -> None:
        """As if its process had died."""
        await self.running.pop(name).crash()

    async def stop(self, name: str) -> None:
        """As by SIGTERM."""
        await self.running.pop(name).stop(5.0)

    async def founded(self) -> None:
        """All are part of the cluster."""
        await eventually(lambda: all(one.engine.replica is not None for one in self.running.values()))

    async def leader(self) -> str:
        """The name of whoever leads and serves, once somebody does."""

        def leaders() -> list[str]:
            return [
                name
                for name, one in self.running.items()
                if one.engine.replica is not None and one.engine.replica.raft.is_serving
            ]

        await eventually(lambda: bool(leaders()))
        return leaders()[0]


@asynccontextmanager
async def members(folder: Path, size: int, **flags: object) -> AsyncIterator[Members]:
    """A running cluster, ended without ceremony."""
    cluster = Members(folder, size, **flags)
    for name in cluster.names:
        await cluster.start(name)
    try:
        yield cluster
    except BaseException:
        for name, log in cluster.logs.items():
            print(f"--- {name}\n{log.getvalue()}")
        raise
    finally:
        for name in list(cluster.running):
            await cluster.crash(name)
        assert not cluster.crashes, "a mistake in the middle of a turn: see the logs"
