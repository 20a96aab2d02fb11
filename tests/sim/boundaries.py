"""What may go wrong between any two effects of a turn: the process dies there, or stands still and goes on later.

The boundaries: before anything left; between any two frames; after the frames, before the write; after the write was
handed over (it becomes durable or not); before the answers; after everything. And when a write is done: before its
promises leave, between any two of them, before the core hears of it.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tenure.engines.native.inputs import Effects
from tenure.raft.events import Persisted
from tenure.raft.ready import Batch
from tests.sim.host import Action, Host
from tests.sim.plan import MS, SECOND

if TYPE_CHECKING:
    from tests.sim.world import World


def act(world: "World", host: Host, effects: Effects) -> None:
    """The effects of a turn, cut somewhere."""
    actions: list[Action] = [partial(world.send, host, world.by_id[peer], frame) for peer, frame in effects.send]
    if effects.write is not None:
        actions.append(partial(world.submit, host, effects.write))
    if effects.stage is not None:
        actions.append(partial(world.stage, host, effects.stage))
    if effects.answers:
        actions.append(partial(world.asking.answer, host, effects.answers))
    actions.append(partial(world.arm, host, effects.deadline))
    _cut(world, host, actions, "acting")


def promise(world: "World", host: Host, batch: Batch, micros: int) -> None:
    """A write is done; what it promises, and that the core hears of it, cut somewhere."""
    actions: list[Action] = [
        partial(world.send, host, world.by_id[envelope.to], envelope) for envelope in batch.send_after_persist
    ]
    actions.append(partial(_heard, world, host, host.life, batch, micros))
    _cut(world, host, actions, "promising")


def _heard(world: "World", host: Host, life: int, batch: Batch, micros: int) -> None:
    if host.replica is not None and host.life == life:
        world.turn(host, (Persisted(batch.number, micros),), drained=world.drained and not host.inbox)


def _cut(world: "World", host: Host, actions: list[Action], where: str) -> None:
    """Do some of it; then the process dies, or stands still and does the rest when it goes on."""
    place = world.rng.randrange(len(actions) + 1)
    for action in actions[:place]:
        action()
    rest = actions[place:]
    if host.replica is None:
        return
    if world.rng.random() < 0.7:
        world.seen[f"fault died {where}"] += 1
        world.crash(host, keep=world.rng.random() < 0.5)
        back_later(world, host)
        return
    world.seen[f"fault stood still {where}"] += 1
    world.pause(host, _how_long(world), disk_stops=world.rng.random() < 0.5)
    host.unfinished.extend(rest)


def _how_long(world: "World") -> int:
    return min(1 * MS + int(world.rng.expovariate(1 / world.plan.outage_us)), 60 * SECOND)


def disk_failed(world: "World", host: Host) -> None:
    """EIO: the process ends at once, and nobody knows whether the write is there (DESIGN 5)."""
    host.eio = False
    world.seen["fault eio"] += 1
    world.tell(host.name, "its disk fails")
    world.crash(host, keep=world.rng.random() < 0.5)
    back_later(world, host)


def back_later(world: "World", host: Host) -> None:
    """Somebody starts it again."""
    revive: Callable[[], None] = partial(world.revive, host)
    world.later(int(world.rng.random() * world.plan.outage_us), revive)
