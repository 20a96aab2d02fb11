"""The checker finds what is planted, passes what is right, agrees with a brute-force twin, and stays fast."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tenure.base.chance import SplitMix64
from tests.sim.executions import (
    Load,
    effect_of,
    executed,
    late_term,
    lost_update,
    scrambled,
    second_effect,
    spoiled,
    stale_read,
    turned_back,
)
from tests.sim.linearizability import OPEN, Operation, Violation, check, check_key

pytestmark = pytest.mark.slow

Outcome: TypeAlias = Literal["ok", "mismatch", "stale", "unknown"]
Plant: TypeAlias = Callable[[Sequence[Operation]], list[Operation]]


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
    assert violation.stuck == (put(2, 3, "b"), get(4, 5, "a")), "the read still wants what the write would cover"
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
    (found,) = check([put(0, 1, "a"), get(2, 3, "a"), other])
    assert isinstance(found, Violation)
    assert found.key == "other"


# --- conditions, terms, several keys --------------------------------------------------------------------------------


def fenced(
    called: int, returned: int, value: str, term: int | None, outcome: Outcome = "ok", current: int | None = None
) -> Operation:
    election = None if term is None else "e"
    return Operation("k", "put", called, returned, outcome, value, None, None, "", election, term, current)


def test_an_update_that_overwrites_what_it_never_saw_is_found() -> None:
    """Both read revision 1 and wrote upon it: the first one's update is lost."""
    assert check_key([put(0, 1, "a", 1), put(2, 9, "b", 2, if_revision=1), put(2, 9, "c", 3, if_revision=1)])


def test_what_was_refused_has_no_effect() -> None:
    mismatch = Operation("k", "put", 2, 3, "mismatch", "b", None, if_revision=7)
    assert check_key([put(0, 1, "a", 1), mismatch, get(4, 5, "a")]) is None
    assert check_key([put(0, 1, "a", 1), mismatch, get(4, 5, "b")])
    stale = fenced(2, 3, "b", 1, "stale", 2)
    assert check_key([put(0, 1, "a", 1), stale, get(4, 5, "a")]) is None
    assert check_key([put(0, 1, "a", 1), stale, get(4, 5, "b")])


def test_an_unknown_write_needs_a_place_between_the_revisions() -> None:
    """The log has nothing between 1 and 2, so the refusal can't come from a write between them."""
    mismatch = Operation("k", "put", 2, 3, "mismatch", "c", None, if_revision=1)
    assert check_key([put(0, 1, "a", 1), lost(2, "b"), mismatch, put(4, 5, "d", 3, if_revision=2)]) is None
    assert check_key([put(0, 1, "a", 1), lost(2, "b"), mismatch, get(4, 5, "a"), put(6, 7, "d", 2)])


def test_a_term_that_is_over_writes_nothing() -> None:
    assert check_key([fenced(0, 1, "a", 1), fenced(2, 3, "b", 2), fenced(4, 5, "c", 2)]) is None
    assert check_key([fenced(0, 1, "a", 2), fenced(2, 3, "b", 1)])
    assert check_key([fenced(0, 1, "a", 1, "stale", 2), fenced(2, 3, "b", 1)]), "the refusal told of term 2"
    assert check_key([fenced(0, 1, "a", 1, "stale", 1), fenced(2, 3, "b", 1)]), "term 1 was over"
    assert check_key([fenced(0, 1, "a", 1, "stale", 1), fenced(2, 3, "b", 2)]) is None
    assert check_key([fenced(0, 3, "a", 1, "stale", 2), fenced(2, 5, "b", 1)]) is None, "they overlap"


def test_a_refusal_must_be_right() -> None:
    assert check_key([fenced(0, 1, "a", 2), fenced(2, 3, "b", 2, "stale", 2)]) is None, "over meanwhile"
    assert check_key([fenced(0, 1, "a", 2), fenced(2, 3, "b", 2, "stale", 1)]), "term 1 was not the last one any more"


def test_a_key_once_written_under_a_term_takes_no_write_without_one() -> None:
    assert check_key([fenced(0, 1, "a", None), fenced(2, 3, "b", 1), fenced(4, 5, "c", None, "stale", 1)]) is None
    assert check_key([fenced(0, 1, "b", 1), fenced(2, 3, "c", None)])
    assert check_key([fenced(0, 1, "a", None), fenced(2, 3, "c", None, "stale", 1)]), "it was never written so"
    assert check_key([fenced(0, OPEN, "b", 1, "unknown"), fenced(2, 3, "c", None, "stale", 1)]) is None


