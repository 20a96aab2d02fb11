"""`tenure validate`: is this fencing token, or this term, the current one?"""

import click

from tenure.base.errors import Invalid
from tenure.base.ids import election_name
from tenure.cli.asking import Asking, asks
from tenure.cli.exits import Exit
from tenure.cli.printing import styled

_WORDS = {
    "current": "the election is held under exactly this term",
    "stale": "a newer term has been granted",
    "not_held": "the election isn't held now",
    "never_issued": "this term was never granted for this election",
    "unknown_election": "there is no such election",
    "wrong_owner": "the term is current, but this token belongs to another holder",
}


@click.command("validate")
@click.argument("token_or_election", metavar="TOKEN|ELECTION")
@click.argument("term", required=False, type=click.IntRange(min=0))
@asks
def command(asking: Asking, *, token_or_election: str, term: int | None) -> int:
    """Check a fencing token (t1.ELECTION.TERM.OWNER), or an election and a term. Exit code 0 if valid, 3 if not."""
    if term is None and "." not in token_or_election:
        raise Invalid("TOKEN", f"{token_or_election!r} is none: give a token (t1.…), or an election and a term")
    with asking.client() as client:
        if term is None:
            found = client.validate(token_or_election)
        else:
            found = client.validate(election=election_name(token_or_election), term=term)
    verdict = styled("valid", "good") if found.valid else styled("NOT VALID", "bad")
    current = "" if found.valid or found.current_term is None else f"; the current term is {found.current_term}"
    asking.answer(found, f"{verdict}: {_WORDS[found.reason]}{current}")
    return Exit.OK if found.valid else Exit.NOT_LEADER
