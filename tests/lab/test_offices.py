"""Bad accounts of an office are told from good ones."""

from typing import Any

from lab.offices import (
    Accounts,
    Belief,
    gap_us,
    held_from,
    not_granted,
    stale_accepted,
    terms_that_fell,
    terms_within,
    two_at_once,
    unrefused,
    wrong,
)

GRANTED = {7: "m1", 9: "m2"}


def heard(*told: tuple[str, dict[str, Any]]) -> Accounts:
    accounts = Accounts()
    for node, line in told:
        accounts.hear(node, line)
    return accounts


def believed(node: str, term: int, begin: int, end: int) -> tuple[str, dict[str, Any]]:
    return node, {"kind": "believed", "term": term, "begin": begin, "end": end}


def wrote(node: str, term: int, revision: int) -> tuple[str, dict[str, Any]]:
    key = f"office/{node}/{term}/{revision}"
    line = {"kind": "wrote", "term": term, "key": key, "value": "v", "revision": revision}
    return node, {**line, "asked": 10 * revision, "at": 10 * revision + 5}


def entered(node: str, term: int, row: int) -> tuple[str, dict[str, Any]]:
    line = {"kind": "entered", "term": term, "row": row, "name": f"{node}/{row}"}
    return node, {**line, "asked": 10 * row, "at": 10 * row + 5}


def over(node: str, term: int, where: str) -> tuple[str, dict[str, Any]]:
    return node, {"kind": "over", "term": term, "where": where}


GOOD = (
    believed("m1", 7, 100, 200),
    believed("m1", 7, 200, 250),
    wrote("m1", 7, 11),
    entered("m1", 7, 1),
    ("m1", {"kind": "led", "term": 7, "at": 100}),
    ("m1", {"kind": "not_written", "term": 7, "code": "no_quorum"}),
    over("m1", 7, "ledger"),
    over("m1", 7, "cluster"),
    believed("m2", 9, 300, 400),
    entered("m2", 9, 2),
    wrote("m2", 9, 15),
    ("m1", {"kind": "refused", "term": 7, "where": "ledger"}),
)


def test_a_good_account_has_nothing_wrong() -> None:
    assert wrong(heard(*GOOD), GRANTED) == []


def test_two_whose_checks_pass_at_one_instant_are_found_also_when_a_third_lies_between() -> None:
    assert two_at_once([Belief(0, 99, 7, "m1"), Belief(100, 200, 9, "m2")]) == []
    assert len(two_at_once([Belief(0, 100, 7, "m1"), Belief(100, 200, 9, "m2")])) == 1
    assert len(two_at_once([Belief(0, 500, 7, "m1"), Belief(10, 20, 7, "m1"), Belief(300, 310, 9, "m2")])) == 1
    assert len(two_at_once([Belief(0, 100, 7, "m1"), Belief(50, 60, 9, "m1")])) == 1, "one node, but two terms"
    assert wrong(heard(*GOOD, believed("m2", 9, 240, 260)), GRANTED) != []


def test_a_term_that_falls_or_comes_twice_is_found() -> None:
    assert len(terms_that_fell([Belief(0, 1, 9, "m1"), Belief(2, 3, 7, "m2")])) == 1
    assert len(terms_that_fell([Belief(0, 1, 7, "m1"), Belief(2, 3, 7, "m2")])) == 1
    assert len(terms_that_fell([Belief(0, 1, 7, "m1"), Belief(2, 3, 9, "m2"), Belief(4, 5, 7, "m1")])) == 1
    assert wrong(heard(*GOOD, believed("m1", 7, 500, 510)), GRANTED) != []


def test_a_term_that_was_granted_to_another_or_to_nobody_is_found() -> None:
    assert not_granted([Belief(0, 1, 7, "m1")], {7: "m2"}) == ["m1 believed in term 7, granted to m2"]
    assert not_granted([Belief(0, 1, 7, "m1")], {}) == ["m1 believed in term 7, granted to nobody"]
    assert wrong(heard(*GOOD), {7: "m1"}) != []


def test_a_stale_token_that_a_guard_accepts_is_found_at_each_guard_by_itself() -> None:
    assert stale_accepted(heard(*GOOD).accepted) == []
    for late in (entered("m1", 7, 3), wrote("m1", 7, 16)):
        (text,) = stale_accepted(heard(*GOOD, late).accepted)
        assert "accepted a stale token" in text
        assert wrong(heard(*GOOD, late), GRANTED) == [text]
    assert stale_accepted(heard(*GOOD, wrote("m1", 7, 14)).accepted) == [], "told late, accepted in time"


def test_a_lease_that_passes_again_and_a_user_in_trouble_are_wrong() -> None:
    for kind in ("revived", "trouble"):
        assert len(wrong(heard(*GOOD, ("m1", {"kind": kind, "term": 7})), GRANTED)) == 1


def test_a_token_is_to_be_refused_once_its_guard_has_accepted_a_greater_term() -> None:
    assert unrefused(heard(*GOOD)) == {("cluster", "m1", 7)}
    assert unrefused(heard(*GOOD, ("m1", {"kind": "refused", "term": 7, "where": "cluster"}))) == set()
    assert unrefused(heard(over("m1", 7, "ledger"), entered("m1", 7, 1))) == set()


def test_the_time_without_a_holder_is_the_longest_stretch_that_no_belief_covers() -> None:
    beliefs = heard(*GOOD).beliefs
    assert gap_us(beliefs, 100, 400) == 50
    assert gap_us(beliefs, 0, 320) == 100
    assert gap_us(beliefs, 210, 240) == 0
    assert gap_us(beliefs, 320, 480) == 80
    assert gap_us([], 5, 25) == 20
    assert terms_within(beliefs, 100, 300) == {7}
    assert terms_within(beliefs, 240, 301) == {7, 9}


def test_an_office_is_held_again_with_the_first_write_that_was_sent_after_the_healing() -> None:
    accepted = heard(*GOOD).accepted
    assert held_from(accepted, 110) == 115
    assert held_from(accepted, 111) == 155
    assert held_from(accepted, 151) is None, "what was sent before says nothing, nor does the ledger"
