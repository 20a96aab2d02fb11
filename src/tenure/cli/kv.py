"""`tenure kv get|put|list`: small fenced metadata."""

import sys

import click
import msgspec

from tenure.base.errors import Invalid
from tenure.cli import printing
from tenure.cli.asking import Asking, asks
from tenure.cli.exits import Exit


@click.group("kv")
def command() -> None:
    """Read and write small fenced metadata."""


@command.command("get")
@click.argument("key")
@click.option("--stale", is_flag=True, help="What the member that answers knows, without asking the others.")
@asks
def get(asking: Asking, *, key: str, stale: bool) -> int:
    """Print the value of KEY as JSON; with --json its revision and term too."""
    with asking.client() as client:
        item = client.kv_get(key, stale=stale)
    asking.answer(item, msgspec.json.format(msgspec.json.encode(item.value), indent=2).decode())
    if item.as_of is not None and not asking.json:  # not on stdout: that is the value's alone
        lag = "unknown" if item.as_of.lag_ms is None else f"at most {printing.span(item.as_of.lag_ms)}"
        printing.complain(f"tenure kv get: age {lag}, applied {item.as_of.applied_index}")
    return Exit.OK


@command.command("put")
@click.argument("key")
@click.argument("value")
@click.option("--election", help="Write as this election's leader; the key refuses everybody else from then on.")
@click.option("--term", type=int, help="The term under which we lead.")
@click.option("--if-revision", type=int, help="Only if the key still has this revision (0: it doesn't exist).")
@click.option("--string", is_flag=True, help="VALUE is a string, not JSON.")
@asks
def put(
    asking: Asking,
    *,
    key: str,
    value: str,
    election: str | None,
    term: int | None,
    if_revision: int | None,
    string: bool,
) -> int:
    """Write VALUE (JSON; - reads it from stdin) under KEY. Exit code 3 if the term is stale."""
    text = _stdin() if value == "-" else value
    with asking.client() as client:
        written = client.kv_put(
            key, text if string else _json(text), election=election, term=term, if_revision=if_revision
        )
    asking.answer(written, f"{written.key}: revision {written.revision}")
    return Exit.OK


@command.command("list")
@click.argument("prefix", default="")
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True)
@asks
def list_keys(asking: Asking, *, prefix: str, limit: int) -> int:
    """List the keys that begin with PREFIX."""
    with asking.client() as client:
        found = client.kv_list(prefix, limit=limit)
    if asking.json or found.keys:
        asking.answer(found, "\n".join(found.keys))
    # Not on stdout: whoever reads keys there must not take a sentence for one.
    if found.more:
        printing.complain("tenure kv list: … and more: see --limit")
    elif not found.keys:
        printing.complain(f"tenure kv list: no keys begin with {prefix!r}" if prefix else "tenure kv list: no keys yet")
    return Exit.OK


def _stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise Invalid("VALUE", f"what came on stdin isn't UTF-8 (byte {error.start})") from None


def _json(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise Invalid("VALUE", f"isn't JSON ({error}): quote strings as '\"text\"', or give --string") from None
