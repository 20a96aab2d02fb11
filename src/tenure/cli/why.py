"""`tenure why`: an election's history in words, from the causes and phases that the cluster keeps."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import click

from tenure.base.instants import wall_ms_of
from tenure.cli.asking import Asking, asks
from tenure.cli.exits import Exit
from tenure.cli.printing import moment, span, styled
from tenure.leadership.engine import Cause, HoldingView

_BEGAN: Final[dict[Cause, str]] = {
    "first": "nobody had held it before",
    "released": "its predecessor gave it back",
    "crash": "its predecessor's application failed",
    "closed": "its predecessor's session was closed",
    "expired": "its predecessor's session ran out",
    "stepdown": "its predecessor was asked to hand over",
    "switchover": "its predecessor was asked to hand over to it",
    "disconnected": "its predecessor's connection was lost",
    "unhealthy": "its predecessor was unhealthy",
    "restored": "the cluster had been restored or recovered, which ended its predecessor's term",
    "paused": "the election had been paused",
    "withdrawn": "its predecessor stopped standing",
}
_ENDED: Final[dict[Cause, str]] = {
    "first": "it ended",
    "released": "it gave the office back",
    "crash": "its application failed, and it gave the office back",
    "closed": "its session was closed (its process or its command ended)",
    "expired": "its session ran out: it was not heard from for its TTL (crashed, hung, or cut off)",
    "stepdown": "it was asked to hand over",
    "switchover": "it was asked to hand over to a named successor",
    "disconnected": "its connection was lost",
    "unhealthy": "it was unhealthy",
    "restored": "the cluster was restored or recovered, and terms from before count no more",
    "paused": "the election was paused",
    "withdrawn": "it stopped standing",
}


@click.command("why")
@click.argument("election")
@click.option("--limit", type=click.IntRange(1, 1_000), default=5, show_default=True, help="How many holdings.")
@asks
def command(asking: Asking, *, election: str, limit: int) -> int:
    """Tell ELECTION's last holdings, newest first: who led, why it began and ended, how long each phase took."""
    with asking.client() as client:
        page = client.history(election, limit=limit)
    told = [described(holding) for holding in page.holdings]
    asking.answer(page, "\n\n".join(told) if told else f"Nobody has held {election} yet.")
    return Exit.OK


def described(holding: HoldingView) -> str:
    """One holding for people."""
    phases = sorted(((wall_ms_of(phase.at), phase.name) for phase in holding.phases), key=lambda phase: phase[0])
    granted = next((at_ms for at_ms, name in phases if name == "granted"), None)
    last = phases[-1][0] if phases else None
    head = styled(f"{holding.node_id} led {holding.election}, term {holding.term}", "bold")
    if holding.ended is None:
        head = styled(f"{holding.node_id} leads {holding.election}, term {holding.term}", "good")
    lines = [head]
    if granted is not None:
        lines.append(f"  since    {moment(granted)}: {_BEGAN[holding.began]}")
    if holding.ended is not None and last is not None:
        lasted = "" if granted is None else f" (after {span(last - granted)})"
        lines.append(f"  until    {moment(last)}{lasted}: {_ENDED[holding.ended]}")
    if holding.reason:
        lines.append(f"  reason   {holding.reason}")
    if len(phases) > 1:
        lines.append(f"  phases   {_steps(phases)}")
    return "\n".join(lines)


def _steps(phases: Sequence[tuple[int, str]]) -> str:
    steps = [phases[0][1].replace("_", " ")]
    for (earlier_ms, _), (later_ms, name) in pairwise(phases):
        steps.append(f"{span(later_ms - earlier_ms)} → {name.replace('_', ' ')}")
    return ", ".join(steps)
