"""Three members that found a cluster on a perfect network, effect by effect; anyone may crash or be wiped between two.

Used by the exhaustive stories of `test_founding` and by golden scripts (`offices`).
"""

from collections import deque
from collections.abc import Iterator

from tenure.base.chance import SplitMix64
from tenure.base.ids import MemberId
from tenure.base.instants import Instant, WallMs
from tenure.raft.founding import (
    FoundAck,
    FoundHello,
    Founding,
    FoundingMessage,
    FoundPersisted,
    FoundReceived,
    Listed,
    Record,
    Stored,
    hello_every_us,
)

NAMES = ("m1", "m2", "m3")
LIST = tuple(Listed(name, f"host:{name}") for name in NAMES)


class Town:
    """Three members on a perfect network; every effect is one numbered step, before which anyone may crash."""

    def __init__(self, names: tuple[str, ...] = NAMES) -> None:
        self.now = 0
        self.wipes = 0
        self.steps = 0
        self.disks: dict[str, tuple[MemberId, Stored]] = {}
        self.up: dict[str, Founding] = {}
        self.mail: deque[tuple[str, str, FoundingMessage]] = deque()
        self.refusals: dict[str, str | None] = {}
        self.lists = dict.fromkeys(NAMES, LIST)
        self.log: list[tuple[str, Record]] = []
        self.acknowledged: set[tuple[MemberId, str]] = set()
        self.told: set[tuple[str, str]] = set()
        self.lines: list[str] = []
        """What happened: messages that were delivered, and what became durable."""
        for name in names:
            self.wipe(name)

    def wipe(self, name: str) -> None:
        """A fresh disk, and so a fresh id; the process starts on it."""
        self.wipes += 1
        self.disks[name] = (MemberId(f"{self.wipes:016x}"), Stored("empty", None))
        self.start(name)

    def start(self, name: str) -> None:
        """(Re)start from what is on the disk; what was on its way to it is lost."""
        member, stored = self.disks[name]
        me = next(one for one in self.lists[name] if one.name == name)
        rng = SplitMix64(self.wipes * 1000 + self.steps)
        self.up[name] = Founding(me, member, self.lists[name], stored, rng, int)
        self.mail = deque(letter for letter in self.mail if name not in letter[:2])

    def effects(self, rounds: int) -> Iterator[str]:
        """Run; yields the name of who did something after each durable write or delivery."""
        for _ in range(rounds):
            self.now += hello_every_us
            for name in list(self.up):
                yield from self._step(name, [])
            while self.mail:
                sender, to, message = self.mail.popleft()
                if to in self.up:
                    if not isinstance(message, FoundHello):
                        self.lines.append(f"{sender} → {to}  {type(message).__name__}")
                    yield from self._step(to, [FoundReceived(sender, message)])

    def _step(self, name: str, inputs: list[FoundReceived | FoundPersisted]) -> Iterator[str]:
        ready = self.up[name].step(inputs, Instant(self.now), WallMs(5))
        self.steps += 1
        if ready.refused is not None and (name, ready.refused) not in self.told:
            self.told.add((name, ready.refused))
            self.lines.append(f"{name} refuses: {ready.refused}")
        self.refusals[name] = ready.refused
        for to, message in ready.send:
            if isinstance(message, FoundAck):
                self.acknowledged.add((message.member, message.lineage))
            self.mail.append((name, to, message))
        if ready.persist is not None:
            member, _ = self.disks[name]
            self.disks[name] = (member, Stored(ready.persist.state, ready.persist.record))
            self.lines.append(f"{name} writes {ready.persist.state} {ids(ready.persist.record)}")
            if ready.persist.state == "sealed":
                self.log.append((name, ready.persist.record))
            process = self.up[name]
            yield name
            if self.up[name] is process:
                yield from self._step(name, [FoundPersisted(ready.persist.state, ready.persist.record)])
        else:
            yield name

    def sealed(self) -> dict[str, Record]:
        """Who is sealed, with which record."""
        return {
            name: stored.record
            for name, (_, stored) in self.disks.items()
            if stored.state == "sealed" and stored.record is not None
        }

    def check(self) -> None:
        """One lineage, and it names only ids whose disks had acknowledged it (or the first-listed's own)."""
        assert len({record.lineage for record in self.sealed().values()}) <= 1
        for name, record in self.sealed().items():
            assert record.holds(self.disks[name][0])
            first = record.configuration.seats[0].id
            for seat in record.configuration.seats:
                assert seat.id == first or (seat.id, record.lineage) in self.acknowledged


def ids(record: Record) -> str:
    """A record by the ids that it names, without their zeros."""
    return " ".join(f"{seat.name}:{seat.id.lstrip('0')}" for seat in record.configuration.seats)
