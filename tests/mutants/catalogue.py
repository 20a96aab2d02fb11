"""Deliberate bugs: which rule each breaks, what is changed, and who must notice (VERIFICATION 5).

Killers: `golden:EXPRESSION` (golden scripts chosen as by `pytest -k`), `sim:A..B` (seeds of the simulator), or a path of
a test for pytest. The first that notices kills; a bug that all of them pass is a hole in the tests.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One bug. `file` lies below src/tenure; `old` stands there exactly once."""

    name: str
    rule: str
    file: str
    old: str
    new: str
    killers: tuple[str, ...]


MUTANTS = (
    Mutant(
        "vote-not-persisted", "P4.8", "raft/election.py",
        "        core.vote = sender\n        set_hard_state(core)\n",
        "        core.vote = sender\n",
        ("sim:0..40",),
    ),
    Mutant(
        "promises-before-fsync", "P4.8", "raft/disk.py",
        "    if disk.dirty:\n        disk.promises.append(envelope)\n",
        "    if disk.dirty:\n        core.send.append(envelope)\n",
        ("sim:0..40",),
    ),
    Mutant(
        "no-up-to-date-check", "P4.4", "raft/log.py",
        "return (last_term, last_index) >= (self.last_term, self.last_index)",
        "return True",
        ("sim:0..40",),
    ),
    Mutant(
        "old-term-commit", "P4.3", "raft/replication.py",
        "    if index <= core.commit or log.term_at(index) != core.term:\n",
        "    if index <= core.commit:\n",
        ("sim:0..40",),
    ),
    Mutant(
        "vote-counted-twice", "P4.2", "raft/quorum.py",
        "    return count >= size(total)",
        "    return count + 1 >= size(total)",
        ("sim:0..40",),
    ),
    Mutant(
        "read-without-round", "P3.3", "raft/reads.py",
        "    while leader.rounds and leader.rounds[0].number <= acked:\n",
        "    while leader.rounds:\n",
        ("sim:0..40",),
    ),
    Mutant(
        "read-before-no-op", "P3.3", "raft/reads.py",
        "    if not leader.reads_waiting or core.commit < leader.noop:\n",
        "    if not leader.reads_waiting:\n",
        ("sim:0..40",),
    ),
    Mutant(
        "leads-before-own-vote-durable", "P4.2", "raft/election.py",
        "    if isinstance(role, Candidate) and core.me in role.granted and quorum.reached(core.voters, role.granted):\n",
        "    if isinstance(role, Candidate) and quorum.reached(core.voters, role.granted | {core.me}):\n",
        ("sim:0..40",),
    ),
    Mutant(
        "log-check-against-the-durable-log", "P4.4", "raft/log.py",
        "return (last_term, last_index) >= (self.last_term, self.last_index)",
        "return (last_term, last_index) >= (self.term_at(self.durable) or 0, self.durable)",
        ("golden:p4_4",),
    ),
    Mutant(
        "own-match-counts-undurable", "P4.3", "raft/replication.py",
        "matches: list[int] = [log.durable if voter == core.me",
        "matches: list[int] = [log.last_index if voter == core.me",
        ("sim:0..40",),
    ),
)  # fmt: skip
