"""The HTTP client's retries, against servers that follow a script (P9.1)."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, get_args

import pytest

from tenure.client import errors
from tenure.client.errors import of_refused
from tenure.client.http import Client
from tenure.leadership.engine import Code, Refused


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


Reply = tuple[int, Any] | None
"""Status and body; None: close the connection without an answer."""


@dataclass
class Script:
    """What a server answers, and what it saw. `/v1/clients` is answered by itself."""

    answer: Callable[[Seen], Reply]
    seen: list[Seen] = field(default_factory=list)
    clients: int = 0

    def reply(self, seen: Seen) -> Reply:
        if seen.path == "/v1/clients":
            self.clients += 1
            return 200, {"client": f"{self.clients}-{seen.body['nonce']}"}
        self.seen.append(seen)
        return self.answer(seen)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Script

    def _do(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.script.reply(Seen(self.command, self.path, headers, body))
        if reply is None:
            self.close_connection = True
            return
        status, answer = reply
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = _do  # noqa: N815 - http.server finds them by these names

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def server(answer: Callable[[Seen], Reply], base: type[Handler] = Handler) -> Iterator[tuple[str, Script]]:
    script = Script(answer)
    handler = type("Scripted", (base,), {"script": script})
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_address[1]}", script
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def problem(status: int, code: str, **more: Any) -> Reply:
    return status, {"type": "about:blank", "title": "T", "status": status, "detail": "because", "code": code, **more}


WRITTEN = (200, {"key": "k", "revision": 5, "election": None, "term": None})


def in_turn(*replies: Reply) -> Callable[[Seen], Reply]:
    rest = list(replies)
    return lambda _: rest.pop(0) if len(rest) > 1 else rest[0]


def test_a_lost_answer_is_asked_for_again_under_the_same_number() -> None:
    with server(in_turn(None, WRITTEN)) as (url, script), Client(url) as client:
        assert client.kv_put("k", 1).revision == 5
    first, again = script.seen
    assert first.headers["tenure-sequence"] == again.headers["tenure-sequence"] == "1"
    assert first.headers["tenure-client"] == again.headers["tenure-client"]


def test_each_change_has_a_number_of_its_own_and_says_what_is_answered() -> None:
    with server(in_turn(WRITTEN)) as (url, script), Client(url) as client:
        for _ in range(3):
            client.kv_put("k", 1)
    numbers = [(seen.headers["tenure-sequence"], seen.headers["tenure-answered-below"]) for seen in script.seen]
    assert numbers == [("1", "1"), ("2", "2"), ("3", "3")]
    assert script.clients == 1


def test_without_a_quorum_here_the_next_endpoint_is_asked_under_the_same_number() -> None:
    with (
        server(in_turn(problem(503, "no_quorum", retry_after_ms=1))) as (lost, first),
        server(in_turn(WRITTEN)) as (good, second),
        Client([lost, good]) as client,
    ):
        client.kv_put("k", 1)
        client.kv_put("k", 2)
    assert len(first.seen) == 1, "the endpoint that answered is preferred from then on"
    assert [seen.headers["tenure-sequence"] for seen in second.seen] == ["1", "2"]


def test_a_dead_endpoint_is_passed_over() -> None:
    with server(in_turn(WRITTEN)) as (dead, _):
        pass
    with server(in_turn(WRITTEN)) as (good, _), Client([dead, good]) as client:
        assert client.kv_put("k", 1).revision == 5


def test_an_unknown_outcome_after_one_sending_is_asked_anew_under_a_new_client_session() -> None:
    with server(in_turn(problem(409, "outcome_unknown"), WRITTEN)) as (url, script), Client(url) as client:
        client.kv_put("k", 1)
    first, again = script.seen
    assert first.headers["tenure-client"] != again.headers["tenure-client"]


def test_an_unknown_outcome_after_several_sendings_is_told() -> None:
    with (
        server(in_turn(None, problem(409, "outcome_unknown"))) as (url, script),
        Client(url) as client,
        pytest.raises(errors.OutcomeUnknown, match="Read the present state"),
    ):
        client.kv_put("k", 1)
    assert len(script.seen) == 2


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (412, "stale_term", errors.StaleTerm),
        (412, "no_eligible_successor", errors.NoSuccessor),
        (412, "revision_mismatch", errors.Conflict),
        (403, "denied", errors.Denied),
        (401, "unauthorized", errors.Denied),
        (404, "unknown_key", errors.Missing),
        (409, "not_held", errors.NotHeld),
        (413, "too_large", errors.OverLimit),
        (422, "invalid", errors.InvalidRequest),
    ],
)
def test_refusals_are_typed_and_not_repeated(status: int, code: str, kind: type[errors.ClientError]) -> None:
    with server(in_turn(problem(status, code, current_term=9))) as (url, script), Client(url) as client:
        with pytest.raises(kind) as raised:
            client.kv_put("k", 1)
        assert raised.value.next_step in str(raised.value)
        assert raised.value.code == code
    assert len(script.seen) == 1


def test_a_stale_term_says_the_current_one() -> None:
    with server(in_turn(problem(412, "stale_term", current_term=9))) as (url, _), Client(url) as client:
        with pytest.raises(errors.StaleTerm) as raised:
            client.kv_put("k", 1, election="orders", term=5)
        assert raised.value.current_term == 9


def test_nobody_there_is_unreachable_after_the_time_out() -> None:
    with server(in_turn(WRITTEN)) as (dead, _):
        pass
    with Client(dead, timeout=0.1) as client, pytest.raises(errors.Unreachable, match="TENURE_ENDPOINTS"):
        client.kv_get("k")


def test_no_quorum_until_the_time_out_is_no_quorum() -> None:
    with (
        server(in_turn(problem(503, "no_quorum"))) as (url, _),
        Client(url, timeout=0.1) as client,
        pytest.raises(errors.NoQuorum, match="majority"),
    ):
        client.kv_get("k")


def test_who_gives_a_member_no_time_to_answer_has_timed_out() -> None:
    asked, over = threading.Event(), threading.Event()

    def slow(_: Seen) -> Reply:
        asked.set()
        over.wait(30)
        return None

    with server(slow) as (url, _), Client(url, timeout=0.3) as client:
        with pytest.raises(errors.TimedOut, match="more time"):
            client.kv_get("a")
        assert asked.is_set()
        over.set()


def test_something_else_on_the_port_is_named() -> None:
    with (
        server(in_turn((404, b"<html>not here</html>"))) as (url, _),
        Client(url) as client,
        pytest.raises(errors.ProtocolError, match="8368"),
    ):
        client.kv_get("k")


def test_the_secret_goes_up_as_a_bearer_credential() -> None:
    with server(in_turn(WRITTEN)) as (url, script), Client(url, secret="s3cret") as client:
        client.kv_put("k", 1)
    assert script.seen[0].headers["authorization"] == "Bearer s3cret"


def test_a_forked_child_has_a_client_session_of_its_own() -> None:
    with server(in_turn(WRITTEN)) as (url, script), Client(url) as client:
        client.kv_put("k", 1)
        child = os.fork()
        if child == 0:
            client.kv_put("k", 2)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        client.kv_put("k", 3)
    first, childs, second = script.seen
    assert childs.headers["tenure-client"] != first.headers["tenure-client"]
    assert (second.headers["tenure-client"], second.headers["tenure-sequence"]) == (first.headers["tenure-client"], "2")


def test_every_code_of_the_cluster_has_its_error() -> None:
    for code in get_args(Code):
        error = of_refused(Refused(code, "because"))
        assert error.code == code
        assert str(error).startswith("because. ")


@pytest.mark.parametrize("code", ["no_state", "joining", "no_part"])
def test_a_witness_and_a_member_that_joins_are_passed_over(code: str) -> None:
    value = {"type": "kv_value", "key": "a", "value": 1, "revision": 7}
    with server(lambda _: problem(503, code)) as (one, _), server(lambda _: (200, value)) as (other, _):
        with Client([one, other]) as client:
            assert client.kv_get("a").value == 1
        with Client([one], timeout=0.2) as client, pytest.raises(errors.NoQuorum, match="member"):
            client.kv_get("a")
