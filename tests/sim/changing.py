"""Members in the liveness phase (L7): where nothing fails a newcomer is taken in and votes, and somebody leaves."""

from typing import TYPE_CHECKING, Final

from tenure.leadership.engine import Refused
from tenure.leadership.members import MembersView, ReplaceMember, VotingRole
from tenure.raft.entries import voters_max
from tests.sim.host import Host
from tests.sim.plan import SECOND

if TYPE_CHECKING:
    from tests.sim.healing import Healing

LOOK_STEPS: Final = 20
CHANGE_US: Final = 30 * SECOND
"""A newcomer is taken in, brought up by a snapshot and promoted within that."""


class Changing:
    """One replacement, asked for again and again as the answers say."""

    def __init__(self, healing: "Healing") -> None:
        self.healing = healing
        self.world = healing.world
        self.seats = healing.observer.seats

    def go(self) -> None:
        """If this seed changes members and has a quorum to spare."""
        healing, world = self.healing, self.world
        if not world.plan.changing or world.plan.engine.pending_max < 1_000 or not healing.quorum_without(1):
            return
        newcomer = healing.run.operator.add()
        if newcomer is None:
            return
        voters = world.voters()
        witnesses = self.seats.configuration.has().witnesses
        if len(voters) == voters_max and 2 * witnesses >= len(voters) - 1:
            return  # no eighth may vote, and without one of the four voters the three witnesses would be half (P8)
        leaving = healing.rng.choice([host for host in voters if host.gone] or voters)
        self.ask(ReplaceMember(leaving.id, newcomer.id), newcomer)
        world.seen["replaced"] += 1
        healing.converge("a member was replaced")

    def ask(self, request: ReplaceMember, newcomer: Host) -> None:
        """Until it is done: the newcomer must be taken in and catch up first. A place that goes to somebody else, by a
        change that stays halfway, is given to that one, as an operator is told to (P7.2).
        """
        healing, world = self.healing, self.world
        operator, end = healing.run.operator, world.now + CHANGE_US
        while True:
            tag = operator.ask(request)
            last = world.now + 3 * SECOND
            while tag in operator.asked and world.now < last:
                healing.run.steps(world.steps + LOOK_STEPS)
            answer = operator.results.pop(tag, None)
            if isinstance(answer, MembersView) and newcomer in world.voters():
                return
            if isinstance(answer, Refused) and answer.code in {"was_removed", "not_voter"}:
                return  # his place is gone by a change that was asked for before, and was done late
            if isinstance(answer, Refused) and answer.code == "change_pending" and "halfway" in answer.reason:
                request, newcomer = self.halfway(request, newcomer)
            if world.now > end:
                text = f"{newcomer.name} replaces a voter, and that isn't done: {answer}"
                healing.observer.fail("L7", f"{text}; {', '.join(healing.shown())}")
            healing.run.steps(world.steps + 5 * LOOK_STEPS)

    def halfway(self, request: ReplaceMember, newcomer: Host) -> tuple[ReplaceMember, Host]:
        """To whom the place goes, and as what."""
        configuration = self.seats.configuration
        for one in configuration.replacements:
            seat = configuration.seat(one.by)
            if one.member == request.member and one.by != newcomer.id and seat is not None:
                self.world.seen["replacement ended"] += 1
                role: VotingRole = "witness" if seat.role == "witness" else "voter"
                return ReplaceMember(one.member, one.by, role), self.world.by_id[one.by]
        return request, newcomer
