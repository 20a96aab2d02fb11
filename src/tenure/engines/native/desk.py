"""Where requests are taken in, sent where they can be answered, and answered: exactly once, `Desk.answer`.

A request is a proposal, a read, a keepalive, a stepdown of the consensus leader, or a mere note (`pending.kind_of`). On
the leader they go to the core, into the turn's round, to the steward; elsewhere `forwarding` passes them on.
"""

from typing import TYPE_CHECKING, Final

from tenure.base.ids import ConsensusTerm, LogIndex, MemberId
from tenure.base.instants import Instant
from tenure.engines.native import views
from tenure.engines.native.changes import Changes
from tenure.engines.native.forwarding import Forwarding
from tenure.engines.native.inputs import internal_token
from tenure.engines.native.pending import (
    CHANGE,
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
    Code,
    Disconnected,
    Keepalive,
    KvGet,
    ListMembers,
    Noted,
    OpenSession,
    Origin,
    ReadAutopilot,
    ReadElection,
    Refused,
    Release,
    ReplaceMember,
    Sequenced,
    Status,
    Stepdown,
    Stepped,
)
from tenure.raft import ready as core_ready
from tenure.raft.events import Propose, Transfer
from tenure.raft.ready import Accepted, TransferEnded
from tenure.wire.frames import CallReply

if TYPE_CHECKING:
    from tenure.engines.native.replica import Replica

_NOTED: Final = Noted()
_STALE: Final = (KvGet, ReadElection, Status, ListMembers, ReadAutopilot)
"""Reads that may be answered from what is applied here."""
NO_STATE: Final = Refused("no_state", "this member is a witness and holds no state: ask another", retry_after_ms=200)


def _is_untouched(pending: Pending) -> bool:
    """Nothing was done about it: it was neither proposed nor passed on."""
    return pending.stage == PARKED and not (pending.doubtful or pending.advanced)


