"""Tenure as a side: three `tenure serve` with their default settings, and `tenure run` for hand-overs."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.http1 import Http1Lane, Http1Pool, request
from bench.processes import Child, scratch
from bench.sides import KeepLane, Lane
from bench.websocket import KeepStream
from tenure.cli.demo_processes import free_ports

KEYS: Final = 1_000
FILLERS: Final = 16
BODY: Final = b'{"value":"%b"}' % (b"v" * 64)
TENURE: Final = str(Path(sys.executable).parent / "tenure")
settle_s_max: Final = 30
hand_over_s_max: Final = 20
_WORKER: Final = 'echo "$$ $EPOCHREALTIME" >>"$0"; exec sleep 1000'
_counter: Final = itertools.count(1)


class KeepRest:
    """One session on one connection, a request for each keepalive."""

    def __init__(self, lane: Http1Lane, authority: str, session: str) -> None:
        self.count = 0
        self._number = 0
        self._lane = lane
        self._path = f"/v1/sessions/{session}/keepalive"
        self._authority = authority
        self._going = True

    def begin(self) -> None:
        """Send the next one."""
        self._number += 1
        message = request("POST", self._path, self._authority, b'{"number":%d}' % self._number)
        self._lane.ask(message, self._answered)

    def _answered(self, body: bytes | None) -> None:
        if body is not None:
            self.count += 1
            if self._going:
                self.begin()

    def close(self) -> None:
        """Hang up."""
        self._going = False
        self._lane.close()


class TenureOffice:
    """One election with two `tenure run`; their child writes its pid and its start to a file."""

    def __init__(self, side: "TenureSide", folder: Path, ttl: str) -> None:
        self._side = side
        self._election = f"office-{next(_counter)}"
        self._starts = folder / self._election
        endpoints = ",".join(f"http://{each}" for each in side.apis)
        self._agents = []
        for node in (f"{self._election}-a", f"{self._election}-b"):
            command = [TENURE, "run", self._election, "--endpoints", endpoints, "--node", node, "--ttl", ttl]
            command += ["--", "bash", "-c", _WORKER, str(self._starts)]
            self._agents.append(Child(node, command, folder))

    def starts(self) -> list[tuple[int, float]]:
        """(pid, wall time) of every start of a child so far."""
        text = self._starts.read_text() if self._starts.exists() else ""
        return [(int(line.split()[0]), float(line.split()[1])) for line in text.splitlines() if " " in line]

    async def _until_starts(self, count: int) -> None:
        deadline = time.monotonic() + hand_over_s_max
        while len(self.starts()) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no child was started: {self._agents[0].log_tail()} {self._agents[1].log_tail()}")
            await asyncio.sleep(0.001)

    async def open(self) -> None:
        """Start both agents; one leads, the other waits."""
        for agent in self._agents:
            agent.start()
        await self._until_starts(1)
        deadline = time.monotonic() + hand_over_s_max
        while True:
            view = await self._side.call("GET", f"/v1/elections/{self._election}")
            if len(view.get("candidates", ())) >= 2 or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)

    async def stepdown_ms(self) -> float:
        """`POST /leadership/stepdown` until its answer, which says that the successor was granted."""
        body = msgspec.json.encode({"election": self._election, "wait_ms": 5_000})
        start = time.perf_counter()
        answer = await self._side.call("POST", "/leadership/stepdown", body)
        assert answer.get("to"), answer
        return (time.perf_counter() - start) * 1e3

    async def crash_ms(self) -> float:
        """SIGKILL of the leading child until the other node's child has been started."""
        ((pid, _),) = self.starts()
        struck = time.time()
        os.kill(pid, signal.SIGKILL)
        await self._until_starts(2)
        return (self.starts()[1][1] - struck) * 1e3

    async def lost(self) -> float:
        """How many holdings have ended since the office was opened."""
        return float(len(self.starts()) - 1)

    async def close(self) -> None:
        """End the agents; they end their children."""
        for agent in self._agents:
            agent.stop()


