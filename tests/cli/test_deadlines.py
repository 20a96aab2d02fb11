"""`tenure timing`: the ladder is in order, its arithmetic is the holder's and the agent's, unsafe sets are refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenure.agent import ladder
from tenure.base.errors import Invalid
from tenure.base.ids import ElectionName, SessionId, Term
from tenure.base.instants import MS, Instant, Micros
from tenure.cli.deadlines import Given, Plan, plan, profiles
from tenure.leadership.engine import Kept, Lease
from tenure.leadership.holder import Holder
from tests.cli.conftest import Tenure


def of(ttl_ms: int, **more: int) -> Plan:
    return plan(msgspec.structs.replace(profiles["default"], ttl_us=ttl_ms * MS, **more))


def at(worked_out: Plan, name: str) -> int:
    return next(rung.us for rung in (*worked_out.ladder, *worked_out.worst) if rung.name == name)


@pytest.mark.parametrize("name", list(profiles))
def test_every_profile_is_safe(name: str) -> None:
    assert plan(profiles[name]).unsafe == ()  # type: ignore[index] # the names are the profiles'


@given(st.integers(250, 100_000))
def test_the_rungs_of_a_ladder_are_in_order(ttl_ms: int) -> None:
    rungs = [rung.us for rung in of(ttl_ms).ladder]
    assert rungs == sorted(rungs)


@given(st.integers(20, 100_000))
def test_the_ladder_is_the_one_that_holder_and_agent_go_by(ttl_ms: int) -> None:
    worked_out = of(ttl_ms)
    holder = Holder(ttl_ms * MS)
    name = ElectionName("orders")
    number = holder.transmit(Instant(0))
    lease = Lease(name, Term(1), "t", ttl_ms)
    holder.acknowledged(Kept(SessionId("1-0"), number, (lease,)), Instant(0))
    assert at(worked_out, "valid_until") == holder.valid_until(name)
    assert at(worked_out, "sigterm") == holder.terminate_at(name)
    assert at(worked_out, "sigkill") == holder.kill_at(name)
    if not worked_out.unsafe:
        rungs = ladder.of(Micros(ttl_ms * MS)).rungs(Instant(at(worked_out, "valid_until")))
        assert (rungs.sigterm_at, rungs.sigkill_at) == (at(worked_out, "sigterm"), at(worked_out, "sigkill"))


@given(st.integers(20, 5_000))
def test_what_the_agent_refuses_is_unsafe(ttl_ms: int) -> None:
    try:
        ladder.of(Micros(ttl_ms * MS))
    except Invalid:
        assert of(ttl_ms).unsafe


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"ttl_us": 200 * MS}, "renewals in a row"),
        ({"ttl_us": 300 * MS}, "silent consensus leader"),
        ({"ttl_us": 20 * MS}, "leaves nothing"),
        ({"floor_us": 30 * MS}, "twice the heartbeat"),
        ({"rho_permille": 20}, "drift"),
        ({"rho_permille": 0}, "perfect clocks"),
        ({"rtt_us": 400 * MS}, "two round trips"),
    ],
)
def test_unsafe_sets_are_named(changed: dict[str, int], reason: str) -> None:
    default: Given = profiles["default"]
    assert any(reason in text for text in plan(msgspec.structs.replace(default, **changed)).unsafe)


def test_the_ttl_that_is_recommended_is_safe() -> None:
    (text,) = of(300).unsafe
    assert of(int(text.rpartition("a TTL of ")[2].partition("ms")[0])).unsafe == ()


def test_unsafe_is_8_and_safe_is_0(tenure: Tenure) -> None:
    assert tenure("timing").code == 0
    said = tenure("timing", "--ttl", "300ms", "--json")
    assert said.code == 8
    assert said.json["safe"] is False
    assert tenure("timing", "--profile", "fast", "--json").json["ladder"]["taken_away_ms"] == 500
