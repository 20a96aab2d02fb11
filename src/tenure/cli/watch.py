"""`tenure watch`: who leads, now and at every change."""

import os
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

from tenure.cli import printing
from tenure.cli.asking import Asking, asks
from tenure.cli.exits import Exit
from tenure.client.http import Client
from tenure.client.observer import Observer, Sighting

told_after_seconds: Final = 3.0
_look_seconds: Final = 0.2


@click.command("watch")
@click.argument("election")
@click.option("--exec", "command_line", metavar="CMD", help="Run CMD at every sighting, with TENURE_* set.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many sightings.")
@asks
def command(asking: Asking, *, election: str, command_line: str | None, count: int | None) -> int:
    """Tell who leads ELECTION, now and at every change, until interrupted.

    While CMD runs nothing else is told; afterwards the newest sighting follows. It is not run through a shell, and gets
    TENURE_ELECTION, TENURE_NODE (empty: nobody), TENURE_TERM and TENURE_STATE.
    """
    words = None if command_line is None else _split(command_line)
    told = 0
    client = Client(asking.endpoints, secret=asking.secret, timeout=min(asking.timeout, told_after_seconds))
    with Observer(election, client) as observer, _complaining(observer, json=asking.json):
        for sighting in observer:
            printing.say(printing.json_line(sighting) if asking.json else described(sighting))
            if words is not None:
                _execute(words, sighting)
            told += 1
            if told == count:
                break
    return Exit.OK


@contextmanager
def _complaining(observer: Observer, *, json: bool) -> Iterator[None]:
    """Say on stderr while the cluster doesn't answer: a watch that says nothing looks like peace."""
    over = threading.Event()

    def look() -> None:
        said: str | None = None
        while not over.wait(_look_seconds):
            trouble = observer.trouble
            if trouble != said:
                said = trouble
                text = "the cluster answers again" if trouble is None else f"no answer, still trying: {trouble}"
                printing.complain(printing.json_line({"trouble": trouble}) if json else f"tenure watch: {text}")

    threading.Thread(target=look, name="tenure-watch-trouble", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def described(sighting: Sighting) -> str:
    """One line for people."""
    at = time.strftime("%H:%M:%S")
    if sighting.node_id is None:
        text = printing.styled("nobody leads", "warn")
        last = f" (last term {sighting.term})" if sighting.term else " (never held)"
    else:
        text = printing.styled(f"{sighting.node_id} leads", "good")
        last = f", term {sighting.term}" + ("" if sighting.state == "held" else f", {sighting.state}")
    return f"{at}  {sighting.election}: {text}{last}"


def _split(command_line: str) -> list[str]:
    try:
        words = shlex.split(command_line)
    except ValueError as error:
        raise click.BadParameter(f"can't be read: {error}", param_hint="--exec") from None
    if not words:
        raise click.BadParameter("is empty", param_hint="--exec")
    return words


def _execute(words: list[str], sighting: Sighting) -> None:
    environment = os.environ | {
        "TENURE_ELECTION": sighting.election,
        "TENURE_NODE": sighting.node_id or "",
        "TENURE_TERM": str(sighting.term),
        "TENURE_STATE": sighting.state,
    }
    try:
        status = subprocess.run(words, env=environment, check=False).returncode
    except OSError as error:
        printing.complain(f"tenure watch: can't run {words[0]}: {error.strerror}")
        return
    if status != 0:
        printing.complain(f"tenure watch: {words[0]} ended with {status}")