class Desk:
    """All requests of one replica."""

    def __init__(self, replica: "Replica", first_key: int, applied: LogIndex) -> None:
        self._replica = replica
        self._turn = replica.turn
        self._limits = replica.limits
        self.book = Book(first_key)
        self.rounds = Rounds(applied)
        self._by_index: dict[LogIndex, Accepted] = {}
        self._stepdowns = Stepdowns()
        self.forwarding = Forwarding(replica, self)
        self.changes = Changes(replica, self)

    # --- in ---------------------------------------------------------------------------------------------------------

    def ask(self, token: int, request: AnyRequest, origin: Origin | None, peer: MemberId | None) -> int:
        """Take a request in. Returns its key; it may be answered already."""
        turn = self._turn
        kind = kind_of[type(request)]
        if peer is None and token != internal_token and (kind == READ or self._replica.witness):
            known = self._known_here(request, kind)
            if known is not None:
                turn.out.answers.append((token, known))
                return 0
        if kind == CHANGE:
            request = self.changes.name_ids(request)
        pending = Pending(token, request, origin, peer, turn.expires)
        key = self.book.add(pending)
        if turn.stopped:
            self._answer_stopped(key, pending, self._replica.obstacle or "for good")
        elif len(self.book.ordinary) > self._limits.pending_max:
            self.answer(key, pending, Refused("too_many", "too many requests wait at this member", retry_after_ms=200))
        else:
            self.route(key, pending)
        return key

    def _known_here(self, request: AnyRequest, kind: int) -> AnyResult | None:
        """What this member answers by itself: reads that may be stale, and as a witness that it holds no state."""
        turn = self._turn
        if self._replica.witness and kind not in (NOTE, CHANGE) and type(request) not in (Status, ListMembers):
            return NO_STATE
        if type(request) in _STALE and request.stale:  # type: ignore[union-attr]
            return views.stale(self._replica, request, turn.now, turn.wall)
        return None

    def route(self, key: int, pending: Pending) -> None:
        """Send a request where it can be answered: to the core, into a round, to the leader; else it stays parked."""
        turn = self._turn
        if not turn.leading:
            if pending.peer is None and turn.leader is not None and turn.leader != self._replica.me:
                self.forwarding.forward(key, pending, turn.leader)
            return
        request = pending.request
        kind = kind_of[type(request)]
        if kind == PROPOSAL:
            body = commands.body_of(request)
            if commands.since(body) > 1 and self._is_too_new(key, pending, commands.since(body)):
                return
            pending.stage = PROPOSED
            nonce = f"{self._replica.rng.u64():016x}" if type(request) is OpenSession else ""
            turn.events.append(Propose(key, commands.encode(body, turn.wall, pending.origin, nonce)))
            if type(request) is Release:
                self._replica.succeed(request)
        elif kind == READ:
            pending.stage = READING
            self.rounds.gathering.append((key, None))
        elif kind == KEEP:
            self._keep(key, pending)
        elif kind == CHANGE:
            self.changes.propose(key, pending)
        elif kind == STEPDOWN:
            assert type(request) is Stepdown
            if request.election is None:
                self._transfer(key, pending, request)
            else:
                self._step_down(key, pending, request)
        else:
            assert kind == NOTE
            assert type(request) is Disconnected
            if self._replica.steward is not None:
                self._replica.steward.disconnected(request.session, turn.now)
                turn.decide = True
            self.answer(key, pending, _NOTED)

    def _is_too_new(self, key: int, pending: Pending, since: int) -> bool:
        """P10: what a later version brought is said only when the cluster speaks that."""
        feature = self._replica.raft.feature
        if feature >= since:
            return False
        text = f"this needs feature version {since}, and the cluster speaks {feature}: upgrade every member first"
        self.answer(key, pending, Refused("version_too_old", text))
        return True

    def _keep(self, key: int, pending: Pending) -> None:
        """A keepalive joins a round that begins after this moment (P3.3); before we serve it waits."""
        steward = self._replica.steward
        if not self._turn.serving or steward is None:
            return
        assert type(pending.request) is Keepalive
        receipt = steward.receive(pending.request, self._turn.now)
        if isinstance(receipt, Refused):
            self.answer(key, pending, receipt)
            return
        pending.stage = READING
        self.rounds.gathering.append((key, receipt))

    def _step_down(self, key: int, pending: Pending, request: Stepdown) -> None:
        """An election's stepdown is a proposal; health and lag, which only the steward knows, may forbid it."""
        turn, steward = self._turn, self._replica.steward
        if not turn.serving or steward is None:
            return
        refusal = steward.admit(request, turn.now)
        if refusal is not None:
            self.answer(key, pending, refusal)
            return
        pending.stage = PROPOSED
        turn.events.append(Propose(key, commands.of_request(request, pending.origin, turn.wall)))

    def _transfer(self, key: int, pending: Pending, request: Stepdown) -> None:
        """Without an election the consensus leader itself moves."""
        replica = self._replica
        target: MemberId | None = None
        if request.successor is not None:
            seats = replica.raft.configuration.seats
            found = next((seat for seat in seats if request.successor in (seat.name, seat.id)), None)
            if found is None:
                text = f"no member is called {request.successor!r}"
                self.answer(key, pending, Refused("unknown_member", text, field="successor"))
                return
            if found.id == replica.me:
                self.answer(key, pending, Stepped(None, replica.name, None, "done", replica.name))
                return
            target = found.id
        pending.stage = TRANSFERRING
        self._turn.events.append(Transfer(key, target))

    # --- out --------------------------------------------------------------------------------------------------------

    def answer(self, key: int, pending: Pending, result: AnyResult) -> None:
        """The one place where a request ends."""
        self.book.remove(key)
        if pending.doubtful and type(result) is Refused and result.code == "too_many" and result.retry_after_ms:
            # A queue was full: no word about what was sent before. (The state machine's own limits tell no time.)
            text = f"{result.reason}; the change may still take effect"
            result = Refused("no_quorum", text, retry_after_ms=result.retry_after_ms)
        if type(result) is Refused and type(pending.request) is ReplaceMember:
            result = self.changes.told_halfway(pending, pending.request, result)
        if pending.peer is not None:
            self.forwarding.served(pending.peer, pending.token)
            self._turn.out.send.append((pending.peer, CallReply(pending.token, result)))
            return
        if pending.sent_at:
            self.forwarding.ended(pending)
        if pending.token == internal_token:
            self.forwarding.own_client_answered(result)
        else:
            self._turn.out.answers.append((pending.token, result))

    def finish_rounds(self) -> None:
        """Answer everything whose round is confirmed and whose read index is applied."""
        replica, turn = self._replica, self._turn
        steward = replica.steward
        for key, receipt in self.rounds.take_ready():
            pending = self.book.get(key)
            if pending is None:
                continue
            if receipt is None:
                self.answer(key, pending, views.read(replica, pending.request, turn.now, turn.wall))
            elif steward is not None:
                self.answer(key, pending, steward.acknowledge(receipt, turn.now))

    def settle(self, index: LogIndex, term: ConsensusTerm, result: AnyResult | None) -> None:
        """Index `index` is applied: whoever waited for it gets the result, or asks again if another entry took it."""
        accepted = self._by_index.pop(index, None)
        if accepted is None:
            return
        pending = self.book.get(accepted.token)
        if pending is None:
            return
        if accepted.term != term or result is None:
            if accepted.term == term:
                self.changes.applied(pending)
            self._again(pending)
        elif type(result) is Stepped and pending.peer is None:
            self.stepped(accepted.token, pending, result)
        else:
            self.answer(accepted.token, pending, result)

    def end_overdue(self) -> None:
        """Requests whose deadline has come end with what can be said."""
        turn = self._turn
        for key, pending in self.book.overdue(turn.now):
            if self.book.get(key) is not pending:
                continue  # it waited for our own client session, which was overdue before it
            if pending.stage == SUCCESSION and pending.begun is not None:
                self._stepdowns.leave(pending.begun.election, key)
                self.answer(key, pending, pending.begun)
                continue
            if pending.index:
                self._by_index.pop(pending.index, None)
            if type(pending.request) is Status and pending.peer is None:
                self.answer(key, pending, views.status(self._replica, turn.now, turn.wall, quorum=False))
                continue
            forked = self._replica.forked if turn.leader is None else None
            if forked is not None and self._replica.is_left_behind and _is_untouched(pending):
                self.answer(key, pending, Refused("no_part", forked, retry_after_ms=self._limits.retry_after_ms))
                continue
            reason = "no consensus leader is known" if turn.leader is None else "no majority answered in time"
            if forked is not None:  # of a sibling: we may be those who go on, and only have no quorum
                reason += f"; {forked}"
            if (pending.doubtful or pending.stage in (PROPOSED, FORWARDED)) and kind_of[type(pending.request)] in (
                PROPOSAL,
                STEPDOWN,
                CHANGE,
            ):
                reason += "; the change may still take effect"
            self.answer(key, pending, Refused("no_quorum", reason, retry_after_ms=self._limits.retry_after_ms))

    def stop(self, reason: str) -> None:
        """The member takes no part any more."""
        for key, pending in self.book.items():
            if self.book.get(key) is pending:
                self._answer_stopped(key, pending, reason)

    def _answer_stopped(self, key: int, pending: Pending, reason: str) -> None:
        if type(pending.request) is Status and pending.peer is None:
            self.answer(key, pending, views.status(self._replica, self._turn.now, self._turn.wall, quorum=False))
        else:
            code: Code = "no_part" if pending.peer is None and _is_untouched(pending) else "no_quorum"
            self.answer(key, pending, Refused(code, f"this member takes no part any more: {reason}"))

    # --- what the core said -----------------------------------------------------------------------------------------

    def accepted(self, accepted: Accepted) -> bool:
        """A proposal stands in the log. False if it is none of ours."""
        pending = self.book.get(accepted.token)
        if pending is None:
            return False
        pending.index = accepted.index
        older = self._by_index.get(accepted.index)
        self._by_index[accepted.index] = accepted
        if older is None or (lost := self.book.get(older.token)) is None:
            return True
        # Our log lost its entry, but another's may hold it still, and win: only what takes effect once is asked again.
        if lost.origin is not None:
            lost.doubtful = True
            self._again(lost)
        else:
            self.answer(older.token, lost, Refused("outcome_unknown", "the leader changed before it was committed"))
        return True

    def refused(self, refused: core_ready.Refused) -> None:
        """A proposal or a round was not taken; it has no effect, so it may be asked again."""
        for key in self.rounds.refused(refused.token) or (refused.token,):
            pending = self.book.get(key)
            if pending is None:
                continue
            if refused.reason == "overloaded":
                self.answer(key, pending, Refused("too_many", "the log's queue is full", retry_after_ms=20))
            else:
                pending.stage = PARKED

    def transfer_ended(self, ended: TransferEnded) -> None:
        """A stepdown of the consensus leader is over, one way or another."""
        self.changes.transfer_ended(ended)
        pending = self.book.get(ended.token)
        if pending is None:
            return
        replica = self._replica
        match ended.outcome:
            case "done":
                self.answer(
                    ended.token, pending, Stepped(None, replica.name_of(ended.leader), None, "done", replica.name)
                )
            case "not_leader":
                # Somebody else took over meanwhile; asked again, he would be deposed too. Done once he is known.
                pending.term = ConsensusTerm(0)
                pending.sent_at = self._turn.now
                pending.begun = Stepped(None, None, None, "under_way", replica.name)
                self._turn.moved = True
            case "no_target":
                text = "no other voter can take over now"
                self.answer(ended.token, pending, Refused("no_eligible_successor", text))
            case "timeout" | "busy":
                text = (
                    "the target did not take over in time" if ended.outcome == "timeout" else "a transfer is under way"
                )
                wait = self._limits.retry_after_ms
                self.answer(ended.token, pending, Refused("no_quorum", text, retry_after_ms=wait))

    def deposed(self) -> None:
        """Our consensus term is over: nothing pending is acknowledged from it (P3.3), and calls are their senders'."""
        for key in self.rounds.drop():
            pending = self.book.get(key)
            if pending is not None:
                pending.stage = PARKED
        for key, pending in self.book.items():
            if pending.peer is not None:
                self.book.remove(key)
                self.forwarding.served(pending.peer, pending.token)

    def route_waiting(self) -> None:
        """Leadership has moved (or an entry was lost): everything that waits for it is sent on."""
        turn = self._turn
        self.forwarding.own.waiting.clear()
        for key, pending in self.book.items():
            stage = pending.stage
            if stage in (PARKED, FORWARDED):
                pending.stage = PARKED
                pending.doubtful = pending.doubtful or stage == FORWARDED
                self.route(key, pending)
            elif stage == TRANSFERRING and pending.sent_at and turn.leader is not None and turn.term > pending.term:
                # We had passed it on; sent again, it would depose the new leader too.
                before = pending.begun.from_ if pending.begun is not None else None
                self.answer(key, pending, Stepped(None, self._replica.name_of(turn.leader), None, "done", before))

    def installed(self, index: LogIndex) -> None:
        """A snapshot replaced the state: whether what it swallowed took effect nobody here can tell any more."""
        for taken in [taken for taken in self._by_index if taken <= index]:
            token = self._by_index.pop(taken).token
            pending = self.book.get(token)
            if pending is None:
                continue
            if isinstance(pending.origin, Sequenced):
                pending.doubtful = True
                self._again(pending)
            else:
                self.answer(token, pending, Refused("outcome_unknown", "this member was brought up by a snapshot"))
        for election in self._stepdowns.elections():
            self.granted(election)

    def _again(self, pending: Pending) -> None:
        """It certainly had no effect, or may be repeated: ask again."""
        pending.stage = PARKED
        pending.index = LogIndex(0)
        self._turn.moved = True

    # --- stepdowns that wait for their successor --------------------------------------------------------------------

    def stepped(self, key: int, pending: Pending, begun: Stepped) -> None:
        """A stepdown has begun. Wait here, at the member that was asked, until the successor is granted."""
        request = pending.request
        assert type(request) is Stepdown
        assert begun.election is not None
        wait_us = (request.grace_ms + 1000 if request.wait_ms is None else request.wait_ms) * 1000
        done = self._stepdowns.outcome(self._replica.machine, begun)
        if begun.state == "done" or done is not None or wait_us == 0:
            self.answer(key, pending, done or begun)
            return
        if pending.sent_at:
            self.forwarding.ended(pending)
            pending.sent_at = Instant(0)
        pending.stage = SUCCESSION
        pending.begun = begun
        self._stepdowns.wait(begun.election, key)
        self.book.prolong(key, pending, Instant(self._turn.now + min(wait_us, self._limits.wait_max_us)))

    def granted(self, election: str) -> None:
        """Somebody was granted the election: stepdowns that waited for it may be done."""
        for key in self._stepdowns.keys(election):
            pending = self.book.get(key)
            if pending is None or pending.begun is None:
                self._stepdowns.leave(election, key)
                continue
            done = self._stepdowns.outcome(self._replica.machine, pending.begun)
            if done is not None:
                self._stepdowns.leave(election, key)
                self.answer(key, pending, done)
