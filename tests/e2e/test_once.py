"""A stale term is refused everywhere, and a repeated request has one effect, also when the leader dies in between."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Answer, Cluster, Member, broken, cluster, eventually, patience_s

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
long_ttl_ms = 120_000
"""Sessions of these stories need no keepalive."""


@pytest.fixture(name="three")
def _three(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as made:
        yield made


def done(answer: Answer, status: int = 200) -> Any:
    assert answer.status == status, f"{answer.status} {answer.raw!r}"
    return answer.data


def persistently(member: Member, method: Any, path: str, body: object, headers: dict[str, str]) -> Answer:
    """Repeat until it is answered for good, as a client would that wants to know."""
    last: Answer | None = None

    def answered() -> bool:
        nonlocal last
        with suppress(*broken):
            last = member.ask(method, path, body, headers)
        return last is not None and last.status != 503

    eventually(answered, f"{member.name} answers {method} {path}")
    assert last is not None
    return last


def candidate(member: Member, node: str, election: str) -> str:
    opened = done(member.ask("POST", "/v1/sessions", {"node": node, "ttl_ms": long_ttl_ms, "process": "0" * 16}), 201)
    session: str = opened["session"]
    done(member.ask("POST", f"/v1/elections/{election}/campaign", {"session": session}))
    return session


def granted(member: Member, election: str, node: str) -> dict[str, Any]:
    """The view of an election once `node` holds it."""
    view: dict[str, Any] = {}

    def held() -> bool:
        answer = member.ask("GET", f"/v1/elections/{election}")
        view.update(answer.data if answer.status == 200 else {})
        return view.get("node_id") == node and view.get("state") in {"granted", "held"}

    eventually(held, f"{node} holds {election}")
    return view


def transitions(member: Member, after: int = 0) -> list[dict[str, Any]]:
    """All that a watcher at this member is told up to now: a marker is written, and read up to."""
    marker = f"marker/{member.lives}/{after}"
    # A repeated marker is only another line; it is the first one after our reading began that ends it.
    revision = persistently(member, "PUT", f"/v1/kv/{marker}", {"value": 1}, {}).data["revision"]
    seen: list[dict[str, Any]] = []
    reading = http.client.HTTPConnection("127.0.0.1", member.api, timeout=patience_s)
    try:
        reading.request("GET", "/v1/events", headers={"Last-Event-ID": str(after)})
        response = reading.getresponse()
        assert response.status == 200
        while True:
            line = response.readline()
            assert line, "the events ended"
            if line.startswith(b"event: compacted"):
                raise AssertionError("this member has forgotten the beginning")
            if line.startswith(b"data: "):
                seen.append(json.loads(line[6:]))
                if seen[-1]["revision"] >= revision:
                    return seen
    finally:
        reading.close()


def writes(member: Member, key: str) -> list[int]:
    """Revisions at which `key` was changed, as a watcher sees them."""
    return [each["revision"] for each in transitions(member) if each.get("key") == key]


# --- terms -----------------------------------------------------------------------------------------------------------


def validity(member: Member, **asked: object) -> tuple[bool, str, int | None]:
    answer = done(persistently(member, "POST", "/fence-token/validate", asked, {}))
    return answer["valid"], answer["reason"], answer["current_term"]


def test_a_stale_term_is_refused_by_every_member_and_only_the_current_one_is_valid(three: Cluster) -> None:
    first = three["m1"]
    a = candidate(first, "a", "orders")
    old = granted(first, "orders", "a")
    candidate(first, "b", "orders")
    token = f"t1.orders.{old['term']}.{old['owner']}"
    for member in three.running:
        assert validity(member, election="orders", term=old["term"]) == (True, "current", old["term"])
        assert validity(member, token=token) == (True, "current", old["term"])
        assert member.ask("GET", "/fence-token/validate", headers={"Fence-Token": token}).status == 204
    fenced = {"value": "of a", "election": "orders", "term": old["term"]}
    written = done(first.ask("PUT", "/v1/kv/ledger", fenced))

    done(first.ask("POST", "/v1/elections/orders/release", {"session": a, "term": old["term"], "withdraw": True}))
    new = granted(first, "orders", "b")
    assert new["term"] > old["term"]

    def refused_everywhere() -> None:
        for member in three.running:
            assert validity(member, election="orders", term=old["term"]) == (False, "stale", new["term"])
            assert validity(member, token=token) == (False, "stale", new["term"])
            answer = member.ask("GET", "/fence-token/validate", headers={"Fence-Token": token})
            assert (answer.status, answer.data["reason"]) == (403, "stale")
            assert validity(member, election="orders", term=new["term"]) == (True, "current", new["term"])
            assert validity(member, election="orders", term=new["term"] + 1)[:2] == (False, "never_issued")
            assert validity(member, election="elsewhere", term=1) == (False, "unknown_election", None)
            wrong = f"t1.orders.{new['term']}.{old['owner']}"
            assert validity(member, token=wrong) == (False, "wrong_owner", new["term"])
            late = member.ask("PUT", "/v1/kv/ledger", fenced)
            assert (late.status, late.code, late.data["current_term"]) == (412, "stale_term", new["term"])
            bare = member.ask("PUT", "/v1/kv/ledger", {"value": "of nobody"})
            assert (bare.status, bare.code) == (412, "stale_term"), "a key once fenced takes no write without a term"
            future = member.ask("PUT", "/v1/kv/ledger", {**fenced, "term": new["term"] + 1})
            assert (future.status, future.code) == (412, "stale_term")
            assert done(member.ask("GET", "/v1/kv/ledger"))["revision"] == written["revision"]

    refused_everywhere()
    leader = three.leader()
    three.kill(leader)
    three.leader(but=leader)
    refused_everywhere()
    three.start(leader)
    survivor = three.others(leader)[0]
    current = done(persistently(survivor, "PUT", "/v1/kv/ledger", {**fenced, "value": 2, "term": new["term"]}, {}))
    assert current["revision"] > written["revision"]


def test_after_a_release_nobody_holds_it_and_the_last_term_is_not_valid(three: Cluster) -> None:
    member = three["m2"]
    session = candidate(member, "a", "orders")
    term = granted(member, "orders", "a")["term"]
    done(member.ask("POST", "/v1/elections/orders/release", {"session": session, "term": term, "withdraw": True}))
    for each in three.running:
        assert validity(each, election="orders", term=term) == (False, "not_held", term)
        late = each.ask("PUT", "/v1/kv/ledger", {"value": 1, "election": "orders", "term": term})
        assert (late.status, late.code) == (412, "stale_term")


# --- repeated requests -----------------------------------------------------------------------------------------------


def test_one_idempotency_key_has_one_effect_at_whichever_member_it_comes_in(three: Cluster) -> None:
    key = {"Idempotency-Key": "order 17"}
    answers = [member.ask("PUT", "/v1/kv/a", {"value": 1}, key) for member in three.running for _ in range(2)]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.raw for answer in answers}) == 1
    for member in three.running:
        other = member.ask("PUT", "/v1/kv/a", {"value": 2}, key)
        assert (other.status, other.code) == (422, "key_reused")
        elsewhere = member.ask("PUT", "/v1/kv/b", {"value": 1}, key)
        assert (elsewhere.status, elsewhere.code) == (422, "key_reused")
    assert writes(three["m1"], "a") == [answers[0].data["revision"]]
    assert writes(three["m3"], "b") == []


def test_one_key_sent_to_all_members_at_once_has_one_effect(three: Cluster) -> None:
    for number in range(20):
        path, headers = f"/v1/kv/k{number}", {"Idempotency-Key": f"at once {number}"}
        answers: list[Answer] = []

        def send(member: Member, path: str = path, headers: dict[str, str] = headers) -> None:
            answers.append(member.ask("PUT", path, {"value": 1, "if_revision": 0}, headers))  # noqa: B023

        threads = [threading.Thread(target=send, args=(member,)) for member in three.running for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 6
        assert {answer.status for answer in answers} == {200}
        assert len({answer.raw for answer in answers}) == 1


def test_opening_a_session_under_one_key_twice_gives_the_same_session(three: Cluster) -> None:
    key = {"Idempotency-Key": "open a"}
    body = {"node": "a", "ttl_ms": long_ttl_ms, "process": "0123456789abcdef"}
    opened = [done(member.ask("POST", "/v1/sessions", body, key), 201) for member in three.running]
    assert len({each["session"] for each in opened}) == 1
    other = three["m1"].ask("POST", "/v1/sessions", {**body, "process": "f" * 16})
    assert (other.status, other.code) == (409, "node_in_use"), "another process never joins it (P3.6)"


def test_a_kept_refusal_stays_a_refusal(three: Cluster) -> None:
    """P9: who was told no must not see a late copy of the request succeed."""
    key = {"Idempotency-Key": "too early"}
    for _ in range(2):
        answer = three["m1"].ask("PUT", "/v1/kv/a", {"value": 2, "if_revision": 7_000_000}, key)
        assert (answer.status, answer.code) == (412, "revision_mismatch")


def raw_put(member: Member, path: str, body: bytes, headers: dict[str, str]) -> socket.socket:
    """Send a whole request; whoever gets the socket may read the answer, or not."""
    connection = socket.create_connection(("127.0.0.1", member.api), timeout=patience_s)
    lines = [f"PUT {path} HTTP/1.1", "Host: tenure", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return connection


def answered(connection: socket.socket) -> bytes | None:
    """The answer's body if all of it came."""
    with suppress(OSError, http.client.HTTPException):
        response = http.client.HTTPResponse(connection)
        response.begin()
        body = response.read()
        return body if response.status == 200 else None
    return None


