"""A client never goes back: neither to a past of the cluster that it knows, nor to a sibling (P1.4)."""

from typing import Any

import pytest

from tenure.client.errors import LeftBehind
from tenure.client.http import Client
from tenure.client.known import Known
from tests.client.test_http import Handler, Script, Seen, server

A, B, C = ("a" * 16, "b" * 16, "c" * 16)


def test_it_goes_forward_only() -> None:
    known = Known()
    assert known.said() == "-"
    assert known.hear(None) is None, "nothing said proves nothing"
    assert known.hear(A) is None
    assert known.hear(f"{A},{B}") is None, "the cluster was restored: it came out of what we know"
    assert known.said() == f"{A},{B}"
    assert "left behind" in (known.hear(A) or "")
    assert (known.hear(f"{A},{C}") or "").startswith("forked")
    assert "another cluster" in (known.hear(C) or "")
    assert known.said() == f"{A},{B}"


def saying(lineage: str) -> Any:
    """A member of this lineage that checks nothing."""

    class Saying(Handler):
        def end_headers(self) -> None:
            self.send_header("Tenure-Lineage", lineage)
            super().end_headers()

    return Saying


def value(_: Seen) -> tuple[int, Any]:
    return 200, {"key": "k", "value": 1, "revision": 1}


def test_an_answer_from_the_past_is_not_believed_and_the_next_endpoint_is_asked() -> None:
    newer = server(value, saying(f"{A},{B}"))
    with newer as (new, _), server(value, saying(A)) as (old, script), Client([new], timeout=2.0) as client:
        client.kv_get("k")
        client._endpoints = [old]
        with pytest.raises(LeftBehind, match="left behind"):
            client.kv_get("k")
        assert script.seen[-1].headers["tenure-lineage"] == f"{A},{B}", "so that a member can refuse by itself"
        client._endpoints = [old, new]
        client._preferred = 0
        assert client.kv_get("k").value == 1


@pytest.mark.parametrize("code", ["forked", "wrong_lineage"])
def test_a_member_that_refuses_for_its_lineage_is_passed_over(code: str) -> None:
    problem = {"title": "Conflict", "status": 409, "detail": "forked: …", "code": code}
    with server(lambda _: (409, problem)) as (other, _), server(value) as (good, _):
        with Client([other, good], timeout=2.0) as client:
            assert client.kv_get("k").value == 1
        with Client([other], timeout=5.0) as client, pytest.raises(LeftBehind):
            client.kv_get("k")


def test_a_write_carries_what_we_know_before_it_is_sent() -> None:
    """Once executed at a wrong cluster it couldn't be taken back."""

    def written(_: Seen) -> tuple[int, Any]:
        return 200, {"key": "k", "revision": 1, "election": None, "term": None}

    script: Script
    with server(written, saying(A)) as (url, script), Client([url], timeout=2.0) as client:
        client.kv_put("k", 1)
        assert script.seen[-1].headers["tenure-lineage"] == A, "heard from the opening of the client session"
