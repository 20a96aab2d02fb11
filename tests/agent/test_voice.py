"""What `tenure run` says to people."""

import json
import time

import pytest

from tenure.agent.acts import Say
from tenure.agent.voice import Json, Plain
from tenure.base.instants import Instant, wall_ms_of


def said(capfd: pytest.CaptureFixture[str], what: str, **data: str | int | float | None) -> str:
    Plain("orders", "a").say(Say(what, tuple(data.items())), Instant(0))
    return capfd.readouterr().err.split(": ", 1)[1].strip()


def test_a_command_that_cannot_be_executed_is_named_by_its_reason(capfd: pytest.CaptureFixture[str]) -> None:
    assert said(capfd, "unexecutable", code=126, errno=13) == "can't execute the command: Permission denied (126)"
    assert "No such file or directory (it, or the interpreter" in said(capfd, "unexecutable", code=127, errno=2)


def test_nobody_is_called_none(capfd: pytest.CaptureFixture[str]) -> None:
    assert said(capfd, "demanded", term=1, successor=None) == "asked to hand over to whoever is next"
    assert said(capfd, "demanded", term=1, successor="b") == "asked to hand over to b"


def test_signals_have_their_names(capfd: pytest.CaptureFixture[str]) -> None:
    assert "ended with 137 (SIGKILL) after 12 ms" in said(capfd, "gone", code=137, why="by itself", ran_ms=12.034)
    assert said(capfd, "stopping", signal=15) == "stopping on signal 15 (SIGTERM)"


def test_every_line_says_more_than_its_own_name(capfd: pytest.CaptureFixture[str]) -> None:
    assert said(capfd, "session", session="7-ab") == "session 7-ab"
    assert said(capfd, "session_lost", session="7-ab", reason="it ran out") == "the session is over: it ran out"


def test_a_json_line_says_when_by_both_clocks(capfd: pytest.CaptureFixture[str]) -> None:
    Json("orders", "a").say(Say("granted", (("term", 7),)), Instant(5))
    line = json.loads(capfd.readouterr().err)
    assert abs(wall_ms_of(line.pop("at")) - time.time_ns() // 1_000_000) < 60_000
    assert line == {"event": "granted", "at_us": 5, "election": "orders", "node": "a", "term": 7}
