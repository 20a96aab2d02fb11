"""docs/scripts.md is true: each script that it names is there, and is about the rule that it is listed for."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.mutants.catalogue import MUTANTS

GOLDEN: Final = Path(__file__).parent / "golden"
PAGE: Final = Path(__file__).parents[2] / "docs" / "scripts.md"
SCRIPTED: Final = ("P1.2", "P1.4", "P3.2", "P3.3", "P3.4", "P4.2", "P5.8", "P7.2", "P8")
"""Rules whose breach random seeds find too rarely: each has a script, whatever else holds it."""
transfers_min: Final = 12


def rows() -> list[tuple[str, list[str]]]:
    """The first cell of each row, and the scripts in the last one."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] not in {"---", "scenario", "rule"}:
            found.append((cells[0], re.findall(r"`([^`]+)`", cells[-1])))
    return found


@pytest.mark.parametrize(("what", "scripts"), rows())
def test_what_is_listed_is_there(what: str, scripts: list[str]) -> None:
    assert scripts, what
    for name in scripts:
        assert (GOLDEN / f"{name}.txt").exists(), name


@pytest.mark.parametrize(("rule", "scripts"), [row for row in rows() if row[0] in SCRIPTED])
def test_what_is_shown_of_these_rules_can_fail(rule: str, scripts: list[str]) -> None:
    """A bug is planted that one of the row's scripts must notice (`make mutants`)."""
    killers = {killer.removeprefix("golden:") for mutant in MUTANTS for killer in mutant.killers}
    assert killers & set(scripts), rule


@pytest.mark.parametrize("rule", SCRIPTED)
def test_each_of_these_rules_has_a_script_that_says_so(rule: str) -> None:
    names = [name for what, scripts in rows() if what == rule for name in scripts]
    assert names
    for name in names:
        said = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
        assert rule in said or name.startswith(rule.lower().replace(".", "_") + "_"), f"{name} doesn't say {rule}"


def test_transfers_are_shown_in_many_ways() -> None:
    assert len({name for what, scripts in rows() if what.startswith("transfer") for name in scripts}) >= transfers_min


def test_a_script_shows_something() -> None:
    """A claim in an `expect`, which no rewriting of outputs can lose."""
    for path in sorted(GOLDEN.glob("*.txt")):
        assert re.search(r"^expect ", path.read_text(encoding="utf-8"), re.MULTILINE), path.stem


def test_the_report_of_the_mutants_is_about_those_that_there_are() -> None:
    """`make mutants TABLE=docs/mutants.md` writes it, in a run in which all were killed."""
    report = (PAGE.parent / "mutants.md").read_text(encoding="utf-8")
    reported = re.findall(r"^\| [^|]+ \| `([^`]+)` \|", report, re.MULTILINE)
    assert sorted(reported) == sorted(mutant.name for mutant in MUTANTS)
