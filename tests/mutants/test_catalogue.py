"""Each mutant still has the place in the code that it changes: `make mutants` takes long, this is told at once."""

from pathlib import Path

import pytest

import tenure
from tests.mutants.catalogue import MUTANTS
from tests.mutants.demanded import BUGS, RULES, WITHOUT
from tests.mutants.mutant import Mutant

SOURCE = Path(tenure.__file__).parent


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_old_text_stands_just_once_in_its_file(mutant: Mutant) -> None:
    text = (SOURCE / mutant.file).read_text()
    for old in (mutant.old, *(old for old, _ in mutant.more)):
        assert text.count(old) == 1, old


def test_names_are_their_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_each_rule_has_a_mutant_or_a_reason() -> None:
    """What a mutant names besides are claims of DESIGN, ADRs and VERIFICATION, by their own letters."""
    broken = {mutant.rule for mutant in MUTANTS}
    assert set(RULES) - broken == set(WITHOUT)
    assert {rule for rule in broken if rule.startswith("P")} <= {*RULES, "P7"}


@pytest.mark.parametrize("bug", BUGS)
def test_each_bug_that_must_die_is_planted(bug: str) -> None:
    assert set(BUGS[bug]) <= {mutant.name for mutant in MUTANTS}


def test_killers_that_are_scripts_are_there() -> None:
    """A test's name is judged by pytest when mutants are run; a script's is looked for here."""
    golden = Path(__file__).parent.parent / "raft" / "golden"
    named = {
        killer.removeprefix("golden:") for one in MUTANTS for killer in one.killers if killer.startswith("golden:")
    }
    assert {name for name in named if not (golden / f"{name}.txt").exists()} == set()
