"""Determinism, snapshots and versions: equal logs give equal states, and a snapshot is as good as the log before it."""

from typing import Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenure.base.ids import ConsensusTerm, ElectionName, LogIndex, NodeId, Nonce, SessionId, Term
from tenure.leadership import commands, limits, snapshots
from tenure.leadership.commands import AnyBody, KvPut, UnknownCommand
from tenure.leadership.engine import Compacted, ElectionConfig, Keyed, KvWritten, Origin, Sequenced
from tenure.leadership.machine import Applied, Machine
from tenure.leadership.state import Client, KeyedAnswer, KvEntry, State, StoredResult
from tests.leadership.stage import Stage

# Small alphabets, so that commands meet each other.
NODES: Final = st.sampled_from([NodeId("a"), NodeId("b"), NodeId("c")])
ELECTIONS: Final = st.sampled_from([ElectionName("orders"), ElectionName("mail")])
SESSIONS: Final = st.builds(
    lambda index, process: SessionId(f"{index}-{process:016x}"), st.integers(1, 12), st.integers(0, 2)
)
TERMS: Final = st.integers(99, 106).map(Term)
DECIDED: Final = st.integers(1, 2).map(ConsensusTerm)
BODIES: Final[st.SearchStrategy[AnyBody]] = st.one_of(
    st.builds(
        commands.OpenSession, NODES, st.just(1_000), st.integers(0, 2).map(lambda n: f"{n:016x}"), st.just({"k": "v"})
    ),
    st.builds(commands.CloseSession, SESSIONS),
    st.builds(commands.Campaign, SESSIONS, ELECTIONS, st.integers(0, 2)),
    st.builds(commands.Campaign, SESSIONS, ELECTIONS, st.integers(0, 2)),
    st.builds(commands.Withdraw, SESSIONS, ELECTIONS),
    st.builds(commands.Release, SESSIONS, ELECTIONS, TERMS, st.booleans()),
    st.builds(commands.Stepdown, ELECTIONS, st.none() | NODES, st.none(), st.just(10), st.booleans()),
    st.builds(commands.Configure, ELECTIONS, st.builds(ElectionConfig, mode=st.sampled_from(["exclusive", "fenced"]))),
    st.builds(commands.Pause, ELECTIONS, st.booleans()),
    st.builds(KvPut, st.sampled_from(["k", "l"]), st.binary(max_size=3), st.none(), st.none(), st.none()),
    st.builds(KvPut, st.sampled_from(["k", "l"]), st.binary(max_size=3), ELECTIONS, TERMS, st.none()),
    st.builds(commands.OpenClient, st.integers(0, 1).map(lambda n: f"{n:016x}")),
    st.builds(commands.Stamp, st.none() | st.integers(90, 110)),
    st.builds(commands.Grant, DECIDED, SESSIONS, ELECTIONS, st.just(Term(0)) | TERMS),
    st.builds(commands.Grant, DECIDED, SESSIONS, ELECTIONS, st.just(Term(0)) | TERMS),
    st.builds(commands.Expire, DECIDED, SESSIONS, st.none() | st.integers(0, 9)),
    st.builds(commands.Demote, DECIDED, SESSIONS, ELECTIONS, TERMS, st.just(10), st.just("ill")),
    st.builds(commands.Revoke, DECIDED, SESSIONS, ELECTIONS, TERMS, st.sampled_from(["stepdown", "disconnected"])),
    st.builds(commands.Evict, DECIDED, st.integers(0, 9).map(LogIndex), st.integers(0, 9).map(LogIndex)),
)
ORIGINS: Final[st.SearchStrategy[Origin | None]] = st.one_of(
    st.none(),
    st.builds(
        Sequenced,
        st.integers(1, 6).map(lambda index: f"{index}-{0:016x}"),
        st.integers(1, 4),
        st.integers(0, 2),
    ),
    st.builds(Keyed, st.sampled_from(["p", "q"]), st.sampled_from(["x", "y"]), st.sampled_from(["d", "e"])),
)
LOGS: Final = st.lists(st.tuples(BODIES, ORIGINS, DECIDED), max_size=40)
Log = list[tuple[AnyBody, Origin | None, ConsensusTerm]]


