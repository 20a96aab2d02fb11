"""The stream: each keepalive its own acknowledgement, pushes for attached sessions, limits, and lost clients."""

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tenure.api.info import ServerInfo
from tenure.leadership.engine import Disconnected, Keepalive, KvPut, OpenSession, Refused, Sequenced, SessionOpened
from tests.api.scripted import SESSION, TERM, TOKEN, Scripted, Server, serving, transition
from tests.api.test_frames import masked

HEAD = (
    b"GET /v1/stream HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: tenure.v1\r\n\r\n"
)


class Client:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def say(self, message: dict[str, Any] | str | bytes) -> None:
        self.socket.send(json.dumps(message, separators=(",", ":")) if isinstance(message, dict) else message)

    def hear(self) -> Any:
        return json.loads(self.socket.recv(timeout=30))

    def ask(self, message: dict[str, Any] | str | bytes) -> Any:
        self.say(message)
        return self.hear()

    def closed(self) -> int:
        with suppress(ConnectionClosed):
            for _ in self.socket:
                pass
        assert self.socket.close_code is not None
        return self.socket.close_code


@contextmanager
def streaming(server: Server, **more: Any) -> Iterator[Client]:
    url = f"ws://127.0.0.1:{server.port}/v1/stream"
    with connect(url, subprotocols=["tenure.v1"], proxy=None, **more) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "tenure.v1"
        yield Client(socket)


def keep(number: int, session: str = SESSION) -> dict[str, Any]:
    return {"type": "keep", "session": session, "number": number}


def test_each_keepalive_is_acknowledged_under_its_own_number(engine: Scripted, server: Server) -> None:
    with streaming(server) as client:
        sessions = [f"{index}-0123456789abcdef" for index in range(64)]
        for number in range(1, 4):
            for session in sessions:
                client.say(keep(number, session))
        kept = [client.hear() for _ in range(3 * 64)]
    assert [(one["session"], one["number"]) for one in kept] == [(s, n) for n in range(1, 4) for s in sessions]
    assert {one["type"] for one in kept} == {"kept"}
    assert kept[0]["leases"] == [{"election": "orders", "term": TERM, "fence_token": TOKEN, "ttl_ms": 3000}]
    assert all(isinstance(request, Keepalive) for request, _ in engine.asked)


def test_a_refused_keepalive_says_which_one(engine: Scripted, server: Server) -> None:
    engine.script = lambda request: Refused("unknown_session", "it expired", "session")
    with streaming(server) as client:
        refused = client.ask(keep(7))
        assert (refused["type"], refused["code"]) == ("refused", "unknown_session")
        assert (refused["session"], refused["number"]) == (SESSION, 7)
        other_order = client.ask(f'{{"number": 8, "session": "{SESSION}", "type": "keep"}}')
        assert (other_order["session"], other_order["number"]) == (SESSION, 8)


@pytest.mark.parametrize(("field", "value"), [("number", 0), ("health", 101), ("lag", -1)])
def test_a_keepalive_out_of_range_is_refused_by_the_field(server: Server, field: str, value: int) -> None:
    """A keeper takes a refused number for one that a later keepalive overtook, and tells nobody."""
    with streaming(server) as client:
        refused = client.ask({**keep(7), field: value})
        assert (refused["code"], refused["field"]) == ("invalid", field)


def test_open_attaches_and_a_grant_is_pushed(engine: Scripted, server: Server) -> None:
    origin = {"type": "seq", "client": "c", "sequence": 3, "answered_below": 2}
    with streaming(server) as client:
        opening = {"type": "open", "id": 1, "node": "a", "ttl_ms": 3000, "process": "0123456789abcdef"}
        opened = client.ask(opening | {"origin": origin})
        assert (opened["type"], opened["id"], opened["session"]) == ("session_opened", 1, SESSION)
        assert isinstance(engine.asked[0][0], OpenSession)
        assert engine.asked[0][1] == Sequenced("c", 3, 2)
        granted = transition(1, election="orders", session=SESSION, term=TERM, fence_token=TOKEN, cause="first")
        server.do(lambda: engine.tell(transition(0, "kv", key="x"), granted))
        push = client.hear()
        assert push == {
            "type": "granted", "session": SESSION, "election": "orders", "term": TERM, "fence_token": TOKEN,
        }  # fmt: skip
        demand = transition(2, "stepdown", election="orders", session=SESSION, term=TERM, successor="b", grace_ms=500)
        ended = transition(3, "ended", election="orders", session=SESSION, term=TERM, cause="stepdown")
        server.do(lambda: engine.tell(demand, ended, transition(4, "session_expired", session=SESSION)))
        assert (client.hear()["grace_ms"], client.hear()["cause"]) == (500, "stepdown")
        assert client.hear() == {"type": "session_gone", "session": SESSION, "cause": "expired"}


