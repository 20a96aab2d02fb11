"""A pytest plugin for users: `pytest_plugins = ["tenure.engines.memory.fixture"]`.

`tenure_engine` is a fresh in-process engine on a clock that stands still; `tenure_engine.advance(ms)` moves it.
"""

import pytest

from tenure.engines.memory.clock import ManualClock
from tenure.engines.memory.engine import MemoryEngine


@pytest.fixture
def tenure_engine() -> MemoryEngine:
    """An engine of your own for one test; nothing to close, nothing to wait for."""
    return MemoryEngine(ManualClock())
