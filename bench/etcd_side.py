"""etcd as a side: three members as child processes, asked by its own gRPC API (v3).

Protobuf is written by hand: the few messages here have a handful of fields (rpc.proto of etcd 3.4).
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.http2 import Http2Lane, grpc
from bench.processes import Child, scratch
from bench.sides import KeepLane, Lane
from tenure.cli.demo_processes import free_ports

VALUE: Final = b"v" * 64
KEYS: Final = 1_000
settle_s_max: Final = 30
grant_tries_max: Final = 5


def varint(value: int) -> bytes:
    """Protobuf's base-128 integer."""
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def text(field: int, value: bytes) -> bytes:
    """A length-delimited field."""
    return varint(field << 3 | 2) + varint(len(value)) + value


def number(field: int, value: int) -> bytes:
    """A varint field."""
    return varint(field << 3) + varint(value)


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field, value) of each varint or length-delimited field."""
    position = 0

    def read() -> int:
        nonlocal position
        value, shift = 0, 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    while position < len(message):
        tag = read()
        if tag & 7 == 0:
            yield tag >> 3, read()
        else:
            assert tag & 7 == 2, f"wire type {tag & 7}"
            length = read()
            yield tag >> 3, message[position : position + length]
            position += length


class KeepAliveOnce:
    """One lease on one connection, a stream of its own for each keepalive, as clientv3's KeepAliveOnce does."""

    def __init__(self, lane: Http2Lane, lease: int) -> None:
        self.count = 0
        self._lane = lane
        self._request = grpc(number(1, lease))
        self._going = True

    def begin(self) -> None:
        """Send the first one."""
        self._lane.ask(self._request, self._answered)

    def _answered(self, body: bytes | None) -> None:
        if body is not None:
            self.count += 1
        if self._going and body is not None:
            self.begin()

    def close(self) -> None:
        """Hang up."""
        self._going = False
        self._lane.close()


class KeepAliveStream:
    """Leases on one long-lived LeaseKeepAlive stream, as clientv3 keeps them, or each on a stream of its own."""

    def __init__(self, lane: Http2Lane, leases: list[int], stream_each: bool = False) -> None:
        self.count = 0
        self._lane = lane
        self._stream_each = stream_each
        self._requests = {lease: grpc(number(1, lease)) for lease in leases}

    def begin(self) -> None:
        """Send one keepalive per lease."""
        stream = 0
        for request in self._requests.values():
            if not stream or self._stream_each:
                stream = self._lane.open_stream(self._heard)
            self._lane.say([(stream, request)])

    def _heard(self, messages: list[tuple[int, bytes]]) -> None:
        again = []
        for stream, message in messages:
            # LeaseKeepAliveResponse: header = 1, ID = 2, TTL = 3. Skip the header by its length, then read the id.
            found = dict(fields(message[2 + message[1] :]))
            assert found.get(3, 0) != 0, "a lease has run out"
            again.append((stream, self._requests[found[2]]))  # type: ignore[index]
        self.count += len(again)
        self._lane.say(again)

    def close(self) -> None:
        """Hang up."""
        self._lane.close()


