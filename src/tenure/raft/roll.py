"""The roll is called before other members count (P7, ADR 0033): nothing is built on who died in silence just now."""

from dataclasses import dataclass

from tenure.base.instants import Instant
from tenure.raft.events import ChangeMembership


@dataclass(slots=True)
class RollCall:
    """A change that waits until a majority of the voters to come has answered heartbeat `number` or a later one, all
    made after it was asked for; at `ends_at` it has waited long enough.
    """

    event: ChangeMembership
    number: int
    ends_at: Instant
