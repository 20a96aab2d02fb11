"""The native engine for the conformance suite: a member alone, and three of them asked through a follower."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tenure.engines.native.driver import NativeEngine
from tests.engines.native.members import members
from tests.engines.world import Harness


@dataclass
class NativeHarness:
    """Real time."""

    engine: NativeEngine

    async def pass_ms(self, ms: int) -> None:
        await asyncio.sleep(ms / 1000)


@asynccontextmanager
async def alone() -> AsyncIterator[Harness]:
    """A cluster of one."""
    with tempfile.TemporaryDirectory() as folder:
        async with members(Path(folder), 1) as cluster:
            await cluster.leader()
            yield NativeHarness(cluster.running["m1"].engine)


@asynccontextmanager
async def through_a_follower() -> AsyncIterator[Harness]:
    """Three members; everything is asked of one that doesn't lead, so that it passes everything on."""
    with tempfile.TemporaryDirectory() as folder:
        async with members(Path(folder), 3) as cluster:
            leader = await cluster.leader()
            follower = next(name for name in cluster.names if name != leader)
            yield NativeHarness(cluster.running[follower].engine)
