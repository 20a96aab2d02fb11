"""`python -m bench.snapshot_cost`: what a snapshot takes of the loop, without disk or network, by the state's shape.

*Freezing* is the one thing that happens at once; a *piece* is encoded, and one is put in place, in a turn. *As a whole*
is what a turn would take that did all of it. Processor time, the longest of three runs' shortest.
"""

import gc
import sys
import time
from collections.abc import Callable
from typing import Final

from tenure.base.ids import ElectionName, LogIndex, NodeId, Nonce, SessionId, Term
from tenure.engines.native.images import Camera, Installing
from tenure.engines.native.inputs import Effects, ReplicaSettings, Staged
from tenure.leadership.engine import ElectionConfig, KvWritten
from tenure.leadership.machine import Machine
from tenure.leadership.snapshots import snapshot_format
from tenure.leadership.state import (
    Candidate,
    Client,
    Election,
    Holding,
    KvEntry,
    Phase,
    Session,
    State,
    StoredResult,
)
from tenure.raft.entries import Configuration, Snapshot

LINEAGE: Final = Nonce("a" * 16)


def keys(count: int, size: int) -> State:
    """Keys with values of `size` bytes."""
    state = State(snapshot_format, (LINEAGE,), 1, 1)
    for number in range(count):
        state.kv[f"key/{number:08d}"] = KvEntry(b'"%b"' % (b"x" * size), LogIndex(number), None, None)
    return state


def clients(count: int, answers: int) -> State:
    """Client sessions with answers that they may ask for again."""
    state = keys(10, 10)
    for number in range(count):
        name = f"{number}-{number:016x}"
        kept: dict[int, StoredResult] = {at: KvWritten(f"key/{at}", at, None, None) for at in range(answers)}
        state.clients[name] = Client(name, 0, LogIndex(number), kept)
    return state


def offices(sessions: int, elections: int, candidates: int, history: int) -> State:
    """Sessions that stand for elections with a past."""
    state = keys(10, 10)
    names = [SessionId(f"{number}-{number:016x}") for number in range(sessions)]
    for number, name in enumerate(names):
        node = NodeId(f"node-{number}")
        state.sessions[name] = Session(name, node, 3_000, f"{number:016x}", {"zone": "a"}, number, {}, {})
    for number in range(elections):
        election = Election(ElectionName(f"office-{number}"), ElectionConfig(), LogIndex(number))
        for at in range(candidates):
            name = names[(number + at) % sessions]
            election.candidates[name] = Candidate(name, state.sessions[name].node, 0, LogIndex(at))
            state.sessions[name].candidate_of[election.name] = LogIndex(at)
        holder = names[number % sessions]
        node = state.sessions[holder].node
        phases = (Phase("vacant", 1), Phase("granted", 2), Phase("released", 3))
        for at in range(history):
            election.history.append(
                Holding(election.name, Term(at), node, holder, "released", "released", None, phases)
            )
        state.elections[election.name] = election
    return state


def clocked(work: Callable[[], object]) -> tuple[float, object]:
    """Processor ms, and what came of it."""
    begun = time.process_time()
    result = work()
    return (time.process_time() - begun) * 1_000, result


def measure(state: State) -> tuple[float, float, float, float, float, float]:
    """MB; freezing, longest piece, all at once; longest turn of an install, all at once: ms."""
    machine = Machine(state)
    camera = Camera(ReplicaSettings(), None)
    freezing, frozen = clocked(machine.freeze)
    out = Effects()
    longest, taken = clocked(lambda: camera.begin(LogIndex(1), 1, frozen, out))  # type: ignore[arg-type]  # frozen
    whole = longest
    while taken is None:
        assert out.stage is not None
        staged = Staged(LogIndex(1), out.stage.number)
        took, taken = clocked(lambda staged=staged: camera.staged(staged, out))  # type: ignore[misc]
        longest, whole = max(longest, took), whole + took
    image = taken.image  # type: ignore[attr-defined]
    installing = Installing(Snapshot(LogIndex(1), 1, Configuration(LogIndex(0), ()), 1, image))  # type: ignore[arg-type]
    turn = all_turns = 0.0
    found = None
    while found is None:
        took, found = clocked(lambda: installing.thaw(ReplicaSettings().snapshot_piece_bytes))
        turn, all_turns = max(turn, took), all_turns + took
    return image.size / 1e6, freezing, longest, freezing + whole, turn, all_turns


def main() -> int:
    """Print the table."""
    shapes: tuple[tuple[str, Callable[[], State]], ...] = (
        ("10 000 keys of 100 bytes", lambda: keys(10_000, 100)),
        ("100 000 keys of 600 bytes (the limit)", lambda: keys(100_000, 600)),
        ("1 000 keys of 64 KiB", lambda: keys(1_000, 64 << 10)),
        ("10 000 client sessions, 4 answers each", lambda: clients(10_000, 4)),
        ("10 000 client sessions, 256 answers each (the limit)", lambda: clients(10_000, 256)),
        ("10 000 sessions, 2 000 elections, 5 candidates, 50 lines", lambda: offices(10_000, 2_000, 5, 50)),
    )
    gc.set_threshold(50_000, 20, 50)  # as a member does
    print(f"{'ms of processor time':<58}    MB  freeze  piece  whole · install turn  whole")
    for name, make in shapes:
        state = make()
        gc.collect()
        gc.freeze()
        best = [min(column) for column in zip(*(measure(state) for _ in range(3)), strict=True)]
        size, freezing, piece, whole, turn, installed = best
        print(f"{name:<58} {size:5.1f} {freezing:7.1f} {piece:6.1f} {whole:6.0f} {turn:14.1f} {installed:6.0f}")
        gc.unfreeze()
    return 0


if __name__ == "__main__":
    sys.exit(main())
