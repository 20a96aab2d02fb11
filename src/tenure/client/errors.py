"""Errors of the SDK, typed; each text ends with the next step for whoever reads it."""

from typing import Final

from tenure.base.errors import TenureError
from tenure.leadership.engine import Code, Refused


class ClientError(TenureError):
    """Base of all that the SDK raises about the cluster's answers, or their absence."""

    next_step = "See the cluster's state with `tenure status`."

    def __init__(self, reason: str, refused: Refused | None = None, *, next_step: str | None = None) -> None:
        if next_step is not None:
            self.next_step = next_step
        super().__init__(f"{reason.rstrip('.')}. {self.next_step}")
        self.reason = reason
        self.refused = refused

    @property
    def code(self) -> Code | None:
        """The cluster's stable code, if it answered with one."""
        return None if self.refused is None else self.refused.code


class Unreachable(ClientError):
    """No endpoint could be talked to. Nothing was executed, unless a request had been sent before."""

    next_step = "Check that the members run and that --endpoints (TENURE_ENDPOINTS) names their API addresses."


class NoQuorum(ClientError):
    """Members answer, but no majority of them can decide. What was asked may take effect yet."""

    next_step = "Bring a majority of the members back; `tenure status` names those that are missing."


class TimedOut(ClientError):
    """It didn't happen in time; it may happen yet."""

    next_step = "Wait longer, or see `tenure status` for what it waits for."


class Denied(ClientError):
    """The credential is missing, wrong, or not allowed to do this."""

    next_step = "Give the right secret: --secret-file (TENURE_SECRET_FILE), or `secret=` in Python."


class NodeInUse(ClientError):
    """Another process has a live session under this node's name; it is never taken over."""

    next_step = "Stop the other process, or give this one a name of its own: --node, or `node=` in Python."


class NotHeld(ClientError):
    """The election isn't held, or not by whom or under what was named."""

    next_step = "See who leads: `tenure status`, and what happened: `tenure why ELECTION`."


class StaleTerm(ClientError):
    """A newer term has been granted: who sent this was replaced."""

    next_step = "Stop this work: somebody else leads. Lead again to get a newer term."

    @property
    def current_term(self) -> int | None:
        """The newest term, if the cluster said it."""
        return None if self.refused is None else self.refused.current_term


class NoSuccessor(ClientError):
    """Nobody else could take over, so nothing was changed."""

    next_step = "See the candidates and why they aren't eligible: `tenure status`."


class Missing(ClientError):
    """What was named doesn't exist: a session, an election, a member, a key."""

    next_step = "Check the name; an election begins with its first campaign or configuration."


class LeftBehind(ClientError):
    """What answered is another cluster than the one that this client knows, a past of it, or a sibling (P1.4)."""

    next_step = "Remove this endpoint; stop its member for good if it was left behind by a restore or a recovery."


class Conflict(ClientError):
    """The state was not what the request expected, so nothing was changed."""

    next_step = "Read the present state and decide anew."


class UnsafeChange(ClientError):
    """The members may not be changed so: a promise would not hold, or the cluster could stand still."""

    next_step = "See the members and what they lack: `tenure member list`."


class OutcomeUnknown(ClientError):
    """The cluster no longer knows whether this request was executed; it won't be executed again."""

    next_step = "Read the present state before you repeat it."


class InvalidRequest(ClientError):
    """The cluster can't take what was asked, whenever it is asked."""

    next_step = "Mend the field that is named."


class OverLimit(ClientError):
    """Larger or more than the cluster takes."""

    next_step = "Send less, or slower."


class ProtocolError(ClientError):
    """What answered is no Tenure, or one that is too old or too new."""

    next_step = "Check that the endpoint is the API port of a member (8368 by default), and both sides' versions."


class Unsupported(ClientError):
    """The engine behind this endpoint has no such thing."""

    next_step = "Ask a cluster of `tenure serve`."


class LeaseLost(ClientError):
    """This process doesn't lead under this term, or can't be sure of it. `cause` says why."""

    next_step = "Stop what only the leader may do; lead again to get a newer term."

    def __init__(self, reason: str, cause: str) -> None:
        super().__init__(reason)
        self.cause = cause


