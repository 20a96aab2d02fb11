"""API.md, kv: fenced metadata."""

from tenure.base.ids import ElectionName
from tenure.leadership import limits
from tenure.leadership.commands import KvPut, Release
from tenure.leadership.engine import AnyResult, KvValue, KvWritten, Refused
from tests.leadership.stage import ORDERS, Stage, good

MAIL = ElectionName("mail")


def put(
    stage: Stage,
    election: ElectionName | None = None,
    term: int | None = None,
    key: str = "k",
    value: bytes = b"1",
    if_revision: int | None = None,
) -> AnyResult:
    return stage.do(KvPut(key, value, election, term, if_revision))


def refusal(result: AnyResult) -> tuple[str, int | None]:
    assert isinstance(result, Refused), result
    return result.code, result.current_term


def test_a_key_is_read_with_the_revision_of_its_write() -> None:
    stage = Stage()
    assert put(stage) == KvWritten("k", 1, None, None)
    assert stage.machine.kv_get("k") == KvValue("k", b"1", 1)
    assert put(stage, value=b"2") == KvWritten("k", 2, None, None)
    assert refusal(stage.machine.kv_get("nothing"))[0] == "unknown_key"


def test_a_key_once_written_under_an_election_takes_only_its_current_term() -> None:
    stage = Stage()
    a = stage.stand("a")
    stage.campaign(a, election=MAIL)
    stage.settle()
    term, other = stage.term_of(), stage.term_of(MAIL)
    put(stage)
    assert isinstance(put(stage, ORDERS, term), KvWritten), "the first write under an election fences the key"
    assert refusal(put(stage)) == ("stale_term", term)
    assert refusal(put(stage, MAIL, other)) == ("stale_term", term)
    assert refusal(put(stage, ORDERS, term - 1)) == ("stale_term", term)
    assert refusal(put(stage, ORDERS, term + 1)) == ("stale_term", term)
    assert isinstance(put(stage, ORDERS, term), KvWritten)
    stage.do(Release(a, ORDERS, term, True))
    assert refusal(put(stage, ORDERS, term)) == ("stale_term", term), "nobody holds it"
    stage.campaign(a)
    stage.settle()
    assert refusal(put(stage, ORDERS, term)) == ("stale_term", stage.term_of())
    assert isinstance(put(stage, ORDERS, stage.term_of()), KvWritten)


def test_a_stale_term_fences_no_new_key() -> None:
    stage = Stage()
    stage.stand("a")
    assert refusal(put(stage, ORDERS, 1, key="new"))[0] == "stale_term"
    assert refusal(put(stage, MAIL, 1, key="new"))[0] == "unknown_election"
    assert stage.machine.state.kv == {}


def test_election_and_term_come_together() -> None:
    stage = Stage()
    stage.stand("a")
    put(stage, ORDERS, stage.term_of())
    assert refusal(put(stage, ORDERS, None))[0] == "invalid"
    assert refusal(put(stage, None, stage.term_of()))[0] == "invalid"


def test_a_write_may_depend_on_a_revision() -> None:
    stage = Stage()
    assert isinstance(put(stage, if_revision=0), KvWritten)
    assert refusal(put(stage, if_revision=0))[0] == "revision_mismatch"
    assert isinstance(put(stage, if_revision=1), KvWritten)
    assert refusal(put(stage, if_revision=1))[0] == "revision_mismatch"
    assert refusal(put(stage, key="other", if_revision=1))[0] == "revision_mismatch"


def test_leader_status_is_readable_and_never_writable() -> None:
    stage = Stage()
    stage.keep(stage.stand("a"))
    key = "leader_status/orders"
    assert refusal(put(stage, key=key))[0] == "reserved_key"
    found = good(stage.machine.kv_get(key, stage.steward.hints(stage.now, stage.wall_ms)))
    assert found.value == b'{"node_id":"a","term":1000,"lease_expiry":"2027-01-15T08:00:01.000Z"}'
    assert good(stage.machine.kv_get(key)).value == b'{"node_id":"a","term":1000,"lease_expiry":null}'
    assert refusal(stage.machine.kv_get("leader_status/none"))[0] == "unknown_key"


def test_values_and_all_of_them_together_are_bounded() -> None:
    stage = Stage()
    assert refusal(put(stage, value=b"x" * (limits.kv_value_bytes_max + 1)))[0] == "too_large"
    full = b"x" * limits.kv_value_bytes_max
    count = 0
    while isinstance(put(stage, key=f"k{count:02}", value=full), KvWritten):
        count += 1
    assert count == limits.kv_bytes_max // limits.kv_value_bytes_max - 1
    assert stage.machine.state.kv_bytes == sum(len(key) + len(e.value) for key, e in stage.machine.state.kv.items())
    assert isinstance(put(stage, key="k00", value=b"small"), KvWritten)
    assert isinstance(put(stage, key="again", value=full[:-20]), KvWritten), "room was made"


def test_keys_are_listed_in_order_by_prefix() -> None:
    stage = Stage()
    for key in ("b/2", "a", "b/1", "c"):
        put(stage, key=key)
    stage.stand("n")
    assert stage.machine.kv_list("b/", 10).keys == ("b/1", "b/2")
    assert stage.machine.kv_list("", 10).keys == ("a", "b/1", "b/2", "c", "leader_status/orders")
    assert stage.machine.kv_list("leader_status/", 10).keys == ("leader_status/orders",)
    page = stage.machine.kv_list("", 2)
    assert (page.keys, page.more) == (("a", "b/1"), True)
    assert not stage.machine.kv_list("b/", 2).more
