"""Between users and members: requests and answers travel too, and get lost."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tenure.engines.native.inputs import Asked
from tenure.leadership.engine import AnyRequest, AnyResult, Keepalive, Kept, Origin
from tests.sim.host import Host, User
from tests.sim.streams import Stream

if TYPE_CHECKING:
    from tests.sim.world import World

Question = tuple[User, int, Host, AnyRequest, Origin | None]


class Asking:
    """All requests of one world. `loss`: of a request or of an answer."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.rng = world.rng
        self.loss = world.plan.loss / 1000
        self.latency_us = world.plan.latency_us
        self.jitter_us = world.plan.jitter_us
        self.last = 0
        """The number of the last request that has come to a member."""

    def heal(self) -> None:
        """Nothing gets lost any more but what L3 allows."""
        self.loss = self.world.plan.healed_loss / 1000

    def delay(self) -> int:
        """How long one way takes."""
        return self.latency_us + (int(self.rng.random() * self.jitter_us) if self.jitter_us else 0)

    def ask(self, user: User, tag: int, host: Host, request: AnyRequest, origin: Origin | None = None) -> None:
        """A user asks a member."""
        if self.loss and self.rng.random() < self.loss:
            return
        world = self.world
        world.post(world.now + self.delay(), self.arrived, (user, tag, host, request, origin))

    def arrived(self, question: Question) -> None:
        """A request is there, or the connection is refused."""
        user, tag, host, request, origin = question
        world = self.world
        if host.replica is None:
            world.post(world.now + self.latency_us, _broken, (user, tag))
            return
        if type(request) is Keepalive:
            world.observer.leases.heard(host, request.session, request.number)
        world.arrive(host, Asked(self.token(host, user, tag), request, origin))

    def token(self, host: Host, user: User, tag: int) -> int:
        """Under which a member will answer."""
        self.last += 1
        host.asked[self.last] = (user, tag)
        return self.last

    def ask_together(self, user: User, host: Host, requests: Mapping[int, AnyRequest]) -> None:
        """Many requests, by tag, that reach a member in one turn."""
        world = self.world

        def arrive() -> None:
            if host.replica is None or host.paused_until > world.now:
                return
            asked = []
            for tag, request in requests.items():
                asked.append(Asked(self.token(host, user, tag), request))
            world.turn(host, asked, drained=False)

        world.later(self.latency_us, arrive)

    def answer(self, host: Host, answers: Sequence[tuple[int, AnyResult]]) -> None:
        """A member answers users."""
        world = self.world
        for token, result in answers:
            user, tag = host.asked.pop(token)
            if type(result) is Kept:
                world.observer.leases.kept(host, result.session, result.number)
            if type(user) is Stream:
                world.streams.answer(user, tag, result)
            elif not self.loss or self.rng.random() >= self.loss:
                world.post(world.now + self.delay(), _answered, (user, tag, result))


def _broken(whose: tuple[User, int]) -> None:
    user, tag = whose
    user.answered(tag, None)


def _answered(what: tuple[User, int, AnyResult]) -> None:
    user, tag, result = what
    user.answered(tag, result)
