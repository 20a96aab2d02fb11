"""`tenure autopilot`: what it shows, and that it changes only what is given."""

from collections.abc import Iterator

import pytest

from tenure.base.ids import MemberId
from tenure.leadership.engine import (
    AnyRequest,
    AnyResult,
    AutopilotConfigured,
    AutopilotSettings,
    AutopilotView,
    ClientOpened,
    ConfigureAutopilot,
    DecisionView,
    OpenClient,
    ReadAutopilot,
    WatchedView,
)
from tests.api.scripted import Scripted, serving
from tests.cli.conftest import Tenure

SETTINGS = AutopilotSettings(dead_after_ms=60_000, voters_wanted=5)


def answer(request: AnyRequest) -> AnyResult | None:
    match request:
        case ReadAutopilot():
            m2 = WatchedView(MemberId("2" * 16), "m2", "voter", "no", False, ("m1", "m3"), 61_000, 0, 12)
            m4 = WatchedView(MemberId("4" * 16), "m4", "observer", "voter", True, (), 0, 90_000, 0)
            decided = DecisionView("2026-01-02T03:04:05.678Z", "promote", "m4", "in place of m2")
            return AutopilotView(SETTINGS, "acting", "remove m2: its place is taken", 4, 3, (m2, m4), (decided,))
        case ConfigureAutopilot(settings):
            return AutopilotConfigured(settings)
        case OpenClient(nonce):
            return ClientOpened(f"1-{nonce}")
        case _:
            return None


@pytest.fixture
def engine() -> Scripted:
    return Scripted(answer)


@pytest.fixture
def pilot(tenure: Tenure, engine: Scripted) -> Iterator[Tenure]:
    with serving(engine) as server:
        yield lambda *words: tenure("autopilot", *words, "--endpoints", f"http://127.0.0.1:{server.port}")


def test_status_shows_what_it_does_what_it_sees_and_what_it_did(pilot: Tenure) -> None:
    said = pilot("status")
    assert said.code == 0, said.err
    assert "autopilot: acting, remove m2: its place is taken" in said.out
    assert "4 members vote, 3 are wanted" in said.out
    rows = [line.split() for line in said.out.splitlines()]
    assert ["m2", "voter", "no", "12", "m1,", "m3", "1", "min", "0", "ms"] in rows
    assert ["m4", "observer,", "standby", "voter", "yes", "0", "-", "-", "2", "min"] in rows
    assert ["2026-01-02T03:04:05.678Z", "promote", "m4", "in", "place", "of", "m2"] in rows


def test_status_as_json_is_the_api_s_own_object(pilot: Tenure) -> None:
    said = pilot("status", "--json").json
    assert (said["state"], said["members"][0]["silent_ms"]) == ("acting", 61_000)
    assert said["settings"]["voters_wanted"] == 5


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (("--off",), AutopilotSettings(enabled=False, dead_after_ms=60_000, voters_wanted=5)),
        (("--dead-after", "90s"), AutopilotSettings(dead_after_ms=90_000, voters_wanted=5)),
        (("--voters-wanted", "as-made", "--stabilise", "2s"), AutopilotSettings(True, 60_000, 2_000)),
        (("--observers-dead-after", "10m"), AutopilotSettings(True, 60_000, 10_000, 5, 600_000)),
        (("--observers-dead-after", "never"), SETTINGS),
    ],
)
def test_set_leaves_what_is_not_given(
    pilot: Tenure, engine: Scripted, words: tuple[str, ...], settings: AutopilotSettings
) -> None:
    assert pilot("set", *words).code == 0
    assert engine.asked[-1][0] == ConfigureAutopilot(settings)


def test_what_can_not_be_set_is_a_matter_of_usage(pilot: Tenure) -> None:
    assert pilot("set", "--voters-wanted", "many").code == 2
    assert pilot("set", "--observers-dead-after", "soon").code == 2
    endless = pilot("set", "--voters-wanted", "9" * 5_000)
    assert endless.code == 2
    assert "--voters-wanted: must be a number of voters or as-made" in endless.err
    assert len(endless.err) < 200
    said = pilot("set", "--voters-wanted", "8")
    assert said.code == 2
    assert "voters_wanted" in said.err
