"""Between members: requests that we pass on to the leader, and calls of others that reach us.

What we pass on may be sent twice (P9.1, see the package), so mutations leave only with an origin of our own client
session. A stepdown of the consensus leader is the exception: sent twice it would depose the new one too, so it is sent
once and is done when another leader is heard.
"""

from typing import TYPE_CHECKING

import msgspec

from tenure.base.ids import MemberId
from tenure.base.instants import NEVER, Instant
from tenure.engines.native import views
from tenure.engines.native.client import OwnClient
from tenure.engines.native.inputs import internal_token
from tenure.engines.native.pending import FORWARDED, PARKED, PROPOSAL, STEPDOWN, TRANSFERRING, Pending, kind_of
from tenure.leadership.engine import (
    AnyResult,
    ClientOpened,
    OpenClient,
    Refused,
    Sequenced,
    StatusReport,
    Stepdown,
    Stepped,
)
from tenure.wire.frames import Call, CallReply

if TYPE_CHECKING:
    from tenure.engines.native.desk import Desk
    from tenure.engines.native.replica import Replica


class Forwarding:
    """The passing on of one replica's requests."""

    def __init__(self, replica: "Replica", desk: "Desk") -> None:
        self._replica = replica
        self._turn = replica.turn
        self._limits = replica.limits
        self._desk = desk
        self._calls: dict[tuple[MemberId, int], int] = {}
        """Calls of others that are pending here: a repeated one is not taken twice."""
        self.own = OwnClient()
        self.resend_at: Instant = NEVER

    def forward(self, key: int, pending: Pending, leader: MemberId) -> None:
        """Pass a request on to the leader."""
        request, now = pending.request, self._turn.now
        if type(request) is Stepdown:
            if request.election is None:
                pending.stage = TRANSFERRING
                pending.sent_at = now
                pending.term = self._turn.term
                pending.begun = Stepped(None, None, None, "under_way", self._replica.name_of(leader))
                self._turn.out.send.append((leader, Call(key, request, None)))
                return
            request = msgspec.structs.replace(request, wait_ms=0)  # the wait for the successor is ours
        mutates = kind_of[type(request)] in (PROPOSAL, STEPDOWN) and type(request) is not OpenClient
        if mutates and pending.origin is None:
            pending.origin = self.own.issue()
            if pending.origin is None:
                self._wait_for_client(key)
                return
        pending.stage = FORWARDED
        pending.doubtful = mutates  # the call may arrive twice: what answers the second says nothing of the first
        pending.sent_at = now
        self.resend_at = min(self.resend_at, Instant(now + self._limits.resend_us))
        self._turn.out.send.append((leader, Call(key, request, pending.origin)))

    def called(self, peer: MemberId, call: Call) -> None:
        """Another member passes a request on. A call that we can't answer is dropped (see the package)."""
        if not self._turn.leading or (peer, call.id) in self._calls:
            return
        key = self._desk.ask(call.id, call.request, call.origin, peer)
        if self._desk.book.get(key) is not None:
            self._calls[(peer, call.id)] = key

    def served(self, peer: MemberId, call_id: int) -> None:
        """A call is answered or dropped."""
        self._calls.pop((peer, call_id), None)

    def replied(self, reply: CallReply) -> None:
        """The leader has answered a call of ours; an answer to what we no longer wait for is ignored."""
        pending = self._desk.book.get(reply.id)
        if pending is None or pending.stage not in (FORWARDED, TRANSFERRING) or pending.peer is not None:
            return
        result = reply.result
        if type(result) is StatusReport:
            me = self._replica
            result = msgspec.structs.replace(result, member=me.name, state=views.state(me), protection=me.protection)
        elif type(result) is Refused and result.code == "outcome_unknown" and isinstance(pending.origin, Sequenced):
            self.own.lost(pending.origin.client)
        elif type(result) is Stepped and result.election is not None:
            self._desk.stepped(reply.id, pending, result)
            return
        self._desk.answer(reply.id, pending, result)

    def ended(self, pending: Pending) -> None:
        """A request that we had passed on is over: its sequence number is free, another may leave."""
        self.own.answered(pending.origin)
        self._release_waiting()

    def resend(self) -> None:
        """A call may have been lost with a connection; repeating it is harmless."""
        now, leader = self._turn.now, self._turn.leader
        if now < self.resend_at:
            return
        self.resend_at = NEVER
        for key, pending in self._desk.book.items():
            if pending.stage != FORWARDED:
                continue
            due = Instant(pending.sent_at + self._limits.resend_us)
            if due <= now and leader is not None and leader != self._replica.me:
                self.forward(key, pending, leader)
            else:
                self.resend_at = min(self.resend_at, max(due, Instant(now + self._limits.resend_us // 2)))

    # --- our own client session -------------------------------------------------------------------------------------

    def _wait_for_client(self, key: int) -> None:
        self.own.waiting.append(key)
        if not self.own.stands and not self.own.opening:
            self.own.opening = True
            self._desk.ask(internal_token, OpenClient(f"{self._replica.rng.u64():016x}"), None, None)

    def own_client_answered(self, result: AnyResult) -> None:
        """The opening of our client session is over."""
        self.own.opening = False
        if type(result) is ClientOpened:
            self.own.opened(result.client)
            self._release_waiting()
            return
        assert type(result) is Refused, f"opening a client was answered by {result!r}"
        waiting = list(self.own.waiting)
        self.own.waiting.clear()
        for key in waiting:
            pending = self._desk.book.get(key)
            if pending is not None and pending.stage == PARKED:
                self._desk.answer(key, pending, result)

    def _release_waiting(self) -> None:
        while (key := self.own.next_waiting()) is not None:
            pending = self._desk.book.get(key)
            if pending is not None and pending.stage == PARKED:
                self._desk.route(key, pending)
