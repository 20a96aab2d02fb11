"""What the calls promise: codes, waiting, health, credentials, events, metrics, their own description."""

import json
import re
import threading
from typing import Any

import msgspec
import pytest

from tenure.api.info import ServerInfo
from tenure.api.routes import OPERATIONS
from tenure.api.telemetry import Telemetry
from tenure.base.ids import ElectionName
from tenure.leadership.engine import (
    History,
    ReadElection,
    Refused,
    Status,
    Stepdown,
    Stepped,
    Validated,
)
from tenure.wire import bodies
from tests.api.scripted import (
    ORDERS,
    SESSION,
    TERM,
    TOKEN,
    Answered,
    Scripted,
    Server,
    election_view,
    report,
    serving,
    transition,
)


def test_a_session_is_created_with_its_location(server: Server) -> None:
    answered = server.ask("POST", "/v1/sessions", {"node": "a", "ttl_ms": 3000, "process": "0123456789abcdef"})
    assert (answered.status, answered.headers["location"]) == (201, f"/v1/sessions/{SESSION}")
    assert answered.json["session"] == SESSION


def test_a_keepalive_names_its_number_and_its_leases(server: Server) -> None:
    for cold in (False, True):
        kept = server.ask("POST", f"/v1/sessions/{SESSION}/keepalive", {"number": 7}, cold=cold).json
        assert kept["number"] == 7
        lease = {"election": "orders", "term": TERM, "fence_token": TOKEN, "ttl_ms": 3000}
        assert kept["leases"] == [lease]


def test_status_is_503_with_the_same_body_without_a_quorum(engine: Scripted, server: Server) -> None:
    assert server.ask("GET", "/status").json["elections"]["orders"]["term"] == TERM

    def lost(request: Any) -> Any:
        if not isinstance(request, Status):
            return None
        return report(quorum=False) if request.stale else Refused("no_quorum", "2 of 3 are missing")

    engine.script = lost
    answered = server.ask("GET", "/status")
    assert (answered.status, answered.json["quorum"], answered.json["member"]) == (503, False, "m1")
    assert answered.headers["retry-after"] == "1"


def test_health_tells_life_readiness_and_leadership_apart(engine: Scripted, server: Server) -> None:
    assert [server.ask("GET", path).status for path in ("/livez", "/readyz", "/leader")] == [200, 200, 200]
    founding = msgspec.structs.replace(
        report(quorum=False, leader=None), cluster_id=None, state="founding", missing=("m2",)
    )
    engine.script = lambda request: founding if isinstance(request, Status) else None
    assert [server.ask("GET", path).status for path in ("/livez", "/readyz", "/leader")] == [200, 503, 503]
    verbose = server.ask("GET", "/readyz?verbose").json
    assert (verbose["state"], verbose["missing"]) == ("founding", ["m2"])
    assert verbose["checks"]["founded"] is False
    engine.script = lambda request: report(leader="m2") if isinstance(request, Status) else None
    assert [server.ask("GET", path).status for path in ("/readyz", "/leader")] == [200, 503]


def test_validation_by_header_is_204_or_403(server: Server) -> None:
    assert server.ask("GET", "/fence-token/validate", headers={"Fence-Token": TOKEN}).status == 204
    stale = server.ask("GET", "/fence-token/validate", headers={"Fence-Token": TOKEN.replace(str(TERM), "9")})
    assert (stale.status, stale.json["reason"], stale.json["current_term"]) == (403, "stale", TERM)
    for headers in ({}, {"Fence-Token": "x"}):
        refused = server.ask("GET", "/fence-token/validate", headers=headers)
        assert (refused.status, refused.json["field"]) == (403, "Fence-Token")


def test_validation_by_body_is_200_whatever_it_says(engine: Scripted, server: Server) -> None:
    assert server.ask("POST", "/fence-token/validate", {"token": TOKEN}).json["valid"] is True
    engine.script = lambda request: Validated(False, "unknown_election", None)
    answered = server.ask("POST", "/fence-token/validate", {"election": "nowhere", "term": 1})
    assert (answered.status, answered.json["current_term"]) == (200, None)


# --- waiting --------------------------------------------------------------------------------------------------------


def in_thread(server: Server, *request: Any) -> tuple[threading.Thread, list[Answered]]:
    found: list[Answered] = []
    thread = threading.Thread(target=lambda: found.append(server.ask(*request)))
    thread.start()
    return thread, found


