"""The asyncio shell of one member: gathers what comes in during one turn of the loop, steps the replica once, and acts
on its effects in their order: frames out, the durable write to the disk's thread, answers, watchers.

Nothing that happens while an answer is delivered may hurt this path: an answer that raises is counted and dropped.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Literal, Protocol, TypeVar

from tenure.base.clock import Clock
from tenure.base.ids import BatchNumber, Boot, MemberId, Nonce
from tenure.base.instants import MS, Instant
from tenure.engines.native import backups
from tenure.engines.native.desk import NO_STATE
from tenure.engines.native.inputs import (
    Asked,
    Effects,
    Input,
    PeerCall,
    PeerFrame,
    PeerKnown,
    PeerReply,
    Stage,
    Staged,
    Stalled,
)
from tenure.engines.native.pacing import Pacer
from tenure.engines.native.replica import Replica
from tenure.engines.native.watching import Watchers
from tenure.leadership.backups import Backup
from tenure.leadership.checks import check
from tenure.leadership.engine import (
    Answer,
    AnyRequest,
    AnyResult,
    Compacted,
    ConsensusView,
    Origin,
    Refused,
    Request,
    Status,
    StatusReport,
    Stepdown,
    Stepped,
    Transition,
)
from tenure.raft.entries import Configuration
from tenure.raft.events import Lateness, LinkLost, LinkUp, Persisted, Received, Resign, RttSample
from tenure.raft.messages import Envelope, Evidence, HeartbeatReply
from tenure.raft.ready import Batch, Fatal, Trace
from tenure.wire.frames import Call, CallReply

R = TypeVar("R")

stall_min_us: Final = 10 * MS
"""A gap of our own from which the steward's deadlines are shifted (P3.7)."""


class Outbound(Protocol):
    """What the driver needs of the transport."""

    def send_now(self, frames: Sequence[tuple[MemberId, PeerFrame]]) -> None:
        """Write these frames, in order; those whose link is down are dropped."""
        ...


class Disk(Protocol):
    """What the driver needs of the disk's thread."""

    def submit(self, batch: Batch) -> None:
        """Make it durable; the completion comes back to `NativeEngine.persisted`."""
        ...

    def stage(self, stage: Stage) -> None:
        """Make it durable in between; the completion comes back to `NativeEngine.staged`."""
        ...


class Observer(Protocol):
    """Takes what is worth telling: logs and metrics. Must not raise."""

    def trace(self, trace: Trace) -> None:
        """A decision with its reason."""
        ...

    def disk_synced(self, micros: int) -> None:
        """A batch became durable so long after its submission."""
        ...

    def loop_late(self, micros: int) -> None:
        """A timer was served so much too late."""
        ...

    def stopped(self, fatal: Fatal) -> None:
        """The member stops taking part."""
        ...

    def crashed(self, error: Exception) -> None:
        """A mistake of ours in the middle of a turn: half of it is done, and only a new life from the disk is sound."""
        ...


