"""`tenure demo`: a cluster and its workers on this machine, and what happens when leaders die."""

import click


@click.command("demo", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> int:
    """Start a 3-member cluster and workers here, kill their leaders, and show that no stale write gets through."""
    from tenure.cli.demo import main

    return main(list(arguments))
