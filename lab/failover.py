"""Blows against the leader while clients write (kill -9, SIGSTOP, all its cables cut); how soon another serves."""

import asyncio
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from lab.members import LabCluster, LabMember, cluster
from lab.network import Network, Weather
from lab.spikes import spikes
from lab.switch import now_us
from lab.traces import FailOver, fail_over, two_in_a_term, vote_requests
from lab.writers import Ack, Writer, lost

Blow = Literal["kill", "freeze", "isolate"]

write_every_ms: Final = 10.0
"""All clients together: enough that a write waits at each survivor when a leader is elected; load is another matter."""
warm_s: Final = 0.5
answers_s_max: Final = 20.0
tries_per_round: Final = 2
rest_s: Final = 2.0
"""Between a member's return and the next blow: round trips are measured anew, twice a second."""


class Strike(Struct, frozen=True):
    """One blow. The clients' figures: from the blow to the first acknowledgement of a write sent after it, for the
    client beside the new leader and for the quickest one elsewhere; None where there was none.
    """

    change: FailOver
    client_us: int | None
    elsewhere_us: int | None


class Series(Struct):
    """All blows of one kind on one cluster."""

    blow: Blow
    members: int
    weather: Weather
    rounds: int
    """So many were asked for; a median of fewer is none."""
    strikes: list[Strike] = []
    false_elections: int = 0
    """While nothing was wrong, before the blows: real vote requests that nobody had asked for."""
    written: int = 0
    lost: list[str] = []
    unknown: int = 0
    two_leaders: list[str] = []
    late_us_p99: int = 0
    late_us_max: int = 0

    def median_us(self, pick: Callable[[Strike], int | None]) -> float:
        """Of those that have the figure; nan for none."""
        values = [value for strike in self.strikes if (value := pick(strike)) is not None]
        return statistics.median(values) if values else float("nan")

    def worst_us(self, pick: Callable[[Strike], int | None]) -> float:
        """As `median_us`."""
        return max((value for strike in self.strikes if (value := pick(strike)) is not None), default=float("nan"))


def run(
    blow: Blow, members: int, weather: Weather, rounds: int, folder: Path, seed: int, level: str = "info"
) -> Series:
    """So many blows against a fresh cluster."""
    rng = random.Random(seed)
    series = Series(blow, members, weather, rounds)
    acks: list[Ack] = []
    with Network(members, seed) as network:
        network.set_weather(weather)
        with cluster(network, folder, level) as made:
            calm_since = now_us()
            time.sleep(rest_s)
            network.tell()
            for number in range(tries_per_round * rounds):
                leader = made.settled()
                strike, some = asyncio.run(_round(made, leader, blow, f"{blow}-{number}", calm_since, rng))
                series.false_elections += len(vote_requests(made.events(), calm_since, some.struck_us))
                series.unknown += some.failed
                acks.extend(some.acks)
                _mend(made, leader, blow)
                calm_since = now_us()
                time.sleep(rest_s + 10 * weather.rtt_ms / 1_000)
                _say(number, strike, weather)
                if strike is not None:
                    series.strikes.append(strike)
                    if len(series.strikes) == rounds:
                        break
            made.settled()
            series.written = len(acks)
            series.lost = asyncio.run(lost(made, acks))
            series.two_leaders = two_in_a_term(made.events())
            told = network.tell()
            series.late_us_p99, series.late_us_max = told.late_us(0.99), told.late_us_max
    return series


class Load(Struct, frozen=True):
    """What the clients of a round have written, and when the blow came."""

    struck_us: int
    acks: list[Ack]
    failed: int


async def _round(
    made: LabCluster, leader: LabMember, blow: Blow, label: str, calm_since: int, rng: random.Random
) -> tuple[Strike | None, Load]:
    """The blow, what the new leader's traces say, and what the clients saw. No strike if a false election was already
    under way: whom it struck led no more.
    """
    rtt_ms = made.network.weather.rtt_ms
    pace_ms = write_every_ms * (len(made.members) - 1)
    writers = [Writer(member, label, pace_ms) for member in made.members if member is not leader]
    for writer in writers:
        await writer.start(lanes=24 + int(rtt_ms))
    spiking = asyncio.create_task(spikes(made.network, rng))
    await asyncio.sleep(warm_s + 4 * rtt_ms / 1_000 + rng.random() * 0.1)
    struck = now_us()
    _strike(made, leader, blow)
    change = await _until_served(made, leader, calm_since, struck)
    for writer in writers:
        await writer.until_answered(struck, answers_s_max)
    spiking.cancel()
    await asyncio.gather(*(writer.stop(2.5) for writer in writers))
    acks = [ack for writer in writers for ack in writer.acks]
    load = Load(struck, acks, sum(writer.failed for writer in writers))
    if change is None:
        return None, load
    beside, elsewhere = None, None
    for writer in writers:
        ack = writer.first_after(struck)
        if ack is not None:
            took = ack.answered_us - struck
            if writer.member.name == change.leader:
                beside = took
            else:
                elsewhere = took if elsewhere is None else min(elsewhere, took)
    return Strike(change, beside, elsewhere), load


async def _until_served(made: LabCluster, leader: LabMember, calm_since: int, struck: int) -> FailOver | None:
    """None where somebody had asked for votes before the blow."""
    deadline = time.monotonic() + answers_s_max
    while time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        events = made.events()
        if vote_requests(events, calm_since, struck):
            return None
        found = fail_over(events, struck, leader.name, len(made.members))
        if found is not None:
            return found
    raise TimeoutError(f"nobody served within {answers_s_max} s after {leader.name} was struck at {struck}")


def _strike(made: LabCluster, leader: LabMember, blow: Blow) -> None:
    match blow:
        case "kill":
            leader.signal(signal.SIGKILL)
        case "freeze":
            leader.signal(signal.SIGSTOP)
        case "isolate":
            number = leader.number
            made.network.cut_only(pair for pair in made.network.pairs if number in pair)


def _mend(made: LabCluster, leader: LabMember, blow: Blow) -> None:
    match blow:
        case "kill":
            leader.reap()
            leader.start()
        case "freeze":
            leader.signal(signal.SIGCONT)
        case "isolate":
            made.network.heal()
    made.settled()


def _say(number: int, strike: Strike | None, weather: Weather) -> None:
    if strike is None:
        print(f"  {number + 1}: void, votes were asked for before the blow", file=sys.stderr, flush=True)
        return
    change, rtt_us = strike.change, weather.rtt_ms * 1_000
    marks = {
        "noticed": change.noticed_us, "majority": change.majority_us, "elected": change.elected_us,
        "serves": change.serves_us, "first": change.first_us,
    }  # fmt: skip
    steps = ", ".join(f"{name} {(at - change.struck_us) / 1_000:.1f}" for name, at in marks.items())
    share = f" = {change.first_write_us / rtt_us:.2f} RTT" if rtt_us else ""
    clients = "/".join(
        "–" if each is None else f"{each / 1_000:.1f}" for each in (strike.client_us, strike.elsewhere_us)
    )
    text = f"  {number + 1}: {change.leader} after {change.asked} request(s): {steps}{share}, clients {clients} ms"
    print(text, file=sys.stderr, flush=True)
