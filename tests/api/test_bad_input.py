"""Whatever comes in is answered with a clear reason or dropped, and the member goes on serving."""

import json
from typing import Any

import pytest

from tenure.leadership.engine import AnyRequest, AnyResult, Refused, Validated
from tests.api.scripted import SESSION, Scripted, Server, serving

KEEP = f"/v1/sessions/{SESSION}/keepalive"
OPEN = {"node": "a", "ttl_ms": 3000, "process": "0123456789abcdef"}

BAD: list[tuple[str, str, Any, int, str, str | None]] = [
    # no JSON at all
    ("PUT", "/v1/kv/a", b"", 400, "bad_request", None),
    ("PUT", "/v1/kv/a", b"{", 400, "bad_request", None),
    ("PUT", "/v1/kv/a", b'{"value":nul}', 400, "bad_request", None),
    ("PUT", "/v1/kv/a", b'{"value":1} x', 400, "bad_request", None),
    ("PUT", "/v1/kv/a", b'{"value":"\xff"}', 400, "bad_request", "value"),
    ("PUT", "/v1/kv/a", b'{"value":' + b"[" * 20_000 + b"]" * 20_000 + b"}", 400, "bad_request", None),
    ("POST", "/v1/sessions", b"\x00\xff", 400, "bad_request", None),
    # the wrong JSON
    ("PUT", "/v1/kv/a", b"[]", 422, "invalid", "body"),
    ("PUT", "/v1/kv/a", {}, 422, "invalid", "value"),
    ("PUT", "/v1/kv/a", {"value": 1, "tern": 3}, 422, "invalid", "tern"),
    ("PUT", "/v1/kv/a", {"value": 1, "election": "orders", "term": "3"}, 422, "invalid", "term"),
    ("PUT", "/v1/kv/a", {"value": 1, "election": "orders", "term": -3}, 422, "invalid", "term"),
    ("PUT", "/v1/kv/a", {"value": 1, "election": "orders", "term": 2**53}, 422, "invalid", "term"),
    ("PUT", "/v1/kv/a", {"value": 1, "election": "orders", "term": 2**70}, 422, "invalid", "term"),
    ("PUT", "/v1/kv/a", {"value": 1, "election": "orders", "term": 1.5}, 422, "invalid", "term"),
    ("PUT", "/v1/kv/a", {"value": 1, "election": "orders", "term": True}, 422, "invalid", "term"),
    ("PUT", "/v1/kv/a", {"value": 1, "election": "orders"}, 422, "invalid", "term"),
    ("PUT", "/v1/kv/a", {"value": 1, "term": 3}, 422, "invalid", "election"),
    ("PUT", "/v1/kv/a", {"value": 1, "election": "Orders", "term": 3}, 422, "invalid", "election"),
    ("PUT", "/v1/kv/a", {"value": 1, "if_revision": "x"}, 422, "invalid", "if_revision"),
    ("PUT", "/v1/kv/a?consistency=stale", {"value": 1}, 422, "invalid", "consistency"),
    ("POST", KEEP, {"number": "7"}, 422, "invalid", "number"),
    ("POST", KEEP, {"number": -7}, 422, "invalid", "number"),
    ("POST", KEEP, {"number": 7, "health": 101}, 422, "invalid", "health"),
    ("POST", KEEP, {"number": 7, "lag": -1}, 422, "invalid", "lag"),
    ("POST", "/v1/sessions/17/keepalive", {"number": 7}, 422, "invalid", "session"),
    ("POST", "/v1/sessions", OPEN | {"node": "a b"}, 422, "invalid", "node"),
    ("POST", "/v1/sessions", OPEN | {"node": "a\n"}, 422, "invalid", "node"),
    ("POST", "/v1/sessions", OPEN | {"ttl_ms": 0}, 422, "invalid", "ttl_ms"),
    ("POST", "/v1/sessions", OPEN | {"process": "xyz"}, 422, "invalid", "process"),
    ("POST", "/v1/sessions", OPEN | {"meta": {"a": 1}}, 422, "invalid", "meta[...]"),
    ("POST", "/v1/sessions", OPEN | {"meta": {"a": "x" * 3_000}}, 422, "invalid", "meta"),
    ("POST", "/v1/elections/Orders/campaign", {"session": SESSION}, 422, "invalid", "election"),
    ("POST", "/v1/elections/orders/campaign", {"session": "x"}, 422, "invalid", "session"),
    ("POST", "/v1/elections/orders/campaign", {"session": SESSION, "priority": 10**9}, 422, "invalid", "priority"),
    ("POST", "/v1/elections/orders/release", {"session": SESSION}, 422, "invalid", "term"),
    ("PUT", "/v1/elections/orders/config", {"mode": "shared"}, 422, "invalid", "mode"),
    ("POST", "/leadership/stepdown", {"election": 7}, 422, "invalid", "election"),
    ("POST", "/leadership/stepdown", {"grace_ms": -1}, 422, "invalid", "grace_ms"),
    ("POST", "/leadership/stepdown", {"reason": "x" * 1000}, 422, "invalid", "reason"),
    ("POST", "/fence-token/validate", {"election": "orders", "term": "7"}, 422, "invalid", "term"),
    ("POST", "/fence-token/validate", {"election": "orders"}, 422, "invalid", "term"),
    ("POST", "/fence-token/validate", {"term": 7}, 422, "invalid", "election"),
    ("POST", "/fence-token/validate", {"token": "t1.orders.07." + "0" * 32}, 422, "invalid", "token"),
    ("POST", "/fence-token/validate", {"token": "eyJ.x.y"}, 422, "invalid", "token"),
    ("POST", "/fence-token/validate", {"token": "t1.o.7." + "0" * 32, "election": "o"}, 422, "invalid", "token"),
    ("POST", "/v1/clients", {"nonce": "0123456789ABCDEF"}, 422, "invalid", "nonce"),
    # queries and paths
    ("GET", "/v1/elections/orders?after=x", None, 422, "invalid", "after"),
    ("GET", "/v1/elections/orders?wait_ms=5", None, 422, "invalid", "wait_ms"),
    ("GET", "/v1/elections/orders/history?limit=0", None, 422, "invalid", "limit"),
    ("GET", "/status?consistency=eventual", None, 422, "invalid", "consistency"),
    ("GET", "/status?verbos", None, 422, "invalid", "verbos"),
    ("GET", "/status?consistency=stale&consistency=stale", None, 400, "bad_request", "query"),
    ("GET", "/v1/kv/%ff", None, 400, "bad_request", "key"),
    ("GET", "/v1/kv/", None, 422, "invalid", "key"),
    ("GET", "/v1/kv/a%00b", None, 422, "invalid", "key"),
    ("GET", "/v1/kv/" + "k" * 600, None, 422, "invalid", "key"),
    ("GET", "/v1/elections/nowhere", None, 404, "unknown_election", "election"),
    ("GET", "/v1/kv/nothing", None, 404, "unknown_key", "key"),
    ("GET", "/v1/elektions", None, 404, "unknown_path", None),
    ("DELETE", "/v1/elections/orders", None, 405, "method_not_allowed", None),
    ("PATCH", "/v1/kv/a", {"value": 1}, 405, "method_not_allowed", None),
    ("GET", "/v1/stream", None, 426, "upgrade_required", None),
]  # fmt: skip


