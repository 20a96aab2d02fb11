"""Pipelining, clients that vanish, slow ones, and limits: nothing of it reaches the engine or other clients."""

import asyncio
import json
import socket
import struct
from typing import Any

import pytest
import urllib3

from tenure.api import ServerInfo, build
from tenure.leadership.engine import Keyed, KvPut, Refused, Sequenced
from tests.api.scripted import SESSION, Scripted, Server, serving


def put(key: str, value: Any = 1, extra: str = "") -> bytes:
    body = json.dumps({"value": value})
    return f"PUT /v1/kv/{key} HTTP/1.1\r\nhost: x\r\n{extra}content-length: {len(body)}\r\n\r\n{body}".encode()


def read_answers(raw: socket.socket, count: int) -> list[tuple[int, Any]]:
    stream, found = raw.makefile("rb"), []
    for _ in range(count):
        status = int(stream.readline().split(b" ")[1])
        length = 0
        while (line := stream.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = stream.read(length)
        found.append((status, json.loads(body) if body else None))
    return found


def test_pipelined_requests_are_answered_in_order_hot_and_cold_mixed(engine: Scripted, server: Server) -> None:
    cold = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
    with server.dial() as raw:
        raw.sendall(put("a") + put("b") + cold + put("c") + cold + cold + b"GET /v1/kv/a HTTP/1.1\r\nhost: x\r\n\r\n")
        answers = read_answers(raw, 7)
    assert [body.get("key") for _, body in answers] == ["a", "b", None, "c", None, None, "a"]
    assert {status for status, _ in answers} == {200}


def test_answers_keep_the_order_of_their_requests_when_the_engine_does_not(engine: Scripted, server: Server) -> None:
    engine.is_holding = True
    with server.dial() as raw:
        raw.sendall(put("a") + put("b") + put("c"))
        server.until(lambda: len(engine.held) == 3)
        engine.held.reverse()
        server.do(engine.let_go)
        assert [body["key"] for _, body in read_answers(raw, 3)] == ["a", "b", "c"]


def test_more_pipelined_requests_than_the_limit_wait_in_the_socket(engine: Scripted) -> None:
    engine.is_holding = True
    with serving(engine, pipelined_requests_max=4) as server, server.dial() as raw:
        raw.sendall(b"".join(put(f"k{number}") for number in range(40)))
        server.until(lambda: len(engine.held) >= 4)
        assert server.do(lambda: len(engine.held)) == 4
        server.do(engine.let_go)
        assert [body["key"] for _, body in read_answers(raw, 40)] == [f"k{number}" for number in range(40)]


def test_large_values_are_read_one_at_a_time_for_a_client_that_asks_for_many_at_once(engine: Scripted) -> None:
    """A burst of short requests must not make the member build all the long answers at once."""
    engine.is_holding = True
    asked = b"GET /v1/kv/large HTTP/1.1\r\nhost: x\r\n\r\n"
    with serving(engine) as server, server.dial() as raw:
        raw.sendall(asked * 20 + put("last"))
        server.until(lambda: len(engine.held) >= 1)
        assert server.do(lambda: len(engine.held)) == 1
        engine.values["large"] = b'"x"'
        server.do(engine.let_go)
        answers = read_answers(raw, 21)
    assert [body["key"] for _, body in answers] == ["large"] * 20 + ["last"]
    assert len(engine.asked) == 21


@pytest.mark.parametrize("size", [1, 7, 50])
def test_requests_in_pieces_are_whole_requests(server: Server, size: int) -> None:
    text = put("a", "x" * 100) + put("b") + b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n" + put("c")
    with server.dial() as raw:
        for at in range(0, len(text), size):
            raw.sendall(text[at : at + size])
        assert [status for status, _ in read_answers(raw, 4)] == [200] * 4


def test_a_client_that_vanishes_before_its_answer_hurts_nobody(engine: Scripted, server: Server) -> None:
    engine.is_holding = True
    for text in (put("a"), put("b", extra="te: x\r\n"), b"GET /v1/kv/a HTTP/1.1\r\n\r\n"):
        with server.dial() as raw:  # closes with a reset
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            asked = len(engine.asked)
            raw.sendall(text)
            server.until(lambda asked=asked: len(engine.asked) > asked)  # type: ignore[misc] # bound per round
    server.until(lambda: len(server.app.door.guests) == 0)
    server.do(engine.let_go)
    assert server.do(lambda: server.app.door.in_flight) == 0
    assert server.ask("PUT", "/v1/kv/c", {"value": 1}).status == 200


@pytest.mark.parametrize("path", ["/status", "/nowhere", "/v1/events"])
def test_a_client_that_vanishes_as_its_cold_answer_is_written_fills_no_log(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """uvloop refuses to write to it, one turn before uvicorn knows that it has gone."""

    told = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(told, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    app = build(Scripted(), ServerInfo("m1", "0", None))
    scope = {"type": "http", "method": "GET", "raw_path": path.encode(), "headers": [], "query_string": b""}
    asyncio.run(app(scope, receive, send))
    assert not caplog.records


def test_a_client_that_vanishes_in_mid_request_leaves_nothing_behind(engine: Scripted, server: Server) -> None:
    for text in (put("a")[:-3], put("a")[:20], put("b", extra="te: x\r\n")[:-3], b"P"):
        with server.dial() as raw:
            raw.sendall(text)
            server.until(lambda: len(server.app.door.guests) == 1)
        server.until(lambda: len(server.app.door.guests) == 0)
    assert not engine.asked


def test_a_client_that_does_not_read_is_not_read_either(engine: Scripted) -> None:
    engine.values["big"] = b'"' + b"x" * 1_000_000 + b'"'
    with serving(engine) as server, server.dial() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        get = b"GET /v1/kv/big HTTP/1.1\r\nhost: x\r\n\r\n"
        raw.sendall(get * 200)
        server.until(lambda: len(engine.asked) > 0)
        server.ask("GET", "/livez")
        assert server.do(lambda: len(engine.asked)) < 100
        assert len(read_answers(raw, 200)) == 200


def test_a_request_that_never_arrives_is_answered_with_408(engine: Scripted) -> None:
    with serving(engine, request_timeout_ms=0, sweep_ms=1) as server:
        for text in (put("a")[:-3], put("b", extra="te: x\r\n")[:-3]):
            with server.dial() as raw:
                raw.sendall(text)
                assert raw.makefile("rb").read().startswith(b"HTTP/1.1 408 ")
    assert not engine.asked


def test_a_connection_without_a_request_is_closed(engine: Scripted) -> None:
    with serving(engine, idle_timeout_ms=0, sweep_ms=1) as server, server.dial() as raw:
        assert raw.makefile("rb").read() == b""
    assert not engine.asked


def test_connections_and_requests_over_their_limits_are_refused(engine: Scripted) -> None:
    with serving(engine, connections_max=2, requests_in_flight_max=1) as server:
        engine.is_holding = True
        with server.dial() as first, server.dial() as second:
            first.sendall(put("a"))
            server.until(lambda: len(engine.held) == 1)
            second.sendall(put("b") + put("c", extra="te: x\r\n"))
            assert [status for status, _ in read_answers(second, 2)] == [429, 429]
            with server.dial() as third:
                assert third.makefile("rb").readline().startswith(b"HTTP/1.1 503 ")
            server.do(engine.let_go)
            assert read_answers(first, 1)[0][0] == 200


def test_a_shutdown_answers_first(engine: Scripted) -> None:
    engine.is_holding = True
    with serving(engine) as server, server.dial() as raw:
        raw.sendall(put("a"))
        server.until(lambda: len(engine.held) == 1)
        server.uvicorn.should_exit = True
        server.until(lambda: server.app.door.closing)
        server.do(engine.let_go)
        assert [status for status, _ in read_answers(raw, 1)] == [200]
        assert raw.recv(1) == b""


def test_what_is_pipelined_behind_the_last_answer_is_not_executed(engine: Scripted, server: Server) -> None:
    with server.dial() as raw:
        raw.sendall(b"GET /" + b"y" * 40_000 + b" HTTP/1.1\r\n\r\n" + put("a"))
        assert raw.makefile("rb").read().startswith(b"HTTP/1.1 431 ")
    assert not engine.asked


def test_a_client_that_takes_nothing_of_its_answers_is_dropped(engine: Scripted) -> None:
    engine.values["big"] = b'"' + b"x" * 1_000_000 + b'"'
    with serving(engine, stuck_timeout_ms=0, sweep_ms=1) as server, server.dial() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        raw.sendall(b"GET /v1/kv/big HTTP/1.1\r\nhost: x\r\n\r\n" * 50)
        server.until(lambda: len(engine.asked) > 0 and not server.app.door.guests)
        assert server.do(lambda: len(engine.asked)) < 50


def test_origins_arrive_at_the_engine_bound_to_what_was_asked(engine: Scripted, server: Server) -> None:
    sequenced = {"Tenure-Client": "c7", "Tenure-Sequence": "12", "Tenure-Answered-Below": "11"}
    for cold in (False, True):
        engine.asked.clear()
        for headers, body in (
            ({"Idempotency-Key": "k1"}, {"value": 1}),
            ({"Idempotency-Key": "k1"}, {"value": 2}),
            (sequenced, {"value": 1}),
            ({}, {"value": 1}),
        ):
            assert server.ask("PUT", "/v1/kv/a", body, headers, cold=cold).status == 200
        one, two, three, four = (origin for _, origin in engine.asked)
        assert isinstance(one, Keyed)
        assert isinstance(two, Keyed)
        assert (one.principal, one.key) == ("anonymous", "k1")
        assert one.digest != two.digest
        assert three == Sequenced("c7", 12, 11)
        assert four is None
    key = {"Idempotency-Key": "k1"}
    for cold in (False, True):  # the same request has the same digest whichever way it takes
        server.ask("PUT", "/v1/kv/a", {"value": 1}, key, cold=cold)
    assert engine.asked[-1][1] == engine.asked[-2][1]


def test_urllib3_keeps_its_connection_over_hot_and_cold_calls(engine: Scripted, server: Server) -> None:
    with urllib3.HTTPConnectionPool("127.0.0.1", server.port, maxsize=1) as pool:
        for _ in range(3):
            assert pool.request("PUT", "/v1/kv/a", json={"value": 1}).status == 200
            assert pool.request("GET", "/status").status == 200
            assert pool.request("GET", "/v1/kv/a").json()["value"] == 1
            assert pool.request("POST", f"/v1/sessions/{SESSION}/keepalive", json={"number": 1}).status == 200
            assert pool.request("HEAD", "/livez").data == b""
            assert pool.request("GET", "/nowhere").status == 404
        assert pool.num_connections == 1


def test_a_stale_term_is_refused_and_counted(engine: Scripted, server: Server) -> None:
    def stale(request: Any) -> Any:
        return Refused("stale_term", "term 4 is over", "term", None, 9) if isinstance(request, KvPut) else None

    engine.script = stale
    fenced = {"value": 1, "election": "orders", "term": 4}
    for cold in (False, True):
        answered = server.ask("PUT", "/v1/kv/a", fenced, cold=cold)
        assert (answered.status, answered.json["code"], answered.json["current_term"]) == (412, "stale_term", 9)
    assert server.ask("POST", "/fence-token/validate", {"election": "orders", "term": 4}).json["valid"] is False
    text = server.ask("GET", "/metrics").body.decode()
    assert 'tenure_fence_rejections_total{surface="kv"} 2.0' in text
    assert 'tenure_fence_rejections_total{surface="validate"} 1.0' in text