def test_a_lost_stream_is_told_for_each_session_that_was_still_its_own(engine: Scripted, server: Server) -> None:
    other = "18-0123456789abcdef"
    with streaming(server) as second:
        with streaming(server) as first:
            for session in (SESSION, other):
                attached = first.ask({"type": "attach", "id": 3, "session": session})
                assert (attached["type"], attached["id"]) == ("session", 3)
            second.ask({"type": "attach", "id": 4, "session": other})
        server.until(lambda: any(isinstance(request, Disconnected) for request, _ in engine.asked))
        server.until(lambda: server.app.door.streams == 1)
        assert [one for one, _ in engine.asked if isinstance(one, Disconnected)] == [Disconnected(SESSION)]


def test_a_session_opened_for_a_client_that_left_is_told_as_lost(engine: Scripted, server: Server) -> None:
    engine.is_holding = True
    with streaming(server) as client:
        client.say({"type": "open", "id": 1, "node": "a", "ttl_ms": 3000, "process": "0123456789abcdef"})
        server.until(lambda: len(engine.held) == 1)
    server.until(lambda: server.app.door.streams == 0)
    server.do(engine.let_go)
    assert engine.asked[-1][0] == Disconnected(SESSION)
    assert server.do(lambda: server.app.door.in_flight) == 0


def test_a_shutdown_says_so_and_tells_no_session_as_lost(engine: Scripted) -> None:
    with serving(engine) as server, streaming(server) as client:
        client.ask({"type": "attach", "id": 3, "session": SESSION})
        server.uvicorn.should_exit = True
        assert client.closed() == 1001
    assert not [one for one, _ in engine.asked if isinstance(one, Disconnected)]


def seq(sequence: int, answered_below: int, client: str = "17-0123456789abcdef") -> dict[str, object]:
    return {"type": "seq", "client": client, "sequence": sequence, "answered_below": answered_below}


def keyed(key: str) -> dict[str, object]:
    return {"type": "key", "principal": "a", "key": key, "digest": "d"}


BAD: list[tuple[Any, str, str | None]] = [
    ({"type": "keep", "session": SESSION, "number": -1}, "invalid", "number"),
    ({"type": "keep", "session": SESSION, "number": "1"}, "invalid", "number"),
    ({"type": "keep", "session": SESSION}, "invalid", "number"),
    ({"type": "keep", "session": SESSION, "number": 1, "helth": 3}, "invalid", "helth"),
    ({"type": "keep", "session": "x", "number": 1}, "invalid", "session"),
    ({"type": "campaign", "id": 2, "session": SESSION, "election": "Orders"}, "invalid", "election"),
    ({"type": "campaign", "id": 2, "session": SESSION}, "invalid", "election"),
    ({"type": "nonsense", "id": 2}, "invalid", "type"),
    ({"id": 2}, "invalid", "type"),
    ({"type": "attach", "id": 2}, "invalid", "session"),
    ({"type": "attach", "id": 2, "session": "x"}, "invalid", "session"),
    ({"type": "observe", "id": 2, "after": -1}, "invalid", "after"),
    ({"type": "disconnected", "id": 2, "session": SESSION}, "invalid", "type"),
    ({"type": "campaign", "id": "x"}, "invalid", "id"),
    ({"type": "close", "id": 2, "session": SESSION, "origin": {"type": "seq"}}, "invalid", "origin"),
    # what an origin may hold is checked too: it goes into the log and stays in the state
    ({"type": "kv_put", "id": 2, "key": "a", "value": 1, "origin": seq(10**30, 0)}, "invalid", "origin.sequence"),
    ({"type": "kv_put", "id": 2, "key": "a", "value": 1, "origin": seq(-1, -1)}, "invalid", "origin.sequence"),
    ({"type": "kv_put", "id": 2, "key": "a", "value": 1, "origin": seq(3, 4)}, "invalid", "origin.answered_below"),
    ({"type": "kv_put", "id": 2, "key": "a", "value": 1, "origin": keyed("k" * 256)}, "invalid", "origin.key"),
    ({"type": "kv_put", "id": 2, "key": "a", "value": 1, "origin": seq(1, 1, "c" * 256)}, "invalid", "origin.client"),
    ({"type": "keep", "session": SESSION, "number": 0}, "invalid", "number"),
    ("[1]", "invalid", None),
]


def test_bad_messages_are_refused_by_field_and_the_stream_goes_on(engine: Scripted, server: Server) -> None:
    with streaming(server) as client:
        for message, code, field in BAD:
            refused = client.ask(message)
            assert (refused["type"], refused["code"], refused.get("field")) == ("refused", code, field), message
            if isinstance(message, dict) and message.get("id") == 2:
                assert refused["id"] == 2, message
        assert not engine.asked
        assert client.ask(keep(1))["type"] == "kept"


