"""All deliberate bugs: which rule each breaks, what is changed, and who must notice (VERIFICATION 5).

A bug that all its killers pass is a hole in the tests. Left out, since they have tests of another kind: the
explanations P3.9, P5.7 and P5.9, the process facts P6.4 and P6.5; and what is not built yet: P2.4.
"""

from typing import Final

from tests.mutants import consensus, failover, healing, leases, members, snapshots, transfers
from tests.mutants.mutant import Mutant

MUTANTS: Final[tuple[Mutant, ...]] = (
    consensus.MUTANTS
    + failover.MUTANTS
    + leases.MUTANTS
    + members.MUTANTS
    + healing.MUTANTS
    + snapshots.MUTANTS
    + transfers.MUTANTS
)
