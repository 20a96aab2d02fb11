"""The checker finds what is planted, passes what is right, agrees with a brute-force twin, and stays fast."""

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from tenure.base.chance import SplitMix64
from tests.sim.linearizability import OPEN, Operation, State, check, check_key, next_state


def put(
    called: int, returned: int, value: str, revision: int | None = None, if_revision: int | None = None
) -> Operation:
    return Operation("k", "put", called, returned, "ok", value, revision, if_revision)


def lost(called: int, value: str, if_revision: int | None = None) -> Operation:
    return Operation("k", "put", called, OPEN, "unknown", value, None, if_revision)


def get(called: int, returned: int, value: str | None, revision: int | None = None) -> Operation:
    return Operation("k", "get", called, returned, "ok", value, revision)


def test_a_history_without_overlap_is_linearizable() -> None:
    assert (
        check_key([get(0, 1, None, 0), put(2, 3, "a", 5), get(4, 5, "a", 5), put(6, 7, "b", 9), get(8, 9, "b", 9)])
        is None
    )


def test_overlapping_operations_may_take_effect_in_either_order() -> None:
    assert check_key([put(0, 9, "a"), put(1, 8, "b"), get(10, 11, "a")]) is None
    assert check_key([put(0, 9, "a"), put(1, 8, "b"), get(10, 11, "b")]) is None


def test_a_stale_read_is_found() -> None:
    violation = check_key([put(0, 1, "a"), put(2, 3, "b"), get(4, 5, "a")])
    assert violation is not None
    assert violation.stuck == (get(4, 5, "a"),)
    assert "none of these can be next" in str(violation)


def test_a_lost_write_is_found() -> None:
    assert check_key([put(0, 1, "a"), get(2, 3, None)]) is not None


def test_a_write_applied_twice_is_found() -> None:
    assert check_key([put(0, 1, "a"), put(2, 3, "b"), get(4, 5, "b"), get(6, 7, "a")]) is not None
    assert check_key([lost(0, "a"), get(1, 2, "a"), put(3, 4, "b"), get(5, 6, "a")]) is not None


def test_a_write_applied_twice_under_a_new_revision_is_found() -> None:
    assert check_key([put(0, 1, "a", 3), get(2, 3, "a", 3), get(4, 5, "a", 4)]) is not None


def test_a_read_from_the_future_is_found() -> None:
    assert check_key([get(0, 1, "a"), put(2, 3, "a")]) is not None
    assert check_key([get(0, 1, "a"), lost(2, "a")]) is not None


def test_two_readers_that_see_two_writes_in_different_order_are_found() -> None:
    history = [put(0, 20, "a"), put(0, 20, "b"), get(1, 2, "a"), get(3, 4, "b"), get(5, 6, "a")]
    assert check_key(history) is not None


def test_an_unknown_write_may_take_effect_late_or_never() -> None:
    assert check_key([put(0, 1, "a"), lost(2, "b"), get(3, 4, "a"), get(5, 6, "a")]) is None
    assert check_key([put(0, 1, "a"), lost(2, "b"), get(3, 4, "a"), get(500, 600, "b")]) is None


def test_an_unknown_write_that_flips_back_is_found() -> None:
    assert check_key([put(0, 1, "a"), lost(2, "b"), get(3, 4, "b"), get(5, 6, "a")]) is not None


def test_an_unknown_write_between_two_reads_of_the_same_value_must_not_hide() -> None:
    history = [put(0, 1, "a", 1), lost(2, "b"), get(3, 4, "b", 2), put(5, 6, "a", 3), get(7, 8, "b", 2)]
    assert check_key(history) is not None


def test_compare_is_checked_against_the_revision() -> None:
    assert check_key([put(0, 1, "a", 1), put(2, 3, "b", 2, if_revision=1), get(4, 5, "b", 2)]) is None
    assert check_key([put(0, 1, "a", 1), put(2, 3, "b", 2), put(4, 5, "c", 3, if_revision=1)]) is not None


