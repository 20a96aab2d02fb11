"""Options that every command has which asks the cluster, and the client made from them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from msgspec import Struct

from tenure.base.errors import Invalid, TenureError
from tenure.cli import printing
from tenure.cli.exits import code_of
from tenure.client import endpoints as where
from tenure.client.errors import ClientError
from tenure.client.http import Client, timeout_seconds_default

F = TypeVar("F", bound=Callable[..., Any])


class Asking(Struct, frozen=True):
    """Where and how a command asks, and how it answers."""

    endpoints: tuple[str, ...]
    secret: str | None
    timeout: float
    json: bool

    def client(self) -> Client:
        """A client for these."""
        return Client(self.endpoints, secret=self.secret, timeout=self.timeout)

    def answer(self, value: object, text: str) -> None:
        """The result: JSON for programs, text for people."""
        printing.say(printing.json_line(value) if self.json else text)


def asks(command: F) -> F:
    """Give a command the options and an `Asking` as its first argument."""

    def wrapped(endpoints: str | None, secret_file: Path | None, timeout: float, json: bool, **options: Any) -> Any:
        secret = None if secret_file is None else where.read_secret(secret_file)
        return command(Asking(where.endpoints(endpoints), secret, timeout, json), **options)

    wrapped.__name__ = command.__name__
    wrapped.__doc__ = command.__doc__
    for name in ("__click_params__",):
        if hasattr(command, name):
            setattr(wrapped, name, getattr(command, name))
    decorated: Any = wrapped
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return] # click's decorators keep what they are given


_OPTIONS = (
    click.option(
        "--endpoints",
        metavar="URL,…",
        envvar="TENURE_ENDPOINTS",
        help=f"Members' API addresses.  [default: {where.default_endpoint}]",
    ),
    click.option(
        "--secret-file",
        type=click.Path(path_type=Path),
        envvar="TENURE_SECRET_FILE",
        help="File with the cluster secret, sent as a bearer credential.",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=timeout_seconds_default,
        show_default=True,
        metavar="SECONDS",
        help="How long to go on trying.",
    ),
    click.option("--json", is_flag=True, help="Answer with JSON."),
)


def told(error: TenureError, *, json: bool, code: int | None = None) -> int:
    """Say on stderr what went wrong and what to do next; the exit code, which is the error's own unless given."""
    code = code_of(error) if code is None else code
    if json:
        described: dict[str, object] = {"error": type(error).__name__, "reason": str(error), "exit": int(code)}
        if isinstance(error, ClientError):
            described |= {"reason": error.reason, "next_step": error.next_step, "code": error.code}
        if isinstance(error, Invalid):
            described["field"] = error.field
        printing.complain(printing.json_line(described))
    else:
        printing.complain(f"tenure: {error}")
    return int(code)
