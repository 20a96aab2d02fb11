"""The registry of engines: each story of this folder runs once on each of them.

To add one, write an async context manager that yields a `Harness` and enter it into `FACTORIES`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from tenure.engines.memory import ManualClock, MemoryEngine
from tests.engines.native.factories import alone, through_a_follower
from tests.engines.world import Factory, Harness, World


class MemoryHarness:
    """The memory engine on a clock that only `pass_ms` moves."""

    def __init__(self) -> None:
        self.engine = MemoryEngine(ManualClock())

    async def pass_ms(self, ms: int) -> None:
        self.engine.advance(ms)


@asynccontextmanager
async def memory() -> AsyncIterator[Harness]:
    """See `MemoryHarness`."""
    harness = MemoryHarness()
    try:
        yield harness
    finally:
        await harness.engine.close()


FACTORIES: Final[dict[str, Factory]] = {
    "memory": memory,
    "native-alone": alone,
    "native-follower": through_a_follower,
}


@pytest.fixture
def anyio_backend() -> str:
    """Engines run on asyncio."""
    return "asyncio"


@pytest.fixture(params=sorted(FACTORIES))
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A fresh engine with nobody in it yet."""
    async with FACTORIES[request.param]() as harness:
        yield World(harness)
