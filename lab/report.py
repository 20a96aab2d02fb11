"""What the lab prints: tables of what was seen, and the checks that decide its exit code. PURE."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec import Struct

from lab.failover import Series, Strike
from lab.network import Weather
from lab.partitions import Outcome
from lab.quiet import Quiet

elected_rtt_max: Final = 3.0
first_write_rtt_max: Final = 3.5
first_write_extra_ms: Final = 20.0
"""Two syncs, the death of a process and its noticing, on a machine that does other things too."""
rtt_error_ms_max: Final = 1.0
held_again_s_max: Final = 15.0
"""Several TTLs (`holders`): the old term must be over, and the next one granted."""
loss_without_election_max: Final = 0.02
"""TCP holds back what follows a lost segment (P6.5); with more, both followers of three may wait at once."""


class Accuracy(Struct, frozen=True):
    """Measured minus wanted round trips, in ms."""

    rtt_ms: float
    p50_ms: float
    p99_ms: float
    max_ms: float


class Check(Struct, frozen=True):
    """One claim, and whether what was seen bears it out."""

    claim: str
    kept: bool
    seen: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.kept else 'MISS'}  {self.claim}: {self.seen}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; the first column is text, the others are figures."""
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def accuracy_table(found: Sequence[Accuracy]) -> str:
    """How true the switch is."""
    heads = ("round trip", "error p50 ms", "p99 ms", "max ms")
    rows = ((f"{one.rtt_ms:g} ms", f"{one.p50_ms:.2f}", f"{one.p99_ms:.2f}", f"{one.max_ms:.2f}") for one in found)
    return table(heads, rows)


def failover_table(found: Sequence[Series]) -> str:
    """Medians, with the worst in brackets; times in ms, and in round trips where there are any."""
    heads = (
        "blow, members, network", "rounds", "noticed after ms", "noticed → elected", "→ first committed write",
        "client beside it ms", "client elsewhere ms", "vote requests", "false elections", "writes", "lost",
        "switch late p99 ms",
    )  # fmt: skip
    return table(heads, (_failover_row(series) for series in found))


def _failover_row(series: Series) -> Sequence[str]:
    def spread(pick: Callable[[Strike], int | None], in_rtts: bool = False) -> str:
        median, worst = series.median_us(pick) / 1_000, series.worst_us(pick) / 1_000
        if math.isnan(median):
            return "–"
        rtt = series.weather.rtt_ms
        share = f"**{median / rtt:.2f} RTT** = " if in_rtts and rtt else ""
        return f"{share}{median:.1f} ({worst:.1f})"

    return (
        f"{series.blow}, {series.members}, {series.weather}",
        _measured(series),
        spread(lambda strike: strike.change.noticed_us - strike.change.struck_us),
        spread(lambda strike: strike.change.convergence_us, in_rtts=True),
        spread(lambda strike: strike.change.first_write_us, in_rtts=True),
        spread(lambda strike: strike.client_us),
        spread(lambda strike: strike.elsewhere_us),
        str(sum(strike.change.asked for strike in series.strikes)),
        str(series.false_elections),
        str(series.written),
        str(len(series.lost)),
        f"{series.late_us_p99 / 1_000:.2f}",
    )


def quiet_table(found: Sequence[Quiet]) -> str:
    """Elections are real vote requests; what comes behind them changed nothing."""
    heads = (
        "members, network", "minutes", "false elections", "leader missed", "pre-votes", "writes", "lost",
        "longest gap ms", "packets", "of them lost", "switch late p99 ms",
    )  # fmt: skip
    rows = (
        (
            f"{one.members}, {one.weather}", f"{one.seconds / 60:g}", str(len(one.elections)), str(one.lost_leader),
            str(one.pre_votes), str(one.written), str(len(one.lost)), f"{one.longest_gap_ms:.0f}", str(one.packets),
            str(one.packets_lost), f"{one.late_us_p99 / 1_000:.2f}",
        )
        for one in found
    )  # fmt: skip
    return table(heads, rows)


def partition_table(found: Sequence[Outcome]) -> str:
    """Acknowledged while it lasted; then what was wrong afterwards."""
    heads = (
        "partition, members, network", "seconds", "writes", "longest gap s", "new leaders", "vote requests",
        "served after healing s", "operations checked", "wrong",
    )  # fmt: skip
    rows = (
        (
            f"{one.nemesis}, {one.members}, {one.weather}", f"{one.seconds:g}", str(one.acks),
            f"{one.longest_gap_s:.2f}", str(one.changes), str(one.requests), f"{one.healed_s:.2f}",
            str(one.operations), str(len(one.wrong)),
        )
        for one in found
    )  # fmt: skip
    return table(heads, rows)


def office_table(found: Sequence[Outcome]) -> str:
    """Who held the office meanwhile, by the users' own checks, and what was done under its tokens."""
    heads = (
        "partition, members, network", "terms held", "longest time without s", "worked under after healing s",
        "guarded writes", "stale tokens refused",
    )  # fmt: skip
    rows = (
        (
            f"{one.nemesis}, {one.members}, {one.weather}", str(one.offices), f"{one.office_gap_s:.2f}",
            f"{one.held_again_s:.2f}", str(one.guarded), str(one.refused),
        )
        for one in found
    )  # fmt: skip
    return table(heads, rows)


