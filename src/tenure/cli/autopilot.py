"""`tenure autopilot status|set`: who heals the coordination cluster, what it waits for, and how patient it is."""

from typing import Final

import click
import msgspec

from tenure.base.errors import Invalid
from tenure.cli.asking import Asking, asks
from tenure.cli.durations import DURATION
from tenure.cli.exits import Exit
from tenure.cli.printing import Cell, Style, span, styled, table
from tenure.client import autopilot
from tenure.leadership.engine import AutopilotSettings, AutopilotView, WatchedView

_STYLE: Final[dict[str, Style]] = {"healthy": "good", "waiting": "warn", "acting": "warn", "off": "dim"}
_shown_max: Final = 10
_digits_max: Final = 20


@click.group("autopilot")
def command() -> None:
    """See and set how the coordination cluster heals itself."""


@command.command("status")
@click.option("--stale", is_flag=True, help="What the member that answers knows, without asking the leader.")
@asks
def status(asking: Asking, *, stale: bool) -> int:
    """Show what the autopilot sees and waits for, and what it did and declined."""
    with asking.client() as client:
        view = autopilot.read(client, stale=stale)
    asking.answer(view, described(view))
    return Exit.OK


@command.command("set")
@click.option("--on/--off", "enabled", default=None, help="Let it act, or only look on.")
@click.option("--dead-after", type=DURATION, help="A voter that a majority hasn't heard for so long is gone for good.")
@click.option("--stabilise", type=DURATION, help="A standby must have been here and caught up for so long.")
@click.option("--voters-wanted", metavar="N|as-made", help="How many shall vote; as-made: as many as you last made it.")
@click.option("--observers-dead-after", metavar="DURATION|never", help="Remove observers that are gone for so long.")
@asks
def set_(
    asking: Asking,
    *,
    enabled: bool | None,
    dead_after: int | None,
    stabilise: int | None,
    voters_wanted: str | None,
    observers_dead_after: str | None,
) -> int:
    """Change some of the cluster's settings; what isn't given stays as it is."""
    with asking.client() as client:
        changed = autopilot.read(client).settings
        replace = msgspec.structs.replace
        if enabled is not None:
            changed = replace(changed, enabled=enabled)
        if dead_after is not None:
            changed = replace(changed, dead_after_ms=dead_after // 1_000)
        if stabilise is not None:
            changed = replace(changed, stabilise_ms=stabilise // 1_000)
        if voters_wanted is not None:
            changed = replace(changed, voters_wanted=_voters(voters_wanted))
        if observers_dead_after is not None:
            changed = replace(changed, observers_dead_after_ms=_never_or_ms(observers_dead_after))
        settings = autopilot.configure(client, changed)
    asking.answer(settings, _patience(settings.settings))
    return Exit.OK


def _voters(text: str) -> int | None:
    if text == "as-made":
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= _digits_max):
        raise Invalid("--voters-wanted", f"must be a number of voters or as-made, got {text[:_digits_max]!r}")
    return int(text)


def _never_or_ms(text: str) -> int | None:
    if text == "never":
        return None
    return int(DURATION.convert(text, None, None)) // 1_000


def described(view: AutopilotView) -> str:
    """The view for people."""
    head = f"autopilot: {styled(view.state, _STYLE.get(view.state, 'plain'))}, {view.reason}"
    voters = f"{view.voters} members vote, {view.voters_wanted} are wanted; {_patience(view.settings)}"
    parts = [f"{head}\n{voters}"]
    if view.members:
        parts.append(table(("MEMBER", "ROLE", "ANSWERS", "LAG", "UNHEARD BY", "SILENT", "STEADY"), _rows(view)))
    if view.decisions:
        shown = view.decisions[:_shown_max]
        rows = [(one.at, one.kind, one.member or "-", one.reason) for one in shown]
        parts.append(table(("AT", "DECISION", "MEMBER", "BECAUSE"), rows))
    return "\n\n".join(parts)


def _rows(view: AutopilotView) -> list[tuple[Cell, ...]]:
    return [_row(one) for one in view.members]


def _row(one: WatchedView) -> tuple[Cell, ...]:
    role = one.role if one.standby == "no" else f"{one.role}, standby {one.standby}"
    answers: Cell = ("yes", "good") if one.answers else ("no", "bad")
    silent = span(one.silent_ms) if one.silent_ms else "-"
    return one.name, role, answers, str(one.lag), ", ".join(one.unheard_by) or "-", silent, span(one.steady_ms)


def _patience(settings: AutopilotSettings) -> str:
    wanted = "as many as you last made it" if settings.voters_wanted is None else str(settings.voters_wanted)
    observers = settings.observers_dead_after_ms
    parts = [
        "on" if settings.enabled else "off",
        f"dead after {span(settings.dead_after_ms)}",
        f"steady for {span(settings.stabilise_ms)}",
        f"voters wanted: {wanted}",
        "dead observers stay" if observers is None else f"dead observers go after {span(observers)}",
    ]
    return ", ".join(parts)