def test_a_long_poll_answers_when_the_revision_has_passed(engine: Scripted, server: Server) -> None:
    views = [election_view(5)]
    engine.script = lambda request: views[-1] if isinstance(request, ReadElection) else None
    assert server.ask("GET", "/v1/elections/orders?after=4").json["revision"] == 5
    assert server.ask("GET", "/v1/elections/orders?after=5&wait_ms=0").json["revision"] == 5
    thread, found = in_thread(server, "GET", "/v1/elections/orders?after=5&wait_ms=20000")
    server.until(lambda: server.app.door.hub.long_polls == 1)
    server.do(lambda: engine.tell(transition(1, "kv", key="x")))  # another's change wakes nobody
    assert not found
    views.append(election_view(9, "b"))
    server.do(lambda: engine.tell(transition(2, election="orders")))
    thread.join(30)
    assert (found[0].status, found[0].json["revision"], found[0].json["node_id"]) == (200, 9, "b")
    server.until(lambda: server.app.door.hub.long_polls == 0)


def test_a_long_poll_ends_when_its_client_leaves(engine: Scripted, server: Server) -> None:
    with server.dial() as raw:
        raw.sendall(b"GET /v1/elections/orders?after=99&wait_ms=500000 HTTP/1.1\r\nhost: x\r\n\r\n")
        server.until(lambda: server.app.door.hub.long_polls == 1)
    server.until(lambda: server.app.door.hub.long_polls == 0)
    server.until(lambda: server.app.door.in_flight == 0)


def test_a_stepdown_is_202_under_way_and_200_when_done(engine: Scripted, server: Server) -> None:
    engine.script = lambda request: Stepped(ORDERS, None, None, "under_way", "a")
    answered = server.ask("POST", "/leadership/stepdown", {"election": "orders", "wait_ms": 0})
    assert (answered.status, answered.json["state"], answered.json["from"]) == (202, "under_way", "a")
    asked = engine.asked[0][0]
    assert isinstance(asked, Stepdown)
    assert (asked.wait_ms, asked.grace_ms) == (0, 5_000)
    engine.script = lambda request: Stepped(None, "m2", 5, "done", "m1")
    assert server.ask("POST", "/leadership/stepdown", {}).status == 200
    engine.script = lambda request: Refused("no_eligible_successor", "nobody else stands")
    assert server.ask("POST", "/leadership/stepdown", {"election": "orders"}).status == 412


# --- events ---------------------------------------------------------------------------------------------------------


class Events:
    """A reader of server-sent events on a raw socket."""

    def __init__(self, server: Server, headers: str = "", query: str = "") -> None:
        self.raw = server.dial()
        self.raw.sendall(f"GET /v1/events{query} HTTP/1.1\r\nhost: x\r\n{headers}\r\n".encode())
        self.stream = self.raw.makefile("rb")
        assert self.stream.readline().startswith(b"HTTP/1.1 200 ")
        while self.stream.readline() != b"\r\n":
            pass

    def next(self) -> tuple[str, str, Any]:
        found: dict[str, str] = {}
        while True:
            line = self.stream.readline().decode()
            assert line, "the server ended the events"
            if line == "\n" and "event" in found:
                return found["id"], found["event"], json.loads(found["data"])
            name, colon, value = line.rstrip("\n").partition(": ")
            if colon and name in {"id", "event", "data"}:
                found[name] = value

    def close(self) -> None:
        self.stream.close()
        self.raw.close()


def test_events_resume_behind_the_last_id_without_loss_or_repetition(engine: Scripted, server: Server) -> None:
    server.do(lambda: engine.tell(*(transition(number, election="orders") for number in range(1, 6))))
    reader = Events(server, "last-event-id: 3\r\n")
    assert [reader.next()[0] for _ in range(2)] == ["4-00000000000000c1", "5-00000000000000c1"]
    server.do(lambda: engine.tell(transition(6, "ended", election="orders", cause="expired")))
    number, kind, data = reader.next()
    assert (number, kind, data["cause"], data["number"]) == ("6-00000000000000c1", "ended", "expired", 6)
    assert data["at"] == "2025-11-24T16:00:00.000Z"  # API.md: instants are RFC 3339
    assert "at_ms" not in data
    reader.close()
    server.until(lambda: server.app.door.watchers == 0)
    again = Events(server, query="?after=5")
    assert again.next()[0] == number
    again.close()
    server.until(lambda: server.app.door.watchers == 0)
    by_id = Events(server, "last-event-id: 5-00000000000000c1\r\n")
    assert by_id.next()[0] == number
    by_id.close()


def test_who_resumes_with_an_id_of_a_cluster_that_was_founded_anew_is_told(engine: Scripted, server: Server) -> None:
    server.do(lambda: engine.tell(transition(1), transition(2)))
    reader = Events(server, "last-event-id: 900-00000000000000b7\r\n")
    assert reader.next() == ("0-00000000000000c1", "compacted", {"next_number": 1})
    assert [reader.next()[2]["number"] for _ in range(2)] == [1, 2]
    reader.close()


