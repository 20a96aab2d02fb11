"""P2.1, P2.2: a stamp in the log raises what is issued next, and never lowers it."""

from tenure.leadership.commands import Stamp
from tests.leadership.stage import Stage


def test_a_stamp_below_what_was_issued_repeats_no_term() -> None:
    """An operator's floor had raised the counter above any clock's stamp."""
    stage = Stage()
    stage.do(Stamp(floor=2**50))
    stage.stand("a")
    assert stage.term_of() == 2**50
    stage.after(10)
    stage.do(Stamp(floor=None))
    stage.keep_all(until_ms=3_000)
    stage.stand("b")
    assert stage.term_of() == 2**50 + 1