@pytest.mark.parametrize(
    ("message", "code"),
    [("{", 1007), ("nonsense", 1007), (b"binary", 1003), ("x" * 70_000, 1009), ('{"a":' + "[" * 9_000, 1007)],
)
def test_what_is_no_message_closes_the_stream_with_its_reason(server: Server, message: str | bytes, code: int) -> None:
    with streaming(server) as client:
        client.say(message)
        assert client.closed() == code
    assert server.ask("GET", "/livez").status == 200


def test_kv_speaks_json_on_the_stream(engine: Scripted, server: Server) -> None:
    with streaming(server) as client:
        written = client.ask({"type": "kv_put", "id": 5, "key": "a", "value": {"b": [1]}})
        assert (written["type"], written["id"]) == ("kv_written", 5)
        assert engine.values["a"] == b'{"b":[1]}'
        assert client.ask({"type": "kv_get", "id": 6, "key": "a"})["value"] == {"b": [1]}
        engine.script = lambda request: (
            Refused("stale_term", "over", "term", None, 9) if isinstance(request, KvPut) else None
        )
        refused = client.ask({"type": "kv_put", "id": 7, "key": "a", "value": 1, "election": "orders", "term": 4})
        assert (refused["id"], refused["code"], refused["current_term"]) == (7, "stale_term", 9)


def test_observing_shows_each_transition_once_in_order(engine: Scripted, server: Server) -> None:
    server.do(lambda: engine.tell(*(transition(number) for number in range(1, 1_001))))
    with streaming(server) as client:
        assert client.ask({"type": "observe", "id": 4, "after": 200}) == {"type": "noted", "id": 4}
        found = [client.hear() for _ in range(800)]
        assert [one["number"] for one in found] == list(range(201, 1_001))
        assert (found[0]["type"], found[0]["kind"]) == ("transition", "granted")
        assert found[0]["at"] == "2025-11-24T16:00:00.000Z"
        assert client.ask({"type": "observe", "id": 9})["code"] == "invalid"
    server.until(lambda: server.app.door.watchers == 0)
    engine.first_kept = 900
    with streaming(server) as client:
        client.ask({"type": "observe", "id": 4, "after": 3})
        assert client.hear() == {"type": "compacted", "next_number": 900}
        assert [client.hear()["number"] for _ in range(101)] == list(range(900, 1_001))


def test_unanswered_messages_are_limited(engine: Scripted) -> None:
    engine.is_holding = True
    with serving(engine, stream_in_flight_max=2) as server, streaming(server) as client:
        client.say(keep(1))
        client.say(keep(2))
        refused = client.ask(keep(3))
        assert (refused["code"], refused["number"]) == ("too_many", 3)
        assert client.ask({"type": "close", "id": 8, "session": SESSION})["code"] == "too_many"
        server.do(engine.let_go)
        assert [client.hear()["number"] for _ in range(2)] == [1, 2]


def test_a_reader_that_does_not_read_is_dropped_and_not_kept_in_memory(engine: Scripted) -> None:
    engine.history = [transition(number, "kv", key="k" * 400) for number in range(1, 40_001)]
    with serving(engine, stream_buffer_bytes_max=200_000) as server, server.dial() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        raw.sendall(HEAD)
        assert raw.recv(1_000).startswith(b"HTTP/1.1 101 ")
        raw.sendall(masked(1, b'{"type":"observe","id":1,"after":0}'))
        raw.sendall(masked(1, b'{"type":"attach","id":2,"session":"17-0123456789abcdef"}'))
        server.until(lambda: server.app.door.watchers == 1)
        # the observer waits for room; pushes can't wait, so they end it
        pushes = [transition(number, session=SESSION, fence_token="x" * 500) for number in range(40_001, 60_001)]
        server.until(lambda: server.app.door.hub.is_attached(SESSION))
        server.do(lambda: engine.tell(*pushes))
        server.until(lambda: server.app.door.streams == 0)
        assert server.do(lambda: server.app.door.watchers) == 0


def test_a_burst_of_one_turn_is_bounded_too(engine: Scripted) -> None:
    with serving(engine, stream_buffer_bytes_max=200_000) as server, server.dial() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        raw.sendall(HEAD)
        assert raw.recv(1_000).startswith(b"HTTP/1.1 101 ")
        raw.sendall(masked(1, b'{"type":"attach","id":2,"session":"17-0123456789abcdef"}'))
        server.until(lambda: server.app.door.hub.is_attached(SESSION))
        pushes = [transition(number, session=SESSION, fence_token="x" * 500) for number in range(1, 40_001)]
        server.do(lambda: engine.tell(*pushes))
        server.until(lambda: server.app.door.streams == 0)


