"""Each mutant still has the place in the code that it changes: `make mutants` takes long, this is told at once."""

from pathlib import Path

import pytest

import tenure
from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant

SOURCE = Path(tenure.__file__).parent


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_old_text_stands_just_once_in_its_file(mutant: Mutant) -> None:
    text = (SOURCE / mutant.file).read_text()
    for old in (mutant.old, *(old for old, _ in mutant.more)):
        assert text.count(old) == 1, old


def test_names_are_their_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
