"""Partitions under load: does anything but one history of one leader at a time come out of it?

Clients sit beside all members, on both sides of every cut, and move between them at will. Afterwards every write that
was acknowledged must be there on every member, the history of every key linearizable, and every consensus term must
have had one leader at most, elected and committing.

Beside every member there is also a user that stands for an office and works under its fencing token (`holders`). Each
partition begins with the office held beside the leader, which most of them cut off. Two must never hold it at once, its
terms must rise, stale tokens must be refused, nothing that a guard accepted may be lost, and after the healing somebody
must hold it again.
"""

import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from msgspec import Struct

from lab.holders import Holders, office
from lab.members import LabCluster, LabMember, cluster
from lab.nemeses import NEMESES
from lab.network import Network, Weather
from lab.offices import gap_us, terms_within
from lab.switch import now_us
from lab.traces import leaders_by_term, two_in_a_term, vote_requests
from tests.e2e.cluster import Connection, eventually
from tests.e2e.load import Style, User
from tests.sim.linearizability import Operation, check

styles: Final[tuple[Style, ...]] = ("sequence", "key", "bare")
users_per_member: Final = 2
before_s: Final = 1.0
healed_s_max: Final = 60.0
look_s: Final = 0.05


class Outcome(Struct):
    """Of one partition. `acks`: acknowledged while it lasted; `changes`: leaders elected meanwhile."""

    nemesis: str
    members: int
    weather: Weather
    seconds: float
    acks: int = 0
    longest_gap_s: float = 0.0
    changes: int = 0
    requests: int = 0
    healed_s: float = 0.0
    """From the healing until each of several writes that began after it was acknowledged."""
    operations: int = 0
    false_elections: int = 0
    """Vote requests before the partition, while nothing was wrong."""
    offices: int = 0
    """Terms of the office that somebody believed in while it lasted."""
    office_gap_s: float = 0.0
    """The longest time meanwhile in which nobody's own check surely passed."""
    held_again_s: float = 0.0
    """From the healing until the cluster acknowledged a write under the office's term that was sent since."""
    guarded: int = 0
    """Writes that a guard accepted, from before the partition until after the healing."""
    refused: int = 0
    """Stale tokens that a guard refused."""
    wrong: list[str] = []
    """What should never be: lost writes, histories without an order, two leaders in a term, odd answers, two holders
    at once, stale tokens accepted.
    """


def run(names: list[str], members: int, weather: Weather, seconds: float, folder: Path, seed: int) -> list[Outcome]:
    """These partitions one after the other on one cluster, each with fresh clients and keys of their own."""
    rng = random.Random(seed)
    outcomes = []
    with Network(members, seed) as network:
        network.set_weather(weather)
        with cluster(network, folder) as made, Holders(made, folder) as holders:
            for number, name in enumerate(names):
                outcome = _suffer(made, holders, name, f"{number}-{name}/", seconds, rng)
                outcomes.append(outcome)
                print(f"  {tell(outcome)}", file=sys.stderr, flush=True)
            holders.stop()
            made.settled()
            outcomes[-1].wrong += holders.wrong()  # what they told at their end
    return outcomes


def _suffer(made: LabCluster, holders: Holders, name: str, realm: str, seconds: float, rng: random.Random) -> Outcome:
    network = made.network
    outcome = Outcome(name, len(made.members), network.weather, seconds)
    stop = threading.Event()
    patience_s = 0.6 + 10 * network.weather.rtt_ms / 1_000
    users = [
        User(_connections(made, patience_s), number, styles[number % 3], rng.getrandbits(64), stop, realm, office)
        for number in range(users_per_member * len(made.members))
    ]
    holders.move_to(made.settled())
    leader = made.settled()
    calm_since, accepted, refused = now_us(), len(holders.accounts.accepted), len(holders.accounts.refused)
    holders.work()
    for user in users:
        user.start()
    try:
        time.sleep(before_s)
        begun = now_us()
        _play(made, name, leader.number, seconds, users, outcome)
        ended = now_us()
        network.heal()
        healed = time.monotonic()
        target = sum(user.acks for user in users) + 2 * len(users)
        eventually(lambda: sum(user.acks for user in users) >= target, f"writes after {name}", healed_s_max)
        outcome.healed_s = time.monotonic() - healed
        outcome.held_again_s = holders.held_again_us(ended, healed_s_max) / 1_000_000
        holders.refused_all(healed_s_max)
        time.sleep(before_s)
    finally:
        network.heal()
        holders.rest()
        stop.set()
        for user in users:
            user.join()
    made.settled()
    operations = [*(one for user in users for one in user.operations), *_read_all(made, users)]
    events = made.events()
    within = [event for event in events if begun <= event.at_us < ended]
    outcome.changes = len(leaders_by_term(within, "leader_elected"))
    outcome.false_elections = len(vote_requests(events, calm_since, begun))
    outcome.requests = len(vote_requests(events, begun, ended))
    outcome.operations = len(operations)
    outcome.wrong = [*two_in_a_term(events), *(odd for user in users for odd in user.odd), *_lost(made, users)]
    outcome.wrong += holders.wrong()
    beliefs = holders.accounts.beliefs
    outcome.offices = len(terms_within(beliefs, begun, ended))
    outcome.office_gap_s = gap_us(beliefs, begun, ended) / 1_000_000
    outcome.guarded = len(holders.accounts.accepted) - accepted
    outcome.refused = len(holders.accounts.refused) - refused
    outcome.wrong += [str(violation) for violation in check(operations)]
    return outcome


