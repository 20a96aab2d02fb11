"""A stage for the keeper's core: virtual clocks, and a cluster that says exactly what the story wants."""

import json
from typing import Any

from tenure.base.chance import SplitMix64
from tenure.base.ids import ElectionName, NodeId, Term
from tenure.base.instants import MS, Instant
from tenure.client.events import Event
from tenure.client.keeper import KeeperCore, Output, Settings

ORDERS = ElectionName("orders")
START_REAL_US = 1_800_000_000_000_000


class Stage:
    """Time in ms. `sent` are the frames of the last turn, `told` all events since they were last asked for."""

    def __init__(self, ttl_ms: int = 1_000) -> None:
        self.core = KeeperCore(Settings(NodeId("a"), ttl_ms), SplitMix64(7))
        self.ms = 1_000
        self.real_ahead_ms = 0
        self.sent: list[dict[str, Any]] = []
        self.output: Output | None = None
        self._events: list[Event] = []

    @property
    def now(self) -> Instant:
        return Instant(self.ms * MS)

    def turn(self, after_ms: int = 0) -> "Stage":
        self.ms += after_ms
        output = self.core.turn(self.now, START_REAL_US + (self.ms + self.real_ahead_ms) * MS)
        self.output = output
        self.sent = [json.loads(frame) for frame in output.frames]
        self._events += output.events
        return self

    def told(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def say(self, **message: Any) -> "Stage":
        self.core.received(json.dumps(message).encode(), self.now)
        return self.turn()

    def connect(self, endpoint: str = "http://m1") -> "Stage":
        self.core.connected(endpoint, self.now)
        return self.turn()

    def find(self, kind: str) -> dict[str, Any]:
        found = [message for message in self.sent if message["type"] == kind]
        assert found, f"no {kind} among {self.sent}"
        return found[-1]

    def kinds(self) -> list[str]:
        return [message["type"] for message in self.sent]

    def open(self, session: str = "5-00000000000000aa") -> "Stage":
        """From nothing to a session that stands."""
        if self.core.endpoint is None:
            self.connect()
        if "open_client" in self.kinds():
            self.say(type="client_opened", id=self.find("open_client")["id"], client="3-00000000000000cc")
        self.say(type="session_opened", id=self.find("open")["id"], session=session, node="a", ttl_ms=1_000)
        return self

    def campaign(self) -> "Stage":
        self.core.campaign(ORDERS, 0)
        self.turn()
        return self.say(
            type="campaigning", id=self.find("campaign")["id"], election="orders", session=self.session, priority=0
        )

    @property
    def session(self) -> str:
        session = self.core.session()
        assert session is not None
        return session

    def keep(self, *leases: tuple[str, int], number: int | None = None, demands: list[Any] | None = None) -> "Stage":
        """Acknowledge a keepalive (the last one sent, unless a number is given) naming these leases."""
        number = self.find("keep")["number"] if number is None else number
        return self.say(
            type="kept",
            session=self.session,
            number=number,
            leases=[
                {"election": name, "term": term, "fence_token": f"t1.{name}.{term}.{'0' * 32}", "ttl_ms": 1_000}
                for name, term in leases
            ],
            demands=demands or [],
        )

    def lead(self, term: int = 7) -> "Stage":
        """From nothing to leading `orders`."""
        return self.open().campaign().keep(("orders", term))

    def remaining_ms(self, term: int = 7) -> float:
        return self.core.remaining_us(ORDERS, Term(term), self.now) / MS