def founded() -> Machine:
    return Machine.founded(Nonce("a" * 16), 100)


def play(machine: Machine, log: Log, begin: int = 0) -> list[Applied]:
    results = []
    for place, (body, origin, term) in enumerate(log[begin:], begin + 1):
        results.append(machine.apply(LogIndex(place), term, commands.encode(body, 1_800_000_000_000 + place, origin)))
        check_state(machine)
    return results


def check_state(machine: Machine) -> None:
    """What must hold after every command."""
    state = machine.state
    for session in state.sessions.values():
        assert all(session.id in state.elections[name].candidates for name in session.candidate_of)
        for name, term in session.holds.items():
            holder = state.elections[name].holder
            assert holder is not None
            assert (holder.session, holder.term) == (session.id, term)
    for election in state.elections.values():
        assert all(name in state.sessions for name in election.candidates)
        assert election.last_term <= state.counter
        terms = [holding.term for holding in election.history]
        assert terms == sorted(set(terms))
        holder = election.holder
        if holder is None:
            assert election.handover is None
            assert all(holding.ended is not None for holding in election.history)
        else:
            assert holder.session in election.candidates, "who holds also stands"
            assert state.sessions[holder.session].holds[election.name] == holder.term == election.last_term
            assert election.history[-1].ended is None
            assert not election.bars
    assert state.kv_bytes == sum(len(key) + len(entry.value) for key, entry in state.kv.items())
    nodes = [session.node for session in state.sessions.values()]
    assert len(nodes) == len(set(nodes)), "a node has at most one live session"


@given(LOGS)
@settings(max_examples=150, deadline=None)
def test_equal_logs_give_equal_states_answers_and_transitions(log: Log) -> None:
    one, two = founded(), founded()
    assert play(one, log) == play(two, log)
    assert one.hash() == two.hash()
    assert one.transitions_after(0) == two.transitions_after(0)


@given(LOGS, st.integers(0, 40))
@settings(max_examples=150, deadline=None)
def test_a_member_restored_from_a_snapshot_goes_on_like_the_others(log: Log, cut: int) -> None:
    cut = min(cut, len(log))
    whole, part = founded(), founded()
    expected = play(whole, log)[cut:]
    play(part, log[:cut])
    restored = Machine.restore(part.snapshot())
    assert restored.hash() == part.hash()
    assert play(restored, log, cut) == expected
    assert restored.hash() == whole.hash()


@given(LOGS, st.integers(0, 40))
@settings(max_examples=150, deadline=None)
def test_a_frozen_view_stays_as_it_was_while_the_machine_goes_on(log: Log, cut: int) -> None:
    machine, twin = founded(), founded()
    play(machine, log[:cut])
    play(twin, log[:cut])
    frozen = machine.freeze()
    begun = frozen.sections()
    first = next(begun)
    play(machine, log, cut)
    again = machine.freeze()
    assert (first, *begun) == twin.snapshot()
    assert tuple(again.sections()) == machine.snapshot()


