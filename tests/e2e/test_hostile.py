"""What comes from outside and is wrong: bad requests, clients that vanish, garbage between members.

Each is answered or dropped with a reason; meanwhile the members serve, and neither their leader nor its term changes.
All stories share one cluster, as an attacker would.
"""

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Final

import pytest

from tenure.base.ids import BatchNumber, Boot, MemberId
from tenure.wire.frames import Decoder, Frame, Hello, Introduce, Proof, Reject, encode, encode_hello
from tests.e2e.cluster import Cluster, Connection, Member, Method, cluster, eventually, patience_s

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
idle_connections: Final = 200


class Drip:
    """A slow-loris: connections that begin a request and send one byte of it now and then, for ever."""

    beginnings: Final = (
        b"PUT /v1/kv/slow HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n",
        b"PUT /v1/kv/slow HTTP/1.1\r\nHost: a\r\nX-",
        b"POST /v1/sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n",
    )

    def __init__(self, members: list[Member]) -> None:
        self.answers: list[bytes] = []
        self.sockets = [
            (begin, socket.create_connection(("127.0.0.1", member.api), timeout=patience_s))
            for member in members
            for begin in self.beginnings
            for _ in range(5)
        ]
        for begin, one in self.sockets:
            one.sendall(begin)
            one.setblocking(False)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        living = [one for _, one in self.sockets]
        while living and not self._stop.wait(0.2):
            for one in list(living):
                try:
                    answer = one.recv(4096)
                except BlockingIOError:
                    with suppress(OSError):
                        one.send(b"x")
                    continue
                except OSError:
                    answer = b""
                self.answers.append(answer)
                living.remove(one)

    def end(self) -> None:
        self._stop.set()
        self._thread.join()
        for _, one in self.sockets:
            one.close()


@pytest.fixture(name="three", scope="module")
def _three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("hostile")) as made:
        yield made


@pytest.fixture(name="drip", scope="module", autouse=True)
def _drip(three: Cluster) -> Iterator[Drip]:
    """It goes on through all stories of this file, so the long wait for its end costs no time of its own."""
    drip = Drip(three.running)
    yield drip
    drip.end()


@pytest.fixture(autouse=True)
def _unimpressed(three: Cluster) -> Iterator[None]:
    """Whatever the story does: the same processes serve, under the same leader in the same term."""
    leader, term, pids = three.leader(), three.term(), [member.pid for member in three.running]
    yield
    serving(three)
    assert [member.pid for member in three.running] == pids, "a member has died"
    assert (three.leader(), three.term()) == (leader, term), "the leader or its term has changed"
    for member in three.running:
        assert "Traceback" not in member.words(), member.words()


def serving(three: Cluster) -> None:
    for member in three.running:
        written = member.ask("PUT", f"/v1/kv/alive/{member.name}", {"value": 1})
        assert written.status == 200, written.raw
        for other in three.running:
            assert other.ask("GET", f"/v1/kv/alive/{member.name}").data["revision"] >= written.data["revision"]


# --- requests ----------------------------------------------------------------------------------------------------

