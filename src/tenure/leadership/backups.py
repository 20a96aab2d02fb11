"""What an engine hands out of its state as a whole, for a file (`GET /v1/snapshot`)."""

from collections.abc import Iterator
from dataclasses import dataclass

from tenure.base.ids import ConsensusTerm, LogIndex, Nonce
from tenure.leadership.members import MemberSeat


@dataclass(frozen=True, slots=True)
class Backup:
    """The state applied at `index`, whatever happens to it meanwhile. `sections` are its bytes, each made when it is
    asked for; they can be gone through once.
    """

    lineage: tuple[Nonce, ...]
    index: LogIndex
    term: ConsensusTerm
    feature: int
    members: tuple[MemberSeat, ...]
    sections: Iterator[bytes]
