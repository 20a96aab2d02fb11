"""One member without its shell: consensus core, state machine, steward, and the requests that wait for them. PURE.

`step` takes everything that came in one turn of the loop and returns what must be done about it. Within a turn the core
is stepped once with all its events, and again only for what followed from that (decisions of the steward, requests
routed anew after an election), until it is quiet or `steps_max` is reached.

The hot path is a put on the leader: `Desk.ask` → `Propose` → `Accepted` → `committed` → `_apply` → `Desk.settle`. It
makes one record a request and touches two dicts; measure before adding anything to it.
"""

from collections.abc import Sequence

from tenure.base.chance import Rng
from tenure.base.ids import ConsensusTerm, LogIndex, MemberId
from tenure.base.instants import NEVER, Instant, WallMs
from tenure.engines.native.desk import Desk
from tenure.engines.native.images import Camera, Installing
from tenure.engines.native.inputs import (
    Asked,
    Effects,
    Input,
    PeerCall,
    PeerKnown,
    PeerReply,
    ReplicaSettings,
    Staged,
    Stalled,
)
from tenure.engines.native.pilot import Pilot
from tenure.engines.native.turn import Turn
from tenure.leadership.engine import Release
from tenure.leadership.machine import Machine, UnknownCommand
from tenure.leadership.steward import Steward, StewardSettings
from tenure.raft.core import Raft
from tenure.raft.entries import COMMAND, CONFIGURATION, NOOP, Configuration, Entry, Restored, Snapshot, configuration_of
from tenure.raft.events import Persisted, Propose, ReadIndex, Received, TakeSnapshot
from tenure.raft.founding import Record
from tenure.raft.messages import HeartbeatReply
from tenure.raft.ready import Fatal, Ready, Refused, Trace
from tenure.raft.settings import Identity, Settings

Lead = tuple[str, ConsensusTerm, MemberId | None, bool]
"""Role, term, leader, and whether the core serves: any change of it moves what waits."""