def _play(made: LabCluster, name: str, leader: int, seconds: float, users: list[User], outcome: Outcome) -> None:
    """The phases of the nemesis by turns; what the clients get meanwhile."""
    phases = NEMESES[name]([member.number for member in made.members], leader)
    until = time.monotonic() + seconds
    before = acks = sum(user.acks for user in users)
    last = time.monotonic()
    number = 0
    while time.monotonic() < until:
        phase = phases[number % len(phases)]
        made.network.cut_only(phase.cuts)
        end = min(until, time.monotonic() + phase.seconds)
        while (now := time.monotonic()) < end:
            time.sleep(min(look_s, end - now))
            so_far = sum(user.acks for user in users)
            if so_far > acks:
                acks, last = so_far, time.monotonic()
            outcome.longest_gap_s = max(outcome.longest_gap_s, time.monotonic() - last)
        number += 1
    outcome.acks = acks - before


def _read_all(made: LabCluster, users: list[User]) -> list[Operation]:
    """Linearizable reads, at each member, of every key that more than one writes: its last writes are looked for, too,
    those under the office's terms among them.
    """
    keys = sorted({one.key for user in users for one in user.operations if "/own/" not in one.key})

    def at(member: LabMember) -> list[Operation]:
        connection = member.connection()
        found = []
        for key in keys:
            called = time.monotonic_ns()
            answer = connection.ask("GET", f"/v1/kv/{key}")
            assert answer.status in {200, 404}, answer.raw
            value, revision = (answer.data["value"], answer.data["revision"]) if answer.status == 200 else (None, 0)
            found.append(Operation(key, "get", called, time.monotonic_ns(), "ok", value, revision, None, member.name))
        connection.close()
        return found

    with ThreadPoolExecutor(len(made.running)) as pool:
        return [one for found in pool.map(at, made.running) for one in found]


def _lost(made: LabCluster, users: list[User]) -> list[str]:
    """Acknowledged writes that somebody doesn't hold; each of these keys was written once."""
    found = []
    for member in made.members:
        connection: Connection = member.connection()
        for user in users:
            for key, (value, revision) in user.acknowledged.items():
                answer = connection.ask("GET", f"/v1/kv/{key}?consistency=stale")
                if answer.status != 200 or (answer.data["value"], answer.data["revision"]) != (value, revision):
                    found.append(f"{member.name} holds {answer.raw!r} for {key}={value} @{revision}")
        connection.close()
    return found


def _connections(made: LabCluster, timeout: float) -> list[Connection]:
    return [member.connection(timeout) for member in made.members]


def tell(outcome: Outcome) -> str:
    """One line."""
    one = outcome
    return (
        f"{one.nemesis}, {one.members} members, {one.weather}: {one.acks} writes in {one.seconds:g} s (longest gap "
        f"{one.longest_gap_s:.2f} s), {one.changes} leader changes, healed in {one.healed_s:.2f} s, "
        f"{one.offices} terms of the office (none held for {one.office_gap_s:.2f} s, again after "
        f"{one.held_again_s:.2f} s, {one.guarded} guarded writes, {one.refused} refusals), "
        f"{one.operations} operations, {len(one.wrong)} wrong"
    )
