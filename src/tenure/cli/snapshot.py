"""`tenure snapshot save|inspect|restore`: the state in a file."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tenure.base.errors import Invalid
from tenure.base.instants import WallMs
from tenure.cli import printing
from tenure.cli.asking import Asking, asks
from tenure.cli.exits import Exit

if TYPE_CHECKING:
    from tenure.server.config import Config
    from tenure.server.reviving import Heir, Revived
    from tenure.server.snapshot_files import Contents
    from tenure.wire.snapshot_file import Header, Trailer

_FILE = click.argument("file", type=click.Path(path_type=Path))


@click.group("snapshot")
def command() -> None:
    """Save the cluster's state to a file, look at such a file, restore a cluster from it."""


@command.command("save")
@_FILE
@click.option("--stale", is_flag=True, help="What the member that answers has, without asking the others.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@asks
def save(asking: Asking, *, file: Path, stale: bool, overwrite: bool) -> int:
    """Write everything that was acknowledged before now to FILE; it is there only if it is whole."""
    from tenure.server.snapshot_files import save as save_file

    with asking.client() as client:
        header, trailer = save_file(file, client.snapshot(stale=stale), overwrite=overwrite)
    said = {"file": str(file), **_facts(header, trailer)}
    asking.answer(said, f"{file}: {trailer.bytes} bytes, index {header.index}, taken at {header.taken_by}")
    return Exit.OK


@command.command("inspect")
@_FILE
@click.option("--json", "as_json", is_flag=True, help="Answer with JSON.")
def inspect(*, file: Path, as_json: bool) -> int:
    """Read FILE as a whole, check it, and say what is in it."""
    from tenure.server.snapshot_files import contents, load

    whole = load(file)
    found = contents(whole.state)
    if as_json:
        printing.say(printing.json_line({"file": str(file), **_facts(whole.header, whole.trailer), "contents": found}))
    else:
        printing.say(_described(file, whole.header, whole.trailer, found))
    return Exit.OK


@command.command("restore")
@_FILE
@click.option(
    "--data-dir", type=click.Path(path_type=Path), required=True, help="The new member's; empty or not there."
)
@click.option("--name", default="m1", show_default=True, help="The new member's name.")
@click.option("--peer", default="127.0.0.1:8369", show_default=True, metavar="HOST:PORT", help="Its peer address.")
@click.option(
    "--cluster",
    metavar="NAME=HOST:PORT,…",
    help="Make directories for all of these instead, each in DATA_DIR/NAME, to be carried to its machine.",
)
@click.option("--term-floor", type=int, help="No term below this is granted (when the wall clock can't be trusted).")
@click.option("--json", "as_json", is_flag=True, help="Answer with JSON.")
def restore(
    *,
    file: Path,
    data_dir: Path,
    name: str,
    peer: str,
    cluster: str | None,
    term_floor: int | None,
    as_json: bool,
) -> int:
    """Make a new cluster that goes on from FILE.

    Everything in it is there again; whoever held an office gets a new term. The old cluster must never run again: its
    members are refused, and so are clusters restored from the same file (docs/operating/snapshots.md).
    """
    from tenure.server.reviving import revive
    from tenure.server.snapshot_files import load

    heirs = _heirs(data_dir, name, peer, cluster)
    whole = load(file)
    made = revive(
        whole.state,
        heirs,
        index=whole.header.index,
        term=whole.header.term,
        feature=whole.header.feature,
        floor=term_floor,
        wall=WallMs(time.time_ns() // 1_000_000),
        why=f"restored from a snapshot of {whole.header.taken_at}",
    )
    if as_json:
        said = {"data_dirs": {heir.name: str(heir.directory) for heir in heirs}, **facts_of(made)}
        printing.say(printing.json_line(said))
    else:
        lines = [f"{heir.name}: {heir.directory}" for heir in heirs]
        printing.say("\n".join([*lines, told(made), _start(cluster)]))
    return Exit.OK


def _heirs(data_dir: Path, name: str, peer: str, cluster: str | None) -> list["Heir"]:
    from tenure.server.reviving import Heir

    given: dict[str, object] = {"name": name, "peer": peer, "data_dir": data_dir}
    if cluster is None:
        return [Heir(name, str(served(given).advertise_peer), data_dir)]
    first = cluster.partition("=")[0].strip()
    listed = served({**given, "cluster": cluster, "name": first}).cluster
    return [Heir(one.name, one.peer, data_dir / one.name) for one in listed]


def served(given: dict[str, object]) -> "Config":
    """By the rules of `tenure serve`, so that what is made here can be started there. Raises `Invalid`."""
    from tenure.server.config import ConfigError, load

    try:
        return load({"insecure": True, **given}, {}, files=())
    except ConfigError as error:
        raise Invalid(error.key, error.reason) from None


def _start(cluster: str | None) -> str:
    how = "tenure serve --data-dir … --name … --peer …"
    if cluster is not None:
        return f"Carry each directory to its machine and start it there: {how}"
    return f"Start it: {how}; then others join it (tenure serve --join)."


def told(made: "Revived") -> str:
    """What a new cluster begins with."""
    return f"lineage {','.join(made.lineage)}; terms from {made.first_term}, log from index {made.index}"


def facts_of(made: "Revived") -> dict[str, object]:
    """The same for programs."""
    return {
        "lineage": made.lineage,
        "index": made.index,
        "term": made.term,
        "first_term": made.first_term,
        "members": [{"id": seat.id, "name": seat.name, "peer": seat.peer} for seat in made.seats],
    }


def _facts(header: "Header", trailer: "Trailer") -> dict[str, object]:
    return {
        "lineage": header.lineage,
        "index": header.index,
        "term": header.term,
        "feature": header.feature,
        "members": header.members,
        "taken_by": header.taken_by,
        "taken_at": header.taken_at,
        "consistency": header.consistency,
        "bytes": trailer.bytes,
        "sha256": trailer.sha256,
    }


def _described(file: Path, header: "Header", trailer: "Trailer", found: "Contents") -> str:
    members = [[seat.name, seat.role, seat.peer, seat.id] for seat in header.members]
    lines = [
        f"{file}: whole, {trailer.bytes} bytes, sha256 {trailer.sha256}",
        f"taken at {header.taken_by}, {header.taken_at}, {header.consistency}",
        f"lineage {','.join(header.lineage)}",
        f"index {header.index}, consensus term {header.term}, feature version {header.feature}",
        f"{found.sessions} sessions, {found.elections} elections ({found.held} held), next term {found.next_term}",
        f"{found.keys} keys ({found.key_bytes} bytes)",
        f"{found.client_sessions} client sessions, {found.idempotency_keys} idempotency keys",
    ]
    if members:
        lines += ["", printing.table(("MEMBER", "ROLE", "PEER", "ID"), members)]
    return "\n".join(lines)