@given(LOGS, st.lists(st.integers(1, 400), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_a_snapshot_is_read_back_however_it_is_cut(log: Log, sizes: list[int]) -> None:
    machine = founded()
    play(machine, log)
    whole = b"".join(machine.snapshot())
    thawing, start = snapshots.Thawing(), 0
    while start < len(whole):
        size = sizes[start % len(sizes)]
        thawing.feed(whole[start : start + size])
        start += size
    assert thawing.finish() == machine.state


def test_sections_are_bounded_and_in_the_order_of_the_state() -> None:
    """Much of everything: each step of writing or reading it is a small one."""
    state = State(snapshots.snapshot_format, (Nonce("a" * 16),), 5, 3)
    for number in range(5_000):
        state.kv[f"key/{number}"] = KvEntry(b"v" * (number % 700), LogIndex(number), None, None)
        state.keyed[f"1:p:{number}"] = KeyedAnswer("d", LogIndex(number), KvWritten("k", number, None, None))
    for number in range(300):
        answers: dict[int, StoredResult] = {count: KvWritten("k", count, None, None) for count in range(number)}
        state.clients[f"{number}-{number:016x}"] = Client(f"{number}-{number:016x}", 0, LogIndex(number), answers)
    sections = Machine(state).snapshot()
    assert len(sections) > 20
    assert max(len(section) for section in sections) < 2 * snapshots.section_bytes
    restored = Machine.restore(sections).state
    assert restored == state
    assert list(restored.kv) == list(state.kv)


@given(LOGS)
@settings(max_examples=100, deadline=None)
def test_granted_terms_strictly_rise_through_the_whole_log(log: Log) -> None:  # P2.1, S17
    machine = founded()
    play(machine, log)
    transitions = machine.transitions_after(0)
    assert not isinstance(transitions, Compacted)
    terms = [one.term for one in transitions if one.kind == "granted" and one.term is not None]
    assert terms == sorted(set(terms))
    assert [one.number for one in transitions] == list(range(1, len(transitions) + 1))


@given(BODIES, ORIGINS)
@settings(deadline=None)
def test_a_command_reads_back_as_it_was_written(body: AnyBody, origin: Origin | None) -> None:
    command = commands.decode(commands.encode(body, 5, origin, "n"))
    assert command == commands.Command(commands.since(body), 5, "n", origin, body)


def section(value: object) -> bytes:
    data = msgspec.msgpack.encode(value)
    return len(data).to_bytes(4, "little") + data


# --- P10 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode([1, 0, "", None, ["never-heard-of", 1]]),
        msgspec.msgpack.encode([2, 0, "", None, ["oc", "1" * 16]]),
        msgspec.msgpack.encode([1, 0, "", None, ["oc"]]),
    ],
)
def test_an_unknown_command_stops_the_member_and_changes_nothing(data: bytes) -> None:
    machine = founded()
    before = machine.hash()
    with pytest.raises(UnknownCommand, match="version"):
        machine.apply(LogIndex(1), ConsensusTerm(1), data)
    assert machine.hash() == before


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xff\xff\xff\xff",
        section(["h", 99, [], 1, 1, 1, 1, 0]),
        section(["h", snapshots.snapshot_format, "x"]),
        section(["k", {}]),
        b"".join(Machine.founded(Nonce("a" * 16), 100).snapshot()[:-1]),
        b"".join(Machine.founded(Nonce("a" * 16), 100).snapshot()) + b"x",
        b"".join(Machine.founded(Nonce("a" * 16), 100).snapshot()) * 2,
        Machine.founded(Nonce("a" * 16), 100).snapshot()[0] + section(["z", 1, 0, 0, 0, 0]),
    ],
)
def test_an_unknown_snapshot_is_not_guessed_at(data: bytes) -> None:
    with pytest.raises(UnknownCommand):
        Machine.restore([data])


# --- watching -------------------------------------------------------------------------------------------------------


def test_a_watcher_resumes_after_any_number_that_is_kept() -> None:
    stage = Stage()
    stage.stand("a")
    for number in range(len(stage.transitions) + 1):
        assert stage.machine.transitions_after(number) == tuple(stage.transitions[number:])
    assert stage.machine.transitions_after(99) == ()


def test_what_is_no_longer_kept_is_said_to_be_compacted() -> None:
    stage = Stage()
    for number in range(limits.transitions_max + 1):
        stage.do(KvPut("k", str(number).encode(), None, None, None))
    newest = limits.transitions_max + 1
    assert stage.machine.transitions_after(0) == Compacted(newest + 1)
    kept = stage.machine.transitions_after(1)
    assert not isinstance(kept, Compacted)
    assert len(kept) == limits.transitions_max


def test_a_restored_member_knows_the_number_but_not_the_transitions_before() -> None:
    stage = Stage()
    stage.stand("a")
    restored = Machine.restore(stage.machine.snapshot())
    newest = stage.machine.last_transition
    assert restored.last_transition == newest
    assert restored.transitions_after(newest) == ()
    assert restored.transitions_after(newest - 1) == Compacted(newest + 1)
