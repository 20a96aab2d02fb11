"""Choosing a leader (DESIGN 6): who is eligible, in which order, and what stops flapping. Only arithmetic on values.

Instants here are the steward's own clock in microseconds (see `steward`).

Hysteresis: a candidate that was unfit is eligible again only after it has been fit for `settle_us`, and a holder is
demoted only after it has been unhealthy for `demote_after_us`. Hold-down: a node whose holdings end badly soon after
they began waits longer each time, twice as long as before, as long as somebody else can do it.
"""

from collections.abc import Iterable
from typing import Final, Literal

from msgspec import Struct

from tenure.base.ids import LogIndex, NodeId, SessionId
from tenure.base.instants import MS
from tenure.leadership.engine import Cause, ElectionConfig
from tenure.leadership.state import Candidate, Election

Reason = Literal[
    "paused",
    "holds",  # it holds this very election
    "stepped_down",  # until the successor is granted, or for cooldown_ms
    "expiring",  # its session is being expired
    "not_heard",  # nothing heard of it yet since the consensus leader changed
    "silent",  # no keepalive for long
    "disconnected",  # its connection was lost, no keepalive since
    "unhealthy",
    "lagging",
    "lag_unknown",  # the election has a limit, the node reports none
    "settling",  # fit again, but not for long enough
    "held_down",  # its holdings ended badly too often
]

FOR_EVER: Final = -(2**62)
"""As the begin of something: it was always so."""
bad_ends: Final[frozenset[Cause]] = frozenset({"expired", "disconnected", "unhealthy"})


class Obstacle(Struct, frozen=True):
    """Why a candidate may not be chosen now; `until`: when time alone ends it, None if something must happen."""

    reason: Reason
    until: int | None = None


class Standing(Struct, frozen=True):
    """A candidate with all that the choice depends on. `yielded`: it gave this office back itself, so it comes last."""

    session: SessionId
    node: NodeId
    priority: int
    arrived: LogIndex
    health: int
    lag: int | None
    offices: int
    yielded: bool
    obstacle: Obstacle | None


def choose(standings: Iterable[Standing], preferred: NodeId | None) -> Standing | None:
    """The eligible one that a switchover named, else the best: priority, health, lag, fewest offices, arrival."""
    eligible = [standing for standing in standings if standing.obstacle is None]
    named = next((standing for standing in eligible if standing.node == preferred), None)
    return named if named is not None else min(eligible, key=order, default=None)


def order(standing: Standing) -> tuple[bool, int, int, bool, int, int, int]:
    """Smaller is better. Arrivals differ, so no two are equal."""
    return (
        standing.yielded,
        -standing.priority,
        -standing.health,
        standing.lag is None,
        standing.lag if standing.lag is not None else 0,
        standing.offices,
        standing.arrived,
    )


def barred(election: Election, candidate: Candidate) -> bool:
    """Whether its node stepped down and nobody was granted since (API.md); the steward ends it after `cooldown_ms`."""
    bar = election.bars.get(candidate.node)
    return bar is not None and bar.kind == "stepped_down"


def unfit(
    config: ElectionConfig, health: int, lag: int | None
) -> Literal["unhealthy", "lagging", "lag_unknown"] | None:
    """What health and lag say against a candidate in this election."""
    if health < config.health_min:
        return "unhealthy"
    if config.lag_max is None:
        return None
    if lag is None:
        return "lag_unknown"
    return "lagging" if lag > config.lag_max else None


class Verdict(Struct):
    """Whether a candidate is fit for an election, and since when it has been so."""

    reason: Literal["unhealthy", "lagging", "lag_unknown"] | None
    since: int = FOR_EVER

    def judge(self, config: ElectionConfig, health: int, lag: int | None, now: int) -> bool:
        """Look again; True if the verdict changed."""
        reason = unfit(config, health, lag)
        if reason == self.reason:
            return False
        self.reason = reason
        self.since = now
        return True

    def obstacle(self, now: int, settle_us: int) -> Obstacle | None:
        """What it means for the choice."""
        if self.reason is not None:
            return Obstacle(self.reason)
        if now < self.since + settle_us:
            return Obstacle("settling", self.since + settle_us)
        return None


class HoldDownSettings(Struct, frozen=True):
    """When a node is held down, and for how long."""

    free_ends: int = 2
    """So many bad ends cost nothing."""
    first_ms: int = 1_000
    longest_ms: int = 60_000
    alone_ms: int = 2_000
    """At most so long if nobody else is eligible: a service without a leader is worse than one that flaps slowly."""
    stable_ms: int = 60_000
    """A holding that lasted so long clears the account."""
    forget_ms: int = 600_000
    accounts_max: int = 4_096


class Account(Struct):
    """Bad ends of one node in one election, and since when it is held down."""

    ends: int
    last: int


class HoldDown:
    """Exponential hold-down by (election, node). Lives in the steward's memory: policy, not safety."""

    __slots__ = ("_accounts", "_settings")

    def __init__(self, settings: HoldDownSettings) -> None:
        self._settings = settings
        self._accounts: dict[tuple[str, NodeId], Account] = {}

    def ended(self, election: str, node: NodeId, cause: Cause, lasted_us: int, now: int) -> None:
        """A holding has ended."""
        account = self._accounts.pop((election, node), None)
        if lasted_us >= self._settings.stable_ms * MS:
            account = None
        if cause in bad_ends:
            account = Account((account.ends if account is not None else 0) + 1, now)
        if account is not None:
            self._accounts[(election, node)] = account
            while len(self._accounts) > self._settings.accounts_max:
                del self._accounts[next(iter(self._accounts))]

    def until(self, election: str, node: NodeId, now: int) -> int | None:
        """When it ends; None if the node isn't held down."""
        account = self._accounts.get((election, node))
        settings = self._settings
        if account is None or account.ends <= settings.free_ends or now >= account.last + settings.forget_ms * MS:
            return None
        doublings = min(account.ends - settings.free_ends - 1, 32)
        until = account.last + min(settings.first_ms << doublings, settings.longest_ms) * MS
        return until if now < until else None

    def alone_until(self, election: str, node: NodeId) -> int:
        """When it may be chosen although held down, because nobody else is there."""
        return self._accounts[(election, node)].last + self._settings.alone_ms * MS
