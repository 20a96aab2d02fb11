"""A client says which lineage it knows; a member that doesn't descend from that refuses before anything is done (P1.4).

So a client that has talked to a restored cluster doesn't believe the past again when an old member comes back, nor a
sibling that was restored from the same snapshot.
"""

from typing import Final

from starlette.responses import Response

from tenure.api.answers import refused
from tenure.api.door import Door
from tenure.base.lineages import read, relation, shown
from tenure.wire.bodies import lineage_header, lineage_unknown

header: Final = lineage_header.lower().encode()


def refusal(door: Door, said: bytes) -> Response | None:
    """Why a client that knows this lineage isn't answered here; None if it is."""
    if said in {door.lineage, lineage_unknown.encode()} or not door.lineage:
        return None
    theirs = read(said.decode("latin-1"))
    if theirs is None:
        return refused("bad_request", "must be nonces of 16 hex digits, separated by commas", field=lineage_header)
    ours = door.engine.lineage()
    match relation(ours, theirs):
        case "same" | "older":  # what it knows is our own past
            return None
        case "newer":
            text = f"this member is of the past of the cluster that you know ({shown(theirs)}): it was left behind"
            return refused("wrong_lineage", text)
        case "forked":
            text = (
                f"forked: this cluster ({shown(ours)}) and the one that you know ({shown(theirs)}) go on from one past"
            )
            return refused("forked", text)
        case "foreign":
            return refused("wrong_lineage", f"this is cluster {ours[0]}, you know {theirs[0]}")
