"""A small cluster for the SDK's threads: real sockets on loopback, and a state that the test steers.

Several servers share one `Cluster`: as members do, each answers everything. It keeps no rules but those that the SDK
can see: who holds what, which sessions stand, and which numbers of a client session were answered (P9.1).
"""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

Message = dict[str, Any]


class Cluster:
    """What the members agree on."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.next = 10
        self.sessions: dict[str, str] = {}
        self.candidates: dict[str, list[str]] = {}
        self.held: dict[str, tuple[str, int]] = {}
        self.causes: list[tuple[str, str | None]] = []
        """Of the releases, with their reasons."""
        self.terms = 100
        self.answers: dict[tuple[str, int], Message] = {}
        self.executed: list[str] = []
        """Kinds of changes that took effect, in order."""
        self.numbers: dict[str, list[int]] = {}
        """Keepalives received, by session."""
        self.demands: dict[str, Message] = {}
        self.streams: dict[str, ServerConnection] = {}
        self.deaf: set[str] = set()
        """Message types that get no answer."""
        self.refuse_open: Message | None = None

    def grant(self, election: str) -> None:
        """Let the first candidate lead."""
        waiting = self.candidates.get(election, [])
        if election not in self.held and waiting:
            self.terms += 1
            self.held[election] = (waiting[0], self.terms)
            self.push(waiting[0], type="granted", election=election, term=self.terms, fence_token="t")

    def push(self, session: str, **message: Any) -> None:
        stream = self.streams.get(session)
        if stream is not None:
            with suppress(ConnectionClosed):
                stream.send(json.dumps({**message, "session": session}))

    def expire(self, session: str) -> None:
        """The session runs out."""
        with self.lock:
            self.sessions.pop(session, None)
            for election, (holder, _) in list(self.held.items()):
                if holder == session:
                    del self.held[election]
            for waiting in self.candidates.values():
                if session in waiting:
                    waiting.remove(session)

    def answer(self, message: Message, stream: ServerConnection) -> Message | None:
        with self.lock:
            if message["type"] in self.deaf:
                return None
            origin = message.pop("origin", None)
            if origin is not None:
                key = (origin["client"], origin["sequence"])
                if key not in self.answers:
                    self.answers[key] = self.execute(message, stream)
                    self.executed.append(message["type"])
                answer = dict(self.answers[key])
            else:
                answer = self.execute(message, stream)
            if "id" in message:
                answer["id"] = message["id"]
            if message["type"] == "open" and answer["type"] == "session_opened":
                self.streams[answer["session"]] = stream
            return answer

    def execute(self, message: Message, stream: ServerConnection) -> Message:
        session = message.get("session", "")
        election = message.get("election", "")
        if session and session not in self.sessions and message["type"] != "close":
            return {"type": "refused", "code": "unknown_session", "reason": "no such session", **_about(message)}
        match message["type"]:
            case "open_client":
                return {"type": "client_opened", "client": f"1-{message['nonce']}"}
            case "open":
                return self.open(message)
            case "attach":
                self.streams[session] = stream
                return {"type": "session", "session": session}
            case "campaign":
                waiting = self.candidates.setdefault(election, [])
                if session not in waiting:
                    waiting.append(session)
                self.grant(election)
                return {"type": "campaigning", "election": election, "session": session, "priority": 0}
            case "release" | "withdraw":
                self.causes.append((message.get("cause", "released"), message.get("reason")))
                if self.held.get(election, ("", 0))[0] == session:
                    del self.held[election]
                if message["type"] == "withdraw" or message.get("withdraw"):
                    self.candidates[election] = [each for each in self.candidates.get(election, []) if each != session]
                self.grant(election)
                kind = {"release": "released", "withdraw": "withdrawn"}[message["type"]]
                return {"type": kind, "election": election, "session": session, "term": message.get("term", 0)}
            case "close":
                self.expire(session)
                for name in list(self.candidates):
                    self.grant(name)
                return {"type": "session_closed", "session": session}
            case "keep":
                self.numbers.setdefault(session, []).append(message["number"])
                return self.kept(session, message["number"])
            case "read_status":
                return {"type": "status", "members": {}}
            case other:
                return {"type": "refused", "code": "bad_request", "reason": f"what is {other}?"}

    def open(self, message: Message) -> Message:
        if self.refuse_open is not None:
            return {"type": "refused", **self.refuse_open}
        if message["node"] in self.sessions.values():
            return {"type": "refused", "code": "node_in_use", "reason": "in use", "retry_after_ms": 20}
        self.next += 1
        session = f"{self.next}-{message['process']}"
        self.sessions[session] = message["node"]
        return {"type": "session_opened", "session": session, "node": message["node"], "ttl_ms": message["ttl_ms"]}

    def kept(self, session: str, number: int) -> Message:
        leases = [
            {"election": name, "term": term, "fence_token": f"t1.{name}.{term}.{'0' * 32}", "ttl_ms": 1_000}
            for name, (holder, term) in self.held.items()
            if holder == session
        ]
        demands = [demand for demand in self.demands.values() if self.held.get(demand["election"], ("",))[0] == session]
        return {"type": "kept", "session": session, "number": number, "leases": leases, "demands": demands}


def _about(message: Message) -> Message:
    return {name: message[name] for name in ("session", "number") if name in message and "id" not in message}


class Member:
    """One server of the cluster."""

    def __init__(self, cluster: Cluster, port: int = 0, secret: str | None = None) -> None:
        self.cluster = cluster
        self.connections: list[ServerConnection] = []
        self.frozen = False
        self._secret = secret
        self._server: Server = serve(
            self._serve,
            "127.0.0.1",
            port,
            subprotocols=[Subprotocol("tenure.v1")],
            process_request=self._admit,
            compression=None,
        )
        self.port: int = self._server.socket.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if self._secret is not None and request.headers.get("Authorization") != f"Bearer {self._secret}":
            return connection.respond(401, "a credential is needed\n")
        return None

    def _serve(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        try:
            for text in connection:
                if self.frozen:
                    continue
                answer = self.cluster.answer(json.loads(text), connection)
                if answer is not None:
                    connection.send(json.dumps(answer))
        except ConnectionClosed:
            pass

    def die(self) -> None:
        """As kill -9 shows to the other side: every connection is closed, nobody listens."""
        self._server.shutdown()
        for connection in self.connections:
            with suppress(OSError):  # its own thread closes it meanwhile
                connection.socket.shutdown(socket.SHUT_RDWR)
            connection.recv_events_thread.join()
        self._thread.join()


@contextmanager
def members(count: int, secret: str | None = None) -> Iterator[tuple[Cluster, list[Member]]]:
    cluster = Cluster()
    listed = [Member(cluster, secret=secret) for _ in range(count)]
    try:
        yield cluster, listed
    finally:
        for member in listed:
            member.die()
