"""The API on the memory engine: real terms, real refusals, through real sockets."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tenure.engines.memory import ManualClock, MemoryEngine
from tests.api.scripted import Answered, Server, serving
from tests.api.test_stream import Client, streaming


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine(ManualClock())


@pytest.fixture
def server(engine: MemoryEngine) -> Iterator[Server]:
    with serving(engine) as running:
        yield running


def open_session(server: Server, node: str, ttl_ms: int = 3_000) -> str:
    body = {"node": node, "ttl_ms": ttl_ms, "process": f"{ord(node):016x}"}
    opened = server.ask("POST", "/v1/sessions", body)
    assert opened.status == 201, opened
    return str(opened.json["session"])


def campaign(server: Server, session: str, **more: Any) -> Answered:
    answered = server.ask("POST", "/v1/elections/orders/campaign", {"session": session} | more)
    assert answered.status == 200, answered
    return answered


def lease_of(server: Server, session: str, number: int) -> Any:
    kept = server.ask("POST", f"/v1/sessions/{session}/keepalive", {"number": number})
    assert kept.status == 200, kept
    return kept.json["leases"][0]


def election(server: Server) -> Any:
    return server.ask("GET", "/v1/elections/orders").json


def succeed(server: Server, engine: MemoryEngine) -> tuple[Any, Any]:
    """`a` leads, releases, and `b` leads: the leases of both."""
    first, second = open_session(server, "a"), open_session(server, "b")
    campaign(server, first)
    old = lease_of(server, first, 1)
    campaign(server, second)
    release = {"session": first, "term": old["term"], "withdraw": True}
    assert server.ask("POST", "/v1/elections/orders/release", release).status == 200
    server.do(lambda: engine.advance(1_000))
    return old, lease_of(server, second, 1)


def test_a_stale_term_is_refused_by_validation_and_by_the_fenced_kv(engine: MemoryEngine, server: Server) -> None:
    old, new = succeed(server, engine)
    assert new["term"] > old["term"]
    for lease, valid, reason in ((old, False, "stale"), (new, True, "current")):
        for body in ({"token": lease["fence_token"]}, {"election": "orders", "term": lease["term"]}):
            shown = server.ask("POST", "/fence-token/validate", body)
            assert (shown.status, shown.json["valid"], shown.json["reason"]) == (200, valid, reason)
            assert shown.json["current_term"] == new["term"]
        header = {"Fence-Token": lease["fence_token"]}
        assert server.ask("GET", "/fence-token/validate", headers=header).status == (204 if valid else 403)
    fenced = {"value": "new", "election": "orders", "term": new["term"]}
    assert server.ask("PUT", "/v1/kv/ledger", fenced).status == 200
    for cold in (False, True):
        stale = server.ask("PUT", "/v1/kv/ledger", fenced | {"value": "late", "term": old["term"]}, cold=cold)
        assert (stale.status, stale.json["code"], stale.json["current_term"]) == (412, "stale_term", new["term"])
        assert server.ask("PUT", "/v1/kv/ledger", {"value": "unfenced"}, cold=cold).status == 412
        assert server.ask("GET", "/v1/kv/ledger", cold=cold).json["value"] == "new"


def test_a_repeated_request_under_one_key_has_one_effect(server: Server) -> None:
    key = {"Idempotency-Key": "order-1"}
    first = server.ask("PUT", "/v1/kv/a", {"value": 1}, key)
    server.ask("PUT", "/v1/kv/a", {"value": 2})
    for cold in (False, True):
        again = server.ask("PUT", "/v1/kv/a", {"value": 1}, key, cold=cold)
        assert (again.status, again.json) == (200, first.json)
        assert server.ask("GET", "/v1/kv/a").json["value"] == 2
        other = server.ask("PUT", "/v1/kv/a", {"value": 3}, key, cold=cold)
        assert (other.status, other.json["code"]) == (422, "key_reused")
        assert other.json["field"] == "Idempotency-Key"


def test_a_sequenced_request_is_repeated_with_its_answer_and_refused_below_its_window(server: Server) -> None:
    client = server.ask("POST", "/v1/clients", {"nonce": "0123456789abcdef"}).json["client"]

    def put(value: int, sequence: int, answered: int) -> Answered:
        headers = {
            "Tenure-Client": client, "Tenure-Sequence": str(sequence), "Tenure-Answered-Below": str(answered),
        }  # fmt: skip
        return server.ask("PUT", "/v1/kv/a", {"value": value}, headers)

    first = put(1, 1, 1)
    assert put(1, 1, 1).json == first.json
    assert put(2, 2, 2).status == 200
    late = put(9, 1, 1)
    assert (late.status, late.json["code"]) == (409, "outcome_unknown")
    assert server.ask("GET", "/v1/kv/a").json["value"] == 2


def test_leader_status_is_readable_and_only_that(engine: MemoryEngine, server: Server) -> None:
    _, new = succeed(server, engine)
    shown = server.ask("GET", "/v1/kv/leader_status/orders").json["value"]
    assert (shown["node_id"], shown["term"]) == ("b", new["term"])
    refused = server.ask("PUT", "/v1/kv/leader_status/orders", {"value": 1})
    assert (refused.status, refused.json["code"]) == (403, "reserved_key")


def test_unknown_things_are_404_and_conflicts_409(server: Server) -> None:
    open_session(server, "a")
    in_use = server.ask("POST", "/v1/sessions", {"node": "a", "ttl_ms": 3000, "process": "f" * 16})
    assert (in_use.status, in_use.json["code"]) == (409, "node_in_use")
    assert in_use.json["retry_after_ms"] > 0
    gone = "999-0123456789abcdef"
    assert server.ask("GET", f"/v1/sessions/{gone}").status == 404
    assert server.ask("POST", f"/v1/sessions/{gone}/keepalive", {"number": 1}).status == 404
    assert server.ask("POST", "/v1/elections/orders/campaign", {"session": gone}).status == 404
    assert server.ask("GET", "/v1/elections/orders").status == 404
    assert server.ask("POST", "/leadership/stepdown", {"election": "orders"}).status == 404
    unknown = server.ask("POST", "/fence-token/validate", {"election": "orders", "term": 1}).json
    assert (unknown["reason"], unknown["current_term"]) == ("unknown_election", None)


def test_a_stepdown_hands_over_and_the_stream_is_told(engine: MemoryEngine, server: Server) -> None:
    with leading(server, "a") as (holder, session, lease), leading(server, "b") as (heir, other, _):
        assert lease["election"] == "orders"
        server.do(lambda: engine.advance(1))
        began = server.ask("POST", "/leadership/stepdown", {"election": "orders", "wait_ms": 0})
        assert (began.status, began.json["state"], began.json["from"]) == (202, "under_way", "a")
        push = until(holder, "stepdown")
        assert (push["session"], push["term"]) == (session, lease["term"])
        released = holder.ask(
            {"type": "release", "id": 9, "session": session, "election": "orders", "term": lease["term"]}
        )
        while released.get("id") != 9:
            released = holder.hear()
        assert released["type"] == "released"
        server.do(lambda: engine.advance(10))
        granted = until(heir, "granted")
        assert granted["session"] == other
        assert granted["term"] > lease["term"]
        heir.say({"type": "keep", "session": other, "number": 2})
        assert until(heir, "kept")["leases"][0]["fence_token"] == granted["fence_token"]
    causes = [one["ended"] for one in server.ask("GET", "/v1/elections/orders/history").json["holdings"]]
    assert causes[-1] == "stepdown"


def until(client: Client, kind: str) -> Any:
    while True:
        heard = client.hear()
        if heard["type"] == kind:
            return heard


@contextmanager
def leading(server: Server, node: str) -> Iterator[tuple[Client, str, Any]]:
    """A stream with a session that campaigns; its lease, if it has one."""
    with streaming(server) as client:
        process = f"{ord(node):016x}"
        opened = client.ask({"type": "open", "id": 1, "node": node, "ttl_ms": 3_000, "process": process})
        session = opened["session"]
        client.say({"type": "campaign", "id": 2, "session": session, "election": "orders"})
        until(client, "campaigning")
        client.say({"type": "keep", "session": session, "number": 1})
        kept = until(client, "kept")
        yield client, session, (kept["leases"] or [None])[0]


def test_status_and_metrics_tell_the_same_term(engine: MemoryEngine, server: Server) -> None:
    _, new = succeed(server, engine)
    status = server.ask("GET", "/status").json
    assert status["elections"]["orders"]["node_id"] == "b"
    assert status["elections"]["orders"]["term"] == new["term"]
    metrics = server.ask("GET", "/metrics").body.decode()
    (shown,) = re.findall(r'tenure_election_term\{election="orders"\} (\S+)', metrics)
    assert float(shown) == new["term"]
    assert json.loads(server.ask("GET", "/readyz?verbose").body)["status"] == "ok"