def test_an_unknown_write_of_an_old_term_came_before_the_new_one() -> None:
    late = fenced(0, OPEN, "a", 1, "unknown")
    assert check_key([late, fenced(2, 3, "b", 2, "stale", 2), get(4, 5, "a")]) is None
    assert check_key([late, fenced(2, 3, "b", 2), get(4, 5, "b"), get(6, 7, "a")])


def test_an_elections_terms_are_one_over_all_its_keys() -> None:
    other = Operation("other", "put", 2, 3, "ok", "b", None, None, "", "e", 1)
    assert check([fenced(0, 1, "a", 1), other]) == ()
    (found,) = check([fenced(0, 1, "a", 2), other])
    assert "a term that was over" in str(found)
    (found,) = check([replace(fenced(0, 9, "a", 2), revision=5), replace(other, revision=6)])
    assert "an older term at a higher revision" in str(found)


def test_revisions_are_places_of_one_log_over_all_keys() -> None:
    other = Operation("other", "put", 2, 3, "ok", "b", 4)
    assert check([put(0, 1, "a", 3), other]) == ()
    for revision, wrong in ((4, "two writes at one revision"), (5, "a later write has a lower revision")):
        (found,) = check([put(0, 1, "a", revision), other])
        assert wrong in str(found)


def test_nothing_is_claimed_of_the_order_of_different_keys_where_no_revision_is_told() -> None:
    """Two writes that overlap, two readers that see them in different order: each key alone is right."""
    x, y = replace(put(0, 9, "a"), key="x"), replace(put(0, 9, "b"), key="y")
    reads = [(1, "x", "a"), (2, "y", None), (3, "y", "b"), (4, "x", "a")]
    assert check([x, y, *(Operation(key, "get", at, at, "ok", value) for at, key, value in reads)]) == ()


# --- long ones -------------------------------------------------------------------------------------------------------

busy: Final = Load(clients=12, keys=3, fenced_keys=1)
LONG: Final[list[tuple[str, Load]]] = [
    ("three keys, one of them fenced", busy),
    ("one key", Load(clients=24, keys=1)),
    ("one fenced key, a fifth of the writes unknown", Load(clients=12, keys=1, fenced_keys=1, lost=20)),
    ("a store that tells no revisions", Load(clients=8, keys=1, tells=False)),
]


@pytest.mark.parametrize(("load"), [load for _, load in LONG], ids=[name for name, _ in LONG])
def test_long_histories_are_judged_right(load: Load) -> None:
    history = executed(7, 15_000, load)
    assert sum(operation.outcome == "unknown" for operation in history) > 200
    assert check(history) == ()


@pytest.mark.slow
def test_a_hundred_thousand_operations() -> None:
    history = executed(8, 100_000, busy)
    assert check(history) == ()
    (found,) = check(stale_read(history))
    assert isinstance(found, Violation)
    assert found.ordered > 20_000, "it says how far everything was right"


@pytest.mark.parametrize(
    "plant",
    [stale_read, lost_update, effect_of("mismatch"), effect_of("stale"), second_effect, late_term, turned_back],
    ids=["stale read", "lost update", "refused", "refused as stale", "second effect", "late term", "turned back"],
)
def test_each_planted_fault_is_found_late_in_a_long_history(plant: Plant) -> None:
    history = executed(9, 12_000, busy)
    assert check(plant(history)) != ()


