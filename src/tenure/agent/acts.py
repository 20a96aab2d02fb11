"""What can happen to `tenure run`, and what it can do: values only."""

from dataclasses import dataclass

from tenure.agent.ladder import Rungs
from tenure.base.ids import Term
from tenure.base.instants import Instant
from tenure.leadership.engine import ReleaseCause

# --- what happens ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begin:
    """The agent starts."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """The cluster knows that we stand."""


@dataclass(frozen=True, slots=True)
class Granted:
    """The lease is ours until `valid_until` (from an acknowledged keepalive, P3.1)."""

    term: Term
    token: str
    valid_until: Instant


@dataclass(frozen=True, slots=True)
class Renewed:
    """Confirmed: the lease now ends later."""

    term: Term
    valid_until: Instant


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """The machine slept: the lease doesn't count until the next renewal (P3.7)."""

    term: Term


@dataclass(frozen=True, slots=True)
class Demanded:
    """We are asked to hand over before `until`."""

    term: Term
    successor: str | None
    until: Instant


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """The holding is over on our side, and not because we gave it back."""

    term: Term
    cause: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The cluster refuses us and will again (name, credential)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Protected:
    """The guardian stands, with these protections."""

    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """A stub is ready to exec."""


@dataclass(frozen=True, slots=True)
class Executed:
    """The application's code runs."""

    pid: int


@dataclass(frozen=True, slots=True)
class CannotExecute:
    """The exec failed; an `Exited` follows."""

    errno: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """Somebody stopped the application (SIGSTOP)."""


@dataclass(frozen=True, slots=True)
class Continued:
    """It goes on."""


@dataclass(frozen=True, slots=True)
class SigtermSent:
    """The guardian sent SIGTERM by itself, because no renewal came."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The application's tree is gone; `code` as a shell tells it."""

    code: int


@dataclass(frozen=True, slots=True)
class GuardianLost:
    """Somebody killed the guardian; the application's tree is gone with it."""

    code: int


@dataclass(frozen=True, slots=True)
class StopAsked:
    """SIGTERM or SIGINT to the agent."""

    signal: int


@dataclass(frozen=True, slots=True)
class Due:
    """The deadline of the state has passed."""


Input = (
    Begin
    | Candidate
    | Granted
    | Renewed
    | Unconfirmed
    | Demanded
    | LeaseEnded
    | Refusal
    | Protected
    | Ready
    | Executed
    | CannotExecute
    | Stopped
    | Continued
    | SigtermSent
    | Exited
    | GuardianLost
    | StopAsked
    | Due
)


# --- what is to be done ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Campaign:
    """Stand for the election."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the application under this term; `None` rungs can't be: it always has an end."""

    term: Term
    token: str
    rungs: Rungs


@dataclass(frozen=True, slots=True)
class Arm:
    """Move the guardian's deadlines and the page's."""

    term: Term
    rungs: Rungs


@dataclass(frozen=True, slots=True)
class Blank:
    """Show the application that the lease doesn't count now."""

    term: Term


@dataclass(frozen=True, slots=True)
class Terminate:
    """SIGTERM to the application."""


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL to the tree."""


@dataclass(frozen=True, slots=True)
class Release:
    """Give the office back and stop standing; nothing of ours runs. Cause and reason are for the history."""

    term: Term
    cause: ReleaseCause = "released"
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """Close the session, once what was released before is given back, and end with this code."""

    code: int


@dataclass(frozen=True, slots=True)
class Say:
    """For people and for `--json`: what, and its figures."""

    what: str
    data: tuple[tuple[str, str | int | float | None], ...] = ()


Action = Campaign | Spawn | Arm | Blank | Terminate | Kill | Release | Finish | Say
