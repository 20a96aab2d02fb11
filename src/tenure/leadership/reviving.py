"""What a state becomes when a new cluster goes on from it: after a restore, or a forced recovery (P1.4, P2.1).

Nothing that was promised by it is lost, and nothing that was promised after it is contradicted:

* the next term is above every one that may have been issued since (P2.1);
* whoever held an office holds it no more under the old term: it may have been granted again since, so a guard may
  refuse that term for ever. Each holding ends as by a stepdown without grace, and a whole TTL passes before exclusive
  offices are granted anew (P3.4, `offices.grant`), those that were vacant too: somebody may have been granted them
  since, and believe in it to the end of a lease;
* log indexes and transitions go on far above any that were since: they are revisions, which clients compare, and where
  watchers resume.

Sessions, candidacies, keys with the elections that fence them, and answers given stay as they are.
"""

from typing import Final

from tenure.base.ids import LogIndex, Nonce
from tenure.leadership import holdings
from tenure.leadership.state import Handover, Indexes, State, Turn, Vacancy

indexes_skipped: Final = 10_000_000_000
"""More than were used in eleven days at 10 000 writes a second: how old a snapshot may be that is restored."""


def revived(state: State, nonce: Nonce, first_term: int, at_ms: int, why: str) -> LogIndex:
    """Change the state into that of the new cluster; its index. `first_term`: from `terms.founding_stamp`."""
    index = LogIndex(state.applied + indexes_skipped)
    state.lineage = (*state.lineage, nonce)
    state.counter = max(state.counter, first_term - 1)
    state.stamp = max(state.stamp, first_term)
    state.applied = index
    state.transition += indexes_skipped
    turn = Turn(state, Indexes(state), index, at_ms)
    for name in sorted(state.elections):
        election = state.elections[name]
        if election.holder is not None:
            holdings.hand_over(turn, election, Handover("restored", None, 0, False, why, index))
        else:
            election.vacancy = Vacancy("restored", at_ms)
    return index
