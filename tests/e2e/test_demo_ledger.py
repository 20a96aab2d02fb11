"""The demo's final check finds what it is there to find."""

from tenure.base.ids import ElectionName, NodeId, SessionId, Term
from tenure.base.instants import rfc3339
from tenure.cli.demo_ledger import Row, findings, longest_gap_us
from tenure.leadership.engine import HoldingView, PhaseView


def holding(term: int, node: str, granted_ms: int) -> HoldingView:
    phases = (PhaseView("vacant", rfc3339(granted_ms - 5)), PhaseView("granted", rfc3339(granted_ms)))
    return HoldingView(
        ElectionName("orders"), Term(term), NodeId(node), SessionId("1-0"), "first", None, None, phases
    )  # fmt: skip


HISTORY = (holding(8, "b", 2_000), holding(7, "a", 1_000))


def row(number: int, term: int, node: str, wall_ms: int) -> Row:
    return Row(number, term, node, wall_ms * 1000, wall_ms)


def test_a_ledger_in_order_passes() -> None:
    assert findings([row(1, 7, "a", 1_010), row(2, 7, "a", 1_999), row(3, 8, "b", 2_010)], HISTORY) == []


def test_a_lower_term_behind_a_higher_one_is_found() -> None:
    wrong = findings([row(1, 8, "b", 2_010), row(2, 7, "a", 1_010)], HISTORY)
    assert len(wrong) == 1
    assert "row 2 of term 7 stands behind row 1 of term 8" in wrong[0]


def test_a_write_after_the_next_grant_is_found_although_the_order_of_terms_is_right() -> None:
    wrong = findings([row(1, 7, "a", 2_100), row(2, 8, "b", 2_200)], HISTORY)
    assert len(wrong) == 1
    assert "after the next term was granted" in wrong[0]


def test_a_write_before_its_grant_a_foreign_writer_and_an_invented_term_are_found() -> None:
    assert "before its term" in findings([row(1, 8, "b", 1_500)], HISTORY)[0]
    assert "written by c" in findings([row(1, 7, "c", 1_500)], HISTORY)[0]
    assert "never granted" in findings([row(1, 9, "a", 2_500)], HISTORY)[0]


def test_the_longest_gap_counts_from_the_beginning_and_to_the_end() -> None:
    written = [row(1, 7, "a", 1_100), row(2, 7, "a", 1_150)]
    assert longest_gap_us(written, 1_000_000, 1_400_000) == 250_000
    assert longest_gap_us([], 1_000_000, 1_400_000) == 400_000
