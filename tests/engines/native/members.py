"""Whole members in one process: real sockets, real stores, the real loop; only death is played (`Assembled.crash`)."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, TypeVar

import uvloop

from tenure.cli.demo_processes import free_ports
from tenure.engines.native.driver import NativeEngine
from tenure.leadership.engine import PromoteMember, Refused, Request
from tenure.server.assembly import Assembled, bind, open_store
from tenure.server.clock import RealClock
from tenure.server.config import Config, load
from tenure.server.logs import Log

R = TypeVar("R")
patience_s = 20.0
"""How long a test waits for what must come; only a failure ever waits so long."""


def run(story: Awaitable[None]) -> None:
    """Run one asynchronous story on the loop that members use."""

    async def tell() -> None:
        await story

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(tell())


async def done(engine: NativeEngine, request: Request[R]) -> R:
    """Ask for what must be granted."""
    result = await engine.ask(request)
    assert not isinstance(result, Refused), result
    return result


async def refused(engine: NativeEngine, request: Request[R]) -> Refused:
    """Ask for what must be refused."""
    result = await engine.ask(request)
    assert isinstance(result, Refused), result
    return result


async def promoted(engine: NativeEngine, name: str, role: Literal["voter", "witness"] = "voter") -> None:
    """Promote a member, as soon as it has caught up."""
    async with asyncio.timeout(patience_s):
        while isinstance(result := await engine.ask(PromoteMember(name, role)), Refused):
            assert result.code == "not_caught_up", result
            await asyncio.sleep(0.005)


async def eventually(true: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(patience_s):
        while not true():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.005)


class Members:
    """A cluster of `size` members under `folder`; the last `witnesses` of them are witnesses."""

    def __init__(self, folder: Path, size: int, witnesses: int = 0, **flags: object) -> None:
        self._folder = folder
        self._flags = flags
        self.running: dict[str, Assembled] = {}
        self.names = [f"m{number + 1}" for number in range(size)]
        self._ports = dict(zip(self.names, free_ports(size), strict=True))
        self._apis: dict[str, int] = {}
        roles = dict.fromkeys(self.names[size - witnesses :], "/witness")
        self._listed = ",".join(f"{name}=127.0.0.1:{port}{roles.get(name, '')}" for name, port in self._ports.items())
        self.logs = {name: io.StringIO() for name in self.names}
        self.crashes: list[int] = []

    def config(self, name: str, **flags: object) -> Config:
        """The configuration of one member."""
        given: dict[str, object] = {
            "name": name,
            "data_dir": str(self._folder / name),
            "api": f"127.0.0.1:{self._apis.get(name) or free_ports(1)[0]}",
            "peer": f"127.0.0.1:{self._ports[name]}",
        }
        if "join" not in flags and name in self.names:
            given["cluster"] = self._listed
        return load({**given, **self._flags, **flags}, {}, files=())

    async def start(self, name: str, **flags: object) -> Assembled:
        """Start one member."""
        config = self.config(name, **flags)
        log = Log(RealClock(), name, config.log_level, config.log_format, self.logs[name])
        member = Assembled(config, log, open_store(config), bind(config.api))
        member.observing.end = self.crashes.append
        await member.start(with_api=name in self._apis)
        self.running[name] = member
        return member

    def endpoint(self, name: str) -> str:
        """Where the API of a member is, or will be from its next start on: most stories do without."""
        if name not in self._apis:
            (self._apis[name],) = free_ports(1)
        return f"http://127.0.0.1:{self._apis[name]}"

    def joining(self, name: str, *asked: str, **flags: object) -> Config:
        """The configuration of a member that joins through the APIs of the members asked."""
        if name not in self._ports:
            (self._ports[name],) = free_ports(1)
            self.logs[name] = io.StringIO()
        return self.config(name, join=",".join(self.endpoint(other) for other in asked), **flags)

    async def join(self, name: str, *asked: str, **flags: object) -> Assembled:
        """Start such a member."""
        config = self.joining(name, *asked, **flags)
        return await self.start(name, join=",".join(config.join), **flags)

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
async def members(
    folder: Path, size: int, witnesses: int = 0, apis: tuple[str, ...] = (), **flags: object
) -> AsyncIterator[Members]:
    """A running cluster, ended without ceremony. Only the members in `apis` serve HTTP."""
    cluster = Members(folder, size, witnesses, **flags)
    for name in apis:
        cluster.endpoint(name)
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