class NativeEngine:
    """`leadership.engine.Engine` and `Submitter` on one member. Lives in one loop; not safe from other threads.

    Until `begin` is called (founding, P1.2) every request is refused with `founding`, except status.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, name: str, observer: Observer) -> None:
        self._loop = loop
        self._clock = clock
        self._name = name
        self._observer = observer
        self._replica: Replica | None = None
        self._outbound: Outbound | None = None
        self._disk: Disk | None = None
        self._pacer = Pacer(loop, clock, self._turn)
        self._watchers = Watchers(loop)
        self._inputs: list[Input] = []
        self._answers: dict[int, Answer] = {}
        self._token = 0
        self._in_flight: Batch | None = None
        self._idle: asyncio.Future[None] | None = None
        self._closed = False
        self.beginning: Literal["founding", "joining"] = "founding"
        self.missing: tuple[str, ...] = ()
        """While founding or joining: who is waited for."""
        self.obstacle: str | None = None
        """While founding or joining: why it can't go on, in words for the operator."""
        self.answers_failed = 0
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []
        """Who waits until so much is applied here."""
        self.on_members: Callable[[Configuration], None] | None = None
        """Hears of each change of the members: whom to dial."""

    @property
    def replica(self) -> Replica | None:
        """The replica behind this engine, None while it is being founded. Read only."""
        return self._replica

    def begin(self, replica: Replica, outbound: Outbound, disk: Disk) -> None:
        """The member is founded: take part from now on."""
        assert self._replica is None
        self._replica, self._outbound, self._disk = replica, outbound, disk
        self._pacer.soon()

    # --- the seam ---------------------------------------------------------------------------------------------------

    async def ask(self, request: Request[R], origin: Origin | None = None) -> R | Refused:
        """Answer one request; ends within the replica's deadline."""
        refused = check(request, origin)  # type: ignore[arg-type]
        if refused is not None:
            return refused
        future: asyncio.Future[R | Refused] = self._loop.create_future()
        self.submit(request, origin, partial(_resolve, future))  # type: ignore[arg-type]
        return await future

    def submit(self, request: AnyRequest, origin: Origin | None, answer: Answer) -> None:
        """Like `ask`, without a future: `answer` is called once, in this loop.

        The hot path, for callers that have checked the request's shape themselves (`leadership.checks`).
        """
        if self._replica is None or self._closed:
            self._deliver(answer, self._unready(request))
            return
        self._token = token = self._token + 1
        self._answers[token] = answer
        self._inputs.append(Asked(token, request, origin))
        self._pacer.soon()

    def unserving(self) -> Refused | None:
        """A witness, and a member that joins, serve nobody."""
        if self._replica is None:
            return self._joining() if self.beginning == "joining" else None
        return NO_STATE if self._replica.witness else None

    def watch(self, after: int | None) -> AsyncIterator[tuple[Transition, ...] | Compacted]:
        """Transitions as this member applies them."""
        return self._watchers.watch(after, self.last_transition, self._transitions_after)

    def last_transition(self) -> int:
        """The newest applied here; 0 before any."""
        return self._replica.machine.last_transition if self._replica is not None else 0

    def lineage(self) -> tuple[Nonce, ...]:
        """Of the cluster that this member belongs to."""
        return self._replica.lineage if self._replica is not None else ()

    async def backup(self, stale: bool) -> Backup | Refused:
        """The state as a whole."""
        return await backups.backup(self, stale)

    async def applied(self, index: int) -> None:
        """Wait until this member has applied so far."""
        assert self._replica is not None
        if self._replica.applied < index:
            reached: asyncio.Future[None] = self._loop.create_future()
            self._awaited.append((index, reached))
            await reached

    def _transitions_after(self, after: int) -> tuple[Transition, ...] | Compacted:
        return self._replica.machine.transitions_after(after) if self._replica is not None else ()

    def _unready(self, request: AnyRequest) -> AnyResult:
        if type(request) is Status:
            return StatusReport(
                cluster_id=None,
                member=self._name,
                state="stopped" if self._closed else self._beginning(),
                quorum=False,
                consensus=ConsensusView(None, 0, 0, 0),
                members={},
                nodes={},
                elections={},
                missing=self.missing,
                obstacle=self.obstacle,
            )
        if self._closed:
            return Refused("no_quorum", "this member is stopping", retry_after_ms=200)
        if self.beginning == "joining":
            return self._joining()
        if self.obstacle is not None:
            return Refused("founding", self.obstacle, retry_after_ms=1_000)
        waits = ", ".join(self.missing) or "the other members"
        return Refused("founding", f"the cluster is being founded and waits for {waits}", retry_after_ms=500)

    def _joining(self) -> Refused:
        reason = f"this member joins a cluster and waits for {', '.join(self.missing)}"
        return Refused("joining", f"{reason}: {self.obstacle}" if self.obstacle else reason, retry_after_ms=1_000)

    def _beginning(self) -> str:
        """Who joins goes on trying whatever the obstacle; a founding that is refused waits for an operator."""
        return "refused" if self.beginning == "founding" and self.obstacle is not None else self.beginning

    # --- what comes in ----------------------------------------------------------------------------------------------

    def on_frames(self, peer: MemberId, frames: Sequence[PeerFrame]) -> None:
        """Frames of one peer, in order."""
        if self._replica is None:
            return
        inputs = self._inputs
        urgent = False
        for frame in frames:
            if type(frame) is Envelope:
                inputs.append(Received(frame))
                message = frame.message
                urgent = urgent or type(message) is not HeartbeatReply or self._replica.awaits(message)
            elif type(frame) is Call:
                inputs.append(PeerCall(peer, frame))
                urgent = True
            elif type(frame) is CallReply:
                inputs.append(PeerReply(peer, frame))
                urgent = True
        if urgent:  # else nobody waits for it, and it goes with the next turn: an idle leader wakes a third as often
            self._pacer.soon()

    def on_up(
        self, peer: MemberId, boot: Boot, told: BatchNumber, speaks: int, api: str | None, feature: int = 1
    ) -> None:
        """A connection from `peer` stands."""
        if self._replica is None:
            return
        self._inputs.append(PeerKnown(peer, api))
        self._inputs.append(LinkUp(peer, boot, told, speaks, feature))
        self._pacer.soon()

    def on_lost(self, peer: MemberId, boot: Boot, evidence: Evidence, closing: bool) -> None:
        """The last connection from `peer` is gone."""
        if self._replica is None:
            return
        self._inputs.append(LinkLost(peer, boot, evidence, closing))
        self._pacer.soon()

    def on_rtt(self, peer: MemberId, rtt_us: int) -> None:
        """A round trip was measured."""
        if self._replica is None:
            return
        self._inputs.append(RttSample(peer, rtt_us))  # goes with the next turn

    def persisted(self, number: BatchNumber, sync_us: int) -> None:
        """The batch in flight is durable. Its frames leave now, and the turn is taken at once: others wait for it."""
        batch = self._in_flight
        if batch is None or self._outbound is None:  # closed meanwhile
            return
        try:
            self._durable(batch, number, sync_us)
        except Exception as error:
            self._observer.crashed(error)
            raise

    def _durable(self, batch: Batch, number: BatchNumber, sync_us: int) -> None:
        assert batch.number == number, f"batch {batch.number} in flight, {number} persisted"
        assert self._outbound is not None
        self._in_flight = None
        if self._replica is not None and not self._replica.stopped:  # who must not take part promises nothing (P1.3)
            self._replica.hindrance = None
            self._outbound.send_now([(envelope.to, envelope) for envelope in batch.send_after_persist])
        self._inputs.append(Persisted(number, sync_us))
        self._observer.disk_synced(sync_us)
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        self._pacer.at_once()

    def staged(self, staged: Staged) -> None:
        """A piece of a snapshot is durable, or there was no space for it."""
        self._inputs.append(staged)
        self._pacer.soon()

    def hindered(self, text: str) -> None:
        """The disk had no space for the batch in flight: `/status` says so until a batch is durable."""
        if self._replica is not None:
            self._replica.hindrance = text

    def resubmit(self) -> None:
        """Try the batch in flight again."""
        if self._in_flight is not None and self._disk is not None:
            self._disk.submit(self._in_flight)

    # --- the turn ---------------------------------------------------------------------------------------------------

    def _turn(self, now: Instant, drained: bool, late_us: int | None) -> None:
        replica = self._replica
        if replica is None:
            return
        inputs, self._inputs = self._inputs, []
        if late_us is not None:
            self._observer.loop_late(late_us)
            inputs.insert(0, Lateness(late_us))
            if late_us >= stall_min_us:
                inputs.insert(0, Stalled(late_us))
        try:
            effects = replica.step(inputs, now, self._clock.wall(), drained)
            self._act(effects)
        except Exception as error:
            self._observer.crashed(error)  # to go on would lose what else came in this turn, a durable batch perhaps
            raise
        self._pacer.arm(now, effects.deadline)

    def _act(self, effects: Effects) -> None:
        assert self._outbound is not None
        assert self._disk is not None
        if effects.send:
            self._outbound.send_now(effects.send)  # before the disk's thread may take the interpreter
        if effects.write is not None:
            assert self._in_flight is None, "at most one batch in flight"
            self._in_flight = effects.write
            self._disk.submit(effects.write)
        if effects.stage is not None:
            self._disk.stage(effects.stage)
        answers = self._answers
        for token, result in effects.answers:
            answer = answers.pop(token, None)
            if answer is not None:
                self._deliver(answer, result)
        if self._awaited:
            self._wake_awaiting()
        if effects.replaced:
            self._watchers.skipped()
        elif effects.transitions:
            self._watchers.publish(effects.transitions)
        for trace in effects.traces:
            self._observer.trace(trace)
        if effects.configuration is not None and self.on_members is not None:
            self.on_members(effects.configuration)
        if effects.fatal is not None:
            self._observer.stopped(effects.fatal)

    def _wake_awaiting(self) -> None:
        assert self._replica is not None
        applied, waiting = self._replica.applied, self._awaited
        self._awaited = [one for one in waiting if one[0] > applied and not one[1].done()]
        for index, reached in waiting:
            if index <= applied and not reached.done():
                reached.set_result(None)

    def _deliver(self, answer: Answer, result: AnyResult) -> None:
        try:
            answer(result)
        except Exception:  # noqa: BLE001  a client that has gone must never hurt the commit path
            self.answers_failed += 1

    # --- the end ----------------------------------------------------------------------------------------------------

    async def hand_over(self, within_s: float) -> bool:
        """Before a planned stop: if we lead, let another member lead. False if none could, and we resigned (P5.5)."""
        replica = self._replica
        if replica is None or replica.raft.role != "leader":
            return True
        moved: Stepped | Refused = Refused("no_quorum", "not handed over in time")
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                moved = await self.ask(Stepdown(reason="planned stop of the member"))
        if not isinstance(moved, Refused):
            return True
        self._inputs.append(Resign())
        self._pacer.at_once()
        return False

    async def close(self) -> None:
        """Stop stepping; waits for the batch in flight. Open requests end with `no_quorum`."""
        self._closed = True
        self._pacer.stop()
        while self._in_flight is not None:
            self._idle = self._loop.create_future()
            await self._idle
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            self._deliver(answer, Refused("no_quorum", "this member is stopping", retry_after_ms=200))
        self._watchers.close()


def _resolve(future: "asyncio.Future[R | Refused]", result: R | Refused) -> None:
    if not future.done():
        future.set_result(result)
