"""`tenure serve`: the flags come from the server's own table of options, so there is no second list."""

import click

from tenure.cli import printing
from tenure.cli.exits import Exit
from tenure.server.config import Option, options


def _flag(option: Option) -> click.Option:
    text = option.help if option.default in {None, False} else f"{option.help}  [default: {option.default}]"
    text += f"  [{option.variable}]"
    if option.kind == "switch":
        return click.Option([option.flag, option.name], is_flag=True, default=None, help=text)
    kind = click.Choice(option.choices) if option.choices else None
    metavar = None if option.choices else _METAVARS.get(option.kind, "TEXT")
    return click.Option([option.flag, option.name], type=kind, default=None, help=text, metavar=metavar)


_METAVARS = {"integer": "NUMBER", "path": "PATH", "address": "HOST:PORT", "members": "NAME=HOST:PORT,…",
             "endpoints": "URL,…"}  # fmt: skip


def _serve(**given: object) -> int:
    try:
        from tenure.server.serve import main
    except ImportError as error:
        printing.complain(f"tenure serve: {error}. Install the server: pip install 'tenure[server]'.")
        return Exit.ERROR
    return main({name: value for name, value in given.items() if value is not None and value is not False})


command = click.Command(
    "serve",
    callback=_serve,
    params=[_flag(option) for option in options],
    help="Run a member of the coordination cluster.\n\n"
    "Without options: a single durable member on 127.0.0.1:8368 with its data in ./tenure-data. Each option may also "
    "stand in the environment (TENURE_…) or in a TOML file (--config); the command line wins.",
    epilog="Exit codes: 0 stopped, 1 can't start, 2 the configuration is wrong, 65 the data directory needs a person, "
    "70 a mistake in Tenure itself, 74 the disk failed.",
)
