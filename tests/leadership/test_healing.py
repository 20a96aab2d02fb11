"""The autopilot's part of the replicated state: settings, remarks, and what watchers are told of them."""

from tenure.base.ids import ConsensusTerm, LogIndex, Nonce
from tenure.leadership import commands
from tenure.leadership.commands import Remark
from tenure.leadership.engine import AutopilotConfigured, AutopilotSettings, ConfigureAutopilot, Noted, Refused
from tenure.leadership.limits import remarks_max
from tenure.leadership.machine import Applied, Machine

TERM = ConsensusTerm(4)


class Told:
    """A machine and its next index."""

    def __init__(self) -> None:
        self.machine = Machine.founded(Nonce("f" * 16), 1_000)
        self.index = 0

    def apply(self, data: bytes) -> Applied:
        self.index += 1
        return self.machine.apply(LogIndex(self.index), TERM, data)

    def remark(self, reason: str, decided: int = TERM) -> Applied:
        return self.apply(commands.encode(Remark(ConsensusTerm(decided), "declined", "m2", reason), 7))


def test_settings_are_replicated_and_set_as_a_whole() -> None:
    told = Told()
    settings = AutopilotSettings(dead_after_ms=5_000, voters_wanted=5)
    applied = told.apply(commands.of_request(ConfigureAutopilot(settings), None, 1))
    assert applied.result == AutopilotConfigured(settings)
    (transition,) = applied.transitions
    assert transition.reason == "configured: dead_after_ms 300000 → 5000, voters_wanted None → 5"
    assert not told.apply(commands.of_request(ConfigureAutopilot(settings), None, 1)).transitions, "nothing new"
    assert told.machine.state.autopilot.settings == settings
    assert Machine.restore(told.machine.snapshot()).state.autopilot.settings == settings


def test_a_remark_is_kept_and_told() -> None:
    told = Told()
    applied = told.remark("no standby")
    assert applied.result == Noted()
    (transition,) = applied.transitions
    assert (transition.kind, transition.member, transition.reason) == ("autopilot", "m2", "declined: no standby")
    assert [one.reason for one in told.machine.state.autopilot.remarks] == ["no standby"]
    assert Machine.restore(told.machine.snapshot()).hash() == told.machine.hash()


def test_a_remark_of_an_earlier_term_counts_for_nothing() -> None:  # P3.5
    told = Told()
    applied = told.remark("late", decided=3)
    assert isinstance(applied.result, Refused)
    assert not applied.transitions
    assert not told.machine.state.autopilot.remarks


def test_only_the_last_remarks_are_kept() -> None:
    told = Told()
    for number in range(remarks_max + 5):
        told.remark(f"{number}")
    kept = [one.reason for one in told.machine.state.autopilot.remarks]
    assert kept == [f"{number}" for number in range(5, remarks_max + 5)]