@pytest.mark.parametrize("told_first", [True, False], ids=["after the answer", "before the answer"])
@pytest.mark.parametrize("asked", ["leader", "follower"])
@pytest.mark.parametrize("origin", ["key", "sequence"])
def test_a_repeated_request_has_one_effect_across_a_killed_leader(
    three: Cluster, origin: str, asked: str, told_first: bool
) -> None:
    opened = done(three["m1"].ask("POST", "/v1/clients", {"nonce": "00112233445566ff"}))["client"]
    for turn in range(3):
        leader = three.leader()
        follower = next(name for name in three.members if name != leader)
        via = leader if asked == "leader" else follower
        path, key, body = f"/v1/kv/k{turn}", f"k{turn}", json.dumps({"value": turn, "if_revision": 0}).encode()
        if origin == "key":
            headers = {"Idempotency-Key": f"turn {turn}"}
        else:
            headers = {"Tenure-Client": opened, "Tenure-Sequence": str(turn + 1), "Tenure-Answered-Below": "1"}
        connection = raw_put(three[via], path, body, headers)
        first = answered(connection) if told_first else None
        three.kill(leader)
        first = answered(connection) if first is None else first
        connection.close()
        survivors = three.running
        assert len(survivors) == 2
        repeated = [persistently(member, "PUT", path, body, headers) for member in [*survivors, *survivors]]
        assert {answer.status for answer in repeated} == {200}, [answer.raw for answer in repeated]
        assert len({answer.raw for answer in repeated}) == 1
        revision = repeated[0].data["revision"]
        if first is not None:
            assert json.loads(first) == repeated[0].data, "what was answered before the kill is answered again"
        for member in survivors:
            found = done(persistently(member, "GET", path, None, {}))
            assert (found["value"], found["revision"]) == (turn, revision)
        if three[follower].lives == 1:  # a member tells its watchers only of this life
            assert writes(three[follower], key) == [revision]
        three.start(leader)
        three.settled()
    # Whoever was never killed has seen the whole story: each key changed once.
    for name, member in three.members.items():
        if member.lives == 1:
            seen = [each["key"] for each in transitions(member) if each["kind"] == "kv"]
            assert [seen.count(f"k{turn}") for turn in range(3)] == [1, 1, 1], name


