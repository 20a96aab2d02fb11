"""Clients that never wait: each writes at a steady pace to the member of its node and notes what was acknowledged."""

import asyncio
from contextlib import suppress
from typing import Final

import msgspec
from msgspec import Struct

from bench.http1 import Http1Lane, Http1Pool, request
from lab.ground import Node
from lab.members import LabCluster, LabMember, api_port, body
from lab.switch import now_us

lanes_at_once: Final = 16
tries_max: Final = 20


class Ack(Struct, frozen=True):
    """A write that was acknowledged."""

    key: str
    value: str
    revision: int
    sent_us: int
    answered_us: int


class _Written(Struct):
    revision: int


class _Value(Struct):
    revision: int
    value: msgspec.Raw


_written: Final = msgspec.json.Decoder(_Written)
_value: Final = msgspec.json.Decoder(_Value)


class NodePool(Http1Pool):
    """Connections from within a node to its own member."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.address, api_port)
        self._node = node

    async def _open(self) -> Http1Lane:
        loop = asyncio.get_running_loop()
        opened = self._node.socket()
        opened.setblocking(False)
        try:
            await loop.sock_connect(opened, (self._node.address, api_port))
        except BaseException:
            opened.close()
            raise
        _, lane = await loop.create_connection(Http1Lane, sock=opened)
        self._lanes.append(lane)
        return lane


class Writer:
    """One client. `failed` counts requests without a good answer: their outcome is unknown."""

    def __init__(self, member: LabMember, label: str, every_ms: float) -> None:
        self.member = member
        self.acks: list[Ack] = []
        self.failed = 0
        self._label = f"{label}/{member.name}"
        self._every_s = every_ms / 1_000
        self._pool = NodePool(member.node)
        self._count = 0
        self._answered = 0
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, lanes: int) -> None:
        """Connect, then write until `stop`."""
        await self._pool.fill(lanes)
        self._task = asyncio.create_task(self._run())

    async def stop(self, patience_s: float) -> None:
        """No more writes; wait a while for the answers that are out."""
        if self._task is not None:
            self._task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self._answered < self._count:
                    self._news.clear()
                    await self._news.wait()
        self._pool.close()

    async def until_answered(self, since_us: int, patience_s: float) -> None:
        """Wait for an acknowledgement of a write sent since then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self.first_after(since_us) is None:
                    self._news.clear()
                    await self._news.wait()

    def first_after(self, since_us: int) -> Ack | None:
        """The acknowledgement that came first, of a write sent since then."""
        later = (ack for ack in self.acks if ack.sent_us >= since_us)
        return min(later, key=lambda ack: ack.answered_us, default=None)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._write()
            due += self._every_s
            await asyncio.sleep(max(0.0, due - loop.time()))

    def _write(self) -> None:
        self._count += 1
        key, value, sent = f"{self._label}/{self._count}", str(self._count), now_us()

        def answered(data: bytes | None) -> None:
            self._answered += 1
            self._news.set()
            if data is None:
                self.failed += 1
            else:
                self.acks.append(Ack(key, value, _written.decode(data).revision, sent, now_us()))

        self._pool.ask(_request(self.member, "PUT", f"/v1/kv/{key}", body(value)), answered)


async def lost(cluster: LabCluster, acks: list[Ack]) -> list[str]:
    """Acknowledged writes that a running member doesn't hold, of members that have applied the same."""
    found: list[str] = []
    for member in cluster.running:
        pool = NodePool(member.node)
        await pool.fill(lanes_at_once)
        gate = asyncio.Semaphore(lanes_at_once)

        async def look(
            ack: Ack, member: LabMember = member, pool: NodePool = pool, gate: asyncio.Semaphore = gate
        ) -> None:
            async with gate:
                held: _Value | None = None
                for _ in range(tries_max):
                    data = await _ask(pool, _request(member, "GET", f"/v1/kv/{ack.key}?consistency=stale"))
                    if data is not None:
                        held = _value.decode(data)
                        break
                if held is None or held.revision != ack.revision or bytes(held.value) != f'"{ack.value}"'.encode():
                    found.append(f"{member.name} holds {held} for {ack}")

        await asyncio.gather(*(look(ack) for ack in acks))
        pool.close()
    return found


async def _ask(pool: NodePool, message: bytes) -> bytes | None:
    answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
    pool.ask(message, lambda data: None if answer.done() else answer.set_result(data))
    return await answer


def _request(member: LabMember, method: str, path: str, data: bytes | None = None) -> bytes:
    credential = f"Authorization: Bearer {member.secret}\r\n"
    return request(method, path, f"{member.node.address}:{api_port}", data, credential)