def test_a_mismatch_needs_another_revision() -> None:
    mismatch = Operation("k", "put", 4, 5, "mismatch", "c", None, if_revision=1)
    assert check_key([put(0, 1, "a", 1), mismatch]) is not None
    assert check_key([put(0, 1, "a", 1), lost(2, "b"), mismatch]) is None


def test_two_unknown_writes_may_stand_in_a_row() -> None:
    second = lost(3, "c", if_revision=2)
    assert check_key([put(0, 1, "a", 1), lost(2, "b"), second, get(8, 9, "c", 3)]) is None
    assert check_key([put(0, 1, "a", 1), second, get(8, 9, "c", 3)]) is not None


def test_keys_are_judged_apart() -> None:
    other = Operation("other", "get", 4, 5, "ok", "a")
    assert [violation.key for violation in check([put(0, 1, "a"), get(2, 3, "a"), other])] == ["other"]


def test_thousands_of_operations_with_hundreds_of_unknown_ones_are_quick() -> None:
    history = contended(SplitMix64(7), operations=6_000)
    assert sum(operation.outcome == "unknown" for operation in history) > 300
    assert check_key(history) is None
    late = max(operation.returned for operation in history if operation.returned < OPEN)
    assert check_key([*history, get(late + 1, late + 2, history[3].value, 4)]) is not None


def contended(rng: SplitMix64, operations: int) -> list[Operation]:
    """A history of eight clients on a real register: each operation takes effect at a place between call and return."""
    history = []
    value, revision, now = None, 0, 0
    for number in range(operations):
        now += 10
        called, returned = now - rng.below(60), now + rng.below(60)
        match rng.below(10):
            case 0:
                if rng.below(2):
                    value, revision = f"v{number}", revision + 1
                history.append(lost(called, f"v{number}"))
            case 1 | 2 | 3 | 4:
                value, revision = f"v{number}", revision + 1
                history.append(put(called, returned, value, revision))
            case _:
                history.append(get(called, returned, value, revision))
    return history


# --- the twin -------------------------------------------------------------------------------------------------------


def twin(history: Sequence[Operation]) -> bool:
    """Slow and obvious: some order of the known and some of the unknown operations respects time and the register."""
    known = [operation for operation in history if operation.outcome != "unknown"]
    unknown = [operation for operation in history if operation.outcome == "unknown"]
    return any(
        respects_time(order) and respects_register(order)
        for count in range(len(unknown) + 1)
        for taken in combinations(unknown, count)
        for order in permutations([*known, *taken])
    )


def respects_time(order: Sequence[Operation]) -> bool:
    return all(not after.returned < before.called for place, before in enumerate(order) for after in order[place + 1 :])


def respects_register(order: Sequence[Operation]) -> bool:
    state = State()
    for operation in order:
        after = next_state(state, operation)
        if after is None:
            return False
        state = after
    return True


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    """Six operations at most, few values and revisions, so that right and wrong histories are both likely."""
    return list(draw_operations(draw))


def draw_operations(draw: st.DrawFn) -> Iterator[Operation]:
    for _ in range(draw(st.integers(1, 6))):
        called = draw(st.integers(0, 12))
        returned = called + draw(st.integers(0, 6))
        value = draw(st.sampled_from("abc"))
        revision = draw(st.sampled_from([None, 1, 2, 3]))
        condition = draw(st.sampled_from([None, None, 0, 1, 2]))
        match draw(st.sampled_from(["put", "put", "get", "get", "unknown", "mismatch"])):
            case "put":
                yield Operation("k", "put", called, returned, "ok", value, revision, condition)
            case "get":
                seen = draw(st.sampled_from([value, None])) if revision is None else value
                yield Operation("k", "get", called, returned, "ok", seen, revision)
            case "unknown":
                yield Operation("k", "put", called, OPEN, "unknown", value, None, condition)
            case _:
                yield Operation("k", "put", called, returned, "mismatch", value, None, condition or 0)


@settings(max_examples=600, deadline=None)
@given(histories())
def test_the_search_agrees_with_its_twin(history: list[Operation]) -> None:
    assert (check_key(history) is None) == twin(history)
