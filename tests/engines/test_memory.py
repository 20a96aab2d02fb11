"""What only the memory engine promises: clocks of two kinds, use without a loop, an end, and the users' fixture."""

import asyncio

import pytest

from tenure.base.ids import ElectionName, NodeId
from tenure.engines.memory import ManualClock, MemoryEngine
from tenure.engines.memory.fixture import tenure_engine
from tenure.leadership.engine import (
    AnyResult,
    Campaign,
    Keepalive,
    Kept,
    KvPut,
    KvWritten,
    OpenSession,
    ReadElection,
    Refused,
    SessionOpened,
    Stepdown,
    Stepped,
)
from tests.engines.world import ORDERS

__all__ = ["tenure_engine"]


class Answers(list[AnyResult]):
    """An `Answer` that keeps what it is told."""

    def __call__(self, result: AnyResult) -> None:
        self.append(result)


def opened(engine: MemoryEngine, node: str, ttl_ms: int = 1_000) -> SessionOpened:
    answers = Answers()
    engine.submit(OpenSession(NodeId(node), ttl_ms, "0" * 16), None, answers)
    (answer,) = answers
    assert isinstance(answer, SessionOpened)
    return answer


def test_the_fixture_needs_no_loop_and_no_sleep(tenure_engine: MemoryEngine) -> None:
    session = opened(tenure_engine, "a").session
    answers = Answers()
    tenure_engine.submit(Campaign(session, ORDERS), None, answers)
    tenure_engine.submit(Keepalive(session, 1), None, answers)
    assert isinstance(answers[1], Kept)
    assert [lease.election for lease in answers[1].leases] == [ORDERS]
    tenure_engine.advance(1_000)
    tenure_engine.submit(Keepalive(session, 2), None, answers)
    assert isinstance(answers[2], Refused)


@pytest.mark.anyio
async def test_on_a_real_clock_it_runs_by_itself() -> None:
    engine = MemoryEngine()
    session = opened(engine, "a", ttl_ms=20).session
    await engine.ask(Campaign(session, ORDERS))
    async for batch in engine.watch(0):
        assert isinstance(batch, tuple)
        if batch[-1].kind == "session_expired":
            break
    await engine.close()


def test_a_rewound_wall_clock_changes_nothing() -> None:
    clock = ManualClock()
    engine = MemoryEngine(clock)
    session = opened(engine, "a").session
    clock.step_wall(-3_600_000)
    engine.advance(999)
    answers = Answers()
    engine.submit(Keepalive(session, 1), None, answers)
    assert isinstance(answers[0], Kept)


def test_a_later_engine_issues_higher_terms() -> None:  # P2.1
    first, later = ManualClock(), ManualClock()
    later.step_wall(2)
    terms = []
    for clock in (first, later):
        engine = MemoryEngine(clock)
        answers = Answers()
        engine.submit(Campaign(opened(engine, "a").session, ORDERS), None, answers)
        holder = engine.machine.holder(ORDERS)
        assert holder is not None
        terms.append(holder.term)
    assert terms[1] > terms[0] + 64


@pytest.mark.anyio
async def test_the_end_answers_whoever_waits_and_ends_the_watches() -> None:
    engine = MemoryEngine(ManualClock())
    sessions = [opened(engine, name).session for name in ("a", "b")]
    for session in sessions:
        await engine.ask(Campaign(session, ORDERS))
    asked = asyncio.create_task(_stepdown(engine))
    watched = asyncio.create_task(_drain(engine))
    await asyncio.sleep(0)
    await engine.close()
    answer = await asked
    assert isinstance(answer, Stepped)
    assert answer.state == "under_way"
    assert await watched == engine.last_transition()
    refused: KvWritten | Refused = await engine.ask(KvPut("k", b"1"))
    assert isinstance(refused, Refused)


async def _stepdown(engine: MemoryEngine) -> Stepped | Refused:
    return await engine.ask(Stepdown(ORDERS))


async def _drain(engine: MemoryEngine) -> int:
    count = 0
    async for batch in engine.watch(0):
        assert isinstance(batch, tuple)
        count += len(batch)
    return count


def test_there_is_no_consensus_leader_to_move() -> None:
    answers = Answers()
    engine = MemoryEngine(ManualClock())
    engine.submit(Stepdown(), None, answers)
    engine.submit(ReadElection(ElectionName("none")), None, answers)
    assert [answer.code for answer in answers if isinstance(answer, Refused)] == [
        "no_eligible_successor",
        "unknown_election",
    ]