SESSION: Final = {"node": "a", "ttl_ms": 1000, "process": "0" * 16}
BAD: Final[list[tuple[Method, str, object, int, str]]] = [
    ("PUT", "/v1/kv/a", b"", 400, "bad_request"),
    ("PUT", "/v1/kv/a", b'{"value": ', 400, "bad_request"),
    ("PUT", "/v1/kv/a", b'{"value": "\xff"}', 400, "bad_request"),
    ("PUT", "/v1/kv/a", b'{"value": ' + b"[" * 50_000, 400, "bad_request"),
    ("PUT", "/v1/kv/a", {}, 422, "invalid"),
    ("PUT", "/v1/kv/a", [1], 422, "invalid"),
    ("PUT", "/v1/kv/a", {"value": 1, "extra": 2}, 422, "invalid"),
    ("PUT", "/v1/kv/a", {"value": 1, "if_revision": "1"}, 422, "invalid"),
    ("PUT", "/v1/kv/a", {"value": 1, "if_revision": -1}, 422, "invalid"),
    ("PUT", "/v1/kv/a", {"value": 1, "if_revision": 2**53}, 422, "invalid"),
    ("PUT", "/v1/kv/a", {"value": 1, "if_revision": 1.5}, 422, "invalid"),
    ("PUT", "/v1/kv/a", {"value": 1, "term": 3}, 422, "invalid"),
    ("PUT", "/v1/kv/a", {"value": 1, "election": "orders"}, 422, "invalid"),
    ("PUT", "/v1/kv/a", {"value": 1, "election": "NOT A NAME", "term": 3}, 422, "invalid"),
    ("PUT", "/v1/kv/a", {"value": 1, "election": "orders", "term": "three"}, 422, "invalid"),
    ("PUT", "/v1/kv/a", {"value": 1, "election": "orders", "term": 2**60}, 422, "invalid"),
    ("PUT", "/v1/kv/a", {"value": 1, "election": "nowhere", "term": 3}, 404, "unknown_election"),
    ("PUT", "/v1/kv/leader_status/orders", {"value": 1}, 403, "reserved_key"),
    ("GET", "/v1/kv/no/such/key", None, 404, "unknown_key"),
    ("GET", "/v1/kv/a?consistency=wrong", None, 422, "invalid"),
    ("GET", "/v1/kv/a?unknown=1", None, 422, "invalid"),
    ("GET", "/v1/elections/nowhere", None, 404, "unknown_election"),
    ("GET", "/v1/elections/nowhere/history", None, 404, "unknown_election"),
    ("GET", "/v1/elections/%2e%2e%2fetc", None, 422, "invalid"),
    ("GET", "/v1/sessions/1-0000000000000000", None, 404, "unknown_session"),
    ("POST", "/v1/sessions", {**SESSION, "ttl_ms": "long"}, 422, "invalid"),
    ("POST", "/v1/sessions", {**SESSION, "ttl_ms": 0}, 422, "invalid"),
    ("POST", "/v1/sessions", {**SESSION, "ttl_ms": 10**12}, 422, "invalid"),
    ("POST", "/v1/sessions", {**SESSION, "node": "../a"}, 422, "invalid"),
    ("POST", "/v1/sessions", {**SESSION, "process": "xyz"}, 422, "invalid"),
    ("POST", "/v1/sessions", {**SESSION, "meta": {"a": 1}}, 422, "invalid"),
    ("POST", "/v1/sessions/1-0000000000000000/keepalive", {"number": 1}, 404, "unknown_session"),
    ("POST", "/v1/sessions/1-0000000000000000/keepalive", {"number": -1}, 422, "invalid"),
    ("POST", "/v1/elections/orders/campaign", {"session": "1-0000000000000000"}, 404, "unknown_session"),
    ("POST", "/v1/elections/orders/campaign", {"session": "nonsense"}, 422, "invalid"),
    ("POST", "/leadership/stepdown", {"election": "nowhere"}, 404, "unknown_election"),
    ("POST", "/leadership/stepdown", {"election": "nowhere", "grace_ms": -5}, 422, "invalid"),
    ("POST", "/leadership/stepdown", {"successor": "nobody"}, 404, "unknown_member"),
    ("POST", "/fence-token/validate", {"election": "orders"}, 422, "invalid"),
    ("POST", "/fence-token/validate", {"token": "garbage"}, 422, "invalid"),
    ("POST", "/fence-token/validate", {"token": "t1.orders.x.y"}, 422, "invalid"),
    ("POST", "/fence-token/validate", {"election": "orders", "term": -1}, 422, "invalid"),
    ("POST", "/fence-token/validate", {"election": "orders", "term": None}, 422, "invalid"),
]


def test_each_bad_request_is_answered_by_every_member_with_its_status_and_code(three: Cluster) -> None:
    wrong: list[tuple[object, ...]] = []
    for member in three.running:
        connection = Connection(member.api)
        for method, path, body, status, code in BAD:
            answer = connection.ask(method, path, body)
            kind = answer.headers.get("content-type")
            if (answer.status, answer.code, kind) != (status, code, "application/problem+json"):
                wrong.append((member.name, method, path, str(body)[:60], status, code, answer.status, answer.raw[:200]))
            elif status == 422 and not answer.data.get("field") and body != [1]:
                wrong.append((member.name, method, path, str(body)[:60], "no field", answer.raw[:200]))
        connection.close()
    assert not wrong, "\n".join(map(str, wrong))


