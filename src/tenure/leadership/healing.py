"""The autopilot's part of the replicated state: its settings, and what it did and declined, so that it outlives the
leader that decided it.
"""

from tenure.base.ids import ConsensusTerm
from tenure.leadership.commands import ConfigureAutopilot, Remark
from tenure.leadership.engine import AutopilotConfigured, AutopilotSettings, Noted, Refused, Transition
from tenure.leadership.limits import remarks_max
from tenure.leadership.state import Remarked, Turn


def configure(turn: Turn, body: ConfigureAutopilot) -> AutopilotConfigured:
    """All settings at once; the history keeps what is new."""
    before, after = turn.state.autopilot.settings, body.settings
    if before != after:
        turn.state.autopilot.settings = after
        names = (name for name in AutopilotSettings.__struct_fields__ if getattr(before, name) != getattr(after, name))
        changed = ", ".join(f"{name} {getattr(before, name)} → {getattr(after, name)}" for name in names)
        _keep(turn, Remarked(turn.at_ms, "configured", None, changed))
    return AutopilotConfigured(after)


def remark(turn: Turn, entry_term: ConsensusTerm, body: Remark) -> Noted | Refused:
    """Keep it, and tell whoever watches. Only of the consensus term in which it was said (P3.5)."""
    if body.decided != entry_term:
        return Refused("not_held", f"said in consensus term {body.decided}, committed as an entry of {entry_term}")
    _keep(turn, Remarked(turn.at_ms, body.kind, body.member, body.reason))
    return Noted()


def _keep(turn: Turn, said: Remarked) -> None:
    remarks = turn.state.autopilot.remarks
    remarks.append(said)
    del remarks[:-remarks_max]
    told = f"{said.kind}: {said.reason}"
    turn.transitions.append(
        Transition(turn.next_number(), turn.index, "autopilot", turn.at_ms, member=said.member, reason=told)
    )
