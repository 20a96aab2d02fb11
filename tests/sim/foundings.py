"""Before the first term (P1.2): members found their cluster through the real `Founding`, while messages get lost or
come late or twice, processes die between any two steps, and disks are emptied. Later: a wiped member is refused (S22).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import TYPE_CHECKING, Final

from tenure.base.chance import SplitMix64
from tenure.base.ids import MemberId
from tenure.base.instants import NEVER, Instant, WallMs
from tenure.leadership.terms import founding_stamp
from tenure.raft.founding import (
    Founding,
    FoundingMessage,
    FoundPersisted,
    FoundReceived,
    Listed,
    Persist,
    Record,
    Stored,
)
from tests.sim.host import Host
from tests.sim.plan import MS, SECOND, Plan

if TYPE_CHECKING:
    from tests.sim.world import World

FOUNDED_MS: Final = 1_767_225_600_000
FAULTS_US: Final = 3 * SECOND
END_US: Final = 60 * SECOND
STEPS_MAX: Final = 20_000

Action = Callable[[], None]


class Unfounded(Exception):
    """The founding broke a rule, or had no end."""


def listed(voters: int) -> tuple[Listed, ...]:
    """What every member is started with."""
    return tuple(Listed(f"m{number}", f"10.0.0.{number}:8369") for number in range(1, voters + 1))


def _stamp(wall: WallMs) -> int | str:
    return founding_stamp(wall, None)


@dataclass
class Founder:
    """One member: its disk (id and what is stored), and the process that founds, if it lives."""

    me: Listed
    member: MemberId
    stored: Stored = field(default_factory=lambda: Stored("empty", None))
    process: Founding | None = None
    life: int = 0
    refused: str | None = None


class Found:
    """One founding from its beginning until everybody who isn't refused is sealed."""

    def __init__(self, seed: int, plan: Plan) -> None:
        self.rng = Random(seed ^ 0xF0D)
        self.plan = plan
        self.listed = listed(plan.voters)
        self.members = {one.name: Founder(one, self.fresh_id()) for one in self.listed}
        self.now = 0
        self.steps = 0
        self.heap: list[tuple[int, int, Action]] = []
        self.number = 0
        self.wipes = 0
        self.faulty = Random(seed ^ 0xBAD).random() < 0.8

    def fresh_id(self) -> MemberId:
        """A new data directory's."""
        return MemberId(f"{self.rng.getrandbits(64):016x}")

    def later(self, micros: int, action: Action) -> None:
        """After a while."""
        self.number += 1
        heappush(self.heap, (self.now + micros, self.number, action))

    def go(self) -> tuple[Record, set[str]]:
        """The record, and the names of those who were wiped and are refused for good."""
        for one in self.members.values():
            self.later(self.rng.randrange(200 * MS), lambda one=one: self.start(one))  # type: ignore[misc]
        while not self.done():
            if not self.heap or self.now > END_US or self.steps > STEPS_MAX:
                states = {name: (one.stored.state, one.refused) for name, one in self.members.items()}
                raise Unfounded(f"S22: the founding has no end: {states}")
            self.now, _, action = heappop(self.heap)
            action()
        records = {one.stored.record for one in self.members.values() if one.stored.state == "sealed"}
        record = records.pop()
        assert record is not None
        return record, {name for name, one in self.members.items() if one.stored.state != "sealed"}

    def done(self) -> bool:
        """Whether all are sealed or refused, and faults have had their time."""
        if self.faulty and self.now < FAULTS_US and self.heap:
            return False
        sealed = [one for one in self.members.values() if one.stored.state == "sealed"]
        shut = [one for one in self.members.values() if one.refused is not None and not self.known(one)]
        return bool(sealed) and len(sealed) + len(shut) == len(self.members)

    def known(self, one: Founder) -> bool:
        """Whether a sealed record holds its id."""
        records = [other.stored.record for other in self.members.values() if other.stored.state == "sealed"]
        return any(record is not None and record.holds(one.member) for record in records)

    # --- processes --------------------------------------------------------------------------------------------------

    def start(self, one: Founder) -> None:
        """A new life on what the disk holds."""
        if one.process is not None:
            return
        one.life += 1
        rng = SplitMix64(self.rng.getrandbits(64))
        one.process = Founding(one.me, one.member, self.listed, one.stored, rng, _stamp)
        self.step(one, [])

    def strike(self, one: Founder) -> None:
        """It dies, and sometimes its disk is emptied, as long as a majority keeps what it has acknowledged."""
        one.process = None
        if self.rng.random() < 0.3:
            begun = any(other.stored.state != "empty" for other in self.members.values())
            if not begun or 2 * (self.wipes + 1) < len(self.members):
                self.wipes += begun
                one.member, one.stored, one.refused = self.fresh_id(), Stored("empty", None), None
        self.later(self.rng.randrange(500 * MS), lambda: self.start(one))

    def step(self, one: Founder, inputs: list[FoundReceived | FoundPersisted]) -> None:
        """One step, and its effects; it may die between any two of them."""
        if one.process is None:
            return
        self.steps += 1
        local, wall = Instant(self.now), WallMs(FOUNDED_MS + self.now // MS)
        ready = one.process.step(inputs, local, wall)
        one.refused = ready.refused
        dies = self.faulty and self.now < FAULTS_US and self.rng.random() < 0.02
        boundary = self.rng.randrange(len(ready.send) + 2) if dies else -1
        for number, (name, message) in enumerate(ready.send):
            if number == boundary:
                self.strike(one)
                return
            self.send(one, name, message)
        if ready.persist is not None:
            self.write(one, ready.persist, lost=dies and self.rng.random() < 0.5)
        if dies:
            self.strike(one)
        elif ready.deadline < NEVER:
            life = one.life
            self.later(max(0, ready.deadline - self.now), lambda: self.step(one, []) if one.life == life else None)

    def write(self, one: Founder, persist: Persist, *, lost: bool) -> None:
        """Durable in a moment, or not at all."""
        life, member = one.life, one.member

        def done() -> None:
            if lost or one.member != member:
                return
            one.stored = Stored(persist.state, persist.record)
            self.check(one)
            if one.life == life:
                self.step(one, [FoundPersisted(persist.state, persist.record)])

        self.later(self.rng.randrange(1, 5 * MS) if one.process is not None else 0, done)

    def send(self, sender: Founder, name: str, message: FoundingMessage) -> None:
        """It travels, late, twice or not at all."""
        to, rng = self.members[name], self.rng
        faulty = self.faulty and self.now < FAULTS_US
        if faulty and rng.random() < 0.1:
            return
        heard = FoundReceived(sender.me.name, message)
        for _ in range(2 if faulty and rng.random() < 0.1 else 1):
            slow = 2 * SECOND if faulty and rng.random() < 0.05 else 10 * MS
            self.later(rng.randrange(1, slow), lambda: self.step(to, [heard]))

    def check(self, one: Founder) -> None:
        """At most one cluster: all who are sealed hold one record, which names them by their ids."""
        if one.stored.state != "sealed":
            return
        record = one.stored.record
        assert record is not None
        if not record.holds(one.member):
            raise Unfounded(f"S22: {one.me.name} ({one.member}) is sealed in {record}, which doesn't name it")
        for other in self.members.values():
            if other.stored.state == "sealed" and other.stored.record != record:
                raise Unfounded(f"S22: {one.me.name} is sealed in {record}, {other.me.name} in {other.stored.record}")


def refused_when_wiped(world: "World", host: Host, rng: Random) -> None:
    """S22: an emptied directory draws a new id; under its old name it gets nowhere, whoever of the others it meets."""
    founders = world.hosts[: world.plan.voters]
    names, record = listed(len(founders)), world.record
    me = MemberId(f"{rng.getrandbits(64):016x}")
    chance = SplitMix64(rng.getrandbits(64))
    wiped = Founding(names[host.index], me, names, Stored("empty", None), chance, _stamp)
    now, wall = Instant(1), WallMs(FOUNDED_MS + world.now // MS)
    others = {
        other.name: Founding(names[other.index], other.id, names, Stored("sealed", record), chance, _stamp)
        for other in founders
        if other is not host and not other.gone and rng.random() < 0.8
    }
    ready = wiped.step([], now, wall)
    for name, message in ready.send:
        if name not in others:
            continue
        for _, answer in others[name].step([FoundReceived(host.name, message)], now, wall).send:
            ready = wiped.step([FoundReceived(name, answer)], now, wall)
            if ready.persist is not None or ready.sealed is not None or ready.refused is None:
                world.observer.fail("S22", f"{host.name} was wiped, and {name} takes it in again: {ready}")