# --- the twin -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plain:
    """A key and its election, as simply as they can be said."""

    value: str | None = None
    revision: int = 0
    fenced: bool = False
    term: int = 0
    over: bool = False

    def results(self, operation: Operation, revisions: int, terms: int) -> "Iterator[Plain]":
        """Every state in which this operation may leave the key, with this result."""
        if operation.kind == "get":
            if operation.value == self.value and operation.revision in {None, self.revision}:
                yield self
            return
        for begun in self.later_terms(terms):
            if operation.outcome == "stale":
                fences = begun.fenced if operation.term is None else begun.over or begun.term != operation.term
                if fences and operation.current_term in {None, begun.term}:
                    yield begun
            elif (begun.term == operation.term and not begun.over) if operation.term else not begun.fenced:
                yield from begun.after(operation, revisions)

    def later_terms(self, terms: int) -> "Iterator[Plain]":
        """Grants and ends of terms may have happened meanwhile."""
        for term in range(self.term, max(terms, self.term + 1)):
            for over in (False, True):
                if (term, over) >= (self.term, self.over):
                    yield dataclasses.replace(self, term=term, over=over)

    def after(self, operation: Operation, revisions: int) -> "Iterator[Plain]":
        matches = operation.if_revision in {None, self.revision}
        if operation.outcome == "mismatch":
            if not matches:
                yield self
        elif matches:
            told = None if operation.outcome == "unknown" else operation.revision
            for revision in range(self.revision + 1, revisions) if told is None else [told]:
                if revision > self.revision:
                    fenced = self.fenced or operation.term is not None
                    yield dataclasses.replace(self, value=operation.value, revision=revision, fenced=fenced)


def twin(history: Sequence[Operation]) -> bool:
    """Slow and obvious: some order of the known and of some unknown operations respects time and the register."""
    spoken_of = [each for one in history for each in (one.revision, one.if_revision) if each is not None]
    revisions = max(spoken_of, default=0) + len(history) + 2
    terms = max((each for one in history for each in (one.term, one.current_term) if each), default=0) + 2
    failed: set[tuple[frozenset[int], Plain]] = set()

    def goes_on(left: frozenset[int], state: Plain) -> bool:
        if all(history[place].outcome == "unknown" for place in left):
            return True
        if (left, state) in failed:
            return False
        for place in left:
            if not any(history[other].returned < history[place].called for other in left):
                for after in state.results(history[place], revisions, terms):
                    if goes_on(left - {place}, after):
                        return True
        failed.add((left, state))
        return False

    return goes_on(frozenset(range(len(history))), Plain())


@st.composite
def histories(draw: st.DrawFn, *, fenced: bool) -> list[Operation]:
    """Few operations, values, revisions and terms, so that right and wrong histories are both likely."""
    return [draw_operation(draw, fenced=fenced) for _ in range(draw(st.integers(1, 6)))]


def draw_operation(draw: st.DrawFn, *, fenced: bool) -> Operation:
    called = draw(st.integers(0, 12))
    returned = called + draw(st.integers(0, 6))
    value = draw(st.sampled_from("abc"))
    revision = draw(st.sampled_from([None, 1, 2, 3]))
    condition = draw(st.sampled_from([None, None, 0, 1, 2]))
    term = draw(st.sampled_from([None, 1, 1, 2])) if fenced else None
    election = None if term is None else "e"
    match draw(st.sampled_from(["put", "put", "get", "get", "unknown", "mismatch", "stale" if fenced else "unknown"])):
        case "put":
            return Operation("k", "put", called, returned, "ok", value, revision, condition, "", election, term)
        case "get":
            seen = draw(st.sampled_from([value, None])) if revision is None else value
            return Operation("k", "get", called, returned, "ok", seen, revision)
        case "unknown":
            return Operation("k", "put", called, OPEN, "unknown", value, None, condition, "", election, term)
        case "stale":
            current = draw(st.sampled_from([None, 1, 2, 2, 3]))
            return Operation("k", "put", called, returned, "stale", value, None, None, "", election, term, current)
        case _:
            return Operation("k", "put", called, returned, "mismatch", value, None, condition or 0, "", election, term)


@settings(max_examples=200, deadline=None)
@given(histories(fenced=False))
def test_the_search_agrees_with_its_twin(history: list[Operation]) -> None:
    assert (check_key(history) is None) == twin(history)


@settings(max_examples=200, deadline=None)
@given(histories(fenced=True))
def test_the_search_agrees_with_its_twin_on_fenced_keys(history: list[Operation]) -> None:
    assert (check_key(history) is None) == twin(history)


def test_the_search_agrees_with_its_twin_on_what_was_executed_and_on_what_was_spoiled() -> None:
    found: Counter[bool] = Counter()
    for seed in range(150):
        rng = SplitMix64(seed)
        history = scrambled(rng, 1 + rng.below(7))
        assert check_key(history) is None, f"seed {seed}: {history}"
        for _ in range(2):
            history = spoiled(rng, history) if history else history
            right = check_key(history) is None
            assert right == twin(history), f"seed {seed}: {history}"
            found[right] += 1
    assert min(found[True], found[False]) > 40, "both answers were likely"