_of_code: Final[dict[Code, type[ClientError]]] = {
    "bad_request": InvalidRequest,
    "unauthorized": Denied,
    "denied": Denied,
    "reserved_key": Denied,
    "unknown_session": Missing,
    "unknown_election": Missing,
    "unknown_member": Missing,
    "unknown_key": Missing,
    "node_in_use": NodeInUse,
    "name_in_use": Conflict,
    "address_in_use": Conflict,
    "id_in_use": Conflict,
    "was_removed": Conflict,
    "stale_configuration": Conflict,
    "change_pending": UnsafeChange,
    "not_caught_up": UnsafeChange,
    "loses_quorum": UnsafeChange,
    "last_voter": UnsafeChange,
    "too_many_voters": UnsafeChange,
    "too_many_members": UnsafeChange,
    "too_many_witnesses": UnsafeChange,
    "witness_stays": UnsafeChange,
    "not_observer": Conflict,
    "not_voter": Conflict,
    "version_too_old": UnsafeChange,
    "not_held": NotHeld,
    "not_candidate": NotHeld,
    "outcome_unknown": OutcomeUnknown,
    "forked": LeftBehind,
    "wrong_lineage": LeftBehind,
    "stale_term": StaleTerm,
    "no_eligible_successor": NoSuccessor,
    "revision_mismatch": Conflict,
    "too_large": OverLimit,
    "invalid": InvalidRequest,
    "key_reused": Conflict,
    "too_many": OverLimit,
    "no_quorum": NoQuorum,
    "founding": NoQuorum,
    "joining": NoQuorum,
    "no_state": NoQuorum,
    "no_part": NoQuorum,
    "compacted": Conflict,
    "unsupported": Unsupported,
}


_next_steps: Final[dict[Code, str]] = {
    "founding": "Start all of them: every founding member takes part once, later a majority is enough.",
    "joining": "Ask a member of the cluster (--endpoints); `tenure status` of this one says what it waits for.",
    "no_state": "Ask another member (--endpoints): a witness serves nobody.",
    "no_part": "Ask another member (--endpoints); `tenure status` of this one says why it takes no part.",
    "name_in_use": "Give the new member another name, or remove the old one: `tenure member remove`.",
    "address_in_use": "Give it an address of its own (--peer), or remove or amend the member that has it.",
    "id_in_use": "If it has moved: `tenure member amend NAME --peer HOST:PORT`.",
    "was_removed": (
        "To come back it needs an empty data directory, which draws a new id, and `tenure serve --join`. "
        "Whoever is to vote now: `tenure member promote`."
    ),
    "version_too_old": "Upgrade what is named; `tenure status --json` tells each member's version (`speaks`).",
    "stale_configuration": "See the members as they are (`tenure member list`), and decide anew.",
    "change_pending": (
        "Try again when the change under way is done; `tenure member list` shows the members. A replacement that stays "
        "halfway is ended by telling it again, or given up by demoting its newcomer: `tenure member demote` "
        "(a witness or an observer: by removing it)."
    ),
    "not_caught_up": "See its lag: `tenure member list`; or let the command wait: --wait 60s.",
    "loses_quorum": "Bring the members back that can't be heard, or remove those that are gone for ever first.",
    "last_voter": "Add and promote another member first.",
    "too_many_voters": "Demote or remove a voter first; observers may be more.",
    "too_many_members": "Remove members that aren't needed.",
    "too_many_witnesses": "Promote it as a voter, or have more voters that hold the state.",
    "not_voter": "Remove it, and promote the other if it is to vote: `tenure member remove`, `tenure member promote`.",
    "not_observer": "See the roles: `tenure member list`. To take a voter out: `tenure member remove`.",
    "witness_stays": "Remove it and add a member with an empty data directory.",
    "unknown_key": "See the keys that exist: `tenure kv list`.",
    "unknown_member": "See the members' names: `tenure status`.",
    "unknown_session": "It ran out or was closed: open a new one.",
    "reserved_key": "Choose another key; what stands there is written by the cluster itself.",
}
"""Where the class's own would point to the wrong place."""
_fenced_key: Final = "Write it as that election's leader: --election and --term, or `election=` and `term=` in Python."


def of_refused(refused: Refused) -> ClientError:
    """The error for a refusal."""
    reason = refused.reason or refused.code
    where = f"{refused.field}: " if refused.field and not reason.startswith(f"{refused.field}:") else ""
    step = _next_steps.get(refused.code)
    if refused.code == "stale_term" and refused.field == "election":
        step = _fenced_key
    return _of_code[refused.code](f"{where}{reason}", refused, next_step=step)
