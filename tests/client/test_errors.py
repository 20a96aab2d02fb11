"""What is refused becomes an error with a next step, whatever the code."""

from typing import get_args

import pytest

from tenure.client.errors import of_refused
from tenure.leadership.engine import Code, Refused
from tenure.wire.bodies import status_of


@pytest.mark.parametrize("code", get_args(Code))
def test_every_code_has_a_status_and_an_error(code: Code) -> None:
    assert 400 <= status_of[code] < 600
    error = of_refused(Refused(code, "because"))
    assert "because" in str(error)
    assert error.next_step
