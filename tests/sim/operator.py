"""An operator who changes the members by request (P7), at any member, in the middle of everything.

What it asks for may get lost, be refused, or be asked twice; a newcomer asks to be added until it is, as `tenure serve
--join` does. While a disk is at odds with the others it leaves the members alone: what P1.3 promises is said of a
cluster that stands.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from tenure.base.ids import MemberId
from tenure.leadership.engine import AnyRequest, AnyResult, Refused
from tenure.leadership.members import (
    AddMember,
    AmendMember,
    DemoteMember,
    MembersView,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
)
from tenure.raft.entries import Seat
from tests.sim.host import Host
from tests.sim.plan import CLOCKS, MEMBERS_MAX, MS
from tests.sim.world import World

if TYPE_CHECKING:
    from random import Random

JOIN_EVERY_US: Final = 250 * MS


@dataclass
class Operator:
    """Whoever changes the members. `asked`: what it waits for, by tag; `results`: how that ended."""

    world: World
    rng: "Random"
    tag: int = 0
    asked: dict[int, AnyRequest] = field(default_factory=dict)
    results: dict[int, AnyResult | None] = field(default_factory=dict)
    joining: dict[int, Host] = field(default_factory=dict)
    """Newcomers that the cluster has not taken in yet, by the tag of their request."""

    def with_role(self, *roles: str) -> list[Host]:
        """Members in such a role, by the last committed configuration."""
        seats = self.world.observer.seats.configuration.seats
        return [self.world.by_id[seat.id] for seat in seats if seat.role in roles]

    # --- what it asks for -------------------------------------------------------------------------------------------

    def ask(self, request: AnyRequest) -> int:
        """At some member, and sometimes at another as well."""
        self.tag += 1
        self.asked[self.tag] = request
        self.world.tell("operator", f"asks for {request}")
        self.world.asking.ask(self, self.tag, self.rng.choice(self.world.seated()), request)
        if not self.world.healed and self.rng.random() < 0.1:
            self.world.asking.ask(self, self.tag, self.rng.choice(self.world.seated()), request)
        return self.tag

    def add(self) -> Host | None:
        """A newcomer with an empty disk, which asks to be added."""
        world = self.world
        number = len(world.hosts) + 1
        if number > min(MEMBERS_MAX, CLOCKS):
            return None
        member = MemberId(f"{self.rng.getrandbits(64):016x}")
        seat = Seat(member, f"m{number}", f"10.0.0.{number}:8369", "observer")
        host = world.add(seat, max(world.plan.engine.features))
        host.joined = False
        self.join(host)
        return host

    def join(self, host: Host) -> None:
        """It asks until it is taken in; then it starts."""
        if host.joined or host.gone:
            return
        tag = self.ask(AddMember(host.id, host.name, host.seat.peer, self.rng.randint(0, 1), speaks=host.features))
        self.joining[tag] = host
        self.world.later(JOIN_EVERY_US, partial(self.join, host))

    def change(self, kind: str) -> None:
        """What the nemesis wants; without anybody to do it to, a newcomer instead."""
        if any(host.suspect for host in self.world.hosts):
            return
        rng, observers = self.rng, self.with_role("observer")
        voters = self.with_role("voter", "witness")
        gone = [host for host in voters if host.gone]
        leaving = rng.choice(gone) if gone and rng.random() < 0.7 else rng.choice(voters)
        index = self.world.observer.seats.configuration.index if rng.random() < 0.2 else None
        role: Literal["voter", "witness"] = "witness" if rng.random() < 0.25 else "voter"
        match kind:
            case "promote" if observers:
                self.ask(PromoteMember(rng.choice(observers).id, role, if_index=index))
            case "demote":
                self.ask(DemoteMember(rng.choice(voters).id, if_index=index, dry_run=rng.random() < 0.1))
            case "remove":
                self.ask(RemoveMember(rng.choice([*observers, leaving]).id, if_index=index))
            case "replace" if observers:
                self.ask(ReplaceMember(leaving.id, rng.choice(observers).id, role, if_index=index))
            case "amend":
                self.ask(AmendMember(rng.choice(voters).id, priority=rng.randint(0, 3), if_index=index))
            case _:
                self.add()

    # --- what comes of it -------------------------------------------------------------------------------------------

    def answered(self, tag: int, result: AnyResult | None) -> None:
        """An answer; a broken connection says nothing."""
        if self.asked.pop(tag, None) is not None:
            self.results[tag] = result
        host = self.joining.pop(tag, None)
        if isinstance(result, Refused):
            self.world.seen[f"members {result.code}"] += 1
        elif isinstance(result, MembersView):
            self.world.seen["members done"] += 1
            if host is not None and not host.joined and not host.gone:
                host.joined = True
                self.world.start(host)
