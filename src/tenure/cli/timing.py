"""`tenure timing`: the ladder of deadlines, its worst cases, and a refusal of unsafe sets."""

from typing import Any, get_args

import click
import msgspec

from tenure.base.instants import MS
from tenure.cli import printing
from tenure.cli.deadlines import Plan, Profile, Rung, plan, profiles, voters
from tenure.cli.durations import DURATION
from tenure.cli.exits import Exit


@click.command("timing")
@click.option("--profile", type=click.Choice(get_args(Profile)), default="default", show_default=True)
@click.option("--ttl", type=DURATION, help="The lease's TTL.")
@click.option("--rtt", type=DURATION, help="Round trip between members.")
@click.option("--fsync", type=DURATION, help="A slow sync of the members' disks (p99).")
@click.option("--heartbeat", type=DURATION, help="The consensus leader's heartbeat.")
@click.option("--floor", type=DURATION, help="The least silence that counts as a lost consensus leader.")
@click.option("--rho", type=float, metavar="PERCENT", help="By how much two clocks' rates may differ.")
@click.option("--json", is_flag=True, help="Answer with JSON.")
def command(*, profile: Profile, rho: float | None, json: bool, **durations: int | None) -> int:
    """Print the deadlines that follow from a TTL, and their worst cases. Exit code 8 if the set is unsafe."""
    changed: dict[str, Any] = {f"{name}_us": value for name, value in durations.items() if value is not None}
    if rho is not None:
        changed["rho_permille"] = round(rho * 10)
    worked_out = plan(msgspec.structs.replace(profiles[profile], **changed))
    if json:
        printing.say(printing.json_line(_jsoned(worked_out)))
    else:
        printing.say(described(worked_out))
    for reason in worked_out.unsafe:
        printing.complain(f"tenure timing: unsafe: {reason}")
    return Exit.UNSAFE if worked_out.unsafe else Exit.OK


def described(worked_out: Plan) -> str:
    """Two tables for people."""
    given = worked_out.given
    head = (
        f"ttl {_ms(given.ttl_us)}, RTT {_ms(given.rtt_us)}, fsync {_ms(given.fsync_us)}, "
        f"heartbeat {_ms(given.heartbeat_us)}, floor {_ms(given.floor_us)}, ρ {given.rho_permille / 10:g} %, "
        f"{voters} voters"
    )
    ladder = printing.table(("AFTER THE RENEWAL WAS SENT", "WHAT HAPPENS"), _rows(worked_out.ladder))
    worst = printing.table(("AT WORST", "WHAT IT IS"), _rows(worked_out.worst))
    return f"{head}\n\n{ladder}\n\n{worst}"


def _rows(rungs: tuple[Rung, ...]) -> list[tuple[str, str]]:
    return [(_ms(rung.us), rung.text) for rung in rungs]


def _ms(us: int) -> str:
    return f"{us / MS:.1f} ms" if us % MS else f"{us // MS} ms"


def _jsoned(worked_out: Plan) -> dict[str, Any]:
    given = worked_out.given
    return {
        "safe": not worked_out.unsafe,
        "unsafe": worked_out.unsafe,
        "given": {
            "ttl_ms": given.ttl_us / MS,
            "rtt_ms": given.rtt_us / MS,
            "fsync_ms": given.fsync_us / MS,
            "heartbeat_ms": given.heartbeat_us / MS,
            "floor_ms": given.floor_us / MS,
            "rho_percent": given.rho_permille / 10,
        },
        "ladder": {f"{rung.name}_ms": rung.us / MS for rung in worked_out.ladder},
        "worst": {f"{rung.name}_ms": rung.us / MS for rung in worked_out.worst},
    }