def test_each_bad_request_names_its_fault_and_reaches_no_engine(engine: Scripted, server: Server) -> None:
    for cold in (False, True):
        for method, path, body, status, code, field in BAD:
            engine.asked.clear()
            answered = server.ask(method, path, body, cold=cold)
            story = f"{method} {path} {body!r:.80} cold={cold}: {answered}"
            assert answered.status == status, story
            assert answered.headers["content-type"] == "application/problem+json", story
            problem = answered.json
            assert problem["type"] == "about:blank", story
            assert (problem["status"], problem["code"], problem.get("field")) == (status, code, field), story
            assert "Traceback" not in problem["detail"], story
            assert status == 404 or not engine.asked, story
    assert server.ask("GET", "/livez").status == 200


def test_405_tells_what_is_allowed(server: Server) -> None:
    assert server.ask("DELETE", "/v1/kv/a").headers["allow"] == "GET, HEAD, PUT"
    assert server.ask("GET", "/leadership/stepdown").headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("bad_request", 400), ("unauthorized", 401), ("denied", 403), ("reserved_key", 403), ("unknown_session", 404),
        ("unknown_member", 404), ("node_in_use", 409), ("not_held", 409), ("not_candidate", 409),
        ("outcome_unknown", 409), ("compacted", 410), ("stale_term", 412), ("no_eligible_successor", 412),
        ("revision_mismatch", 412), ("too_large", 413), ("invalid", 422), ("key_reused", 422), ("too_many", 429),
        ("no_quorum", 503), ("founding", 503),
    ],
)  # fmt: skip
def test_every_refusal_has_its_status_and_says_when_to_come_again(code: Any, status: int) -> None:
    def refuse(request: AnyRequest) -> AnyResult:
        return Refused(code, "because", "term", 1_500 if code in {"node_in_use", "no_quorum"} else None, 9)

    with serving(Scripted(refuse)) as server:
        for cold in (False, True):
            answered = server.ask("PUT", "/v1/kv/a", {"value": 1}, cold=cold)
            assert (answered.status, answered.json["code"]) == (status, code)
            assert answered.json["current_term"] == 9
            if code in {"node_in_use", "no_quorum"}:
                assert (answered.headers["retry-after"], answered.json["retry_after_ms"]) == ("2", 1_500)
            elif status in {429, 503}:
                assert answered.headers["retry-after"] == "1"