def test_events_that_are_no_longer_kept_are_told_as_compacted(engine: Scripted, server: Server) -> None:
    engine.history = [transition(number) for number in range(50, 53)]
    engine.first_kept = 50
    reader = Events(server, "last-event-id: 3\r\n")
    number, kind, data = reader.next()
    assert (number, kind, data) == ("49-00000000000000c1", "compacted", {"next_number": 50})
    assert [reader.next()[2]["number"] for _ in range(3)] == [50, 51, 52]
    reader.close()


def test_watchers_are_limited_and_their_ids_checked(engine: Scripted) -> None:
    with serving(engine, watchers_max=1) as server:
        assert server.ask("GET", "/v1/events", headers={"Last-Event-ID": "x"}).json["field"] == "Last-Event-ID"
        reader = Events(server)
        assert server.ask("GET", "/v1/events").status == 429
        reader.close()
        server.until(lambda: server.app.door.watchers == 0)


def test_a_shutdown_ends_the_events(engine: Scripted) -> None:
    with serving(engine) as server:
        reader = Events(server)
        server.uvicorn.should_exit = True
        assert reader.stream.read() is not None
        reader.close()


# --- credentials ----------------------------------------------------------------------------------------------------


def test_with_a_secret_every_call_but_livez_needs_it(engine: Scripted) -> None:
    with serving(engine, ServerInfo("m1", "0", b"open sesame")) as server:
        assert server.ask("GET", "/livez").status == 200
        right = {"Authorization": "Bearer open sesame"}
        for method, path, body in (
            ("PUT", "/v1/kv/a", {"value": 1}),
            ("GET", "/v1/kv/a", None),
            ("GET", "/status", None),
        ):
            none = server.ask(method, path, body)
            assert (none.status, none.json["code"], none.headers["www-authenticate"]) == (401, "unauthorized", "Bearer")
            for wrong in ("Bearer open", "Bearer open sesame ", "Basic open sesame", "open sesame", ""):
                answered = server.ask(method, path, body, {"Authorization": wrong})
                expected = 200 if wrong.endswith("sesame ") else 403
                assert answered.status == expected, wrong
            assert server.ask(method, path, body, right).status == 200
        engine.asked.clear()
        server.ask("PUT", "/v1/kv/a", {"value": 1}, right | {"Idempotency-Key": "k"})
        assert getattr(engine.asked[0][1], "principal", None) == "cluster"
    assert "sesame" not in repr(ServerInfo("m1", "0", b"open sesame"))


def test_a_page_of_another_origin_is_denied(engine: Scripted, server: Server) -> None:
    foreign = {"Origin": "http://evil.example"}
    for cold in (False, True):
        assert server.ask("PUT", "/v1/kv/a", {"value": 1}, foreign, cold=cold).status == 403
    assert server.ask("POST", "/leadership/stepdown", {}, foreign).status == 403
    assert not engine.asked
    own = {"Origin": f"http://127.0.0.1:{server.port}"}
    assert server.ask("PUT", "/v1/kv/a", {"value": 1}, own).status == 200


# --- telemetry and description --------------------------------------------------------------------------------------


def test_metrics_show_what_was_counted(engine: Scripted, server: Server) -> None:
    telemetry = server.app.door.telemetry
    telemetry.disk_synced(1_500)
    telemetry.loop_late(300)
    telemetry.failover_phase("elected", 12_000)
    telemetry.gauge("tenure_test_figure", "A figure of the driver", lambda: 42.0)
    server.do(lambda: engine.tell(transition(1, election="orders", cause="expired")))
    server.until(lambda: telemetry.leader_changes == {"expired": 1})
    answered = server.ask("GET", "/metrics")
    assert answered.headers["content-type"].startswith("text/plain")
    lines = answered.body.decode().splitlines()
    for line in (
        'tenure_election_term{election="orders"} 1.23713848344577e+14',  # every term is exact in a float
        'tenure_election_holders{election="orders"} 1.0',
        'tenure_leader_changes_total{cause="expired"} 1.0',
        "tenure_consensus_term 4.0",
        'tenure_replication_lag_entries{member="m1"} 3.0',
        'tenure_disk_sync_seconds_bucket{le="0.001"} 0.0',
        'tenure_disk_sync_seconds_bucket{le="0.002"} 1.0',
        "tenure_disk_sync_seconds_count 1.0",
        "tenure_loop_lateness_seconds_sum 0.0003",
        'tenure_failover_phase_seconds_bucket{le="0.02",phase="elected"} 1.0',
        "tenure_test_figure 42.0",
    ):
        assert line in lines, answered.body.decode()


