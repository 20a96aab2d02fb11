"""`tenure run`: the flags come from the agent's own table of options."""

import os
from typing import Any

import click

from tenure.agent.options import TABLE, Option, parse


def _flag(option: Option) -> click.Option:
    text = f"{option.help}  [default: {option.default}]" if option.default else option.help
    name = option.name.replace("-", "_") + "_"  # `try` is no name in Python
    if option.kind == "flag":
        return click.Option([option.flag, name], is_flag=True, default=False, help=text)
    kind = click.Choice(option.choices) if option.choices else None
    metavar = None if option.choices else option.kind.upper()
    return click.Option([option.flag, name], type=kind, default=None, help=text, metavar=metavar)


def _run(election: str, command: tuple[str, ...], **given: Any) -> int:
    from tenure.agent.main import run  # late: `tenure run --help` needs no keeper

    options = {name.removesuffix("_").replace("_", "-"): value for name, value in given.items()}
    return run(parse(election, command, options, os.environ))


class _Run(click.Command):
    """Takes no word of the command for the election's name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, after a look at what stands before `--`."""
        if "--" in args and not {"-h", "--help"} & set(args):
            before = args[: args.index("--")]
            names, _, _ = self.make_parser(ctx).parse_args(list(before))
            if not isinstance(names.get("election"), str):
                raise click.UsageError("Name the election before --, as in: tenure run orders -- ./worker", ctx)
        return super().parse_args(ctx, args)


command = _Run(
    "run",
    callback=_run,
    params=[
        click.Argument(["election"]),
        *(_flag(option) for option in TABLE),
        click.Argument(["command"], nargs=-1, type=click.UNPROCESSED, required=True),
    ],
    help="Run COMMAND only while this node leads ELECTION, and end it before the lease does.\n\n"
    "    tenure run orders --node a -- ./worker --queue orders\n\n"
    "The command gets TENURE_ELECTION, TENURE_NODE, TENURE_TERM and TENURE_FENCE_TOKEN. Each option may also stand "
    "in the environment: TENURE_ENDPOINTS, TENURE_NODE, TENURE_TTL, TENURE_SECRET_FILE, all others as TENURE_AGENT_…",
    epilog="Exit codes: the command's own (128+N for signals); 3 not acquired (--try), 124 the lease was lost, "
    "125 Tenure failed, 126 the command can't be executed, 127 it can't be found.",
)
