"""The log in memory against a plain dictionary, and what stays durable."""

from hypothesis import given
from hypothesis import strategies as st

from tenure.base.ids import ConsensusTerm, LogIndex
from tenure.raft.entries import COMMAND, Entry
from tenure.raft.log import Log


def _entry(index: int, term: int) -> Entry:
    return Entry(LogIndex(index), ConsensusTerm(term), COMMAND, b"x" * index)


def _log(*terms: int, base: int = 0, base_term: int = 0) -> Log:
    entries = tuple(_entry(base + place, term) for place, term in enumerate(terms, 1))
    return Log(LogIndex(base), ConsensusTerm(base_term), entries)


def test_a_truncation_lowers_what_is_durable() -> None:
    """P4.5: what was taken away is durable no more, and is to be saved anew."""
    log = _log(1, 1, 2, 2)
    log.truncate(LogIndex(3))
    assert (log.last_index, log.durable, log.unsaved) == (2, 2, 3)


def test_a_snapshot_in_place_of_the_log_is_not_durable_yet() -> None:
    """P4.6: nothing of the new log is durable before its batch."""
    log = _log(1, 1)
    log.reset(LogIndex(9), ConsensusTerm(3))
    assert (log.last_index, log.last_term, log.durable, log.first) == (9, 3, 0, 10)


def test_compaction_keeps_the_term_at_the_base() -> None:
    """The place just below the first entry still answers for log matching."""
    log = _log(1, 2, 3, 3)
    log.compact(LogIndex(2))
    assert (log.first, log.term_at(LogIndex(2)), log.term_at(LogIndex(1))) == (3, 2, None)
    assert [entry.index for entry in log.between(LogIndex(3), LogIndex(4))] == [3, 4]


@given(st.lists(st.integers(1, 4), max_size=12).map(sorted), st.integers(0, 14), st.integers(0, 5), st.integers(0, 5))
def test_fast_rejection_finds_the_last_place_of_a_term(terms: list[int], index: int, term: int, base: int) -> None:
    """Twin: look at every place."""
    log = _log(*terms, base=base, base_term=0)
    places = {base: 0} | {base + place: value for place, value in enumerate(terms, 1)}
    fitting = [place for place, value in places.items() if place <= max(index, base) and value <= term]
    assert log.last_at_or_below(LogIndex(index), ConsensusTerm(term)) == max(fitting, default=base)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=9).map(sorted), st.integers(1, 40), st.integers(1, 9))
def test_a_page_holds_at_least_one_entry_and_keeps_its_limits(terms: list[int], size: int, count: int) -> None:
    """An entry larger than the limit still moves, alone."""
    log = _log(*terms)
    page = log.page(LogIndex(1), count, size)
    assert 1 <= len(page) <= count
    assert len(page) == 1 or sum(len(entry.data) for entry in page) <= size


def test_freshness_is_the_last_term_first_then_the_length() -> None:
    """Raft §5.4.1: a longer log of an older term isn't fresher."""
    log = _log(1, 2)
    assert not log.up_to_date(LogIndex(9), ConsensusTerm(1))
    assert log.up_to_date(LogIndex(1), ConsensusTerm(3))
    assert log.up_to_date(LogIndex(2), ConsensusTerm(2))
    assert not log.up_to_date(LogIndex(1), ConsensusTerm(2))


@given(st.lists(st.integers(1, 3), max_size=9).map(sorted), st.integers(0, 60), st.integers(0, 9), st.integers(0, 3))
def test_what_is_kept_within_a_number_of_bytes(terms: list[int], size: int, index: int, base: int) -> None:
    """Twin: add up what lies above each place."""
    log = _log(*terms, base=base)
    most = min(base + index, log.last_index)
    places = range(base, most + 1)
    fitting = [place for place in places if sum(range(place + 1, log.last_index + 1)) <= size]
    assert log.within(size, LogIndex(most)) == min(fitting, default=most)
    assert log.size == sum(range(base + 1, log.last_index + 1))
    log.compact(LogIndex(most))
    assert log.size == sum(range(most + 1, log.last_index + 1))
