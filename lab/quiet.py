"""Nothing fails, but the network is bad: does anybody ask for votes while the leader lives?"""

import asyncio
import random
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Final

from msgspec import Struct

from lab.members import LabCluster, cluster
from lab.network import Network, Weather
from lab.spikes import spikes
from lab.switch import now_us
from lab.traces import Event, count, two_in_a_term, vote_requests
from lab.writers import Ack, Writer, lost

write_every_ms: Final = 40.0
"""All clients together: some appends between the heartbeats, and seconds with none."""
tell_every_s: Final = 60.0
answers_s_max: Final = 5.0


class Quiet(Struct):
    """What happened in `seconds` of it. Elections are vote requests; noted and pre-voted is what changed nothing."""

    members: int
    weather: Weather
    seconds: float
    elections: list[Event] = []
    lost_leader: int = 0
    pre_votes: int = 0
    written: int = 0
    unknown: int = 0
    longest_gap_ms: float = 0.0
    """Between two acknowledgements."""
    lost: list[str] = []
    two_leaders: list[str] = []
    packets: int = 0
    packets_lost: int = 0
    late_us_p99: int = 0
    late_us_max: int = 0


def run(members: int, weather: Weather, seconds: float, folder: Path, seed: int) -> Quiet:
    """So long on a fresh cluster."""
    quiet = Quiet(members, weather, seconds)
    with Network(members, seed) as network:
        network.set_weather(weather)
        with cluster(network, folder, "debug") as made:
            time.sleep(2)
            network.tell()
            begun = now_us()
            acks, quiet.unknown = asyncio.run(_let_be(made, seconds, random.Random(seed)))
            ended = now_us()
            told = network.tell()
            events = made.events()
            quiet.elections = vote_requests(events, begun, ended)
            quiet.lost_leader = count(events, "leader_lost", begun, ended)
            quiet.pre_votes = count(events, "pre_vote_asked", begun, ended)
            quiet.written = len(acks)
            instants = [begun, *sorted(ack.answered_us for ack in acks)]
            quiet.longest_gap_ms = max(b - a for a, b in pairwise(instants)) / 1_000
            made.settled()
            quiet.lost = asyncio.run(lost(made, acks))
            quiet.two_leaders = two_in_a_term(events)
            quiet.packets, quiet.packets_lost = told.taken, told.lost
            quiet.late_us_p99, quiet.late_us_max = told.late_us(0.99), told.late_us_max
    return quiet


async def _let_be(made: LabCluster, seconds: float, rng: random.Random) -> tuple[list[Ack], int]:
    """Write at every member, and let it spike if it does."""
    writers = [Writer(member, "quiet", write_every_ms * len(made.members)) for member in made.members]
    for writer in writers:
        await writer.start(lanes=16)
    spiking = asyncio.create_task(spikes(made.network, rng))
    begun = now_us()
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(left, tell_every_s))
        asked = len(vote_requests(made.events(), begun, now_us()))
        past = seconds - max(0.0, left - tell_every_s)
        print(f"  {past:.0f} s: {asked} vote requests", file=sys.stderr, flush=True)
    spiking.cancel()
    await asyncio.gather(*(writer.stop(answers_s_max) for writer in writers))
    return [ack for writer in writers for ack in writer.acks], sum(writer.failed for writer in writers)
