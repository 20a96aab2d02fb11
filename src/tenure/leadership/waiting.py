"""A stepdown that has begun is done when a later term is granted. This says when, and what to answer until then."""

from typing import Final

from msgspec import Struct

from tenure.base.ids import ElectionName
from tenure.base.instants import MS
from tenure.leadership.engine import Stepdown, Stepped
from tenure.leadership.machine import Machine

margin_ms: Final = 1_000


class Waiting(Struct, frozen=True):
    """Waits for the successor of `term`. `begun` is what to answer when waiting ends without one (202)."""

    election: ElectionName
    term: int
    begun: Stepped

    @classmethod
    def after(cls, begun: Stepped) -> "Waiting | None":
        """From the machine's result; None if there is nothing to wait for."""
        if begun.state == "done" or begun.election is None or begun.term is None:
            return None
        return cls(begun.election, begun.term, begun)

    def answer(self, machine: Machine) -> Stepped | None:
        """What to answer, as soon as somebody was granted a later term; None until then."""
        election = machine.state.elections.get(self.election)
        holder = election.holder if election is not None else None
        if holder is None or holder.term <= self.term:
            return None
        return Stepped(self.election, holder.node, holder.term, "done", self.begun.from_)


def wait_us(request: Stepdown) -> int:
    """For how long the asker waits: grace + 1 s unless it says otherwise; 0 answers at once (API.md)."""
    return (request.wait_ms if request.wait_ms is not None else request.grace_ms + margin_ms) * MS
