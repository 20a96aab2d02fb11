"""What can be asked of the autopilot (DESIGN 11): its settings, what it waits for, what it has done and declined.

The settings are the cluster's, not one member's: they are replicated, so a change of leader changes no policy. What it
does is decided on the consensus leader (`engines.native.autopilot`); engines without members of their own have none.
"""

from typing import Literal

from msgspec import Struct

from tenure.base.ids import MemberId
from tenure.leadership.members import Role, Standby
from tenure.leadership.requests import Request

RemarkKind = Literal["promote", "remove", "declined", "healthy", "off", "configured"]
PilotState = Literal["off", "healthy", "waiting", "acting", "unknown"]


class AutopilotSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`voters_wanted`: null keeps as many voters as an operator last made it. `observers_dead_after_ms`: null never
    removes an observer.
    """

    enabled: bool = True
    dead_after_ms: int = 300_000
    """A voter that a majority of voters hasn't heard for so long is gone for good."""
    stabilise_ms: int = 10_000
    """A standby must have been here and caught up for so long."""
    voters_wanted: int | None = None
    observers_dead_after_ms: int | None = None


class DecisionView(Struct, frozen=True):
    """One thing that the autopilot did, or declined to do, and why. `at` is RFC 3339."""

    at: str
    kind: RemarkKind
    member: str | None
    reason: str


class WatchedView(Struct, frozen=True):
    """One member as the autopilot sees it. `unheard_by`: members that don't hear it; `silent_ms`: for how long a
    majority of voters hasn't; `steady_ms`: for how long it has answered and been caught up, both as watched by this
    leader (P7.4).
    """

    id: MemberId
    name: str
    role: Role
    standby: Standby
    answers: bool
    unheard_by: tuple[str, ...]
    silent_ms: int
    steady_ms: int
    lag: int


class AutopilotView(Struct, frozen=True, tag="autopilot"):
    """`state` and `reason`: what it does, or what it waits for; `unknown` where the leader wasn't asked. `decisions`:
    newest first.
    """

    settings: AutopilotSettings
    state: PilotState
    reason: str
    voters: int
    voters_wanted: int
    members: tuple[WatchedView, ...]
    decisions: tuple[DecisionView, ...]


class ReadAutopilot(Request[AutopilotView], frozen=True, tag="read_autopilot"):
    """What it does; with `stale` what this member knows of it."""

    stale: bool = False


class AutopilotConfigured(Struct, frozen=True, tag="autopilot_configured"):
    """The settings as they are now."""

    settings: AutopilotSettings


class ConfigureAutopilot(Request[AutopilotConfigured], frozen=True, tag="configure_autopilot"):
    """Set all of its settings."""

    settings: AutopilotSettings
