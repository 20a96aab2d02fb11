"""`python -m bench.core_cost`: microseconds of the pure parts per write, without sockets, disk or JSON.

Three cores in one process, wired by hand. Leader: proposal, replication, acknowledgements, commit and apply. Follower:
append, commit and apply. Targets: 40 µs a put on the leader, 20 µs an entry on a follower (at 64 connections).
`--profile` prints where the time goes.
"""

import argparse
import cProfile
import gc
import pstats
import time
from collections.abc import Callable, Sequence
from typing import Final

from tenure.base.chance import SplitMix64
from tenure.base.ids import BatchNumber, Boot, ConsensusTerm, LogIndex, MemberId, Nonce
from tenure.base.instants import MS, Instant, WallMs
from tenure.leadership.commands import of_request
from tenure.leadership.engine import KvPut
from tenure.leadership.machine import Machine
from tenure.raft.core import Raft
from tenure.raft.entries import COMMAND, Configuration, Entry, HardState, Restored, Seat
from tenure.raft.events import Event, LinkUp, Persisted, Propose, Received
from tenure.raft.messages import Envelope
from tenure.raft.ready import Ready
from tenure.raft.settings import Identity, Settings

LINEAGE: Final = Nonce("f" * 16)
IDS: Final = tuple(MemberId(f"{number:016x}") for number in (1, 2, 3))
STAMP: Final = 3_000_000_000_000


class Player:
    """One member: core, machine, and the time that both have taken."""

    def __init__(self, member: MemberId, configuration: Configuration) -> None:
        restored = Restored(HardState(ConsensusTerm(0), None), configuration, 1, None, (), BatchNumber(0), True, {})
        identity = Identity(member, Boot(f"boot-{member}"), (LINEAGE,))
        self.member = member
        self.raft = Raft(identity, restored, Settings(), SplitMix64(int(member, 16)), Instant(0))
        self.machine = Machine.founded(LINEAGE, STAMP)
        self.spent_s = 0.0
        self.applied = 0

    def step(self, events: Sequence[Event], now: Instant) -> Ready:
        """One step and what it committed, timed: processor time, which a busy machine hardly moves."""
        begin = time.thread_time()
        ready = self.raft.step(events, now)
        for item in ready.committed:
            if isinstance(item, Entry) and item.kind == COMMAND:
                self.machine.apply(item.index, item.term, item.data)
                self.applied += 1
        self.spent_s += time.thread_time() - begin
        return ready


class Table:
    """Three members; a turn delivers everything that is on its way, each member stepped once (as the driver does)."""

    def __init__(self) -> None:
        seats = tuple(Seat(member, f"m{number}", f"m{number}:1") for number, member in enumerate(IDS, 1))
        configuration = Configuration(LogIndex(0), seats)
        self.players = {member: Player(member, configuration) for member in IDS}
        self.now = Instant(0)
        self.inbox: dict[MemberId, list[Event]] = {member: [] for member in IDS}
        for member in IDS:
            links = [LinkUp(other, Boot(f"boot-{other}"), BatchNumber(0), 1) for other in IDS if other != member]
            self.inbox[member].extend(links)

    def turn(self) -> None:
        """Step everybody with what has come."""
        inbox, self.inbox = self.inbox, {member: [] for member in IDS}
        for member, events in inbox.items():
            ready = self.players[member].step(events, self.now)
            self._send(ready.send)
            if ready.write is not None:
                self._send(ready.write.send_after_persist)
                self.inbox[member].append(Persisted(ready.write.number, 1 * MS))

    def _send(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            self.inbox[envelope.to].append(Received(envelope))

    def run_until(self, done: Callable[[], bool]) -> None:
        """Turns of a millisecond."""
        for _ in range(5_000):
            if done():
                return
            self.now = Instant(self.now + 1 * MS)
            self.turn()
        raise AssertionError("the table doesn't come to an end")

    def leader(self) -> Player | None:
        """Who leads and serves."""
        return next((player for player in self.players.values() if player.raft.is_serving), None)


def measure(puts: int, together: int) -> tuple[float, float]:
    """µs per put on the leader and on a follower, with `together` puts proposed in one turn."""
    table = Table()
    table.run_until(lambda: table.leader() is not None)
    leader = table.leader()
    assert leader is not None
    value = b'"' + b"v" * 64 + b'"'
    for player in table.players.values():
        player.spent_s = 0
    encoding = 0.0
    for first in range(0, puts, together):
        begin = time.thread_time()
        events = [
            Propose(n, of_request(KvPut(f"bench/{n % 1000}", value), None, WallMs(1_800_000_000_000)))
            for n in range(first, first + together)
        ]
        encoding += time.thread_time() - begin
        table.inbox[leader.member].extend(events)
        wanted = first + together
        table.run_until(lambda wanted=wanted: leader.applied >= wanted)  # type: ignore[misc]
    table.run_until(lambda: all(player.applied >= puts for player in table.players.values()))
    followers = [player for player in table.players.values() if player is not leader]
    each = max(player.spent_s for player in followers)
    return (leader.spent_s + encoding) / puts * 1e6, each / puts * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--puts", type=int, default=12_800)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    gc.freeze()
    for together in (1, 16, 64):
        count = args.puts // together * together if together > 1 else args.puts // 8
        leader, follower = measure(count, together)
        print(f"{together:3} puts a turn: leader {leader:6.1f} µs a put, follower {follower:6.1f} µs an entry")
    if args.profile:
        with cProfile.Profile() as profile:
            measure(args.puts, 64)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
