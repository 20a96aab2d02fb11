"""The deadlines that follow from a TTL, their worst cases, and what makes a set unsafe (P3.7, P5, P6). Pure arithmetic.

A set is unsafe if a promise would not hold under it: the application couldn't be ended before its lease, or the
ordinary loss of a consensus leader would cost an application its office.
"""

from typing import Final, Literal

from msgspec import Struct

from tenure.agent.ladder import renewals_lost_min, sigkill_before_us, sigterm_before_us_min
from tenure.base.instants import MS
from tenure.leadership.holder import guard_divisor, guard_us_min, validity_us

Profile = Literal["default", "fast", "wan"]

voters: Final = 3
lateness_us: Final = 3 * MS
"""Of a busy loop, on top of the network's RTT (P5.6)."""
rho_permille_max: Final = 10
"""P3.7: what `Holder` reckons with."""
_step_us_min: Final = 5 * MS
_timeout_us_cap: Final = 250 * MS


class Given(Struct, frozen=True):
    """What the deadlines follow from. Durations in microseconds."""

    ttl_us: int
    rtt_us: int
    fsync_us: int
    heartbeat_us: int
    floor_us: int
    rho_permille: int


profiles: Final[dict[Profile, Given]] = {
    "default": Given(3_000 * MS, MS, 5 * MS, 25 * MS, 75 * MS, 10),
    "fast": Given(500 * MS, MS // 2, 5 * MS, 25 * MS, 75 * MS, 10),
    "wan": Given(15_000 * MS, 100 * MS, 5 * MS, 100 * MS, 500 * MS, 10),
}


class Rung(Struct, frozen=True):
    """One line: what happens, and when or how long, in microseconds."""

    name: str
    us: int
    text: str


class Plan(Struct, frozen=True):
    """The ladder from the sending of a renewal onwards, the worst cases, and what is wrong with the set."""

    given: Given
    ladder: tuple[Rung, ...]
    worst: tuple[Rung, ...]
    unsafe: tuple[str, ...]


def plan(given: Given) -> Plan:
    """Work it out."""
    renew = given.ttl_us // 5
    guard = max(guard_us_min, given.ttl_us // guard_divisor)
    valid = validity_us(given.ttl_us, guard, given.rho_permille)
    sigterm = valid - max(sigterm_before_us_min, given.ttl_us // 5)
    sigkill = valid - sigkill_before_us
    taken = given.ttl_us
    crash, silence = _consensus_outages(given)
    bearable = sigterm - renew
    ladder = (
        Rung("renew", renew, "the next renewal is sent (ttl/5)"),
        Rung("sigterm", sigterm, "`tenure run` sends SIGTERM, if no renewal was confirmed since"),
        Rung("sigkill", sigkill, "SIGKILL to its whole tree; 5 ms later the kernel's own timer"),
        Rung("valid_until", valid, "the holder's validity ends: ttl·(1−ρ)/(1+ρ) − guard"),
        Rung("taken_away", taken, "the earliest moment at which the cluster gives the office to another"),
    )
    worst = (
        Rung("child_killed", 2 * given.rtt_us + given.fsync_us, "the application dies: the office is released at once"),
        Rung("node_lost", taken + _commit_us(given), "the node dies or is cut off: until the next one is granted"),
        Rung("consensus_crash", crash, "the consensus leader is killed: until the next committed write"),
        Rung("consensus_silent", silence, "the consensus leader goes silent: until the next committed write"),
        Rung("both_lost", silence + taken + _commit_us(given), "node and consensus leader die together"),
        Rung("bearable", bearable, "the longest outage of the cluster that costs no leader its office"),
    )
    return Plan(given, ladder, worst, _unsafe(given, sigterm, renew, valid, bearable, silence))


def _commit_us(given: Given) -> int:
    return given.rtt_us + given.fsync_us + lateness_us


def _consensus_outages(given: Given) -> tuple[int, int]:
    """Until the first committed write: after a crash (the broken connections tell), and after silence (P6.2)."""
    answer = given.rtt_us + lateness_us
    step = max(_step_us_min, answer * 3 // 2)
    rounds = (voters - 2 + 2) * step + 4 * answer + 2 * (2 * answer + 2 * given.fsync_us)  # L1, worst live rank
    timeout = given.heartbeat_us + max(given.floor_us, 2 * given.rtt_us)
    timeout = min(timeout, max(_timeout_us_cap, 10 * given.rtt_us)) if given.rtt_us > lateness_us else timeout
    return rounds + _commit_us(given), timeout + rounds + _commit_us(given)


def _unsafe(given: Given, sigterm: int, renew: int, valid: int, bearable: int, silence: int) -> tuple[str, ...]:
    found: list[str] = []
    if given.rho_permille > rho_permille_max:
        found.append(f"SDK and agent allow for a drift of 1 %, not of {given.rho_permille / 10:g} %: mend the clocks")
    if given.rho_permille < 1:
        found.append("ρ = 0 assumes perfect clocks: the kernel alone slews them by up to 0.05 %")
    if given.floor_us < 2 * given.heartbeat_us:
        found.append(
            f"the election floor ({given.floor_us / MS:g} ms) must be at least twice the heartbeat "
            f"({given.heartbeat_us / MS:g} ms), or one late beat deposes a leader"
        )
    if valid <= sigkill_before_us:
        found.append(f"a TTL of {given.ttl_us / MS:g} ms leaves nothing after drift and guard: take 250ms or more")
    elif sigterm < renewals_lost_min * renew + renew // 2:
        found.append(
            f"SIGTERM would come before {renewals_lost_min} renewals in a row are lost: take a TTL of 250ms or more"
        )
    if renew < 2 * given.rtt_us:
        found.append(f"a renewal every {renew / MS:g} ms is faster than two round trips: take a longer TTL")
    if bearable < silence:
        found.append(
            f"a silent consensus leader takes {silence / MS:.0f} ms to replace, and a leader bears only "
            f"{max(0, bearable) / MS:.0f} ms: take a TTL of {_ttl_for(given, silence)} or more"
        )
    return tuple(found)


def _ttl_for(given: Given, silence: int) -> str:
    """The least TTL, in steps of 50 ms, whose ladder bears the outage."""
    ttl = 250 * MS
    while True:
        guard = max(guard_us_min, ttl // guard_divisor)
        sigterm = validity_us(ttl, guard, given.rho_permille) - max(sigterm_before_us_min, ttl // 5)
        if sigterm - ttl // 5 >= silence:
            return f"{ttl // MS}ms"
        ttl += 50 * MS
