"""One member without its shell: consensus core, state machine, steward, and the requests that wait for them. PURE.

`step` takes everything that came in one turn of the loop and returns what must be done about it. Within a turn the core
is stepped once with all its events, and again only for what followed from that (decisions of the steward, requests
routed anew after an election), until it is quiet or `steps_max` is reached.

The hot path is a put on the leader: `_ask` → `Propose` → `Accepted` → `committed` → `_applied`. It makes one record a
request and touches three dicts; see docs/benchmarks.md before adding anything to it.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from tenure.base.chance import Rng
from tenure.base.ids import ConsensusTerm, LogIndex, MemberId
from tenure.base.instants import NEVER, Instant, WallMs
from tenure.engines.native import views
from tenure.engines.native.client import OwnClient
from tenure.engines.native.inputs import (
    Asked,
    Effects,
    Input,
    PeerCall,
    PeerKnown,
    PeerReply,
    ReplicaSettings,
    Stalled,
    internal_token,
)
from tenure.engines.native.pending import (
    FORWARDED,
    KEEP,
    NOTE,
    PARKED,
    PROPOSAL,
    PROPOSED,
    READ,
    READING,
    STEPDOWN,
    SUCCESSION,
    TRANSFERRING,
    Book,
    Pending,
    kind_of,
)
from tenure.engines.native.rounds import Rounds
from tenure.engines.native.stepdowns import Stepdowns
from tenure.leadership import commands
from tenure.leadership.engine import (
    AnyRequest,
    AnyResult,
    ClientOpened,
    Keepalive,
    KvGet,
    Noted,
    OpenClient,
    Origin,
    ReadElection,
    Refused,
    Sequenced,
    Status,
    StatusReport,
    Stepdown,
    Stepped,
)
from tenure.leadership.machine import Machine, UnknownCommand
from tenure.leadership.steward import Steward, StewardSettings
from tenure.raft import ready as core_ready
from tenure.raft.core import Identity, Raft, Settings
from tenure.raft.entries import COMMAND, NOOP, Entry, Restored, Snapshot
from tenure.raft.events import Event, Propose, ReadIndex, TakeSnapshot, Transfer
from tenure.raft.ready import Accepted, Fatal, ReadState, TransferEnded
from tenure.wire.frames import Call, CallReply

_NOTED: Final = Noted()


class Replica:
    """See the module. Public read-only attributes: `raft`, `machine`, `steward`, `applied`, `name`."""

    def __init__(
        self,
        identity: Identity,
        name: str,
        restored: Restored,
        machine: Machine,
        settings: Settings,
        rng: Rng,
        now: Instant,
        *,
        limits: ReplicaSettings | None = None,
        steward: StewardSettings | None = None,
        api: str | None = None,
    ) -> None:
        self.raft = Raft(identity, restored, settings, rng, now)
        self.machine = machine
        self.steward: Steward | None = None
        self.applied = LogIndex(restored.snapshot.index if restored.snapshot is not None else 0)
        self.name = name
        self.me = identity.member
        self.lineage = identity.lineage
        self.apis: dict[MemberId, str | None] = {identity.member: api}
        self.limits = limits or ReplicaSettings()
        self._steward_settings = steward or StewardSettings()
        self._rng = rng
        self._book = Book(rng.below(2**40))
        self._by_index: dict[LogIndex, Accepted] = {}
        self._calls: dict[tuple[MemberId, int], int] = {}
        self._decisions: dict[int, bytes] = {}
        self._rounds = Rounds(self.applied)
        self._stepdowns = Stepdowns()
        self._own = OwnClient()
        self._lead: tuple[str, ConsensusTerm, MemberId | None, bool] = ("follower", ConsensusTerm(0), None, False)
        self._leading = False
        self._moved = False
        self._decide_due = False
        self._serving = False
        self._resend_at: Instant = NEVER
        self._since_snapshot_entries = 0
        self._since_snapshot_bytes = 0
        self._core_deadline: Instant = now
        self._events: list[Event] = []
        self._out = Effects()
        self._now = now
        self._wall = WallMs(0)
        self.stopped = False

    # --- a turn -----------------------------------------------------------------------------------------------------

    def step(self, inputs: Sequence[Input], now: Instant, wall_ms: WallMs, drained: bool = True) -> Effects:
        """Take everything that came in this turn. `drained`: nothing more waits in the sockets (P4.7)."""
        out = self._out = Effects()
        self._now, self._wall = now, wall_ms
        for item in inputs:
            if type(item) is Asked:
                self._ask(item.token, item.request, item.origin, None)
            elif type(item) is PeerCall:
                self._called(item.peer, item.call)
            elif type(item) is PeerReply:
                self._replied(item.peer, item.reply)
            elif type(item) is PeerKnown:
                self.apis[item.peer] = item.api
            elif type(item) is Stalled:
                if self.steward is not None:
                    self.steward.gap(item.gap_us, now)
            else:
                self._events.append(item)
        self._run_core(drained)
        if drained:
            self._end_overdue()
            if now >= self._resend_at:
                self._resend()
        out.deadline = self._deadline()
        return out

    def _run_core(self, drained: bool) -> None:
        """Step the core until nothing follows any more."""
        for number in range(self.limits.steps_max):
            token = self._rounds.begin(self._book)
            if token is not None:
                self._events.append(ReadIndex(token))
            if drained:
                self._decide()
            if not self._events and (number or self._now < self._core_deadline) and not self.stopped:
                return
            if self.stopped:
                self._events.clear()
                return
            events, self._events = self._events, []
            self._absorb(self.raft.step(events, self._now, drained))
        if self._events or self._rounds.gathering:
            self._core_deadline = self._now

    def _deadline(self) -> Instant:
        if self._decide_due and self._serving:
            return self._now  # the next drained step decides
        soonest = min(self._core_deadline, self._book.deadline(), self._resend_at)
        if self.steward is not None:
            soonest = min(soonest, self.steward.deadline())
        return soonest

    # --- what the core says -----------------------------------------------------------------------------------------

    def _absorb(self, ready: core_ready.Ready) -> None:
        """Act on one `Ready`, in the order of its fields. A lost leadership comes first: what is applied under another
        term must find no steward of an older one (P3.3), and the backlog before our no-op must find the new one."""
        out = self._out
        for envelope in ready.send:
            out.send.append((envelope.to, envelope))
        if ready.write is not None:
            assert out.write is None, "at most one batch in flight"
            out.write = ready.write
        self._core_deadline = ready.deadline
        out.traces.extend(ready.traces)
        raft = self.raft
        lead = (raft.role, raft.term, raft.leader, raft.is_serving)
        if lead != self._lead:
            self._turn_of_leadership(lead)
        for accepted in ready.accepted:
            self._accept(accepted)
        for refused in ready.refused:
            self._core_refused(refused)
        if ready.committed:
            self._apply_all(ready.committed)
        for read in ready.reads:
            self._rounds.granted(read)
        if self._rounds.ready:
            self._finish_rounds()
        for ended in ready.transfers:
            self._transfer_ended(ended)
        if self._moved:
            self._moved = False
            self._route_waiting()
        if ready.fatal is not None:
            self._stop(ready.fatal)

    def _turn_of_leadership(self, lead: tuple[str, ConsensusTerm, MemberId | None, bool]) -> None:
        """Role, term, leader or readiness have changed."""
        was, self._lead = self._lead, lead
        role, term, _, _ = lead
        self._moved = True
        if self._leading and (role != "leader" or term != was[1]):
            self._leading = self._serving = False
            self.steward = None
            self._decisions.clear()
            for key in self._rounds.drop():
                self._park(key)
            for key, pending in self._book.items():
                if pending.peer is not None:
                    self._forget(key, pending)
        if role == "leader" and not self._leading:
            self._leading = True
            self.steward = Steward(term, self._now, self.machine, self._steward_settings, self._now)

    def _accept(self, accepted: Accepted) -> None:
        pending = self._book.get(accepted.token)
        if pending is None:
            self._decisions.pop(accepted.token, None)
            return
        pending.index, pending.term = accepted.index, accepted.term
        older = self._by_index.get(accepted.index)
        self._by_index[accepted.index] = accepted
        if older is not None:  # its entry was truncated: it can't commit any more
            self._again(older.token)

    def _core_refused(self, refused: core_ready.Refused) -> None:
        """A proposal or a round was not taken; it has no effect, so it may be asked again."""
        data = self._decisions.pop(refused.token, None)
        if data is not None:
            if self.steward is not None:
                self.steward.dropped(data)
            return
        keys = self._rounds.refused(refused.token) or [refused.token]
        for key in keys:
            pending = self._book.get(key)
            if pending is None:
                continue
            if refused.reason == "overloaded":
                self._answer(key, pending, Refused("too_many", "the log's queue is full", retry_after_ms=20))
            else:
                pending.stage = PARKED

    def _transfer_ended(self, ended: TransferEnded) -> None:
        pending = self._book.get(ended.token)
        if pending is None:
            return
        result: AnyResult
        if ended.outcome == "done":
            result = Stepped(None, self._name_of(ended.leader), None, "done", self.name)
        elif ended.outcome == "no_target":
            result = Refused("no_eligible_successor", "no other voter can take over now")
        elif ended.outcome == "not_leader":
            pending.stage = PARKED
            self._moved = True
            return
        else:
            reason = "a transfer is under way" if ended.outcome == "busy" else "the target did not take over in time"
            result = Refused("no_quorum", reason, retry_after_ms=self.limits.retry_after_ms)
        self._answer(ended.token, pending, result)

    def _stop(self, fatal: Fatal) -> None:
        """The member stops taking part; every request ends."""
        self.stopped = True
        self._out.fatal = fatal
        self.steward = None
        self._leading = False
        for key, pending in self._book.items():
            self._answer(key, pending, Refused("no_quorum", f"this member has stopped: {fatal.text}"))

    # --- applying ---------------------------------------------------------------------------------------------------

    def _apply_all(self, committed: Sequence[Entry | Snapshot]) -> None:
        for item in committed:
            if type(item) is Snapshot:
                self._install(item)
                continue
            assert type(item) is Entry
            assert item.index == self.applied + 1, f"applied {self.applied}, then {item.index}"
            if item.kind == COMMAND:
                if not self._apply(item):
                    return
            else:
                self.applied = item.index
                self._settle(item.index, item.term, None)
                if item.kind == NOOP and self._leading and item.term == self.raft.term:
                    self._begin_serving()
        if self._since_snapshot_entries >= self.limits.snapshot_entries or (
            self._since_snapshot_bytes >= self.limits.snapshot_bytes
        ):
            self._since_snapshot_entries = self._since_snapshot_bytes = 0
            self._events.append(TakeSnapshot(self.applied, self.machine.snapshot()))
        self._rounds.applied(self.applied)

    def _apply(self, entry: Entry) -> bool:
        try:
            applied = self.machine.apply(entry.index, entry.term, entry.data)
        except UnknownCommand as error:  # P10: never guess
            self._stop(Fatal("unknown_feature", f"entry {entry.index}: {error}"))
            return False
        self.applied = entry.index
        self._since_snapshot_entries += 1
        self._since_snapshot_bytes += len(entry.data)
        if self.steward is not None:
            self.steward.on_applied(entry.index, entry.term, applied, self._now)
        self._settle(entry.index, entry.term, applied.result)
        if applied.transitions:
            self._out.transitions.extend(applied.transitions)
            for transition in applied.transitions:
                if transition.kind != "kv":
                    self._decide_due = True
                    if transition.kind == "granted" and transition.election is not None:
                        self._successor_granted(transition.election)
        return True

    def _settle(self, index: LogIndex, term: ConsensusTerm, result: AnyResult | None) -> None:
        """Index `index` is applied: whoever waited for it gets the result, or is told that another entry took it."""
        accepted = self._by_index.pop(index, None)
        if accepted is None:
            return
        if accepted.term != term or result is None:
            self._again(accepted.token)
            return
        pending = self._book.get(accepted.token)
        if pending is None:
            return
        if type(result) is Stepped and pending.peer is None:
            self._stepped(accepted.token, pending, result)
        else:
            self._answer(accepted.token, pending, result)

    def _install(self, snapshot: Snapshot) -> None:
        """A snapshot replaces the state; whether what it swallowed took effect nobody here can tell any more."""
        self.machine = Machine.restore(snapshot.data)
        self._out.replaced = True
        self._out.transitions.clear()
        self.applied = snapshot.index
        self._since_snapshot_entries = self._since_snapshot_bytes = 0
        for index in [index for index in self._by_index if index <= snapshot.index]:
            token = self._by_index.pop(index).token
            pending = self._book.get(token)
            if pending is None:
                continue
            if isinstance(pending.origin, Sequenced):
                self._again(token)
            else:
                self._answer(token, pending, Refused("outcome_unknown", "this member was brought up by a snapshot"))
        for election in self._stepdowns.elections():
            self._successor_granted(election)

    def _begin_serving(self) -> None:
        assert self.steward is not None
        self._serving = True
        self._moved = True
        self._decide_due = True
        self.steward.on_serving(self._now)

    # --- the steward ------------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        """Let the steward decide; what it decides carries the term it was decided in (P3.5). Only with the sockets
        drained: what waits there may be the very renewal (P4.7, P3.7)."""
        steward = self.steward
        if steward is None or not self._serving:
            self._decide_due = False
            return
        if not (self._decide_due or self._now >= steward.deadline()):
            return
        self._decide_due = False
        for data in steward.decide(self._now, self._wall):
            key = self._book.fresh_key()
            self._decisions[key] = data
            self._events.append(Propose(key, data, self.raft.term))

    # --- requests ---------------------------------------------------------------------------------------------------

    def _ask(self, token: int, request: AnyRequest, origin: Origin | None, peer: MemberId | None) -> int:
        """Take a request in. Returns its key, 0 if it is answered already."""
        if type(request) in (Status, KvGet, ReadElection) and request.stale and token != internal_token:  # type: ignore[union-attr]
            self._out.answers.append((token, views.read(self, request, self._now, self._wall)))
            return 0
        pending = Pending(token, request, origin, peer, Instant(self._now + self.limits.ask_timeout_us))
        key = self._book.add(pending)
        if self.stopped or len(self._book.ordinary) > self.limits.pending_max:
            code: Final = "no_quorum" if self.stopped else "too_many"
            self._answer(key, pending, Refused(code, "this member takes no requests now", retry_after_ms=200))
            return 0
        self._route(key, pending)
        return key

    def _route(self, key: int, pending: Pending) -> None:
        """Send a request where it can be answered: to the core, into a round, to the leader; or park it."""
        if not self._leading:
            leader = self._lead[2]
            if leader is not None and leader != self.me and pending.peer is None:
                self._forward(key, pending, leader)
            return
        request = pending.request
        kind = kind_of[type(request)]
        if kind == PROPOSAL or (kind == STEPDOWN and request.election is not None):  # type: ignore[union-attr]
            pending.stage = PROPOSED
            nonce = f"{self._rng.u64():016x}"
            self._events.append(Propose(key, commands.of_request(request, pending.origin, self._wall, nonce)))
        elif kind == READ:
            pending.stage = READING
            self._rounds.join(key)
        elif kind == KEEP:
            if self._serving:
                self._keep(key, pending)
        elif kind == STEPDOWN:
            self._transfer(key, pending)
        else:
            assert kind == NOTE
            if self.steward is not None:
                self.steward.disconnected(request.session, self._now)  # type: ignore[union-attr]
                self._decide_due = True
            self._answer(key, pending, _NOTED)

    def _keep(self, key: int, pending: Pending) -> None:
        """A keepalive joins a round that begins after this moment (P3.3)."""
        assert self.steward is not None and type(pending.request) is Keepalive
        receipt = self.steward.receive(pending.request, self._now)
        if type(receipt) is Refused:
            self._answer(key, pending, receipt)
            return
        pending.stage = READING
        self._rounds.join_keepalive(key, receipt)

    def _transfer(self, key: int, pending: Pending) -> None:
        """Without an election the consensus leader itself moves."""
        request = pending.request
        assert type(request) is Stepdown
        target: MemberId | None = None
        if request.successor is not None:
            seats = self.raft.configuration.seats
            found = next((s for s in seats if request.successor in (s.name, s.id)), None)
            if found is None:
                text = f"no member is called {request.successor!r}"
                self._answer(key, pending, Refused("unknown_member", text, field="successor"))
                return
            if found.id == self.me:
                self._answer(key, pending, Stepped(None, self.name, None, "done", self.name))
                return
            target = found.id
        pending.stage = TRANSFERRING
        self._events.append(Transfer(key, target))

    def _finish_rounds(self) -> None:
        """Answer everything whose round is confirmed and whose read index is applied."""
        steward = self.steward
        for key, receipt in self._rounds.take_ready():
            pending = self._book.get(key)
            if pending is None:
                continue
            if receipt is None:
                self._answer(key, pending, views.read(self, pending.request, self._now, self._wall))
            elif steward is not None:
                self._answer(key, pending, steward.acknowledge(receipt, self._now))
                if not self._decide_due and steward.deadline() <= self._now:
                    self._decide_due = True

    def _answer(self, key: int, pending: Pending, result: AnyResult) -> None:
        """The one place where a request ends."""
        self._book.remove(key)
        peer = pending.peer
        if peer is not None:
            self._calls.pop((peer, pending.token), None)
            self._out.send.append((peer, CallReply(pending.token, result)))
            return
        if pending.sent_at:
            self._own.answered(pending.origin)
        if pending.token == internal_token:
            self._own_client_answered(result)
            return
        self._out.answers.append((pending.token, result))

    def _forget(self, key: int, pending: Pending) -> None:
        """Drop a call of another member: it will send it again to the next leader."""
        assert pending.peer is not None
        self._book.remove(key)
        self._calls.pop((pending.peer, pending.token), None)

    def _park(self, key: int) -> None:
        pending = self._book.get(key)
        if pending is not None:
            pending.stage = PARKED

    def _again(self, key: int) -> None:
        """It is certain that this request had no effect, or it may be repeated: ask again."""
        pending = self._book.get(key)
        if pending is not None:
            pending.stage = PARKED
            self._moved = True

    def _route_waiting(self) -> None:
        """Leadership has moved (or an entry was lost): everything that waits for it is sent on."""
        leader = self._lead[2]
        for key, pending in self._book.items():
            stage = pending.stage
            if stage == FORWARDED or stage == PARKED:
                pending.stage = PARKED
                self._route(key, pending)
            elif stage == TRANSFERRING and pending.sent_at and leader is not None and self._lead[1] > pending.term:
                # We had passed it on; sent again, it would depose the new leader too.
                begun = pending.begun
                self._answer(key, pending, Stepped(None, self._name_of(leader), None, "done", begun and begun.from_))

    def _end_overdue(self) -> None:
        for key, pending in self._book.overdue(self._now):
            if pending.stage == SUCCESSION and pending.begun is not None:
                self._stepdowns.leave(pending.begun.election, key)
                self._answer(key, pending, pending.begun)
                continue
            if pending.stage == PROPOSED and pending.index:
                self._by_index.pop(pending.index, None)
            if type(pending.request) is Status and pending.peer is None:
                self._answer(key, pending, views.status(self, self._now, self._wall, quorum=False))
                continue
            known = self._lead[2] is not None
            reason = "no majority answered in time" if known else "no consensus leader is known"
            if pending.stage == PROPOSED or (pending.stage == FORWARDED and kind_of[type(pending.request)] == PROPOSAL):
                reason += "; the change may still take effect"
            self._answer(key, pending, Refused("no_quorum", reason, retry_after_ms=self.limits.retry_after_ms))

    # --- between members --------------------------------------------------------------------------------------------

    def _forward(self, key: int, pending: Pending, leader: MemberId) -> None:
        """Pass a request on to the leader; mutations only with an origin, because they may have to be sent twice."""
        request = pending.request
        if type(request) is Stepdown:
            if request.election is None:
                pending.stage = TRANSFERRING
                pending.sent_at = self._now
                pending.term = self._lead[1]
                pending.begun = Stepped(None, None, None, "under_way", self._name_of(leader))
                self._out.send.append((leader, Call(key, request, None)))
                return
            request = msgspec.structs.replace(request, wait_ms=0)
        if pending.origin is None and kind_of[type(request)] in (PROPOSAL, STEPDOWN) and type(request) is not OpenClient:
            pending.origin = self._own.issue()
            if pending.origin is None:
                self._open_own_client(key)
                return
        pending.stage = FORWARDED
        pending.sent_at = self._now
        self._resend_at = min(self._resend_at, Instant(self._now + self.limits.resend_us))
        self._out.send.append((leader, Call(key, request, pending.origin)))

    def _open_own_client(self, key: int) -> None:
        self._own.waiting.append(key)
        if not self._own.opening:
            self._own.opening = True
            self._ask(internal_token, OpenClient(f"{self._rng.u64():016x}"), None, None)

    def _own_client_answered(self, result: AnyResult) -> None:
        self._own.opening = False
        waiting, self._own.waiting = self._own.waiting, []
        if type(result) is ClientOpened:
            self._own.opened(result.client)
        for key in waiting:
            pending = self._book.get(key)
            if pending is None or pending.stage != PARKED:
                continue
            if type(result) is Refused:
                self._answer(key, pending, result)
            else:
                self._route(key, pending)

    def _called(self, peer: MemberId, call: Call) -> None:
        """Another member passes a request on. A call that we can't answer is dropped (see the package)."""
        if not self._leading or (peer, call.id) in self._calls:
            return
        key = self._ask(call.id, call.request, call.origin, peer)
        if key and self._book.get(key) is not None:
            self._calls[(peer, call.id)] = key

    def _replied(self, peer: MemberId, reply: CallReply) -> None:
        pending = self._book.get(reply.id)
        if pending is None or pending.stage not in (FORWARDED, TRANSFERRING) or pending.peer is not None:
            return
        result = reply.result
        if type(result) is StatusReport:
            result = msgspec.structs.replace(result, member=self.name)
        elif type(result) is Refused and result.code == "outcome_unknown" and isinstance(pending.origin, Sequenced):
            self._own.lost(pending.origin.client)
        elif type(result) is Stepped and result.election is not None:
            self._stepped(reply.id, pending, result)
            return
        self._answer(reply.id, pending, result)

    def _resend(self) -> None:
        """A call may have been lost with a connection; repeating it is harmless."""
        self._resend_at = NEVER
        leader = self._lead[2]
        for key, pending in self._book.items():
            if pending.stage != FORWARDED or pending.peer is not None:
                continue
            due = Instant(pending.sent_at + self.limits.resend_us)
            if due <= self._now and leader is not None and leader != self.me:
                self._forward(key, pending, leader)
            else:
                self._resend_at = min(self._resend_at, due)

    # --- stepdowns that wait for their successor --------------------------------------------------------------------

    def _stepped(self, key: int, pending: Pending, begun: Stepped) -> None:
        """A stepdown has begun. Wait here, at the member that was asked, until the successor is granted."""
        request = pending.request
        assert type(request) is Stepdown and begun.election is not None
        wait_us = (request.grace_ms + 1000 if request.wait_ms is None else request.wait_ms) * 1000
        done = self._stepdowns.outcome(self.machine, begun)
        if begun.state == "done" or done is not None or wait_us == 0:
            self._answer(key, pending, done or begun)
            return
        if pending.sent_at:
            self._own.answered(pending.origin)
        pending.stage = SUCCESSION
        pending.begun = begun
        self._stepdowns.wait(begun.election, key)
        self._book.prolong(key, pending, Instant(self._now + min(wait_us, self.limits.wait_max_us)))

    def _successor_granted(self, election: str) -> None:
        for key in self._stepdowns.keys(election):
            pending = self._book.get(key)
            if pending is None or pending.begun is None:
                self._stepdowns.leave(election, key)
                continue
            done = self._stepdowns.outcome(self.machine, pending.begun)
            if done is not None:
                self._stepdowns.leave(election, key)
                self._answer(key, pending, done)

    def _name_of(self, member: MemberId | None) -> str | None:
        seat = self.raft.configuration.seat(member) if member is not None else None
        return seat.name if seat is not None else member


_ = ReadState
