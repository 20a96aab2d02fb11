"""What one turn shares between the parts of a replica: the time, what the core is to be told, what comes out."""

from tenure.base.ids import ConsensusTerm, MemberId
from tenure.base.instants import Instant, WallMs
from tenure.engines.native.inputs import Effects
from tenure.raft.events import Event


class Turn:
    """`leading`: we are the consensus leader; `serving`: its no-op is applied, so the steward may work.

    `moved` asks for everything that waits to be routed anew before the turn ends; `decide` asks the steward.
    """

    __slots__ = (
        "decide",
        "events",
        "expires",
        "leader",
        "leading",
        "moved",
        "now",
        "out",
        "serving",
        "stopped",
        "term",
        "wall",
    )

    def __init__(self, now: Instant) -> None:
        self.now = now
        self.expires = now
        """When a request that came in this turn must be answered."""
        self.wall = WallMs(0)
        self.out = Effects()
        self.events: list[Event] = []
        self.leading = False
        self.serving = False
        self.leader: MemberId | None = None
        self.term = ConsensusTerm(0)
        self.moved = False
        self.decide = False
        self.stopped = False