class TenureSide:
    """Three members."""

    name = "tenure"

    def __init__(self) -> None:
        self._folder = scratch()
        ports = free_ports(6)
        self.apis = [f"127.0.0.1:{port}" for port in ports[:3]]
        self._ports = ports[:3]
        cluster = ",".join(f"m{i + 1}=127.0.0.1:{port}" for i, port in enumerate(ports[3:]))
        folder = Path(self._folder.name)
        self._is_filled = False
        self._children = []
        for i, (api, peer) in enumerate(zip(self.apis, ports[3:], strict=True)):
            command = [TENURE, "serve", "--name", f"m{i + 1}", "--data-dir", str(folder / f"m{i + 1}")]
            command += ["--api", api, "--peer", f"127.0.0.1:{peer}", "--cluster", cluster]
            self._children.append(Child(f"m{i + 1}", command, folder))

    async def start(self) -> None:
        for child in self._children:
            child.start()
        await self.settled()

    async def stop(self) -> None:
        for child in self._children:
            child.stop()

    def remove(self) -> None:
        """Throw the data away."""
        self._folder.cleanup()

    async def _lane(self, member: int) -> Http1Lane:
        _, lane = await asyncio.get_running_loop().create_connection(Http1Lane, "127.0.0.1", self._ports[member])
        return lane

    async def call(self, method: str, path: str, body: bytes | None = None, member: int | None = None) -> Any:
        """One request to a member (the first living one), decoded; `OSError` when it fails."""
        if member is None:
            member = next(i for i, child in enumerate(self._children) if child.alive)
        lane = await self._lane(member)
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        try:
            message = request(method, path, self.apis[member], body)
            lane.ask(message, lambda found: None if answer.done() else answer.set_result(found))
            async with asyncio.timeout(10):
                found = await answer
        finally:
            lane.close()
        if found is None:
            raise ConnectionError(f"{method} {path} failed at m{member + 1}")
        return msgspec.json.decode(found)

    async def settled(self) -> int:
        deadline = time.monotonic() + settle_s_max
        while True:
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                views = [await self.call("GET", "/status?consistency=stale", member=member) for member in range(3)]
                leaders = {view["consensus"]["leader"] for view in views}
                if len(leaders) == 1 and leaders != {None}:
                    for member in range(3):
                        await self.call("PUT", "/v1/kv/settled", BODY, member)
                    return int(leaders.pop()[1:]) - 1
            if time.monotonic() > deadline:
                raise TimeoutError(f"tenure does not settle: {self._children[0].log_tail()}")
            await asyncio.sleep(0.05)

    async def consensus_term(self) -> int:
        """Raft's term, which rises with every change of the consensus leader."""
        return int((await self.call("GET", "/status"))["consensus"]["term"])

    def pids(self) -> list[int]:
        return [child.pid for child in self._children]

    def kill(self, member: int) -> None:
        self._children[member].signal(signal.SIGKILL)

    def freeze(self, member: int) -> None:
        self._children[member].signal(signal.SIGSTOP)

    async def mend(self, member: int) -> None:
        child = self._children[member]
        child.signal(signal.SIGCONT)
        if not child.alive:
            child.reap()
            child.start()
        await self.settled()

    def rss_mb(self) -> list[float]:
        return [child.rss_mb() for child in self._children]

    def cpu_s(self) -> list[float]:
        return [child.cpu_s() for child in self._children]

    def put(self, number: int) -> bytes:
        return request("PUT", f"/v1/kv/bench/{number % KEYS}", self.apis[0], BODY)

    def get(self, number: int) -> bytes:
        return request("GET", f"/v1/kv/bench/{number % KEYS}", self.apis[0])

    async def put_lane(self, member: int) -> Lane:
        return await self._lane(member)

    async def get_lane(self, member: int) -> Lane:
        if not self._is_filled:  # a key that nobody wrote is 404, which counts as a failure
            self._is_filled = True
            await asyncio.gather(*(self._fill(member, first) for first in range(FILLERS)))
        return await self._lane(member)

    async def _fill(self, member: int, first: int) -> None:
        """Write every FILLERS-th key."""
        lane = await self._lane(member)
        for number in range(first, KEYS, FILLERS):
            written: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
            lane.ask(self.put(number), written.set_result)
            if await written is None:
                raise ConnectionError(f"key {number} was not written")
        lane.close()

    async def open_loop_lane(self, member: int) -> Lane:
        pool = Http1Pool("127.0.0.1", self._ports[member])
        await pool.fill(16)
        return pool

    async def _session(self, member: int) -> str:
        node = f"bench-{next(_counter)}"
        body = msgspec.json.encode({"node": node, "ttl_ms": 60_000, "process": f"{next(_counter):016x}"})
        return str((await self.call("POST", "/v1/sessions", body, member))["session"])

    async def once_lanes(self, member: int, connections: int) -> list[KeepLane]:
        return [
            KeepRest(await self._lane(member), self.apis[member], await self._session(member))
            for _ in range(connections)
        ]

    async def stream_lanes(
        self, member: int, connections: int, sessions: int, stream_each: bool = False
    ) -> list[KeepLane]:
        lanes: list[KeepLane] = []
        for _ in range(connections):
            ids = [await self._session(member) for _ in range(sessions)]
            loop = asyncio.get_running_loop()
            _, lane = await loop.create_connection(
                lambda ids=ids: KeepStream(self.apis[member], ids),  # type: ignore[misc]
                "127.0.0.1",
                self._ports[member],
            )
            await lane.ready
            lanes.append(lane)
        return lanes

    async def office(self, member: int, ttl: str = "500ms") -> TenureOffice:
        office = TenureOffice(self, Path(self._folder.name), ttl)
        await office.open()
        return office
