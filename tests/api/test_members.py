"""The calls about the members, who serves nobody, and how old a stale answer is."""

from typing import Any

import msgspec
import pytest
from websockets.exceptions import InvalidStatus

from tenure.base.ids import Nonce
from tenure.leadership.engine import (
    AddMember,
    AmendMember,
    AsOf,
    DemoteMember,
    ElectionView,
    KvGet,
    KvValue,
    ListMembers,
    MemberSeat,
    MembersView,
    PromoteMember,
    ReadElection,
    Refused,
    RemoveMember,
    ReplaceMember,
    Request,
    Status,
)
from tests.api.scripted import Scripted, Server, election_view, report, serving
from tests.api.test_stream import streaming

ID: Any = "0123456789abcdef"
VIEW = MembersView("c1", (Nonce("c1"),), 9, (MemberSeat(ID, "m4", "h:4", "observer"),))


@pytest.mark.parametrize(
    ("method", "path", "body", "request_"),
    [
        ("GET", "", None, ListMembers()),
        ("GET", "?consistency=stale", None, ListMembers(stale=True)),
        ("POST", "", {"id": ID, "name": "m4", "peer": "h:4"}, AddMember(ID, "m4", "h:4")),
        ("POST", "/m4/promote", {"role": "witness", "if_index": 7}, PromoteMember("m4", "witness", 7)),
        ("POST", "/m4/demote", {}, DemoteMember("m4")),
        ("POST", "/m4/remove", {"dry_run": True}, RemoveMember("m4", dry_run=True)),
        ("POST", "/m2/replace", {"by": "m4"}, ReplaceMember("m2", "m4")),
        ("PATCH", "/m4", {"peer": "h:5", "priority": 3}, AmendMember("m4", "h:5", 3)),
    ],
)
def test_each_call_is_the_request_that_it_says(
    engine: Scripted, server: Server, method: str, path: str, body: Any, request_: Request[MembersView]
) -> None:
    engine.script = lambda asked: VIEW
    answered = server.ask(method, "/v1/members" + path, body)
    assert (answered.status, answered.json["members"][0]["name"]) == (200, "m4")
    assert engine.asked[-1][0] == request_


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "", {"id": "x", "name": "m4", "peer": "h:4"}, "id"),
        ("POST", "", {"id": ID, "name": "m 4", "peer": "h:4"}, "name"),
        ("POST", "", {"id": ID, "name": "m4", "peer": "h"}, "peer"),
        ("POST", "", {"id": ID, "name": "m4", "peer": "h:0"}, "peer"),
        ("POST", "", {"id": ID, "name": "m4", "peer": "h:²"}, "peer"),
        ("PATCH", "/m4", {"peer": "h:٣"}, "peer"),
        ("POST", "", {"id": ID, "name": "m4", "peer": "h:4", "role": "voter"}, "role"),
        ("POST", "/m4/promote", {"role": "observer"}, "role"),
        ("POST", "/m4/remove", {"if_index": -1}, "if_index"),
        ("PATCH", "/m4", {"priority": 10**9}, "priority"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_asked(
    engine: Scripted, server: Server, method: str, path: str, body: Any, field: str
) -> None:
    answered = server.ask(method, "/v1/members" + path, body)
    assert (answered.status, answered.json["field"]) == (422, field)
    assert engine.asked == []


@pytest.mark.parametrize("code", ["loses_quorum", "name_in_use", "not_caught_up", "change_pending", "last_voter"])
def test_what_is_refused_is_a_conflict_with_its_reason(engine: Scripted, server: Server, code: Any) -> None:
    engine.script = lambda asked: Refused(code, "because", retry_after_ms=500)
    answered = server.ask("POST", "/v1/members/m4/promote", {})
    assert (answered.status, answered.json["code"], answered.json["detail"]) == (409, code, "because")
    assert answered.headers["retry-after"] == "1"


# --- who serves nobody ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["no_state", "joining"])
def test_who_serves_nobody_says_so_before_a_stream_is_open(code: Any) -> None:
    engine = Scripted(nobody_is_served=Refused(code, "ask another", retry_after_ms=200))
    with serving(engine) as server:
        with pytest.raises(InvalidStatus) as caught, streaming(server):
            pass
        assert caught.value.response.status_code == 503
        assert msgspec.json.decode(caught.value.response.body or b"")["code"] == code
        events = server.ask("GET", "/v1/events")
        assert (events.status, events.json["code"]) == (503, code)
        ready = server.ask("GET", "/readyz?verbose")
        assert (ready.status, ready.json["checks"]["serves"]) == (503, False)
        assert server.ask("GET", "/livez").status == 200


def test_who_has_not_caught_up_once_is_not_ready(engine: Scripted, server: Server) -> None:
    behind = report()
    behind = msgspec.structs.replace(behind, consensus=msgspec.structs.replace(behind.consensus, lag_ms=None))
    engine.script = lambda asked: behind if isinstance(asked, Status) else None
    ready = server.ask("GET", "/readyz?verbose")
    assert (ready.status, ready.json["checks"]["current"]) == (503, False)


# --- how old a stale answer is --------------------------------------------------------------------------------------


def aged(asked: object) -> KvValue | ElectionView | Refused | None:
    match asked:
        case KvGet("there", stale):
            return KvValue("there", b"1", 7, as_of=AsOf(42, 130) if stale else None)
        case KvGet("unknown-age"):
            return KvValue("unknown-age", b"1", 7, as_of=AsOf(42, None))
        case KvGet():
            return Refused("unknown_key", "no such key", "key", as_of=AsOf(42, 130))
        case ReadElection():
            return msgspec.structs.replace(election_view(), as_of=AsOf(42, 130))
        case _:
            return None


@pytest.mark.parametrize("cold", [False, True])
def test_a_stale_value_tells_how_old_it_is_in_headers_and_body(engine: Scripted, server: Server, cold: bool) -> None:
    engine.script = aged
    answered = server.ask("GET", "/v1/kv/there?consistency=stale", cold=cold)
    assert (answered.status, answered.json["value"]) == (200, 1)
    assert answered.json["as_of"] == {"applied_index": 42, "lag_ms": 130}
    assert (answered.headers["tenure-applied-index"], answered.headers["tenure-lag-ms"]) == ("42", "130")
    fresh = server.ask("GET", "/v1/kv/there", cold=cold)
    assert "as_of" not in fresh.json
    assert "tenure-applied-index" not in fresh.headers
    unknown = server.ask("GET", "/v1/kv/unknown-age?consistency=stale", cold=cold)
    assert unknown.headers["tenure-applied-index"] == "42"
    assert "tenure-lag-ms" not in unknown.headers, "a member that has heard nobody can't know"
    absent = server.ask("GET", "/v1/kv/absent?consistency=stale", cold=cold)
    assert (absent.status, absent.headers["tenure-lag-ms"]) == (404, "130")


def test_stale_elections_status_and_events_tell_it_too(engine: Scripted, server: Server) -> None:
    late = report()
    late = msgspec.structs.replace(
        late, consensus=msgspec.structs.replace(late.consensus, applied_index=42, lag_ms=130)
    )
    engine.script = lambda asked: late if isinstance(asked, Status) else aged(asked)
    paths = ("/v1/elections/orders", "/v1/elections/orders/config", "/v1/elections", "/status")
    for path in paths:
        answered = server.ask("GET", path + "?consistency=stale")
        assert (answered.headers["tenure-applied-index"], answered.headers["tenure-lag-ms"]) == ("42", "130"), path
    assert server.ask("GET", "/status").json["consensus"]["lag_ms"] == 130
    assert server.ask("HEAD", "/v1/events").headers["tenure-lag-ms"] == "130"
    assert b"tenure_state_age_seconds 0.13" in server.ask("GET", "/metrics").body


def test_the_comments_that_keep_an_event_stream_awake_tell_its_age() -> None:
    late = report()
    late = msgspec.structs.replace(
        late, consensus=msgspec.structs.replace(late.consensus, applied_index=42, lag_ms=130)
    )
    engine = Scripted(script=lambda asked: late if isinstance(asked, Status) else None)
    with serving(engine, sse_comment_ms=20) as server, server.dial() as raw:
        raw.sendall(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
        heard = b""
        while b"still here" not in heard or not heard.endswith(b"\n\n\r\n"):
            heard += raw.recv(4096)
        assert b": still here, tenure-applied-index 42, tenure-lag-ms 130\n" in heard