def test_a_client_that_vanishes_hurts_nobody(engine: Scripted, server: Server) -> None:
    engine.is_holding = True
    raw = server.dial()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.sendall(HEAD)
    assert raw.recv(1_000).startswith(b"HTTP/1.1 101 ")
    raw.sendall(b"".join(masked(1, json.dumps(keep(number)).encode()) for number in range(1, 101)))
    server.until(lambda: len(engine.held) == 100)
    raw.close()
    server.until(lambda: server.app.door.streams == 0)
    server.do(engine.let_go)
    assert server.do(lambda: server.app.door.in_flight) == 0
    assert server.ask("GET", "/livez").status == 200


def test_a_silent_client_is_pinged_and_then_dropped(engine: Scripted) -> None:
    with serving(engine, idle_timeout_ms=1, sweep_ms=1) as server, server.dial() as raw:
        raw.sendall(HEAD)
        assert b" 101 " in raw.recv(1_000)
        server.until(lambda: server.app.door.streams == 0)


def test_what_is_sent_before_the_handshake_is_answered_is_heard(engine: Scripted, server: Server) -> None:
    eager = HEAD + masked(1, json.dumps(keep(7)).encode()) + masked(1, json.dumps(keep(8)).encode())
    for pieces in ([eager], [eager[:-5], eager[-5:]], [eager[:50], eager[50:]]):
        with server.dial() as raw, raw.makefile("rb") as stream:
            for piece in pieces:
                raw.sendall(piece)
            assert b" 101 " in stream.readline()
            while stream.readline() != b"\r\n":
                pass
            for number in (7, 8):
                head = stream.read(4)  # a text of 126 to 65535 bytes
                assert json.loads(stream.read(int.from_bytes(head[2:], "big")))["number"] == number
    assert [request.number for request, _ in engine.asked if isinstance(request, Keepalive)] == [7, 8] * 3


def test_an_upgrade_that_nobody_speaks_is_an_ordinary_request(server: Server) -> None:
    h2c = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n\r\n"
    with server.dial() as raw, raw.makefile("rb") as stream:
        raw.sendall(h2c + b"GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answers = stream.read()
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 404 " in answers


def test_a_ping_is_answered(server: Server) -> None:
    with streaming(server, ping_interval=None) as client:
        assert client.socket.ping().wait(30)


@pytest.mark.parametrize(
    ("replaced", "by", "status"),
    [
        (b"/v1/stream", b"/v1/steam", b"404"),
        (b"tenure.v1", b"other.v1", b"400"),
        (b"version: 13", b"version: 8", b"426"),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"abc", b"400"),
        (b"host: x\r\n", b"host: x\r\norigin: http://evil.example\r\n", b"403"),
    ],
)
def test_a_wrong_handshake_is_answered_as_a_problem(server: Server, replaced: bytes, by: bytes, status: bytes) -> None:
    with server.dial() as raw:
        raw.sendall(HEAD.replace(replaced, by))
        answer = raw.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 " + status), answer
    assert b"application/problem+json" in answer


def test_the_stream_needs_the_secret_and_has_a_limit(engine: Scripted) -> None:
    with serving(engine, ServerInfo("m1", "0", b"sesame"), streams_max=1) as server:
        for headers, status in (({}, 401), ({"Authorization": "Bearer x"}, 403)):
            with pytest.raises(InvalidStatus) as caught, streaming(server, additional_headers=headers):
                pass
            assert caught.value.response.status_code == status
        right = {"Authorization": "Bearer sesame"}
        with streaming(server, additional_headers=right) as client:
            assert client.ask(keep(1))["type"] == "kept"
            with pytest.raises(InvalidStatus) as caught, streaming(server, additional_headers=right):
                pass
            assert caught.value.response.status_code == 503


def test_sessions_of_one_stream_are_limited(engine: Scripted) -> None:
    numbers = iter(range(10, 20))
    engine.script = lambda request: (
        SessionOpened(f"{next(numbers)}-0123456789abcdef", request.node, 1)  # type: ignore[arg-type]
        if isinstance(request, OpenSession)
        else None
    )
    with serving(engine, stream_sessions_max=2) as server, streaming(server) as client:
        for index in range(3):
            opening = {"type": "open", "id": index, "node": "a", "ttl_ms": 3000, "process": "0123456789abcdef"}
            answered = client.ask(opening)
            assert (answered["type"] == "session_opened") == (index < 2)
        attached = client.ask({"type": "attach", "id": 9, "session": SESSION})
        assert (attached["type"], attached["code"]) == ("refused", "too_many")
