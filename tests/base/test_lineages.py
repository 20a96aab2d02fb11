"""Which lineage may believe which (P1.4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenure.base.ids import Nonce
from tenure.base.lineages import Relation, lineage_max, read, relation, shown, why_not

A, B, C = (Nonce(letter * 16) for letter in "abc")
LINEAGES = st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=4, unique=True).map(tuple)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ((A,), (A,), "same"),
        ((A, B), (A, B), "same"),
        ((A, B), (A,), "older"),
        ((A,), (A, B), "newer"),
        ((A, B), (A, C), "forked"),
        ((A, B, C), (A, C), "forked"),
        ((A,), (B,), "foreign"),
        ((A, B), (B, A), "foreign"),
    ],
)
def test_what_two_lineages_are_to_each_other(
    ours: tuple[Nonce, ...], theirs: tuple[Nonce, ...], expected: Relation
) -> None:
    assert relation(ours, theirs) == expected


@given(LINEAGES, LINEAGES)
def test_both_sides_see_the_same(ours: tuple[Nonce, ...], theirs: tuple[Nonce, ...]) -> None:
    mirror: dict[Relation, Relation] = {"older": "newer", "newer": "older"}
    found = relation(ours, theirs)
    assert relation(theirs, ours) == mirror.get(found, found)
    assert (why_not("m1", ours, theirs) is None) == (ours == theirs), "members take part together only in one lineage"


@given(LINEAGES)
def test_a_lineage_is_read_as_it_was_written(lineage: tuple[Nonce, ...]) -> None:
    assert read(shown(lineage)) == lineage


@pytest.mark.parametrize(
    "text", ["", "-", "A" * 16, "a" * 15, "a" * 16 + ",", ",".join(["a" * 16] * (lineage_max + 1))]
)
def test_what_is_no_lineage_is_not_taken_for_one(text: str) -> None:
    assert read(text) is None


def test_siblings_say_forked() -> None:
    assert (why_not("m2", (A, B), (A, C)) or "").startswith("forked")
