"""`tenure status`: the cluster at a glance."""

import sys
import time
from typing import Final

import click

from tenure.cli import printing
from tenure.cli.asking import Asking, asks
from tenure.cli.exits import Exit
from tenure.cli.printing import Cell, span, styled, table
from tenure.client.errors import ClientError
from tenure.client.http import Client
from tenure.leadership.engine import ElectionView, MemberView, NodeView, StatusReport

_CLEAR: Final = "\x1b[H\x1b[2J\x1b[3J"


@click.command("status")
@click.option("--watch", is_flag=True, help="Show it again and again.")
@click.option("--interval", type=click.FloatRange(min=0.1), default=1.0, show_default=True, metavar="SECONDS")
@click.option("--stale", is_flag=True, help="What the member that answers knows, without asking the others.")
@asks
def command(asking: Asking, *, watch: bool, interval: float, stale: bool) -> int:
    """Show members, nodes and who leads what. Without a quorum: what is known, and exit code 5."""
    with asking.client() as client:
        if not watch:
            return _once(asking, client, stale=stale)
        while True:
            if not asking.json and sys.stdout.isatty():
                sys.stdout.write(_CLEAR)
            try:
                _once(asking, client, stale=stale)
            except ClientError as error:
                if asking.json:
                    printing.say(printing.json_line({"error": type(error).__name__, "reason": error.reason}))
                else:
                    printing.say(styled(str(error), "bad"))
            time.sleep(interval)


def _once(asking: Asking, client: Client, *, stale: bool) -> int:
    report = client.status(stale=stale)
    asking.answer(report, described(report))
    return Exit.OK if report.quorum else Exit.NO_QUORUM


def described(report: StatusReport) -> str:
    """The report for people."""
    consensus = report.consensus
    progress = f"committed {consensus.commit_index}, applied {consensus.applied_index}"
    if consensus.lag_ms:
        progress += f", as of {span(consensus.lag_ms)} ago"
    progress += f", feature version {consensus.feature}"
    head = [
        f"cluster {_cluster(report)}, as {report.member} sees it: {report.state}",
        f"consensus leader {consensus.leader or 'none'}, term {consensus.term}, {progress}",
    ]
    if not report.quorum:
        head.append(styled(_no_quorum(report), "bad"))
    elif report.obstacle is not None:
        head.append(styled(f"HINDERED: {report.member}: {report.obstacle}", "bad"))
    if report.forked is not None:
        what, _, told = report.forked.partition(":")
        head.append(styled(f"{what.upper()}:{told}", "bad"))
    parts = ["\n".join(head)]
    members = [_member(name, member) for name, member in sorted(report.members.items())]
    if members:
        parts.append(table(("MEMBER", "ROLE", "STATE", "LAG", "RTT", "API"), members))
    elections = [_election(name, view) for name, view in sorted(report.elections.items())]
    if elections:
        parts.append(table(("ELECTION", "LEADER", "TERM", "STATE", "TTL LEFT", "CANDIDATES"), elections))
    nodes = [_node(name, node) for name, node in sorted(report.nodes.items())]
    if nodes:
        parts.append(table(("NODE", "LEADS", "TTL", "HEALTH", "LAG", "LAST SEEN"), nodes))
    return "\n\n".join(parts)


def _cluster(report: StatusReport) -> str:
    """Its id, and the newest nonce if it was restored or recovered since (P1.4)."""
    revived = len(report.lineage) - 1
    times = "once" if revived == 1 else f"{revived} times"
    return (
        f"{report.cluster_id or '-'} (revived {times}: {report.lineage[-1]})"
        if revived > 0
        else report.cluster_id or "-"
    )


def _no_quorum(report: StatusReport) -> str:
    if report.state == "refused":
        return f"REFUSED: {report.member} can't found or join the cluster: {report.obstacle or 'its log says why'}"
    if report.state == "joining":
        asked = ", ".join(report.missing)
        return f"JOINING: {report.member} asks {asked} to take it in: {report.obstacle or 'no answer yet'}"
    if report.state == "stopped" and report.obstacle is not None:
        return f"STOPPED: {report.member} takes no part any more: {report.obstacle}"
    if report.state == "founding":
        return f"FOUNDING: waits for {', '.join(report.missing) or 'the others'}; all founding members take part once."
    missing = f" Not connected: {', '.join(report.missing)}." if report.missing else ""
    said = f"NO QUORUM: nothing can be decided; {report.member} hears no leader."
    hindered = f" HINDERED: {report.obstacle}." if report.obstacle is not None else ""
    is_left_behind = report.forked is not None and report.forked.startswith("left behind")
    step = "" if is_left_behind else " See that the others run and reach it."
    return f"{said}{missing}{step}{hindered}"


def _member(name: str, member: MemberView) -> list[Cell]:
    return [
        name,
        (member.role, "good" if member.role == "leader" else "plain"),
        member.state,
        _number(member.lag),
        "-" if member.rtt_ms is None else f"{member.rtt_ms:.2f} ms",
        member.api or "-",
    ]


def _election(name: str, view: ElectionView) -> list[Cell]:
    leader: Cell = (view.node_id, "good") if view.node_id else ("nobody", "warn")
    left = "-" if view.ttl_remaining_ms is None else span(view.ttl_remaining_ms)
    candidates = [
        candidate.node_id if candidate.eligible else f"{candidate.node_id} ({candidate.reason})"
        for candidate in view.candidates
    ]
    state = f"{view.state}, paused" if view.paused else view.state
    return [name, leader, str(view.term), state, left, ", ".join(candidates) or "-"]


def _node(name: str, node: NodeView) -> list[Cell]:
    seen = "-" if node.last_seen_ms is None else f"{span(node.last_seen_ms)} ago"
    holds = ", ".join(node.holds) or "-"
    return [name, holds, span(node.ttl_ms), _number(node.health), _number(node.lag), seen]


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