def test_a_name_stands_in_the_metrics_once_whoever_else_counts_it(server: Server) -> None:
    server.app.door.telemetry.gauge("tenure_consensus_term", "The driver's own.", lambda: 3.0)
    lines = server.ask("GET", "/metrics").body.decode().splitlines()
    types = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
    assert len(types) == len(set(types))
    assert "tenure_consensus_term 4.0" in lines


def test_what_happened_before_the_member_began_is_not_counted_again() -> None:
    telemetry = Telemetry(since_ms=5_000)
    for number, (kind, at_ms) in enumerate([("granted", 1_000), ("ended", 4_999), ("granted", 5_000)], 1):
        telemetry.saw(transition(number, kind, election=ORDERS, at_ms=at_ms, cause="first"))
    assert telemetry.leader_changes == {"first": 1}
    assert telemetry.failover_phases["vacant"].sum_s == 0.0


def test_the_phases_of_a_handover_are_measured_by_the_commands_clocks() -> None:
    telemetry = Telemetry()
    for number, (kind, at_ms) in enumerate(
        [
            ("granted", 0),
            ("stepdown", 1_000),
            ("stepdown", 1_100),
            ("ended", 1_250),
            ("granted", 1_253),
            ("ended", 5_000),
        ]
    ):
        telemetry.saw(transition(number, kind, election=ORDERS, at_ms=at_ms))
    assert telemetry.failover_phases["stepdown"].sum_s == pytest.approx(0.250)
    assert telemetry.failover_phases["vacant"].sum_s == pytest.approx(0.003)
    assert telemetry.phase_began == {ORDERS: ("vacant", 5_000)}


def test_the_description_holds_every_route_and_valid_examples(server: Server) -> None:
    described = server.ask("GET", "/openapi.json").json
    assert described["openapi"].startswith("3.1")
    schemas = described["components"]["schemas"]
    for route in OPERATIONS:
        operation = described["paths"][route.path][route.method.lower()]
        if route.body is not None:
            assert route.example is not None, route.path
            assert msgspec.json.decode(route.example, type=route.body) is not None
            content = operation["requestBody"]["content"]["application/json"]
            assert content["example"] == json.loads(route.example)
            assert content["schema"]["$ref"].rpartition("/")[2] in schemas
        assert {str(status) for status in route.answers} <= operation["responses"].keys()
        assert all(
            described["components"]["schemas"].get(name) for name in re.findall(r"schemas/(\w+)", json.dumps(operation))
        )
    operations = [one["operationId"] for path in described["paths"].values() for one in path.values()]
    assert len(operations) == len(set(operations)) == len(OPERATIONS)


def test_every_example_is_taken(engine: Scripted, server: Server) -> None:
    for route in OPERATIONS:
        if route.body is not None:
            path = re.sub(
                r"\{(\w+)\}", lambda part: {"session": SESSION, "election": "orders"}.get(part[1], "key"), route.path
            )
            answered = server.ask(route.method, path, route.example)
            assert answered.status < 300, f"{route.method} {path}: {answered}"


def test_every_code_has_a_status_and_comes_back_as_the_refusal_it_was() -> None:
    for code, status in bodies.status_of.items():
        problem = bodies.Problem("t", status, "why", code, "f", 5, 6)
        text = msgspec.json.encode(problem)
        assert text.startswith(b'{"type":"about:blank"')
        assert bodies.refusal_of(msgspec.json.decode(text, type=bodies.Problem)) == Refused(code, "why", "f", 5, 6)
    assert bodies.refusal_of(bodies.Problem("t", 404, "why", "unknown_path")) is None


def test_ways_in_are_told_apart_by_segment_before_they_are_decoded(engine: Scripted, server: Server) -> None:
    for path in ("/v1/kv/a/b/c", "/v1/kv/a%2Fb%2Fc"):
        for cold in (False, True):
            assert server.ask("PUT", path, {"value": 1}, cold=cold).json["key"] == "a/b/c"
    assert server.ask("GET", "/v1/elections/x%2Fhistory").json["field"] == "election"
    server.ask("GET", "/v1/elections/x/history")
    assert engine.asked[-1][0] == History(ElectionName("x"), 20)
    assert server.ask("GET", "/v1/elections/").status == 404  # and no redirection


@pytest.mark.parametrize("path", ["/livez", "/status", "/readyz"])
def test_head_has_the_headers_and_no_body(server: Server, path: str) -> None:
    answered = server.ask("HEAD", path)
    assert (answered.status, answered.body) == (200, b"")
    assert int(answered.headers["content-length"]) > 0