class EtcdOffice:
    """One election by etcd's own election API: a holder and a waiting candidate, each with a lease of the least TTL."""

    def __init__(self, side: "EtcdSide", member: int) -> None:
        self._side = side
        self._member = member
        self._name = b"office-%d" % id(self)
        self._keeping: set[asyncio.Task[None]] = set()

    async def _candidate(self) -> tuple[int, "asyncio.Task[bytes]"]:
        """A lease that is kept, and a Campaign that returns when it is won."""
        lease = await self._side.grant(self._member, 1)
        keeper = asyncio.create_task(self._keep(lease), name=str(lease))
        self._keeping.add(keeper)
        message = text(1, self._name) + number(2, lease) + text(3, b"candidate")
        campaign = self._side.call(self._member, "v3electionpb.Election/Campaign", message, 30)
        return lease, asyncio.create_task(campaign)

    async def _keep(self, lease: int) -> None:
        while True:
            await self._side.call(self._member, "etcdserverpb.Lease/LeaseKeepAlive", number(1, lease))
            await asyncio.sleep(0.3)

    async def _pair(self) -> tuple[int, bytes, "asyncio.Task[bytes]"]:
        """The holder's lease and leader key, and the candidate behind it, known to be waiting."""
        lease, first = await self._candidate()
        key = dict(fields(await first))[2]
        assert isinstance(key, bytes)
        _, waiting = await self._candidate()
        await asyncio.sleep(0.3)
        assert not waiting.done()
        return lease, key, waiting

    async def stepdown_ms(self) -> float:
        """From the holder's Resign until the candidate's Campaign has returned."""
        _, key, waiting = await self._pair()
        start = time.perf_counter()
        _, won = await asyncio.gather(
            self._side.call(self._member, "v3electionpb.Election/Resign", text(1, key)), waiting
        )
        return (time.perf_counter() - start) * 1e3 if won else float("nan")

    async def crash_ms(self) -> float:
        """From the holder's death, at a random place between two keepalives, until the candidate leads."""
        lease, _, waiting = await self._pair()
        await asyncio.sleep(random.random() * 0.3)
        for keeper in self._keeping:
            if keeper.get_name() == str(lease):
                keeper.cancel()
        start = time.perf_counter()
        await waiting
        return (time.perf_counter() - start) * 1e3

    async def lost(self) -> float:
        """Not known: its leases last a second at least, which is another promise."""
        return float("nan")

    async def close(self) -> None:
        """Let the leases run out."""
        for keeper in self._keeping:
            keeper.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)


