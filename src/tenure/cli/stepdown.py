"""`tenure stepdown`: ask a leader to hand over."""

import click

from tenure.base.errors import Invalid
from tenure.cli.asking import Asking, asks
from tenure.cli.durations import DURATION
from tenure.cli.exits import Exit
from tenure.client.errors import TimedOut


@click.command("stepdown")
@click.argument("election", required=False)
@click.option("--consensus", is_flag=True, help="Move the consensus leader instead of an election's.")
@click.option("--successor", metavar="NODE", help="Who is to lead next; an eligible candidate.")
@click.option("--grace", type=DURATION, default="5s", show_default=True, help="Time that the leader has to demote.")
@click.option("--wait", type=DURATION, help="How long to wait for the successor.  [default: grace + 1s]")
@click.option("--no-wait", is_flag=True, help="Don't wait; exit code 0 once it has begun.")
@click.option("--reason", help="Kept in the history.")
@click.option("--fenced-off", is_flag=True, help="I state that the old leader is dead: don't wait for its lease.")
@asks
def command(
    asking: Asking,
    *,
    election: str | None,
    consensus: bool,
    successor: str | None,
    grace: int,
    wait: int | None,
    no_wait: bool,
    reason: str | None,
    fenced_off: bool,
) -> int:
    """Ask the leader of ELECTION to hand over, or move the consensus leader with --consensus.

    Without another eligible candidate nothing is changed: exit code 3. Exit code 6 if it had begun but the successor
    didn't lead in time.
    """
    if (election is None) != consensus:
        raise Invalid("ELECTION", "name an election, or give --consensus; not both")
    wait_ms = 0 if no_wait else None if wait is None else wait // 1_000
    with asking.client() as client:
        stepped = client.stepdown(
            election,
            successor=successor,
            reason=reason,
            grace_ms=grace // 1_000,
            wait_ms=wait_ms,
            fenced_off=fenced_off,
        )
    what = "the consensus" if election is None else election
    if stepped.state == "done":
        term = "" if stepped.term is None else f", term {stepped.term}"
        moved = f"leads now, after {stepped.from_}" if stepped.to != stepped.from_ else "leads already"
        asking.answer(stepped, f"{what}: {stepped.to} {moved}{term}")
        return Exit.OK
    asking.answer(stepped, f"{what}: {stepped.from_} was asked to hand over; nobody has taken over yet")
    if no_wait:
        return Exit.OK
    raise TimedOut(f"{what}: it has begun, but no successor leads yet")
