"""P9: one effect per request, and a clear word where that can't be known any more."""

import pytest

from tenure.base.ids import LogIndex, NodeId
from tenure.leadership import limits
from tenure.leadership.commands import Evict, KvPut, OpenClient, OpenSession
from tenure.leadership.engine import AnyResult, ClientOpened, Keyed, KvWritten, Origin, Refused, Sequenced
from tenure.leadership.machine import Machine
from tests.leadership.stage import Stage


def client(stage: Stage, nonce: str = "c" * 16) -> str:
    result = stage.do(OpenClient(nonce))
    assert isinstance(result, ClientOpened)
    return result.client


def put(stage: Stage, origin: Origin, value: bytes = b"1", key: str = "k") -> AnyResult:
    return stage.do(KvPut(key, value, None, None, None), origin)


def value(stage: Stage) -> bytes:
    return stage.machine.state.kv["k"].value


def code(result: AnyResult) -> str:
    assert isinstance(result, Refused), result
    return result.code


# --- P9.1 -----------------------------------------------------------------------------------------------------------


def test_a_repeated_number_gets_its_answer_again_and_has_no_second_effect() -> None:
    stage = Stage()
    name = client(stage)
    first = put(stage, Sequenced(name, 1, 1), b"1")
    put(stage, Sequenced(name, 2, 1), b"2")
    count = stage.machine.last_transition
    assert put(stage, Sequenced(name, 1, 1), b"1") == first
    assert value(stage) == b"2"
    assert stage.machine.last_transition == count


def test_numbers_may_come_out_of_order() -> None:
    stage = Stage()
    name = client(stage)
    assert isinstance(put(stage, Sequenced(name, 5, 1)), KvWritten)
    assert isinstance(put(stage, Sequenced(name, 3, 1)), KvWritten)


def test_a_number_below_the_window_is_never_executed_again() -> None:
    stage = Stage()
    name = client(stage)
    put(stage, Sequenced(name, 1, 1), b"1")
    put(stage, Sequenced(name, 2, 2), b"2")
    assert code(put(stage, Sequenced(name, 1, 1), b"1")) == "outcome_unknown"
    assert value(stage) == b"2"


def test_the_window_is_bounded_and_what_falls_out_is_unknown() -> None:
    stage = Stage()
    name = client(stage)
    for number in range(1, limits.client_window_max + 2):
        assert isinstance(put(stage, Sequenced(name, number, 0)), KvWritten)
    assert code(put(stage, Sequenced(name, 1, 0))) == "outcome_unknown"
    assert isinstance(put(stage, Sequenced(name, 2, 0)), KvWritten)
    assert len(stage.machine.state.clients[name].answers) == limits.client_window_max


def test_an_unknown_client_session_is_never_executed() -> None:
    stage = Stage()
    assert code(put(stage, Sequenced("1-" + "f" * 16, 1, 1))) == "outcome_unknown"
    assert stage.machine.state.kv == {}


def test_opening_a_client_twice_finds_it_and_after_its_end_begins_another() -> None:
    stage = Stage()
    name = client(stage)
    assert client(stage) == name
    stage.do(Evict(stage.term, LogIndex(0), LogIndex(stage.index + 1)))
    assert client(stage) != name, "no old number counts in the new one"
    assert code(put(stage, Sequenced(name, 1, 1))) == "outcome_unknown"


def test_refusals_are_answers_too() -> None:
    stage = Stage()
    name = client(stage)
    stage.open("a")
    body = OpenSession(NodeId("a"), 1_000, "f" * 16, {})
    first = stage.do(body, Sequenced(name, 1, 1))
    assert code(first) == "node_in_use"
    stage.after(5_000)
    stage.settle()
    assert stage.machine.state.sessions == {}
    assert stage.do(body, Sequenced(name, 1, 1)) == first, "who was told no must not see a late copy succeed"


# --- P9.2 -----------------------------------------------------------------------------------------------------------


def test_one_key_has_one_effect() -> None:
    stage = Stage()
    first = put(stage, Keyed("p", "key", "d1"), b"1")
    stage.do(KvPut("k", b"2", None, None, None))
    assert put(stage, Keyed("p", "key", "d1"), b"1") == first
    assert value(stage) == b"2"


def test_another_body_under_the_same_key_is_refused() -> None:
    stage = Stage()
    put(stage, Keyed("p", "key", "d1"), b"1")
    assert code(put(stage, Keyed("p", "key", "d2"), b"2")) == "key_reused"
    assert value(stage) == b"1"


@pytest.mark.parametrize("other", [Keyed("q", "key", "d"), Keyed("p:k", "ey", "d"), Keyed("", "p:key", "d")])
def test_a_key_is_bound_to_its_principal(other: Keyed) -> None:
    stage = Stage()
    put(stage, Keyed("p", "key", "d"), b"1")
    assert isinstance(put(stage, other, b"2"), KvWritten)
    assert value(stage) == b"2"


def test_keys_are_bounded_by_count_oldest_first() -> None:
    stage = Stage()
    for number in range(limits.keyed_max + 1):
        put(stage, Keyed("p", str(number), "d"), str(number).encode())
    assert len(stage.machine.state.keyed) == limits.keyed_max
    put(stage, Keyed("p", "1", "d"), b"1")
    assert value(stage) == str(limits.keyed_max).encode(), "still known"
    put(stage, Keyed("p", "0", "d"), b"0")
    assert value(stage) == b"0", "evicted: not exactly once any more, as documented"


def test_the_steward_evicts_what_is_old_and_keeps_what_is_young() -> None:
    stage = Stage()
    name = client(stage)
    put(stage, Keyed("p", "old", "d"))
    for _ in range(10):
        stage.after(60_000)
        assert stage.settle() == []
    put(stage, Keyed("p", "young", "d"))
    stage.after(60_000)
    (evict,) = stage.settle()
    assert isinstance(evict, Evict)
    assert list(stage.machine.state.keyed) == ["1:p:young"]
    assert name in stage.machine.state.clients
    stage.after(3_600_000)
    stage.settle()
    assert stage.machine.state.clients == {}


def test_answers_survive_a_snapshot() -> None:
    stage = Stage()
    name = client(stage)
    first = put(stage, Sequenced(name, 1, 1), b"1")
    second = put(stage, Keyed("p", "key", "d"), b"2")
    again = Stage(machine=Machine.restore(stage.machine.snapshot()))
    assert put(again, Sequenced(name, 1, 1), b"1") == first
    assert put(again, Keyed("p", "key", "d"), b"2") == second
    assert client(again) == name
