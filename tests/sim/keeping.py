"""Keepers in the liveness phase: when nothing fails any more, each has a session, and what they want is led.

This is asked of keepers whose TTL leaves them the time for it: several round trips, and the noticing of a fail-over.
Bounds are made of what the members have measured, of TTLs, and of the keeper's own limits.
"""

from typing import TYPE_CHECKING, Final

from tenure.base.instants import MS, SECOND
from tenure.client.dialer import attempt_us_max, backoff_us_max
from tenure.leadership.choosing import HoldDownSettings
from tenure.leadership.engine import ElectionConfig
from tests.sim.keepers import KeeperNode

if TYPE_CHECKING:
    from tests.sim.healing import Healing

NOTICES: Final = 2
"""So often the time to notice a silence must lie in a TTL."""
SLACK_US: Final = 1 * SECOND
LOOK_STEPS: Final = 20


class Keeping:
    """What keepers may expect."""

    def __init__(self, healing: "Healing") -> None:
        self.healing = healing
        self.keepers = [node for node in healing.run.nodes if isinstance(node, KeeperNode)]

    def look(self) -> None:
        """Each keeper that can has a session in time, and each election that such a one wants has a holder. In the way
        may stand: an endpoint that answers nothing, another that has just failed, a session of the node's last process
        (which runs out), a holder that is gone (whose session does), a leader that has just come, a node that stepped
        down (`cooldown_ms`) or is held down.
        """
        healing = self.healing
        ttl_us = max((node.ttl_ms * MS for node in healing.run.nodes), default=0)
        barred_us = (ElectionConfig().cooldown_ms + HoldDownSettings().alone_ms) * MS
        bound = healing.by_any_clock(2 * ttl_us + attempt_us_max + backoff_us_max + barred_us) + SLACK_US
        bound += healing.l1_us(healing.healthy()) + healing.notice_us()
        world, begun = healing.world, healing.world.now
        while text := self.missing():
            if world.now > begun + bound:
                healing.observer.fail("keeper", f"{text}, after {bound / MS:.0f} ms: {', '.join(healing.shown())}")
            healing.run.steps(world.steps + LOOK_STEPS)
        world.seen["keepers served µs"] += world.now - begun
        world.seen["keepers served"] += len(self.able())

    def able(self) -> list[KeeperNode]:
        """Who lives, knows somebody, and whose TTL is long enough."""
        least = max(1 * SECOND, NOTICES * self.healing.notice_us())
        there = {host.api for host in self.healing.healthy()}
        return [
            node
            for node in self.keepers
            if node.runs() and not node.closing and node.ttl_ms * MS >= least and self.knows(node, there)
        ]

    def knows(self, node: KeeperNode, there: set[str]) -> bool:
        """Whether any endpoint that it knows is somebody's: while it stood still, or was cut off, all may have left."""
        if node.dialer is not None and not there.isdisjoint(node.dialer.known()):
            return True
        self.healing.world.seen["keeper knows nobody that is left"] += 1
        return False

    def missing(self) -> str:
        """What is, in words; empty: nothing."""
        able = self.able()
        for node in able:
            if node.session() is None:
                return f"{node.name} has no session"
        serving = self.healing.serving()
        if not serving:
            return "nobody serves"
        for election in sorted({name for node in able for name in node.elections}):
            office = serving[0].machine.state.elections.get(election)
            if office is None or office.holder is None:
                return f"nobody leads {election}"
            for node in able:
                if node.session() == office.holder.session and node.leading(election) is None:
                    return f"{node.name} leads {election} and doesn't know"
        return ""
