"""Whoever knows another lineage is refused before anything is done (P1.4)."""

import pytest
from websockets.exceptions import InvalidStatus

from tenure.leadership.engine import KvPut
from tests.api.scripted import Scripted, Server
from tests.api.test_stream import streaming

A, B, C = ("a" * 16, "b" * 16, "c" * 16)
OURS = f"{A},{B}"
REFUSED = {
    f"{A},{B},{C}": ("wrong_lineage", "left behind"),
    f"{A},{C}": ("forked", "forked"),
    C: ("wrong_lineage", "cluster"),
    "nonsense": ("bad_request", "nonces"),
}


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("known", [None, "-", A, OURS])
def test_who_knows_nothing_or_a_past_of_ours_is_answered_and_told(
    engine: Scripted, server: Server, known: str | None, cold: bool
) -> None:
    headers = {} if known is None else {"Tenure-Lineage": known}
    answered = server.ask("PUT", "/v1/kv/k", {"value": 1}, headers, cold=cold)
    assert answered.status == 200
    is_hot = not cold and known in {None, OURS}
    assert answered.headers.get("tenure-lineage") == (None if known is None or is_hot else OURS)
    assert any(isinstance(request, KvPut) for request, _ in engine.asked)


@pytest.mark.parametrize("known", REFUSED)
def test_who_knows_another_lineage_is_refused_and_nothing_is_done(engine: Scripted, server: Server, known: str) -> None:
    code, words = REFUSED[known]
    answered = server.ask("PUT", "/v1/kv/k", {"value": 1}, {"Tenure-Lineage": known})
    assert (answered.status, answered.json["code"]) == (400 if code == "bad_request" else 409, code)
    assert words in answered.json["detail"]
    assert engine.asked == []


def test_a_stream_says_its_lineage_and_refuses_another(server: Server) -> None:
    with streaming(server, additional_headers={"Tenure-Lineage": A}) as client:
        response = client.socket.response
        assert response is not None
        assert response.headers["Tenure-Lineage"] == OURS
    with (
        pytest.raises(InvalidStatus) as refused,
        streaming(server, additional_headers={"Tenure-Lineage": f"{A},{C}"}),
    ):
        pass
    assert refused.value.response.status_code == 409
    assert b'"code":"forked"' in refused.value.response.body


def test_before_the_founding_there_is_nothing_to_compare(engine: Scripted, server: Server) -> None:
    engine.nonces = ()
    assert server.ask("GET", "/status", headers={"Tenure-Lineage": C}).status == 200


def test_life_is_told_to_everybody(server: Server) -> None:
    assert server.ask("GET", "/livez", headers={"Tenure-Lineage": C}).status == 200
