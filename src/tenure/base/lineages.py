"""Which cluster is this, and which of its pasts (P1.1, P1.4)? A lineage is a list of random nonces: the first was drawn
when the cluster was founded, one more at each restore and each forced recovery.

Who takes part in `(a, b)` came out of `(a,)`, and may be believed by whoever knows `(a,)`. The other way round it is
the past: what was decided since is not known there. `(a, b)` and `(a, c)` are siblings: two clusters that both go on
from one past, and both are right by themselves.
"""

from collections.abc import Sequence
from typing import Final, Literal

from tenure.base.ids import Nonce

lineage_max: Final = 64
"""Restores and recoveries of one cluster; each adds seventeen characters to what members and clients say of it."""

Relation = Literal["same", "older", "newer", "forked", "foreign"]
"""What the other is to us: `older` is a past of ours, `newer` has us for its past, `forked` is a sibling."""


def relation(ours: Sequence[Nonce], theirs: Sequence[Nonce]) -> Relation:
    """Compare two lineages, neither of them empty."""
    assert ours
    assert theirs
    if ours[0] != theirs[0]:
        return "foreign"
    shared = min(len(ours), len(theirs))
    if list(ours[:shared]) != list(theirs[:shared]):
        return "forked"
    if len(ours) == len(theirs):
        return "same"
    return "older" if len(theirs) < len(ours) else "newer"


def shown(lineage: Sequence[Nonce]) -> str:
    """As text: header, logs, files."""
    return ",".join(lineage)


def read(text: str) -> tuple[Nonce, ...] | None:
    """The other way; None for what is no lineage."""
    nonces = text.split(",")
    if len(nonces) > lineage_max or not all(len(nonce) == 16 and set(nonce) <= _HEX for nonce in nonces):
        return None
    return tuple(Nonce(nonce) for nonce in nonces)


_HEX: Final = frozenset("0123456789abcdef")


def why_not(name: str, ours: Sequence[Nonce], theirs: Sequence[Nonce]) -> str | None:
    """Why a member of `theirs`, called `name`, can't take part with one of `ours`; None if it can."""
    match relation(ours, theirs):
        case "same":
            return None
        case "older":
            return (
                f"left behind: {name} comes from before this cluster was restored or recovered, and its data with it "
                f"(lineage {shown(theirs)}, this one is {shown(ours)}). It must not take part again: give it an empty "
                "data directory and let it join"
            )
        case "newer":
            return (
                f"left behind: the cluster of {name} came out of this one, which was restored or recovered without "
                f"this member (lineage {shown(theirs)}, this one is {shown(ours)}). What is here is of the past: stop "
                "this member for good, give it an empty data directory and let it join"
            )
        case "forked":
            return (
                f"forked: {name} and this member belong to two clusters that were restored or recovered from the same "
                f"one (lineages {shown(theirs)} and {shown(ours)}). Both may have granted the same offices. Decide "
                "which one goes on, and stop the other for good"
            )
        case "foreign":
            return f"{name} belongs to another cluster ({theirs[0]}), this one is {ours[0]}"
