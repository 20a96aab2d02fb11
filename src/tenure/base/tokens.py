"""The unsigned fencing token `t1.<election>.<term>.<owner>` (API.md): what a leader shows with every write.

Election names hold no dot, so the four parts can't be confused. The owner is a hash computed at the grant (P2.3); here
it is only checked for its form.
"""

import re
from typing import Final

from msgspec import Struct

from tenure.base.errors import Invalid
from tenure.base.ids import ElectionName, Term, counter, election_name

_PREFIX: Final = "t1"
_OWNER: Final = re.compile(r"[0-9a-f]{32}")
_TERM: Final = re.compile(r"[1-9][0-9]{0,15}")
token_chars_max: Final = 2 + 63 + 16 + 32 + 3


class FencingToken(Struct, frozen=True):
    """`owner` (32 hex digits) holds `election` under `term`. `str()` gives the text form."""

    election: ElectionName
    term: Term
    owner: str

    def __str__(self) -> str:
        return f"{_PREFIX}.{self.election}.{self.term}.{self.owner}"


def token(election: str, term: int, owner: str) -> FencingToken:
    """A token from its parts, each checked; `Invalid` names the part."""
    if not _OWNER.fullmatch(owner):
        raise Invalid("owner", f"must be 32 hex digits, got {owner[:80]!r}")
    return FencingToken(election_name(election), Term(counter(term, "term", minimum=1)), owner)


def parse(text: str, field: str = "token") -> FencingToken:
    """Read the text form. Exactly what `str()` writes is accepted: no spaces, no leading zeros; else `Invalid`."""
    parts = text.split(".") if len(text) <= token_chars_max else []
    if len(parts) != 4 or parts[0] != _PREFIX or not _TERM.fullmatch(parts[2]):
        raise Invalid(field, f"must look like t1.<election>.<term>.<owner>, got {text[:120]!r}")
    try:
        return token(parts[1], int(parts[2]), parts[3])
    except Invalid as error:
        raise Invalid(field, str(error)) from None