def test_oversized_bodies_are_refused_announced_or_not(three: Cluster) -> None:
    for member in three.running:
        value = member.ask("PUT", "/v1/kv/big", {"value": "x" * (1024 * 1024 + 1)})
        assert (value.status, value.code) == (413, "too_large")
        fits = member.ask("PUT", "/v1/kv/big", {"value": "x" * (1024 * 1024 - 2)})
        assert fits.status == 200, "1 MiB is allowed"
        announced = talk(member, b"PUT /v1/kv/big HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n")
        assert announced.startswith(b"HTTP/1.1 413"), announced[:200]
        with open_socket(member) as endless:
            endless.sendall(b"PUT /v1/kv/big HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            with suppress(OSError):
                for _ in range(40):
                    endless.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            answer = b""
            with suppress(OSError):
                answer = endless.recv(4096)
        assert answer.startswith(b"HTTP/1.1 413"), answer[:200]
        head = talk(member, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Long: " + b"y" * 100_000 + b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 431"), head[:200]
        garbage = talk(member, os.urandom(64).replace(b"\n", b"") + b"\r\n\r\n")
        assert garbage.startswith(b"HTTP/1.1 400"), garbage[:200]


def open_socket(member: Member, port: int | None = None) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port or member.api), timeout=patience_s)


def talk(member: Member, data: bytes) -> bytes:
    """Send, and read until the member closes, or has said enough."""
    with open_socket(member) as connection:
        with suppress(OSError):
            connection.sendall(data)
        heard = b""
        with suppress(OSError):
            while len(heard) < 4096:
                more = connection.recv(4096)
                if not more:
                    break
                heard += more
        return heard


