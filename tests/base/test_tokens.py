"""The text form of a fencing token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenure.base.errors import Invalid
from tenure.base.tokens import FencingToken, parse, token, token_chars_max

OWNER = "0123456789abcdef" * 2
names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
terms = st.integers(1, 2**53 - 1)
owners = st.from_regex(r"[0-9a-f]{32}", fullmatch=True)


@given(names, terms, owners)
def test_what_is_written_is_read_back(name: str, term: int, owner: str) -> None:
    written = str(token(name, term, owner))
    assert len(written) <= token_chars_max
    assert parse(written) == token(name, term, owner)


@given(st.text(max_size=160))
def test_any_text_is_a_token_or_invalid_and_only_the_one_form_is_taken(text: str) -> None:
    try:
        read = parse(text)
    except Invalid as error:
        assert error.field == "token"
    else:
        assert str(read) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"t1.orders.7.{OWNER}\n",
        f" t1.orders.7.{OWNER}",
        f"t2.orders.7.{OWNER}",
        f"t1.orders.07.{OWNER}",
        f"t1.orders.0.{OWNER}",
        f"t1.orders.-7.{OWNER}",
        f"t1.orders.+7.{OWNER}",
        f"t1.orders.٧.{OWNER}",
        f"t1.orders.{2**53}.{OWNER}",
        f"t1.Orders.7.{OWNER}",
        f"t1.or.ders.7.{OWNER}",
        f"t1.orders.7.{OWNER.upper()}",
        f"t1.orders.7.{OWNER}0",
        "t1.orders.7.",
        "t1.orders.7",
        "eyJhbGciOiJFZERTQSJ9.e30.c2ln",
    ],
)
def test_near_misses_are_refused_with_the_field(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(text, "Fence-Token")
    assert caught.value.field == "Fence-Token"


def test_a_token_is_a_value() -> None:
    assert token("orders", 7, OWNER) == FencingToken(
        token("orders", 1, OWNER).election, token("a", 7, OWNER).term, OWNER
    )