def test_numbers_below_the_window_are_never_executed_again(three: Cluster) -> None:
    opened = done(three["m2"].ask("POST", "/v1/clients", {"nonce": "aaaaaaaaaaaaaaaa"}))["client"]
    again = done(three["m3"].ask("POST", "/v1/clients", {"nonce": "aaaaaaaaaaaaaaaa"}))["client"]
    assert again == opened, "opening is safe to repeat by its nonce"

    def headers(sequence: int, below: int) -> dict[str, str]:
        return {
            "Tenure-Client": opened,
            "Tenure-Sequence": str(sequence),
            "Tenure-Answered-Below": str(below),
        }

    one = done(three["m1"].ask("PUT", "/v1/kv/a", {"value": 1}, headers(1, 1)))
    done(three["m2"].ask("PUT", "/v1/kv/a", {"value": 2}, headers(2, 2)))
    leader = three.leader()
    three.kill(leader)
    for member in three.running:
        late = persistently(member, "PUT", "/v1/kv/a", {"value": 1}, headers(1, 1))
        assert (late.status, late.code) == (409, "outcome_unknown")
        found = done(persistently(member, "GET", "/v1/kv/a", None, {}))
        assert found["value"] == 2
        assert found["revision"] > one["revision"]
    never = persistently(
        three.running[0], "PUT", "/v1/kv/a", {"value": 3}, {**headers(3, 3), "Tenure-Client": "1-" + "b" * 16}
    )
    assert (never.status, never.code) == (409, "outcome_unknown"), "a client session that was never opened"
