"""`MemoryEngine`: an `Engine` and a `Submitter` around one state machine and its steward."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final, TypeVar, cast

from msgspec import Struct

from tenure.base.chance import Rng, SplitMix64
from tenure.base.clock import Clock
from tenure.base.ids import ConsensusTerm, LogIndex, MemberId, Nonce
from tenure.base.instants import MS, NEVER, SECOND, Instant, after
from tenure.engines.memory.clock import ManualClock, SystemClock
from tenure.leadership import commands, terms
from tenure.leadership.backups import Backup
from tenure.leadership.checks import check
from tenure.leadership.engine import (
    Answer,
    AnyChange,
    AnyRequest,
    AnyResult,
    Compacted,
    ConfigureAutopilot,
    ConsensusView,
    Disconnected,
    Keepalive,
    ListMembers,
    MemberView,
    Noted,
    Origin,
    ReadAutopilot,
    Refused,
    Request,
    Status,
    StatusReport,
    Stepdown,
    Stepped,
    Transition,
)
from tenure.leadership.machine import Machine
from tenure.leadership.steward import Steward, StewardSettings
from tenure.leadership.waiting import Waiting, wait_us

R = TypeVar("R")

_TERM: Final = ConsensusTerm(1)
_NAME: Final = "memory"
_MEMBER: Final = MemberId("0" * 16)


class _Waiter(Struct, frozen=True):
    """Somebody waits for a stepdown's successor."""

    waiting: Waiting
    until: Instant
    answer: Answer


