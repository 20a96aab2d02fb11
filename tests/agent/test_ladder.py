"""The ladder of P3.7."""

import pytest

from tenure.agent import ladder
from tenure.base.errors import Invalid
from tenure.base.instants import MS, Instant, Micros


def test_sigterm_comes_a_fifth_of_the_ttl_before_the_end_and_100_ms_at_least() -> None:
    assert ladder.of(Micros(500 * MS)).sigterm_before_us == 100 * MS
    assert ladder.of(Micros(3_000 * MS)).sigterm_before_us == 600 * MS


def test_sigkill_comes_20_ms_before_the_end() -> None:
    rungs = ladder.of(Micros(500 * MS)).rungs(Instant(1_000_000))
    assert rungs.sigkill_at == 980_000
    assert rungs.sigterm_at == 900_000


@pytest.mark.parametrize("ttl_ms", range(250, 20_000, 250))
def test_two_renewals_may_be_lost_before_an_application_is_told_to_end(ttl_ms: int) -> None:
    steps = ladder.of(Micros(ttl_ms * MS))
    granted = Instant(10_000_000)
    sigterm_at = steps.rungs(Instant(granted + steps.validity_us)).sigterm_at
    assert sigterm_at - granted > 2 * steps.renew_us


@pytest.mark.parametrize("ttl_ms", [0, 1, 100, 200])
def test_a_ttl_without_room_for_that_is_refused(ttl_ms: int) -> None:
    with pytest.raises(Invalid, match="ttl"):
        ladder.of(Micros(ttl_ms * MS))
