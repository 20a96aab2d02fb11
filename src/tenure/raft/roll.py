"""The roll is called before other members count (P7, ADR 0033): nothing is built on who died in silence just now."""

from dataclasses import dataclass

from tenure.base.ids import BatchNumber
from tenure.base.instants import Instant
from tenure.raft.events import ChangeMembership


@dataclass(slots=True)
class RollCall:
    """A change that waits until a majority of the voters to come has done the durable probe `number` or a later one,
    made after it was asked for; ourselves by `own_batch`. At `ends_at` it has waited long enough.
    """

    event: ChangeMembership
    number: int
    own_batch: BatchNumber
    asked_at: Instant
    ends_at: Instant