class Replica:
    """See the module. `raft`, `machine`, `steward`, `applied` and `name` may be read from outside, between steps."""

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
        protection: dict[str, str] | None = None,
        record: Record | None = None,
    ) -> None:
        """`protection`: what the process has against stalls, for `/status` (P6.4). `record`: the founding, which who
        joins must know.
        """
        self.raft = Raft(identity, restored, settings, rng, now)
        self.machine = machine
        self.steward: Steward | None = None
        self.pilot: Pilot | None = None
        """The autopilot, while we serve."""
        self.applied = LogIndex(restored.snapshot.index if restored.snapshot is not None else 0)
        self.name = name
        self.me = identity.member
        self.lineage = identity.lineage
        self.record = record
        self.witness = False
        """Holds no state machine (P8): `machine` is an empty one."""
        self.apis: dict[MemberId, str | None] = {identity.member: api}
        self.protection = protection or {}
        self.limits = limits or ReplicaSettings()
        self.promote_lag_max = settings.promote_lag_max
        self.rng = rng
        self.turn = Turn(now)
        self.forked: str | None = None
        """A cluster was met that came out of ours, or out of the same past (P1.4)."""
        self.is_left_behind = False
        """It came out of ours."""
        self.obstacle: str | None = None
        """Why it takes no part any more."""
        self.hindrance: str | None = None
        """What keeps it from its work for now, though it takes part: the driver says so."""
        self._steward_settings = steward or StewardSettings()
        self._desk = Desk(self, rng.below(2**40), self.applied)
        self._decisions: dict[int, bytes] = {}
        """What the steward decided and the core has not taken yet, by token."""
        self._lead: Lead = ("follower", ConsensusTerm(0), None, False)
        self._core_deadline: Instant = now
        self._camera = Camera(self.limits, restored.snapshot)
        self._installing: Installing | None = None
        self._first_is_due = False
        """We serve, and no command of our term has been applied yet."""
        if self._is_witness_in(restored.configuration):
            self._become_witness()

    # --- a turn -----------------------------------------------------------------------------------------------------

    def step(self, inputs: Sequence[Input], now: Instant, wall_ms: WallMs, drained: bool = True) -> Effects:
        """Take everything that came in this turn. `drained`: nothing more waits in the sockets (P4.7)."""
        turn, desk = self.turn, self._desk
        out = turn.out = Effects()
        turn.now, turn.wall, turn.expires = now, wall_ms, Instant(now + self.limits.ask_timeout_us)
        for item in inputs:
            kind = type(item)
            if kind is Received or kind is Persisted:
                turn.events.append(item)  # type: ignore[arg-type]
            elif kind is Asked:
                desk.ask(item.token, item.request, item.origin, None)  # type: ignore[union-attr]
            elif kind is PeerCall:
                desk.forwarding.called(item.peer, item.call)  # type: ignore[union-attr]
            elif kind is PeerReply:
                desk.forwarding.replied(item.reply)  # type: ignore[union-attr]
            elif kind is PeerKnown:
                self.apis[item.peer] = item.api  # type: ignore[union-attr]
            elif kind is Stalled:
                if self.steward is not None:
                    self.steward.gap(item.gap_us, now)  # type: ignore[union-attr]
            elif kind is Staged:
                self._took(self._camera.staged(item, out))  # type: ignore[arg-type]
            else:
                turn.events.append(item)  # type: ignore[arg-type]
        if self._installing is not None:
            self._go_on_installing(at_once=False)
        self._run_core(drained)
        if drained and now >= desk.book.due:
            desk.end_overdue()
        if drained and now >= desk.forwarding.resend_at:
            desk.forwarding.resend()
        out.deadline = self._deadline()
        return out

    def _run_core(self, drained: bool) -> None:
        """Step the core until nothing follows any more; one durable write for all of it, so that the entries of clients
        who waited for an election ride with its no-op also to our own disk (P5.7).
        """
        turn, rounds = self.turn, self._desk.rounds
        for number in range(self.limits.steps_max):
            if turn.stopped:
                turn.events.clear()
                return
            if rounds.gathering:
                turn.events.append(ReadIndex(rounds.begin(self._desk.book)))
            if drained and self.steward is not None and (turn.decide or not number):
                self._decide(self.steward)
            if not turn.events and (number or turn.now < self._core_deadline):
                break
            events, turn.events = turn.events, []
            self._absorb(self.raft.step(events, turn.now, drained, gather=True))
        if turn.stopped:
            return
        turn.out.write = self.raft.batch()
        if turn.events or rounds.gathering:
            self._core_deadline = turn.now  # the rest in the next turn

    def _deadline(self) -> Instant:
        turn, desk = self.turn, self._desk
        if self._installing is not None or (turn.decide and turn.serving):
            return turn.now  # the next step goes on; a drained one decides
        due = min(self._core_deadline, desk.book.due)
        due = min(due, desk.forwarding.resend_at)
        if turn.serving and self.steward is not None:
            due = min(due, self.steward.deadline())
            if self.pilot is not None:
                due = min(due, self.pilot.due)
        return due

    def fresh_key(self) -> int:
        """A token that nobody has."""
        return self._desk.book.fresh_key()

    def _decide(self, steward: Steward) -> None:
        """Let the steward decide; what it decides carries the term it was decided in (P3.5). Only with the sockets
        drained: what waits there may be the very renewal (P4.7, P3.7).
        """
        turn = self.turn
        if not turn.serving:
            turn.decide = False
            return
        if self.pilot is not None and turn.now >= self.pilot.due:
            self.pilot.look()
        if not turn.decide and turn.now < steward.deadline():
            return
        turn.decide = False
        for data in steward.decide(turn.now, turn.wall):
            self._propose(data)

    def _propose(self, decision: bytes) -> None:
        key = self._desk.book.fresh_key()
        self._decisions[key] = decision
        self.turn.events.append(Propose(key, decision, self.raft.term))

    def succeed(self, release: Release) -> None:
        """A release goes into the log: the grant that it makes room for goes right behind it."""
        if self.steward is not None and self.turn.serving:
            decision = self.steward.succession(release, self.turn.now, self.turn.wall)
            if decision is not None:
                self._propose(decision)

    # --- what the core says -----------------------------------------------------------------------------------------

    def _absorb(self, ready: Ready) -> None:
        """Act on one `Ready`, in the order of its fields. A change of leadership comes before what is applied: nothing
        of another term may reach a steward (P3.3), and the backlog before our no-op must find the new one.
        """
        turn, desk, out = self.turn, self._desk, self.turn.out
        for envelope in ready.send:
            out.send.append((envelope.to, envelope))
        assert ready.write is None, "gathered until the end of the turn"
        self._core_deadline = ready.deadline
        if ready.traces:
            out.traces.extend(ready.traces)
        lead = self.raft.lead
        if lead != self._lead:
            self._move(lead)
        for accepted in ready.accepted:
            if not desk.accepted(accepted) and self._decisions.pop(accepted.token, None) is None and self.pilot:
                self.pilot.accepted(accepted.token)
        for refused in ready.refused:
            self._refused(refused)
        if ready.committed:
            self._apply_all(ready.committed)
        for read in ready.reads:
            desk.rounds.granted(read)
        if desk.rounds.ready:
            desk.finish_rounds()
        if ready.transfers or ready.changes or ready.snapshot_wanted or ready.configuration is not None:
            self._absorb_rare(ready)
        if turn.moved:
            turn.moved = False
            desk.route_waiting()
        if ready.fatal is not None:
            self._stop(ready.fatal)

    def _absorb_rare(self, ready: Ready) -> None:
        """Transfers, members and snapshots that are asked for."""
        for ended in ready.transfers:
            self._desk.transfer_ended(ended)
        for changed in ready.changes:
            if self.pilot is None or not self.pilot.ended(changed):
                self._desk.changes.ended(changed)
        if ready.configuration is not None:
            self.turn.out.configuration = ready.configuration
        if ready.snapshot_wanted:
            self._take_snapshot()

    def _move(self, lead: Lead) -> None:
        """Role, term, leader or readiness have changed. A steward lives for one term of ours."""
        turn = self.turn
        before, self._lead = self._lead, lead
        role, turn.term, turn.leader, _ = lead
        turn.moved = True
        if turn.leading and (role != "leader" or turn.term != before[1]):
            turn.leading = turn.serving = turn.decide = self._first_is_due = False
            self.steward = self.pilot = None
            self._decisions.clear()
            self._desk.deposed()
        if role == "leader" and not turn.leading:
            if self._installing is not None:
                self._go_on_installing(at_once=True)  # a steward stands on the state that it will decide on
            turn.leading = True
            if not self.witness:  # P8: it only hands on
                self.steward = Steward(turn.term, turn.now, self.machine, self._steward_settings, turn.now)

    def _refused(self, refused: Refused) -> None:
        decision = self._decisions.pop(refused.token, None)
        if decision is None:
            if self.pilot is None or not self.pilot.refused(refused.token):
                self._desk.refused(refused)
        elif self.steward is not None:
            self.steward.dropped(decision)

    def _stop(self, fatal: Fatal) -> None:
        """The member stops taking part; every request ends."""
        turn = self.turn
        turn.stopped = True
        self._core_deadline = NEVER
        self._installing = None
        turn.leading = turn.serving = False
        self.steward = self.pilot = None
        turn.out.fatal = fatal
        self.obstacle = fatal.text
        self._desk.stop(fatal.text)

    # --- applying ---------------------------------------------------------------------------------------------------

    def _apply_all(self, committed: Sequence[Entry | Snapshot]) -> None:
        turn, desk = self.turn, self._desk
        for item in committed:
            if type(item) is Snapshot:
                assert not turn.leading, "nobody sends a leader snapshots"
                if self.witness:
                    self.applied = item.index
                    desk.installed(item.index)
                    continue
                self._installing = Installing(item)
                self._go_on_installing(at_once=item.image.size <= self.limits.snapshot_piece_bytes)
                continue
            assert type(item) is Entry
            if self._installing is not None:
                self._installing.waiting.append(item)
                continue
            assert item.index == self.applied + 1, f"applied {self.applied}, then {item.index}"
            if item.kind == COMMAND and not self.witness:
                if not self._apply(item):
                    return
            else:
                self.applied = item.index
                desk.settle(item.index, item.term, None)
                if item.kind == NOOP and turn.leading and item.term == turn.term and not self.witness:
                    self._begin_serving()
                elif item.kind == CONFIGURATION and not self.witness:
                    self._members_changed(configuration_of(item))
        desk.rounds.applied(self.applied)
        if not turn.leading:
            self.raft.as_of(self.applied)  # told now: kept until somebody asks, it would become coarse (ADR 0025)
        if self._first_is_due:
            self._tell_first(committed)
        if self._camera.is_due and not self.raft.snapshot_is_due_on_disk:
            self._take_snapshot()

    def _take_snapshot(self) -> None:
        """Freeze the state at what is applied."""
        if self.applied and not self.witness and self._installing is None:
            self._took(self._camera.begin(self.applied, self.raft.feature, self.machine.freeze(), self.turn.out))

    def _took(self, snapshot: TakeSnapshot | None) -> None:
        """A snapshot is encoded, and as far as it is large, on the disk."""
        if snapshot is not None:
            self.turn.events.append(snapshot)

    def _members_changed(self, committed: Configuration) -> None:
        if self.pilot is not None:
            self.pilot.members_changed()
        if self._is_witness_in(committed):
            self._become_witness()

    def _is_witness_in(self, committed: Configuration) -> bool:
        """Only what is committed takes the state away: an appended promotion may be rolled back (P7.1)."""
        seat = committed.seat(self.me)
        return seat is not None and seat.role == "witness"

    def _become_witness(self) -> None:
        """P8: from now on a vote and a log, no state."""
        self.witness = True
        self.machine = Machine.founded(self.lineage[0], 0)
        self.steward = self.pilot = None
        self.turn.out.traces.append(Trace("witness", {"applied": self.applied}))

    def _apply(self, entry: Entry) -> bool:
        turn, desk = self.turn, self._desk
        index, term = entry.index, entry.term
        try:
            applied = self.machine.apply(index, term, entry.data)
        except UnknownCommand as error:  # P10: never guess
            self._stop(Fatal("unknown_feature", f"entry {index}: {error}"))
            return False
        self.applied = index
        self._camera.applied(len(entry.data))
        if self.steward is not None:
            self.steward.on_applied(index, term, applied, turn.now)
        desk.settle(index, term, applied.result)
        for transition in applied.transitions:
            turn.out.transitions.append(transition)
            if transition.kind != "kv":
                turn.decide = True
                if transition.kind == "granted" and transition.election is not None:
                    desk.granted(transition.election)
                elif transition.kind == "autopilot" and self.pilot is not None:
                    self.pilot.told()
        return True

    def _tell_first(self, committed: Sequence[Entry | Snapshot]) -> None:
        """With the first command of our own term a change of leader is over for whoever waits (ADR 0005)."""
        for item in committed:
            if type(item) is Entry and item.kind == COMMAND and item.term == self.turn.term:
                self._first_is_due = False
                self.turn.out.traces.append(Trace("first_command", {"term": item.term, "index": item.index}))
                return

    def _go_on_installing(self, *, at_once: bool) -> None:
        """Put more of a received snapshot in place; then what was committed behind it, some of it a turn."""
        installing = self._installing
        assert installing is not None
        if self.applied < installing.snapshot.index:
            try:
                machine = installing.thaw(None if at_once else self.limits.snapshot_piece_bytes)
            except UnknownCommand as error:  # P10
                self._stop(Fatal("unknown_feature", f"the snapshot at {installing.snapshot.index}: {error}"))
                return
            if machine is None:
                return
            self._install(installing.snapshot, machine)
        entries = installing.take(None if at_once else self.limits.installing_entries_max)
        self._installing = None
        self._apply_all(entries)
        if installing.waiting and not self.turn.stopped:
            self._installing = installing

    def _install(self, snapshot: Snapshot, machine: Machine) -> None:
        """A snapshot replaces the state."""
        self.machine = machine
        if self._is_witness_in(snapshot.configuration):
            self._become_witness()
        self.applied = snapshot.index
        self._camera.installed(snapshot)
        self.turn.out.transitions.clear()
        self.turn.out.replaced = True
        self._desk.installed(snapshot.index)

    def _begin_serving(self) -> None:
        """Our term's no-op is applied, and with it everything older: the steward may work."""
        assert self.steward is not None
        turn = self.turn
        turn.serving = turn.moved = turn.decide = self._first_is_due = True
        self.steward.on_serving(turn.now)
        self.pilot = Pilot(self, turn.now)

    def awaits(self, reply: HeartbeatReply) -> bool:
        """Whether this answer to a heartbeat may let something go on: the oldest round, a change of the members that
        waits for signs of life, or what makes us serve.
        """
        awaited = self.raft.awaited_beat
        is_of_round = awaited is not None and reply.number >= awaited
        return is_of_round or not self._lead[3] or self.raft.calls_the_roll

    # --- for views --------------------------------------------------------------------------------------------------

    @property
    def stopped(self) -> bool:
        """Whether the member takes no part any more."""
        return self.turn.stopped

    def name_of(self, member: MemberId | None) -> str | None:
        """The name of a member's seat, else its id."""
        seat = self.raft.configuration.seat(member) if member is not None else None
        return seat.name if seat is not None else member
