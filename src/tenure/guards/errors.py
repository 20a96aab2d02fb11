"""How a guard refuses. Every refusal leaves the resource as it was."""

from tenure.base.errors import TenureError
from tenure.base.ids import ElectionName, Term


class GuardError(TenureError):
    """Base of all refusals by a guard."""


class StaleTerm(GuardError):
    """A newer leader has written here. The one who gets this has been replaced and must stop; a retry can't help."""

    def __init__(self, election: ElectionName, term: Term, current_term: Term) -> None:
        super().__init__(f"{election}: term {term} is stale, the resource has seen term {current_term}")
        self.election = election
        self.term = term
        self.current_term = current_term


class Forked(GuardError):
    """Two owners of one term: an alarm (P2.3). Somebody issued a term twice, say two clusters after a restore."""

    def __init__(self, election: ElectionName, term: Term, owner: str, current_owner: str) -> None:
        super().__init__(f"{election}: term {term} belongs to owner {current_owner} here, not to {owner}: forked")
        self.election = election
        self.term = term
        self.owner = owner
        self.current_owner = current_owner


class UnknownMark(GuardError):
    """The resource isn't guarded for this election: `install` was never run there."""

    def __init__(self, election: ElectionName) -> None:
        super().__init__(f"{election}: this resource is not guarded for it; install the guard first")
        self.election = election


class TermTooHigh(GuardError):
    """A term above 2^52, which no cluster issues (P2.3)."""

    def __init__(self, election: ElectionName, term: int) -> None:
        super().__init__(f"{election}: term {term} lies above 2^52 and is refused")
        self.election = election
        self.term = term


class MarkAboveIssued(GuardError):
    """The resource has seen a term that the cluster never issued: an alarm (P2.3); `--term-floor` mends it."""

    def __init__(self, election: ElectionName, mark: Term, issued: Term) -> None:
        super().__init__(f"{election}: the resource has seen term {mark}, but the newest issued one is {issued}")
        self.election = election
        self.mark = mark
        self.issued = issued


class OperationMismatch(GuardError):
    """This operation id was used for something else (P9.2)."""

    def __init__(self, operation_id: str) -> None:
        super().__init__(f"operation {operation_id!r} was applied before with other content")
        self.operation_id = operation_id


class WrongTransaction(GuardError):
    """The transaction can't be used: one was open already, or the action ended the guard's own."""
