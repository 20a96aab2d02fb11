"""The autopilot's part of the replicated state: its settings, and what it did and declined, so that it outlives the
leader that decided it.
"""

from tenure.base.ids import ConsensusTerm
from tenure.leadership.commands import ConfigureAutopilot, Remark
from tenure.leadership.engine import AutopilotConfigured, Noted, Refused, Transition
from tenure.leadership.limits import remarks_max
from tenure.leadership.state import Remarked, Turn


def configure(turn: Turn, body: ConfigureAutopilot) -> AutopilotConfigured:
    """All settings at once."""
    turn.state.autopilot.settings = body.settings
    return AutopilotConfigured(body.settings)


def remark(turn: Turn, entry_term: ConsensusTerm, body: Remark) -> Noted | Refused:
    """Keep it, and tell whoever watches. Only of the consensus term in which it was said (P3.5)."""
    if body.decided != entry_term:
        return Refused("not_held", f"said in consensus term {body.decided}, committed as an entry of {entry_term}")
    remarks = turn.state.autopilot.remarks
    remarks.append(Remarked(turn.at_ms, body.kind, body.member, body.reason))
    del remarks[:-remarks_max]
    told = f"{body.kind}: {body.reason}"
    turn.transitions.append(
        Transition(turn.next_number(), turn.index, "autopilot", turn.at_ms, member=body.member, reason=told)
    )
    return Noted()
