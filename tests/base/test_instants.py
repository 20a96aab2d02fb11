"""How instants are written for others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenure.base.instants import rfc3339, wall_ms_of


def test_an_instant_is_rfc_3339_in_utc_with_milliseconds() -> None:
    assert rfc3339(1_764_000_000_007) == "2025-11-24T16:00:00.007Z"
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"


@given(st.integers(0, 253_402_300_799_999))
def test_what_is_written_is_read_back_to_the_millisecond(wall_ms: int) -> None:
    assert wall_ms_of(rfc3339(wall_ms)) == wall_ms


def test_another_form_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="yesterday"):
        wall_ms_of("yesterday")
