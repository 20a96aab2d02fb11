"""The engine in one process: state machine, steward and nothing between them. No consensus, no durability, no network.

Idea. The same `Machine` and `Steward` as the native engine's, so whatever a test sees here holds there too; a command
is committed by being applied, and a ReadIndex round is true at once, because nobody else can lead.

Words. A *real* clock drives the engine by the loop's timers. A `ManualClock` drives nothing: `advance` moves it and
lets everything that falls due on the way happen, in order, before it returns; tests need no sleep.

Left out: restarts. What the process forgets is gone, terms included; but every new engine begins with a stamp (P2.1),
so its terms lie above those of the ones before.
"""

from tenure.engines.memory.clock import ManualClock, SystemClock
from tenure.engines.memory.engine import MemoryEngine

__all__ = ["ManualClock", "MemoryEngine", "SystemClock"]