def vanish(connection: socket.socket) -> None:
    """Gone without a goodbye: the kernel answers with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_clients_that_vanish_in_mid_answer_and_in_mid_request_hurt_nobody(three: Cluster) -> None:
    three["m1"].ask("PUT", "/v1/kv/large", {"value": "x" * 1_000_000})
    body = json.dumps({"value": "y" * 50_000}).encode()
    put = b"PUT /v1/kv/vanish HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    upgrade = (
        b"GET /v1/stream HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Protocol: tenure.v1\r\n\r\n"
    )
    sent: list[tuple[bytes, int]] = [
        (b"GET /v1/kv/large HTTP/1.1\r\nHost: a\r\n\r\n", 100),
        (b"GET /v1/kv/large HTTP/1.1\r\nHost: a\r\n\r\n", 0),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 10),
        (b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n" * 30, 5),
        (b"GET /v1/events HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 0\r\n\r\n", 50),
        (b"GET /v1/elections/nowhere?after=1&wait_ms=10000 HTTP/1.1\r\nHost: a\r\n\r\n", 0),
        (put, 0),
        (put * 20, 0),
        (put[: len(put) // 2], 0),
        (put[:20], 0),
        (upgrade, 30),
        (upgrade[:-7], 0),
        (upgrade + os.urandom(50), 30),
    ]
    for member in three.running:
        for _ in range(3):
            for data, wanted in sent:
                connection = open_socket(member)
                with suppress(OSError):
                    connection.sendall(data)
                    if wanted:
                        connection.recv(wanted)
                vanish(connection)


def test_readers_that_do_not_read_keep_nobody_waiting(three: Cluster) -> None:
    leader = three[three.leader()]
    leader.ask("PUT", "/v1/kv/medium", {"value": "x" * 20_000})
    with ExitStack() as stack:
        for member in three.running:
            for _ in range(10):
                reader = stack.enter_context(open_socket(member))
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                reader.sendall(b"GET /v1/events HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 0\r\n\r\n")
                asker = stack.enter_context(open_socket(member))
                asker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                asker.setblocking(False)
                with suppress(BlockingIOError):
                    for _ in range(200):
                        asker.send(b"GET /v1/kv/medium HTTP/1.1\r\nHost: a\r\n\r\n" * 10)
        connection = Connection(leader.api)
        for number in range(200):
            assert connection.ask("PUT", f"/v1/kv/meanwhile/{number % 7}", {"value": number}).status == 200
        connection.close()


def test_hundreds_of_idle_connections_change_nothing(three: Cluster) -> None:
    with ExitStack() as stack:
        for member in three.running:
            for port in (member.api, member.peer):
                for _ in range(idle_connections):
                    stack.enter_context(open_socket(member, port))
        serving(three)
        for member in three.running:
            connection = Connection(member.api)
            for number in range(100):
                assert connection.ask("PUT", "/v1/kv/meanwhile", {"value": number}).status == 200
            connection.close()


# --- between members ---------------------------------------------------------------------------------------------


def heard_on_peer_port(member: Member, data: bytes) -> tuple[list[Frame], bool]:
    """What the member said, and whether it closed the connection itself."""
    decoder = Decoder()
    frames: list[Frame] = []
    with open_socket(member, member.peer) as connection:
        with suppress(OSError):
            connection.sendall(data)
        try:
            while True:
                heard = connection.recv(65_536)
                if not heard:
                    return frames, True
                frames += decoder.feed(heard)
        except TimeoutError:
            return frames, False
        except OSError:
            return frames, True


def frame(payload: bytes, version: int = 1, size: int | None = None) -> bytes:
    return struct.pack(">IB", len(payload) + 1 if size is None else size, version) + payload


STRANGER: Final = Hello(MemberId("f" * 16), "m9", Boot("0" * 16), cluster=("m9=127.0.0.1:1",), nonce="0" * 32)
GARBAGE: Final[list[tuple[str, bytes, str]]] = [
    ("an HTTP request", b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n", "bytes announced"),
    ("noise", bytes(range(255, 0, -1)) * 20, "bytes announced"),
    ("an oversized frame", frame(b"", size=2**32 - 1), "bytes announced"),
    ("a frame too large before the proof", frame(b"x", size=1024 * 1024), "bytes announced"),
    ("another version", frame(b"\x90", version=9), "protocol version 9"),
    ("an empty frame", frame(b"", size=1), "without content"),
    ("no msgpack", frame(b"\xc1\xc1\xc1"), "undecodable"),
    ("an unknown kind", frame(b"\x92\xa7unknown\x01"), "undecodable"),
    ("a kind out of turn", encode(Proof(BatchNumber(0), b"")), "not expected"),
    ("a hello that is none", encode(Introduce(b"\x01\x02")), "hello"),
]


@pytest.mark.parametrize(("what", "data", "says"), GARBAGE, ids=[what for what, _, _ in GARBAGE])
def test_garbage_on_the_peer_port_is_dropped_with_a_reason(three: Cluster, what: str, data: bytes, says: str) -> None:
    for member in three.running:
        frames, closed = heard_on_peer_port(member, data)
        assert closed, f"{member.name} keeps a connection that sent {what}"
        reasons = [each.reason for each in frames if isinstance(each, Reject)]
        assert any(says in reason for reason in reasons), f"{what}: {frames}"


def test_half_a_frame_and_half_a_handshake_are_dropped_in_time(three: Cluster) -> None:
    introduce = encode(Introduce(encode_hello(STRANGER)))
    halves = (introduce[:3], introduce[: len(introduce) // 2], introduce)
    with ThreadPoolExecutor(9) as pool:  # at once, because each waits for the member's patience to end
        heard = [pool.submit(heard_on_peer_port, member, half) for member in three.running for half in halves]
    for one in heard:
        frames, closed = one.result()
        assert closed
        assert any(isinstance(each, Reject) and "in time" in each.reason for each in frames), frames


def test_who_says_it_is_a_member_of_no_cluster_gets_no_further_than_the_handshake(three: Cluster) -> None:
    """Without a secret anybody may finish the handshake; without a seat nothing of it counts."""
    stranger = encode(Introduce(encode_hello(STRANGER))) + encode(Proof(BatchNumber(0), b""))
    for member in three.running:
        frames, closed = heard_on_peer_port(member, stranger + b"\x00" * 100)
        assert closed, f"{member.name} keeps a stranger that sends nonsense: {frames}"
        told = member.status()
        assert told is not None
        assert "m9" not in told["members"], told["members"]
        eventually(lambda: "f" * 16 in member.words(), f"{member.name}'s log names the stranger")  # noqa: B023 - at once


def test_a_slow_client_is_told_that_its_time_is_over_and_nobody_waited_for_it(three: Cluster, drip: Drip) -> None:
    """The last story of the file: the drip has gone on through all of them."""
    eventually(lambda: len(drip.answers) == len(drip.sockets), "slow clients are answered", 3 * patience_s)
    told = [answer[:12] for answer in drip.answers]
    assert told.count(b"HTTP/1.1 408") >= len(told) // 2, told