class EtcdSide:
    """Three etcd members. `heartbeat_ms` and `election_ms` are etcd's two settings of time."""

    def __init__(self, heartbeat_ms: int = 100, election_ms: int = 1_000) -> None:
        self.name = f"etcd {heartbeat_ms}/{election_ms}"
        self._folder = scratch()
        self._clients = free_ports(6)
        self._children = self._members(heartbeat_ms, election_ms)

    def _members(self, heartbeat_ms: int, election_ms: int) -> list[Child]:
        binary = os.environ.get("ETCD_BIN") or shutil.which("etcd")
        assert binary is not None, "no etcd on PATH; `tools/setup.sh bench` installs it, ETCD_BIN names another"
        folder, peers = Path(self._folder.name), self._clients[3:]
        self._clients = self._clients[:3]
        cluster = ",".join(f"m{i + 1}=http://127.0.0.1:{port}" for i, port in enumerate(peers))
        members = []
        for i, (client, peer) in enumerate(zip(self._clients, peers, strict=True)):
            command = [binary, "--name", f"m{i + 1}", "--data-dir", str(folder / f"m{i + 1}"), "--log-level", "error"]
            for option in ("listen", "advertise"):
                command += [f"--{option}-client-urls", f"http://127.0.0.1:{client}"]
            for option in ("--listen-peer-urls", "--initial-advertise-peer-urls"):
                command += [option, f"http://127.0.0.1:{peer}"]
            command += ["--initial-cluster", cluster, "--initial-cluster-state", "new", "--logger", "zap"]
            command += ["--heartbeat-interval", str(heartbeat_ms), "--election-timeout", str(election_ms)]
            members.append(Child(f"m{i + 1}", command, folder))
        return members

    @staticmethod
    def version() -> str:
        """As the binary says it."""
        binary = os.environ.get("ETCD_BIN") or "etcd"
        return subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]

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

    async def _lane(self, member: int, method: str) -> Http2Lane:
        port = self._clients[member]
        _, lane = await asyncio.get_running_loop().create_connection(
            lambda: Http2Lane(f"/{method}", f"127.0.0.1:{port}"), "127.0.0.1", port
        )
        return lane

    async def call(self, member: int, method: str, message: bytes, timeout_s: float = 5) -> bytes:
        """One unary call on a connection of its own; `OSError` when it fails."""
        lane = await self._lane(member, method)
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        try:
            lane.ask(grpc(message), lambda body: None if answer.done() else answer.set_result(body))
            async with asyncio.timeout(timeout_s):  # wait_for may swallow a cancellation (python/cpython#86296)
                body = await answer
        finally:
            lane.close()
        if body is None:
            raise ConnectionError(f"{method} failed at m{member + 1}")
        return body

    async def settled(self) -> int:
        deadline = asyncio.get_running_loop().time() + settle_s_max
        while True:
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                leaders = {await self._leader_as_seen_by(member) for member in range(3)}
                if len(leaders) == 1 and leaders != {None}:
                    for member in range(3):
                        await self.call(member, "etcdserverpb.KV/Put", text(1, b"settled") + text(2, b"x"), 2)
                    return next(each for each in leaders if each is not None)
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(f"{self.name} does not settle: {self._children[0].log_tail()}")
            await asyncio.sleep(0.05)

    async def _leader_as_seen_by(self, member: int) -> int | None:
        """The leader's number, by asking each member for its own id."""
        leader = dict(fields(await self.call(member, "etcdserverpb.Maintenance/Status", b"", 1))).get(4)
        for other in range(3):
            answer = dict(fields(await self.call(other, "etcdserverpb.Maintenance/Status", b"", 1)))
            header = answer[1]
            assert isinstance(header, bytes)
            if leader and dict(fields(header)).get(2) == leader:
                return other
        return None

    async def consensus_term(self) -> int:
        """Field raft_term of the header."""
        answer = dict(fields(await self.call(0, "etcdserverpb.Maintenance/Status", b"")))
        header = answer[1]
        assert isinstance(header, bytes)
        term = dict(fields(header))[4]
        assert isinstance(term, int)
        return term

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
        return grpc(text(1, b"bench/%d" % (number % KEYS)) + text(2, VALUE))

    def get(self, number: int) -> bytes:
        return grpc(text(1, b"bench/%d" % (number % KEYS)))

    async def put_lane(self, member: int) -> Lane:
        return await self._lane(member, "etcdserverpb.KV/Put")

    async def get_lane(self, member: int) -> Lane:
        return await self._lane(member, "etcdserverpb.KV/Range")

    async def open_loop_lane(self, member: int) -> Lane:
        return await self.put_lane(member)

    async def grant(self, member: int, ttl_s: int = 60) -> int:
        """A new lease. Tuned to 10/50 ms, etcd loses its leader now and then on a busy machine: then ask again."""
        for _ in range(grant_tries_max - 1):
            try:
                return await self._grant(member, ttl_s)
            except (OSError, TimeoutError):
                await self.settled()
        return await self._grant(member, ttl_s)

    async def _grant(self, member: int, ttl_s: int) -> int:
        answer = dict(fields(await self.call(member, "etcdserverpb.Lease/LeaseGrant", number(1, ttl_s))))
        lease = answer[2]
        assert isinstance(lease, int)
        return lease

    async def once_lanes(self, member: int, connections: int) -> list[KeepLane]:
        lanes: list[KeepLane] = []
        for _ in range(connections):
            lane = await self._lane(member, "etcdserverpb.Lease/LeaseKeepAlive")
            lanes.append(KeepAliveOnce(lane, await self.grant(member)))
        return lanes

    async def stream_lanes(
        self, member: int, connections: int, sessions: int, stream_each: bool = False
    ) -> list[KeepLane]:
        lanes: list[KeepLane] = []
        for _ in range(connections):
            lane = await self._lane(member, "etcdserverpb.Lease/LeaseKeepAlive")
            lanes.append(KeepAliveStream(lane, [await self.grant(member) for _ in range(sessions)], stream_each))
        return lanes

    async def office(self, member: int) -> EtcdOffice:
        return EtcdOffice(self, member)