def accuracy_checks(found: Sequence[Accuracy]) -> list[Check]:
    """Figures of a lab that distorts would mean nothing."""
    return [
        Check(
            f"round trips of {one.rtt_ms:g} ms are true to {rtt_error_ms_max:g} ms (p99)",
            one.p99_ms < rtt_error_ms_max,
            f"{one.p99_ms:.2f} ms",
        )
        for one in found
    ]


def failover_checks(found: Sequence[Series]) -> list[Check]:
    """Times of kills on cables that do nothing else; all blows measured, no write lost, one leader a term, and none
    without a reason before a blow always.
    """
    checks = []
    for series in found:
        rtt = series.weather.rtt_ms
        where = f"{series.blow}, {series.members} members, {series.weather}"
        whole = len(series.strikes) >= series.rounds
        checks.append(Check(f"{where}: every blow was measured", whole, _measured(series)))
        if series.blow == "kill" and rtt and series.weather == Weather(rtt):
            elected = series.median_us(lambda strike: strike.change.convergence_us) / 1_000
            first = series.median_us(lambda strike: strike.change.first_write_us) / 1_000
            bound = first_write_rtt_max * rtt + first_write_extra_ms
            of = f"median of {_measured(series)}"
            checks += [
                Check(
                    f"{where}: elected within {elected_rtt_max:g} RTT of the loss being noticed",
                    whole and elected <= elected_rtt_max * rtt,
                    f"{elected / rtt:.2f} RTT, {of}",
                ),
                Check(
                    f"{where}: first committed write within {first_write_rtt_max:g} RTT + {first_write_extra_ms:g} ms",
                    whole and first <= bound,
                    f"{first:.1f} ms of {bound:.1f}, {of}",
                ),
            ]
        if _bears_no_election(series.weather):
            claim = f"{where}: no false election before a blow"
            checks.append(Check(claim, not series.false_elections, f"{series.false_elections}"))
        checks.append(_no_harm(where, series.lost, series.two_leaders, series.written))
    return checks


def _measured(series: Series) -> str:
    """How many of the blows that were asked for have figures."""
    return (
        f"{len(series.strikes)}"
        if len(series.strikes) >= series.rounds
        else f"{len(series.strikes)} of {series.rounds}"
    )


def _bears_no_election(weather: Weather) -> bool:
    """Here an election while the leader lives is false. Spikes may cost one: nobody can tell a cable that hangs from
    a leader that does.
    """
    return weather.loss <= loss_without_election_max and not weather.spike_ms


def quiet_checks(found: Sequence[Quiet]) -> list[Check]:
    """As long as that is."""
    checks = []
    for one in found:
        where = f"{one.members} members, {one.weather}"
        if _bears_no_election(one.weather):
            claim = f"{where}: no false election in {one.seconds / 60:g} minutes"
            checks.append(Check(claim, not one.elections, f"{len(one.elections)}"))
        checks.append(_no_harm(where, one.lost, one.two_leaders, one.written))
    return checks


def partition_checks(found: Sequence[Outcome]) -> list[Check]:
    """Never two leaders that commit, never two holders of the office: every acknowledged write is there, one history
    orders them all, and somebody holds again when it is over.
    """
    checks = []
    for one in found:
        where = f"{one.nemesis}, {one.members} members, {one.weather}"
        seen = f"{one.operations} operations, {one.guarded} guarded writes, {one.refused} stale tokens refused"
        checks += [
            Check(
                f"{where}: one history, nothing lost, one leader a term, one holder at a time",
                not one.wrong,
                seen if not one.wrong else "; ".join(one.wrong)[:2_000],
            ),
            Check(
                f"{where}: the office is held and worked under within {held_again_s_max:g} s of healing",
                0 < one.held_again_s <= held_again_s_max and one.guarded > 0,
                f"{one.held_again_s:.2f} s, {one.guarded} guarded writes",
            ),
        ]
        if _bears_no_election(one.weather):
            claim = f"{where}: no false election before the partition"
            checks.append(Check(claim, not one.false_elections, f"{one.false_elections}"))
    return [*checks, *_refusals(found)]


def _refusals(found: Sequence[Outcome]) -> list[Check]:
    """Partitions that cost nobody an office try no guard; if none of all does, nothing was shown of stale tokens."""
    refused = sum(one.refused for one in found)
    return [Check("stale tokens were presented, and refused", refused > 0, f"{refused}")] if found else []


def _no_harm(where: str, lost: Sequence[str], two_leaders: Sequence[str], written: int) -> Check:
    wrong = [*two_leaders, *lost]
    seen = f"{written} writes" if not wrong else "; ".join(wrong)[:2_000]
    return Check(f"{where}: no acknowledged write lost, one leader a term", not wrong, seen)
