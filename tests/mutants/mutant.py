"""What a mutant is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One deliberate bug. `file` lies below src/tenure; `old` stands there exactly once.

    `reason` says in a line what the bug breaks. `killers` are `golden:SCRIPT`, `sim:A..B` (seeds of the simulator), or
    a test as pytest names it, below tests/. One script or test must notice; and the simulation too where it is named.
    `more`: further edits of the same file, where two locks hang on one door.
    """

    name: str
    rule: str
    file: str
    old: str
    new: str
    reason: str
    killers: tuple[str, ...]
    more: tuple[tuple[str, str], ...] = ()
