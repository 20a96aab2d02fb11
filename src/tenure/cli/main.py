"""`tenure`: finds the command, runs it, and turns whatever goes wrong into a text and an exit code."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import click

from tenure.base.errors import TenureError

_OK: Final = 0
_USAGE: Final = 2
_COMMANDS: Final = {
    "serve": ("tenure.cli.serve", "Run a member of the coordination cluster."),
    "run": ("tenure.cli.run", "Run a command only while this node leads."),
    "status": ("tenure.cli.status", "Show members, nodes and who leads what."),
    "watch": ("tenure.cli.watch", "Tell who leads an election, now and at every change."),
    "why": ("tenure.cli.why", "Tell an election's history: who led, why it ended, how long it took."),
    "member": ("tenure.cli.member", "See and change who belongs to the coordination cluster."),
    "stepdown": ("tenure.cli.stepdown", "Ask a leader to hand over."),
    "validate": ("tenure.cli.validate", "Check whether a fencing token is current."),
    "kv": ("tenure.cli.kv", "Read and write small fenced metadata."),
    "snapshot": ("tenure.cli.snapshot", "Save the state to a file, look at one, restore a cluster from it."),
    "recover": ("tenure.cli.recover", "Go on from one member when the majority is lost for ever."),
    "autopilot": ("tenure.cli.autopilot", "See and set how the coordination cluster heals itself."),
    "timing": ("tenure.cli.timing", "Print the deadlines that follow from a TTL; refuse unsafe sets."),
    "demo": ("tenure.cli.demonstration", "See a cluster lose its leaders, on this machine."),
}


class Commands(click.Group):
    """Knows each command's first line without loading it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table, which is the order of use."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command's module."""
        if cmd_name not in _COMMANDS:
            return None
        command = import_module(_COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, as it stands above."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("tenure")
        except PackageNotFoundError:
            found = "unknown (not installed)"
        click.echo(f"tenure {found}")
        ctx.exit()


def _completion(ctx: click.Context, _: click.Parameter, shell: str | None) -> None:
    if shell is not None:
        from click.shell_completion import get_completion_class

        found = get_completion_class(shell)
        assert found is not None, "one of the choices"
        click.echo(found(group, {}, "tenure", "_TENURE_COMPLETE").source())
        ctx.exit()


group = Commands(
    "tenure",
    help="One node of your service leads; everyone finds it; a replaced leader's writes are refused by the resource.",
    epilog="Exit codes: 0 ok, 1 error, 2 usage, 3 not leader or not acquired, 4 unreachable, 5 no quorum, 6 timeout, "
    "8 refused as unsafe, 9 denied. `tenure run` has its own.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    params=[
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version."
        ),
        click.Option(
            ["--completion"],
            type=click.Choice(["bash", "zsh", "fish"]),
            is_eager=True,
            expose_value=False,
            callback=_completion,
            help='Print shell completion: eval "$(tenure --completion bash)".',
        ),
    ],
)


def _wants_json(given: Sequence[str]) -> bool:
    """Behind `--` it is the child's option."""
    return "--json" in (given[: given.index("--")] if "--" in given else given)


def _misused(error: click.ClickException, code: int, *, json: bool) -> int:
    """Say what click couldn't take, in one line or one object like all other errors."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = "tenure" if context is None else context.command_path
    reason, next_step = error.format_message().rstrip("."), f"See `{path} --help`."
    if json:
        from json import dumps

        said = dumps({"error": type(error).__name__, "reason": reason, "exit": code, "next_step": next_step})
    else:
        said = f"{path}: {reason}{'' if reason.endswith('?') else '.'} {next_step}"
    click.echo(said, err=True)
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "_TENURE_COMPLETE" in os.environ:
        from click.shell_completion import shell_complete

        return shell_complete(group, {}, "tenure", "_TENURE_COMPLETE", os.environ["_TENURE_COMPLETE"])
    try:
        code = group.main(given, prog_name="tenure", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return _USAGE
    except click.ClickException as error:
        # `run` hands on its child's codes, so its own failures stay out of their way (DESIGN 8).
        return _misused(error, 125 if given[:1] == ["run"] else int(error.exit_code), json=_wants_json(given))
    except (click.Abort, KeyboardInterrupt):
        return 128 + 2
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python must not complain about it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _OK
    except UnicodeEncodeError:
        sys.stderr.write("tenure: an argument isn't UTF-8. Give it in UTF-8.\n")
        return 125 if given[:1] == ["run"] else _USAGE
    except TenureError as error:
        from tenure.cli.asking import told  # late: `tenure --help` can't come here

        return told(error, json=_wants_json(given), code=125 if given[:1] == ["run"] else None)
    return int(code) if isinstance(code, int) else _OK


if __name__ == "__main__":
    sys.exit(main())