def test_a_body_over_the_limit_is_refused_before_it_is_read(engine: Scripted, server: Server) -> None:
    with server.dial() as raw:  # announced, never sent
        raw.sendall(b"PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ncontent-length: 900000000\r\n\r\n")
        answer = raw.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"too_large"' in answer
    assert server.ask("PUT", "/v1/kv/a", b'"' + b"x" * 3_000_000 + b'"').status == 413  # announced and sent
    with server.dial() as raw:  # not announced
        raw.sendall(b"PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
        for _ in range(18):
            raw.sendall(chunk)
        raw.sendall(b"0\r\n\r\n")
        assert raw.makefile("rb").readline().startswith(b"HTTP/1.1 413 ")
    big = b'{"value":"' + b"x" * (1024 * 1024) + b'"}'  # the body fits, the value is two quotes too long
    refused = server.ask("PUT", "/v1/kv/a", big)
    assert (refused.status, refused.json["field"]) == (413, "value")
    assert not engine.asked
    fits = b'{"value":"' + b"x" * (1024 * 1024 - 2) + b'"}'
    assert server.ask("PUT", "/v1/kv/a", fits).status == 200
    assert len(engine.values["a"]) == 1024 * 1024


@pytest.mark.parametrize(
    ("garbage", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64, b"400"),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"400"),
        (b"PUT /v1/kv/a HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef", b"400"),
        (b"PUT /v1/kv/a HTTP/1.1\r\ncontent-length: -5\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\nx: " + b"y" * 40_000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"y" * 40_000 + b" HTTP/1.1\r\n\r\n", b"431"),
    ],
)
def test_garbage_is_answered_and_the_connection_closed(server: Server, garbage: bytes, status: bytes) -> None:
    with server.dial() as raw:
        raw.sendall(garbage)
        answer = raw.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 " + status), answer
    assert server.ask("GET", "/livez").status == 200


def test_a_smuggled_request_is_never_seen_twice(engine: Scripted, server: Server) -> None:
    inner = b"PUT /v1/kv/inner HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\n\r\n" + b'{"value":1}'
    for head in (b"transfer-encoding: chunked\r\ncontent-length: 6\r\n", b"content-length : 0\r\n", b"x\r\n y: z\r\n"):
        with server.dial() as raw:
            raw.sendall(b"PUT /v1/kv/outer HTTP/1.1\r\nhost: x\r\n" + head + b"\r\n0\r\n\r\n" + inner)
            raw.makefile("rb").readline()
    assert not [request for request, _ in engine.asked if getattr(request, "key", "") == "inner"]


def test_headers_of_an_origin_are_checked(engine: Scripted, server: Server) -> None:
    cases: list[tuple[dict[str, str], str]] = [
        ({"Idempotency-Key": ""}, "Idempotency-Key"),
        ({"Idempotency-Key": "k" * 300}, "Idempotency-Key"),
        ({"Idempotency-Key": "k", "Tenure-Client": "c"}, "Idempotency-Key"),
        ({"Tenure-Client": "c"}, "Tenure-Sequence"),
        ({"Tenure-Client": "c", "Tenure-Sequence": "1"}, "Tenure-Answered-Below"),
        ({"Tenure-Client": "c", "Tenure-Sequence": "-1", "Tenure-Answered-Below": "0"}, "Tenure-Sequence"),
        ({"Tenure-Client": "c", "Tenure-Sequence": "1", "Tenure-Answered-Below": "9"}, "Tenure-Answered-Below"),
        ({"Tenure-Sequence": "1"}, "Tenure-Client"),
    ]
    for headers, field in cases:
        for cold in (False, True):
            answered = server.ask("PUT", "/v1/kv/a", {"value": 1}, headers, cold=cold)
            assert (answered.status, answered.json["field"]) == (422, field), answered
    assert not engine.asked


def test_an_error_of_ours_shows_no_trace_and_the_member_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def fail(request: AnyRequest) -> AnyResult:
        raise RuntimeError("a secret detail")

    engine = Scripted(fail)
    with serving(engine) as server:
        for cold in (False, True):
            answered = server.ask("PUT", "/v1/kv/a", {"value": 1}, cold=cold)
            assert (answered.status, answered.json["code"]) == (500, "internal")
            assert b"secret" not in answered.body
        engine.script = lambda request: Validated(False, "stale", 9)
        assert server.ask("POST", "/fence-token/validate", {"election": "orders", "term": 1}).json["valid"] is False
    assert "a secret detail" in caplog.text


def test_values_come_back_as_the_bytes_they_were(server: Server) -> None:
    text = '{ "b":[1, 1.50, 1e3, 12345678901234567890123],  "a":"Zürich \\u00fc", "a":null }'
    for cold in (False, True):
        assert server.ask("PUT", "/v1/kv/deep/er", f'{{"value":{text}}}'.encode(), cold=cold).status == 200
        answered = server.ask("GET", "/v1/kv/deep/er", cold=cold)
        assert b'"value":' + text.encode() in answered.body
        assert json.loads(answered.body)["revision"] == 7
    assert server.ask("PUT", "/v1/kv/Z%C3%BCrich", {"value": 1}).json["key"] == "Zürich"
