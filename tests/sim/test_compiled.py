"""The compiled simulator has the last word on nothing; what may be compiled is found by looking at the sources."""

from dataclasses import replace
from pathlib import Path

from tests.sim.compiled import (
    COMPARED_EVERY,
    COMPILED_ONLY,
    copy_sources,
    from_sources,
    judge,
    must_be_told,
    to_compile,
)
from tests.sim.run import Outcome, failed_outcome, run
from tests.sim.soak import ROOT

HELD = Outcome(51, 20_000, 7, 0xABC, 10, 1, 1, 1)


def test_the_sources_are_asked_of_every_failure_and_now_and_then() -> None:
    assert not must_be_told(HELD)
    assert must_be_told(replace(HELD, failure="S1"))
    assert must_be_told(replace(HELD, seed=3 * COMPARED_EVERY))


def test_the_sources_say_what_counts() -> None:
    broken = replace(HELD, failure="S1: two leaders")
    assert judge(broken, broken) == broken
    assert judge(HELD, broken) == broken
    alone = judge(broken, HELD)
    assert (alone.failure, alone.seen) == ("", {COMPILED_ONLY: 1})
    assert judge(HELD, HELD) == HELD


def test_another_trace_is_a_failure() -> None:
    assert judge(replace(HELD, trace=1), HELD).failure == "S23: compiled 00000001, from the sources 00000abc"


def test_a_seed_from_the_sources_is_the_seed_that_runs_here() -> None:
    here = run(3)
    assert replace(from_sources(3, ROOT), core_us=0) == replace(here, core_us=0)


def test_sources_that_say_nothing_are_a_failure(tmp_path: Path) -> None:
    told = from_sources(3, tmp_path)
    assert told == failed_outcome(3, told.failure)
    assert "No module named" in told.failure


def test_the_copy_says_what_the_sources_say(tmp_path: Path) -> None:
    copy_sources(ROOT, tmp_path)
    chosen = {str(path) for path in to_compile(tmp_path)}
    assert {"tenure/raft/core.py", "tenure/raft/replication.py", "tests/sim/world.py"} <= chosen
    assert "tenure/raft/messages.py" not in chosen, "nothing but records"
    assert "tenure/leadership/steward.py" in chosen
    assert "tenure/leadership/steward_records.py" not in chosen
    steward = (tmp_path / "tenure" / "leadership" / "steward_records.py").read_text(encoding="utf-8")
    assert "class StewardSettings(Struct, frozen=True):" in steward
    assert "class Steward:" not in steward
    roles = (tmp_path / "tenure" / "raft" / "state.py").read_text(encoding="utf-8")
    assert "slots=True" not in roles
    assert "ClassVar[RoleName]" not in roles
    assert roles.count("def name(self) -> RoleName:") == 4
