"""Which cluster a client has come to know, and which of its pasts (P1.4): it never goes back.

It says so with every request, so that a member of another one refuses before anything is done, and believes an answer
only from a lineage that is the same or came out of it: then that is what it knows from then on.
"""

from typing import Final

from tenure.base.ids import Nonce
from tenure.base.lineages import read, relation, shown
from tenure.wire.bodies import lineage_header, lineage_unknown

header: Final = lineage_header


class Known:
    """For the life of one client or keeper."""

    __slots__ = ("_lineage",)

    def __init__(self) -> None:
        self._lineage: tuple[Nonce, ...] = ()

    def said(self) -> str:
        """The header's value."""
        return shown(self._lineage) or lineage_unknown

    def hear(self, value: str | None) -> str | None:
        """What a member says of itself; why it isn't to be believed, None if it is. Nothing said proves nothing."""
        theirs = None if value is None else read(value)
        if theirs is None:
            return None
        if not self._lineage:
            self._lineage = theirs
            return None
        match relation(self._lineage, theirs):
            case "same":
                return None
            case "newer":
                self._lineage = theirs
                return None
            case "older":
                return f"it was left behind when the cluster was restored or recovered (lineage {value})"
            case "forked":
                return f"forked: it and the cluster that we know ({self.said()}) go on from one past (lineage {value})"
            case "foreign":
                return f"it belongs to another cluster ({theirs[0]}) than the one that we know ({self._lineage[0]})"