class MemoryEngine:
    """See the package. Use it in one event loop; `submit`, `poke` and `advance` need none."""

    def __init__(
        self, clock: Clock | None = None, settings: StewardSettings | None = None, rng: Rng | None = None
    ) -> None:
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._driven = not isinstance(self._clock, ManualClock)
        now = self._clock.now()
        chance = rng if rng is not None else SplitMix64(now)
        lineage = Nonce(f"{chance.u64():016x}")
        self.machine = Machine.founded(lineage, terms.founding_stamp(self._clock.wall()))
        self._lineage = lineage
        self._steward = Steward(_TERM, now, self.machine, settings or StewardSettings(), now)
        self._steward.on_serving(now)
        self._index = LogIndex(0)
        self._waiters: list[_Waiter] = []
        self._watchers: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    # --- Engine -----------------------------------------------------------------------------------------------------

    async def ask(self, request: Request[R], origin: Origin | None = None) -> R | Refused:
        """Answer one request."""
        future: asyncio.Future[AnyResult] = asyncio.get_running_loop().create_future()

        def answer(result: AnyResult) -> None:
            if not future.done():  # whoever asked may have gone
                future.set_result(result)

        self.submit(cast("AnyRequest", request), origin, answer)
        return cast("R | Refused", await future)

    def watch(self, after: int | None) -> AsyncIterator[tuple[Transition, ...] | Compacted]:
        """Batches of transitions with `number > after` (None: from now on)."""
        return self._watch(self.last_transition() if after is None else after)

    def lineage(self) -> tuple[Nonce, ...]:
        """Drawn with the engine."""
        return (self._lineage,)

    def last_transition(self) -> int:
        """The number of the newest transition."""
        return self.machine.last_transition

    async def backup(self, stale: bool) -> Backup | Refused:
        """What is written here is applied at once, so it is never stale."""
        state = self.machine.state
        sections = self.machine.freeze().sections()
        return Backup(state.lineage, state.applied, ConsensusTerm(0), 1, (), sections)

    def unserving(self) -> Refused | None:
        """It serves whoever asks."""
        return None

    # --- Submitter --------------------------------------------------------------------------------------------------

    def submit(self, request: AnyRequest, origin: Origin | None, answer: Answer) -> None:
        """Like `ask`; `answer` is called at once, or when a stepdown is done."""
        self._settle()  # what has fallen due happened before this request
        refused = self._refuse(request, origin)
        if refused is not None:
            answer(refused)
            return
        result = self._perform(request, origin)
        waiting = Waiting.after(result) if isinstance(result, Stepped) else None
        if isinstance(request, Stepdown) and waiting is not None and wait_us(request):
            self._waiters.append(_Waiter(waiting, after(self._clock.now(), wait_us(request)), answer))
        else:
            answer(result)
        self._settle()

    # --- time -------------------------------------------------------------------------------------------------------

    def poke(self) -> None:
        """Let everything that is due by the clock happen."""
        self._settle()

    def advance(self, ms: int) -> None:
        """Move a `ManualClock`, stopping at every deadline on the way."""
        clock = self._clock
        assert isinstance(clock, ManualClock), "only a manual clock can be moved"
        target = after(clock.now(), ms * MS)
        while self._deadline() <= target:
            clock.move_to(max(clock.now(), self._deadline()))
            self._settle()
        clock.move_to(target)
        self._settle()

    async def close(self) -> None:
        """Stop the timer, answer whoever waits, end all watches."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._waiters:
            waiter.answer(waiter.waiting.begun)
        self._waiters.clear()
        self._wake()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _refuse(self, request: AnyRequest, origin: Origin | None) -> Refused | None:
        if self._closed:
            return Refused("no_quorum", "this engine is closed", retry_after_ms=SECOND // MS)
        refused = check(request, origin)
        if refused is None and isinstance(request, ListMembers | AnyChange | ReadAutopilot | ConfigureAutopilot):
            return Refused("unsupported", "this engine lives in one process: it has no members")
        if refused is None and isinstance(request, Stepdown):
            if request.election is None:
                return Refused("no_eligible_successor", "there is no other member to move to")
            return self._steward.admit(request, self._clock.now())
        return refused

    def _perform(self, request: AnyRequest, origin: Origin | None) -> AnyResult:
        now = self._clock.now()
        if isinstance(request, Keepalive):
            receipt = self._steward.receive(request, now)
            return receipt if isinstance(receipt, Refused) else self._steward.acknowledge(receipt, now)
        if isinstance(request, Disconnected):
            self._steward.disconnected(request.session, now)
            return Noted()
        if isinstance(request, Status):
            return self._status()
        if commands.is_proposal(request):
            return self._apply(commands.of_request(request, origin, self._clock.wall()))
        return self.machine.read(request, self._steward.hints(now, self._clock.wall()))

    def _apply(self, data: bytes) -> AnyResult:
        self._index = LogIndex(self._index + 1)
        applied = self.machine.apply(self._index, _TERM, data)
        self._steward.on_applied(self._index, _TERM, applied, self._clock.now())
        if applied.transitions:
            self._wake()
        return applied.result

    def _settle(self) -> None:
        """Apply what the steward decides until it has nothing more to say, then answer whoever waited for it."""
        if self._closed:
            return
        now = self._clock.now()
        while decided := self._steward.decide(now, self._clock.wall()):
            for data in decided:
                self._apply(data)
        for waiter in list(self._waiters):
            done = waiter.waiting.answer(self.machine)
            if done is not None or now >= waiter.until:
                self._waiters.remove(waiter)
                waiter.answer(done if done is not None else waiter.waiting.begun)
        self._plan()

    def _deadline(self) -> Instant:
        return min((self._steward.deadline(), *(waiter.until for waiter in self._waiters)), default=NEVER)

    def _plan(self) -> None:
        """Wake up by the loop's timer, if the clock runs by itself and there is a loop."""
        if not self._driven:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # without a loop, whoever asks or pokes drives it
        if self._timer is not None:
            self._timer.cancel()
        delay_us = max(0, self._deadline() - self._clock.now())
        self._timer = loop.call_later(min(delay_us / SECOND, 3600.0), self._settle)

    async def _watch(self, number: int) -> AsyncIterator[tuple[Transition, ...] | Compacted]:
        while True:
            batch = self.machine.transitions_after(number)
            if isinstance(batch, Compacted):
                number = batch.next_number - 1
                yield batch
            elif batch:
                number = batch[-1].number
                yield batch
            elif self._closed:
                return
            else:
                changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._watchers.append(changed)
                await changed

    def _wake(self) -> None:
        watchers, self._watchers = self._watchers, []
        for changed in watchers:
            if not changed.done():
                changed.set_result(None)

    def _status(self) -> StatusReport:
        hints = self._steward.hints(self._clock.now(), self._clock.wall())
        member = MemberView(_MEMBER, "leader", None, "", self._index, 0, None, "leader")
        return StatusReport(
            cluster_id=self._lineage,
            lineage=(self._lineage,),
            member=_NAME,
            state="leader",
            quorum=True,
            consensus=ConsensusView(_NAME, _TERM, self._index, self._index, 0),
            members={_NAME: member},
            nodes=self.machine.nodes(hints),
            elections={view.election: view for view in self.machine.elections(hints)},
        )
