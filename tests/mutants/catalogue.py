"""All deliberate bugs: which rule each breaks, what is changed, and who must notice (VERIFICATION 5).

A bug that all its killers pass is a hole in the tests. What must be here, and which rules no mutant can break, stands
in `demanded`.
"""

from typing import Final

from tests.mutants import addresses, consensus, failover, healing, keeper, leases, members, snapshots, transfers
from tests.mutants.mutant import Mutant

MUTANTS: Final[tuple[Mutant, ...]] = (
    consensus.MUTANTS
    + failover.MUTANTS
    + leases.MUTANTS
    + keeper.MUTANTS
    + members.MUTANTS
    + healing.MUTANTS
    + snapshots.MUTANTS
    + transfers.MUTANTS
    + addresses.MUTANTS
)
