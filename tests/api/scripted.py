"""An engine that answers from a script, and a server around it: what the API does, seen apart from any real engine."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import uvloop

from tenure.api import App, Limits, Served, ServerInfo, build, server_of
from tenure.base.ids import ElectionName, NodeId, Nonce, SessionId, Term
from tenure.leadership.backups import Backup
from tenure.leadership.engine import (
    Answer,
    AnyRequest,
    AnyResult,
    Compacted,
    ConsensusView,
    ElectionConfig,
    ElectionView,
    Keepalive,
    Kept,
    KvGet,
    KvPut,
    KvValue,
    KvWritten,
    Lease,
    MemberView,
    Noted,
    OpenSession,
    Origin,
    ReadElection,
    ReadSession,
    Refused,
    Request,
    SessionOpened,
    SessionView,
    Status,
    StatusReport,
    Transition,
    Validate,
    Validated,
)

R = TypeVar("R")

SESSION = SessionId("17-0123456789abcdef")
ORDERS = ElectionName("orders")
TERM = Term(123_713_848_344_577)
OWNER = "0123456789abcdef0123456789abcdef"
TOKEN = f"t1.orders.{TERM}.{OWNER}"


def election_view(revision: int = 5, node: str | None = "a", term: int = TERM) -> ElectionView:
    return ElectionView(
        ORDERS, None if node is None else NodeId(node), Term(term), SESSION, OWNER, None, 2_000,
        "vacant" if node is None else "held", (), False, ElectionConfig(), revision,
    )  # fmt: skip


def report(*, quorum: bool = True, leader: str | None = "m1") -> StatusReport:
    member: Any = MemberView("00000000000000a1", "leader", None, "127.0.0.1:1", 9, 3, 0.2, "ok")  # type: ignore[arg-type]
    return StatusReport(
        "00000000000000c1", "m1", "serving", quorum, ConsensusView(leader, 4, 9, 9, 0), {"m1": member}, {},
        {"orders": election_view()},
    )  # fmt: skip


@dataclass
class Scripted:
    """`script` answers what the defaults don't; everything asked is kept in `asked`."""

    script: Callable[[AnyRequest], AnyResult | None] = lambda request: None
    asked: list[tuple[AnyRequest, Origin | None]] = field(default_factory=list)
    held: list[tuple[AnyRequest, Answer]] = field(default_factory=list)
    is_holding: bool = False
    """Answers wait for `let_go`."""
    values: dict[str, bytes] = field(default_factory=dict)
    history: list[Transition] = field(default_factory=list)
    first_kept: int = 1
    """The oldest number that a watcher can still get."""
    news: asyncio.Condition | None = None
    nobody_is_served: Refused | None = None
    nonces: tuple[Nonce, ...] = (Nonce("a" * 16), Nonce("b" * 16))
    """The cluster's lineage."""
    backups: list[bool] = field(default_factory=list)
    """Of each call for the state as a whole, whether it may be stale."""
    backed_up: Backup | None = None

    def _answer(self, request: AnyRequest) -> AnyResult:
        scripted = self.script(request)
        if scripted is not None:
            return scripted
        match request:
            case Keepalive(session, number):
                return Kept(session, number, (Lease(ORDERS, TERM, TOKEN, 3_000),))
            case KvPut(key, value):
                self.values[key] = value
                return KvWritten(key, len(self.asked), None, None)
            case KvGet(key):
                found = self.values.get(key)
                return Refused("unknown_key", "no such key", "key") if found is None else KvValue(key, found, 7)
            case Status():
                return report()
            case ReadElection(election):
                known = election == "orders"
                return election_view() if known else Refused("unknown_election", f"no election {election}", "election")
            case OpenSession(node, ttl_ms):
                return SessionOpened(SESSION, node, ttl_ms)
            case ReadSession(session):
                return SessionView(session, NodeId("a"), 3_000, (), (), {})
            case Validate(_, term):
                return Validated(term == TERM, "current" if term == TERM else "stale", TERM)
            case _:
                return Noted()

    async def ask(self, request: Request[R], origin: Origin | None = None) -> R | Refused:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.submit(request, origin, done.set_result)  # type: ignore[arg-type]
        result: R | Refused = await done
        return result

    def submit(self, request: AnyRequest, origin: Origin | None, answer: Answer) -> None:
        self.asked.append((request, origin))
        if self.is_holding:
            self.held.append((request, answer))
        else:
            answer(self._answer(request))

    def let_go(self) -> None:
        held, self.held, self.is_holding = self.held, [], False
        for request, answer in held:
            answer(self._answer(request))

    async def watch(self, after: int | None) -> AsyncIterator[tuple[Transition, ...] | Compacted]:
        if self.news is None:
            self.news = asyncio.Condition()
        at = self.last_transition() if after is None else after
        while True:
            if at + 1 < self.first_kept:
                yield Compacted(self.first_kept)
                return
            batch = tuple(one for one in self.history if one.number > at)
            if batch:
                at = batch[-1].number
                yield batch
            else:
                async with self.news:
                    await self.news.wait()

    async def backup(self, stale: bool) -> Backup | Refused:
        self.backups.append(stale)
        return self.backed_up or Refused("no_quorum", "2 of 3 are missing")

    def lineage(self) -> tuple[Nonce, ...]:
        return self.nonces

    def last_transition(self) -> int:
        return self.history[-1].number if self.history else 0

    def unserving(self) -> Refused | None:
        return self.nobody_is_served

    async def tell(self, *transitions: Transition) -> None:
        self.history += transitions
        if self.news is None:
            self.news = asyncio.Condition()
        async with self.news:
            self.news.notify_all()


def transition(number: int, kind: Any = "granted", **more: Any) -> Transition:
    base = Transition(number, number + 100, kind, 1_764_000_000_000)
    return Transition(**{name: getattr(base, name) for name in base.__struct_fields__} | more)


@dataclass
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """uvicorn in a thread of its own with a port of its own; `do` runs something in its loop."""

    def __init__(self, engine: Served, info: ServerInfo, limits: Limits | None = None) -> None:
        self.app: App = build(engine, info, limits=limits)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.uvicorn = server_of(self.app)
        self.loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(30)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            self.loop = runner.get_loop()
            self.loop.call_soon(self._ready.set)
            runner.run(self.uvicorn.serve([self.socket]))

    def do(self, what: Callable[[], Any]) -> Any:
        async def run() -> Any:
            result = what()
            return await result if asyncio.iscoroutine(result) else result

        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(30)

    def until(self, holds: Callable[[], bool]) -> None:
        """Turn after turn of the server's loop until something holds (the test's time-out is the bound)."""

        async def wait() -> None:
            while not holds():  # noqa: ASYNC110 - what is waited for are plain fields of the server
                await asyncio.sleep(0.001)

        self.do(wait)

    def stop(self) -> None:
        self.uvicorn.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, *, cold: bool = False
    ) -> Answered:
        """One request on a connection of its own; `cold` keeps it off the hot path."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = dict(headers or {}) | ({"TE": "trailers"} if cold else {})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answered(response.status, found, response.read())

    def dial(self) -> socket.socket:
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return raw


INFO = ServerInfo("m1", "0.1.0")


@contextlib.contextmanager
def serving(engine: Served | None = None, info: ServerInfo = INFO, **limits: int) -> Iterator[Server]:
    server = Server(engine or Scripted(), info, replace(Limits(), **limits))
    try:
        yield server
    finally:
        server.stop()
