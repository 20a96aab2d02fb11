"""Terms and who they belong to (P2): stamps, floors, the owner's hash, the fencing token."""

import hashlib
from collections.abc import Sequence
from typing import Final

from tenure.base.errors import Invalid
from tenure.base.ids import ElectionName, NodeId, Nonce, SessionId, Term, counter_max
from tenure.base.tokens import FencingToken
from tenure.leadership.limits import term_floor_max

epoch_ms: Final = 1_735_689_600_000
"""2025-01-01T00:00:00Z: where stamps begin (P2.1)."""
released_ms: Final = 1_751_328_000_000
"""2025-07-01T00:00:00Z: a wall clock below it is wrong, whatever else it says (P2.2)."""


def stamp_of(wall_ms: int) -> int:
    """P2.1: a number above whatever an earlier cluster issued if it granted less than 64 000 a second on average."""
    return max(0, wall_ms - epoch_ms) << 6


def founding_stamp(wall_ms: int, floor: int | None = None, newest: int = 0) -> int:
    """The first term that a cluster may issue which is founded, restored or recovered now (P2.1).

    `newest` is the newest stamp known of it. `Invalid` if the wall clock is behind and there is no `floor` (P2.2).
    """
    if floor is not None:
        if not 1 <= floor <= term_floor_max:
            raise Invalid("term_floor", f"must lie between 1 and 2^52, got {floor}")  # P2.3
        return max(floor, newest, stamp_of(wall_ms) if stamp_of(wall_ms) <= term_floor_max else 0)
    stamp = stamp_of(wall_ms)
    if wall_ms < released_ms:
        raise Invalid("term_floor", "the wall clock is before this program's release; set it, or give --term-floor")
    if stamp < newest:
        raise Invalid("term_floor", "the wall clock is behind the newest stamp; set it, or give --term-floor")
    if stamp > term_floor_max:
        raise Invalid("term_floor", "the wall clock is absurdly far ahead; set it, or give --term-floor")
    return stamp


def next_term(counter: int) -> Term:
    """P2.1: a grant takes +1."""
    term = counter + 1
    assert 0 < term <= counter_max, f"no term after {counter}"
    return Term(term)


def owner_of(lineage: Sequence[Nonce], node: NodeId, session: SessionId) -> str:
    """P2.3: 32 hex digits of a hash of lineage, node and session, so that siblings of one snapshot never look equal."""
    said = "\0".join(("tenure owner 1", *lineage, node, session))
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


def fence_token(election: ElectionName, term: Term, owner: str) -> str:
    """The unsigned form (API.md)."""
    return str(FencingToken(election, term, owner))
