"""A resource outside the cluster, guarded as P2.3 says: it keeps a mark (term, owner) and refuses what is older.

Writes reach it late, twice and out of order, from processes that slept between their check and their write, under any
clocks. It stands for every guard of `guards/`, which are tested on their own; what is checked here is what the cluster
owes them (S18): no term comes twice with another owner, and none comes that was never granted.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.world import World


@dataclass
class Resource:
    """One election's resource. `token` names election, term and owner."""

    world: "World"
    election: str
    term: int = 0
    token: str = ""
    accepted: int = 0
    refused: int = 0

    def write(self, node: str, term: int, token: str) -> None:
        """A write arrives."""
        world = self.world
        if term < self.term:
            self.refused += 1
            world.seen["guard refused"] += 1
            return
        granted = world.observer.leases.owners.get(term)
        if granted != token:
            world.observer.fail("S18", f"{node} writes to {self.election} with {token}, term {term} was {granted}")
        if term == self.term and token != self.token:
            world.observer.fail("S18", f"{self.election}: {token} and {self.token} both hold term {term}: forked")
        if term > self.term:
            world.tell(node, f"writes to {self.election} under term {term}")
        self.term, self.token = term, token
        self.accepted += 1
