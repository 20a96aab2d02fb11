"""Each check of the simulator can fail: what is planted is found, by its rule's name."""

from pathlib import Path
from random import Random
from zlib import crc32

import pytest
from msgspec.structs import replace

from tenure.base.ids import BatchNumber, Boot, ConsensusTerm, ElectionName, LogIndex, NodeId, SessionId, Term
from tenure.base.instants import WallMs
from tenure.leadership import commands
from tenure.leadership.engine import (
    AnyRequest,
    AnyResult,
    Keyed,
    KvGet,
    KvPut,
    KvValue,
    KvWritten,
    Refused,
    Transition,
    Validate,
    Validated,
)
from tenure.leadership.state import KvEntry, Session
from tenure.raft.entries import CONFIGURATION, Configuration, Entry, HardState, Image, Snapshot, encode_configuration
from tenure.raft.events import Lateness
from tenure.raft.messages import AppendReply, Envelope, VoteReply
from tenure.raft.ready import Batch
from tenure.raft.state import Link
from tests.sim import cutting, foundings
from tests.sim.__main__ import parse_seeds
from tests.sim.deeds import Deeds
from tests.sim.leases import Validity
from tests.sim.linearizability import Disorder, Operation, check
from tests.sim.nemesis import Nemesis
from tests.sim.observer import Broken
from tests.sim.plan import FOR_EVER, KINDS, MS, SECOND, draw
from tests.sim.resource import Resource
from tests.sim.run import Outcome, Run
from tests.sim.soak import Progress, shard, state_of_code
from tests.sim.telling import Telling
from tests.sim.twins import Twins
from tests.sim.watchers import Watcher
from tests.sim.world import World

MAIL = ElectionName("mail")


def founded(seed: int = 3) -> World:
    """A world with its members seated, nobody started."""
    run = Run(seed, 0, 0)
    run.found()
    return run.world


def entry(index: int, term: int, data: bytes = b"") -> Entry:
    return Entry(LogIndex(index), ConsensusTerm(term), 0, data)


def write(world: World, place: int, *entries: Entry, state: HardState | None = None) -> None:
    """A batch becomes durable at a member."""
    host = world.hosts[place]
    host.disk.submit(Batch(BatchNumber(host.disk.number + 1), entries=entries, hard_state=state))
    world.observer.durable(host, host.disk.complete())


def granted(number: int, term: int) -> Transition:
    """A transition that nobody has committed."""
    return Transition(number, number, "granted", 0, ElectionName("office-0"), SessionId("1-a"), NodeId("n"), Term(term))


def test_another_entry_at_one_place_is_found() -> None:
    world = founded()
    write(world, 0, entry(1, 1, b"a"))
    with pytest.raises(Broken, match="S3"):
        write(world, 1, entry(1, 1, b"b"))


def test_two_disks_that_differ_below_a_place_where_they_agree_are_found() -> None:
    world = founded()
    for place, data in ((0, b"a"), (1, b"b")):
        world.hosts[place].disk.entries = [entry(1, 1, data), entry(2, 1)]
    with pytest.raises(Broken, match="S3"):
        Twins(world).look()


def test_a_term_that_goes_back_and_a_vote_that_changes_are_found() -> None:
    world = founded()
    one, other = (host.id for host in world.hosts[:2])
    write(world, 0, state=HardState(ConsensusTerm(5), one))
    with pytest.raises(Broken, match="S2"):
        write(world, 0, state=HardState(ConsensusTerm(5), other))
    world = founded()
    write(world, 0, state=HardState(ConsensusTerm(5), one))
    with pytest.raises(Broken, match="S2"):
        write(world, 0, state=HardState(ConsensusTerm(4), None))


def test_what_promises_more_than_the_disk_holds_is_found() -> None:
    world = founded()
    host, to = world.hosts[0], world.hosts[1].id
    write(world, 0, entry(1, 1), state=HardState(ConsensusTerm(1), to))
    fine = AppendReply(ConsensusTerm(1), LogIndex(1), BatchNumber(1))
    world.observer.sent(host, Envelope(host.id, to, world.lineage, fine))
    for said in (
        AppendReply(ConsensusTerm(1), LogIndex(2), BatchNumber(1)),
        AppendReply(ConsensusTerm(1), LogIndex(1), BatchNumber(2)),
        VoteReply(ConsensusTerm(2), True, "", host.boot, 1, LogIndex(1), ConsensusTerm(1), BatchNumber(1)),
    ):
        with pytest.raises(Broken, match="S8"):
            world.observer.sent(host, Envelope(host.id, to, world.lineage, said))


def test_a_second_vote_in_a_term_is_found_over_all_lives() -> None:
    world = founded()
    world.observer.vote(world.hosts[0], 7, "a")
    world.observer.vote(world.hosts[0], 7, "a")
    with pytest.raises(Broken, match="S21"):
        world.observer.vote(world.hosts[0], 7, "b")


def test_another_value_at_a_committed_place_is_found() -> None:
    world = founded()
    world.observer.commit_one(world.hosts[0], entry(1, 1, b"a"))
    with pytest.raises(Broken, match="S5"):
        world.observer.applied(world.hosts[1], (entry(1, 1, b"b"),))
    with pytest.raises(Broken, match="S5"):
        world.observer.applied(world.hosts[1], (entry(2, 1, b"b"),))


def test_a_snapshot_that_nobody_has_taken_is_found() -> None:
    world = founded()
    snapshot = Snapshot(LogIndex(3), ConsensusTerm(1), Configuration(LogIndex(0), ()), 1, Image.of([b"state"]))
    with pytest.raises(Broken, match="S11"):
        world.observer.snapshot(world.hosts[0], snapshot, install=False)
    world.observer.snapshots[3] = crc32(b"state")
    with pytest.raises(Broken, match="S11"):
        world.observer.snapshot(world.hosts[0], snapshot, install=False)  # nothing is committed there
    world.observer.commit_top = 3
    world.observer.snapshot(world.hosts[0], snapshot, install=False)


def test_what_is_committed_and_on_too_few_disks_is_found_unless_disks_are_lost() -> None:
    world = founded()
    write(world, 0, entry(1, 1))
    world.observer.commit_one(world.hosts[0], entry(1, 1))
    world.observer.commit_top = 1
    with pytest.raises(Broken, match="S21"):
        Twins(world).look()


def test_a_lost_disk_counts_for_what_it_held_and_for_nothing_else() -> None:
    world = founded()
    voters, holders = world.voters(), world.observer.holders
    written = entry(1, 1)
    for host in voters[: len(voters) // 2 + 1]:
        host.disk.entries.append(written)
    assert holders(voters, 1, 1)[0]
    world.stop(voters[0], "corrupt")
    assert holders(voters, 1, 1)[0], "it had it when it was lost"
    voters[0].disk.entries.clear()
    assert not holders(voters, 1, 1)[0], "it never had it"
    voters[0].had = voters[0].disk.copy()
    voters[0].had.entries.append(written)
    assert holders(voters, 1, 1)[0], "it had it before it was brought back from a copy"


def test_two_who_may_hold_one_office_are_found() -> None:
    world = founded()
    leases = world.observer.leases
    leases.may_hold("office-0", "n0", Validity(until=100, session="1-a", term=1))
    leases.may_hold("office-0", "n0", None)
    leases.may_hold("office-0", "n1", Validity(until=100, session="2-a", term=2))
    with pytest.raises(Broken, match="S15"):
        leases.may_hold("office-0", "n0", Validity(until=90, session="1-a", term=1))


def test_a_resource_finds_terms_that_were_not_granted_and_terms_of_two_owners() -> None:
    world = founded()
    world.observer.leases.owners = {5: "t1.o.5.a", 6: "t1.o.6.b"}
    resource = Resource(world, "o")
    resource.write("n0", 6, "t1.o.6.b")
    resource.write("n0", 5, "t1.o.5.a")
    assert (resource.accepted, resource.refused) == (1, 1)
    for term, token in ((6, "t1.o.6.c"), (7, "t1.o.7.a")):
        with pytest.raises(Broken, match="S18"):
            resource.write("n1", term, token)


def kv_written(world: World, number: int, body: KvPut) -> None:
    """A write to a key is applied, and told."""
    data = commands.of_request(body, None, WallMs(0))
    world.observer.committed[number] = Entry(LogIndex(number), ConsensusTerm(1), 0, data)
    machine = world.founded_machine()
    machine.state.kv[body.key] = KvEntry(body.value, LogIndex(number), None, None)
    told = Transition(number, number, "kv", 0, body.election, key=body.key)
    world.observer.leases.on_kv(machine, told)


@pytest.mark.parametrize("fence", [(None, None), (MAIL, 4), (MAIL, 6), (ElectionName("post"), 9)])
def test_a_write_under_another_term_than_the_one_held_is_found(fence: tuple[ElectionName | None, int | None]) -> None:
    world = founded()
    leases = world.observer.leases
    leases.held = {MAIL: 5, "post": 9}
    kv_written(world, 1, KvPut("k", b"1", MAIL, 5))
    kv_written(world, 2, KvPut("free", b"2"))
    with pytest.raises(Broken, match="S18"):
        kv_written(world, 3, KvPut("k", b"3", *fence))
    leases.held.pop(MAIL)
    with pytest.raises(Broken, match="S18"):
        kv_written(world, 4, KvPut("k", b"4", MAIL, 5))


def history_of(*answers: tuple[AnyRequest, AnyResult | None]) -> list[Operation]:
    """What the checker is told when a node asks one thing after the other."""
    world = founded()
    deeds = Deeds(world, "n0")
    for tag, (request, answer) in enumerate(answers):
        deeds.began(tag, request, None)
        deeds.ended(tag, answer)
    return world.observer.history


GUARDED = KvPut("work/mail", b"1", MAIL, 5)
STALE = Refused("stale_term", "", current_term=6)


def test_what_nodes_do_under_their_terms_is_in_the_history() -> None:
    done = KvWritten("work/mail", 7, MAIL, 5)
    right = history_of(
        (GUARDED, done),
        (KvGet("work/mail"), KvValue("work/mail", b"1", 7, MAIL, 5)),
        (Validate("mail", 5), Validated(True, "current", 5)),
        (replace(GUARDED, value=b"2"), None),
        (replace(GUARDED, value=b"3"), Refused("too_many", "")),
        (replace(GUARDED, value=b"4"), STALE),
        (Validate("mail", 5), Validated(False, "stale", 6)),
        (KvGet("work/mail"), KvValue("work/mail", b"2", 8, MAIL, 5)),
    )
    assert [each.outcome for each in right] == ["ok", "ok", "ok", "unknown", "stale", "stale", "ok"]
    assert check(right) == ()


@pytest.mark.parametrize(
    "late",
    [
        (replace(GUARDED, value=b"2"), KvWritten("work/mail", 9, MAIL, 5)),
        (Validate("mail", 5), Validated(True, "current", 5)),
        (Validate("mail", 5), Validated(False, "not_held", 5)),
        (replace(GUARDED, value=b"2", if_revision=3), Refused("revision_mismatch", "")),
    ],
)
def test_a_term_that_counts_after_another_one_did_is_found(late: tuple[AnyRequest, AnyResult]) -> None:
    for over in ((GUARDED, STALE), (Validate("mail", 5), Validated(False, "stale", 6))):
        assert check(history_of(over)) == ()
        assert any(isinstance(each, Disorder) for each in check(history_of(over, late)))


def test_a_write_that_was_sent_twice_and_refused_once_may_have_taken_effect() -> None:
    world = founded()
    deeds = Deeds(world, "n0")
    deeds.began(1, GUARDED, Keyed("n0", "n0-w1", "same"))
    deeds.ended(1, STALE)
    deeds.began(2, replace(GUARDED, value=b"2"), None)
    deeds.abandon()
    assert [each.outcome for each in world.observer.history] == ["unknown", "unknown"]


def test_a_watcher_finds_gaps_repetitions_and_what_nobody_committed() -> None:
    world = founded()
    known = [granted(number, number) for number in range(1, 6)]
    world.observer.leases.transitions = known
    watcher = Watcher(world, "w0", Random(1), 1_000, seen=1)
    watcher.take((known[1], known[2]))
    for batch in ((known[4],), (known[2],), (granted(4, 9),)):
        with pytest.raises(Broken, match="S20"):
            watcher.take(batch)


def test_members_that_change_by_two_or_come_back_are_found() -> None:
    world = founded()
    before = world.observer.seats.configuration
    one, two, *rest = before.seats
    left = Configuration(LogIndex(5), (two, *rest), (one.id,))
    world.observer.seats.committed(left)
    assert [host.name for host in world.voters()] == [seat.name for seat in (two, *rest)]
    assert world.observer.seats.was_removed(world.by_id[one.id])
    with pytest.raises(Broken, match="S22"):
        world.observer.seats.committed(Configuration(LogIndex(6), (one, two, *rest)))
    with pytest.raises(Broken, match="S9"):
        world.observer.seats.committed(Configuration(LogIndex(7), tuple(rest[1:])))
    with pytest.raises(Broken, match="S9"):
        world.observer.seats.committed(left)


def test_a_change_that_is_begun_with_who_has_not_answered_since_it_was_asked_for_is_found() -> None:
    world = founded()
    seats, (host, other, *_) = world.observer.seats, world.hosts
    world.start(host)
    core = host.core
    assert core is not None
    before = seats.configuration
    now = Configuration(LogIndex(9), before.seats[:2])
    seats.begun(host, core, before, now)
    world.stop(other, "corrupt")
    with pytest.raises(Broken, match="P7"):
        seats.begun(host, core, before, now)
    assert not seats.stranded()
    core.links[other.id] = Link(Boot("b"), 1)
    other.died_at, host.change_asked_at = 5, 6
    with pytest.raises(Broken, match="P7"):
        seats.begun(host, core, before, now)
    host.change_asked_at = 5
    seats.begun(host, core, before, now)
    data = encode_configuration(now)
    host.disk.entries.append(Entry(now.index, host.disk.hard_state.term, CONFIGURATION, data))
    world.crash(host, keep=True)
    assert seats.stranded()


def test_a_disk_may_be_lost_only_where_a_majority_of_each_configuration_is_left() -> None:
    world = founded()
    hosts = world.voters()
    spare = (len(hosts) - 1) // 2
    for host in hosts[:spare]:
        assert world.observer.seats.may_lose(host)
        world.stop(host, "corrupt")
    assert not any(world.observer.seats.may_lose(host) for host in hosts[spare:])


def test_a_wiped_member_under_its_old_name_is_refused_by_all_whom_it_meets() -> None:
    for seed in range(20):
        world = founded(seed)
        if len(world.hosts) > 1:
            foundings.refused_when_wiped(world, world.hosts[0], Random(seed))


@pytest.mark.parametrize("seed", range(30))
def test_members_found_one_cluster_whatever_befalls_them(seed: int) -> None:
    plan = draw(seed)
    record, refused = foundings.Found(seed, plan).go()
    assert len(record.configuration.seats) == plan.voters
    assert 2 * len(refused) < plan.voters


def test_every_kind_of_fault_is_on_in_some_seeds_and_off_in_others() -> None:
    plans = [draw(seed) for seed in range(200)]
    for kind in KINDS:
        assert hasattr(Nemesis, f"do_{kind}"), kind
        assert 10 < sum(plan.weights[kind] > 0 for plan in plans) < 190, kind
    assert set(FOR_EVER) < set(KINDS)
    assert {plan.voters for plan in plans} == set(range(1, 8))


def test_partitions_are_what_they_are_called() -> None:
    hosts = founded(3).hosts
    middle, *rest = hosts
    assert not any(middle in way for way in cutting.hub(hosts, middle))
    assert {(one, other) for one in rest for other in rest if one is not other} == set(cutting.hub(hosts, middle))
    ways = cutting.chain(hosts, Random(1))
    degrees = [len(hosts) - 1 - sum(one is host for one, _ in ways) for host in hosts]
    assert sorted(degrees) == [1, 1] + [2] * (len(hosts) - 2)


def test_shards_are_the_seeds_in_parts() -> None:
    parts = [list(shard(range(10), f"{number}/3")) for number in (1, 2, 3)]
    assert sorted(seed for part in parts for seed in part) == list(range(10))
    with pytest.raises(ValueError, match="shard"):
        list(shard(range(10), "4/3"))


def outcome_of(seed: int, failure: str = "") -> Outcome:
    return Outcome(seed, 100, 5, 7, 1, 2, 3, 4, failure, 50, 300, {"fault crash": seed})


def progress_of_one_that_held_and_one_that_failed(folder: Path) -> Path:
    path = folder / "progress.jsonl"
    first = Progress(path, "one")
    first.add(outcome_of(1))
    first.add(outcome_of(2, "S1: broken"))
    first.close()
    return path


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = progress_of_one_that_held_and_one_that_failed(tmp_path)
    second = Progress(path, "one")
    assert list(second.left(range(4))) == [0, 3]
    assert (second.figures.seeds, second.figures.steps, second.figures.failed) == (2, 200, {2: "S1: broken"})
    assert second.figures.seen == {"fault crash": 3}
    line = next(second.figures.lines())
    assert "2 seeds, 1 failed; 200 turns of members (2,000,000 a second on one core), 600 events (6,000,000 a" in line
    second.close()


def test_what_failed_is_run_again_once_the_code_is_another(tmp_path: Path) -> None:
    path = progress_of_one_that_held_and_one_that_failed(tmp_path)
    second = Progress(path, "two")
    assert list(second.left(range(4))) == [0, 2, 3]
    second.add(outcome_of(2))
    second.close()
    both = Progress(None)
    both.read(path)
    summary = list(both.summary())
    assert any(line.startswith("code one: 2 seeds, 1 failed") for line in summary)
    assert any(line.startswith("code two: 1 seeds, 0 failed") for line in summary)
    assert summary[-1] == "2 different seeds; 0 failed when they were last run"


def test_half_a_line_of_a_process_that_was_ended_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    first = Progress(path, "one")
    first.add(outcome_of(1))
    first.add(outcome_of(2))
    first.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:20])
    looked = Progress(None)
    assert looked.read(path) == len(lines[0])
    assert path.read_bytes() == lines[0] + lines[1][:20], "who only looks changes nothing"
    second = Progress(path, "one")
    assert list(second.left((1, 2))) == [2]
    second.add(outcome_of(2))
    second.close()
    third = Progress(path, "one")
    assert list(third.left((1, 2))) == []
    third.close()


def test_the_state_of_the_code_is_that_of_what_a_run_is_made_of(tmp_path: Path) -> None:
    for name in ("src/tenure/raft/core.py", "tests/sim/run.py", "tests/sim/test_run.py", "tests/raft/net.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    before = state_of_code(tmp_path)
    (tmp_path / "tests/sim/test_run.py").write_text("2")
    (tmp_path / "tests/raft/net.py").write_text("2")
    assert state_of_code(tmp_path) == before
    (tmp_path / "tests/sim/run.py").write_text("2")
    other = state_of_code(tmp_path)
    (tmp_path / "src/tenure/raft/core.py").write_text("2")
    assert len({before, other, state_of_code(tmp_path)}) == 3


def test_a_telling_keeps_what_it_is_asked_about() -> None:
    lines: list[str] = []
    run = Run(3, 0, 0)
    telling = Telling(lines.append, about=("m2",))
    telling.begin(run.world)
    lines.clear()
    telling.said("m1", "starts")
    telling.said("m2", "starts")
    assert len(lines) == 1
    assert "m2" in lines[0]


def test_a_configuration_that_only_a_dead_members_disk_holds_is_in_force() -> None:
    """Found by seed 1649577631217: the other voter of such a one was lost, and nobody could ever lead again."""
    world = founded()
    host = world.voters()[0]
    now = host.disk.last_configuration()
    assert world.observer.seats.in_force() == [now]
    smaller = Configuration(LogIndex(host.disk.last_index + 1), now.seats[:2])
    data = encode_configuration(smaller)
    host.disk.entries.append(Entry(smaller.index, host.disk.hard_state.term, CONFIGURATION, data))
    world.crash(host, keep=False)
    assert world.observer.seats.in_force() == [now, smaller]


def standing_still() -> World:
    """A world whose first member stands still for 5 ms and is about to go on."""
    world = founded()
    world.start(world.hosts[0])
    world.pause(world.hosts[0], 5 * MS)
    world.now += 5 * MS
    return world


def pass_time(world: World, micros: int) -> None:
    """At least so long."""
    end = world.now + micros
    while world.now < end:
        world.run_until_step(world.steps + 1)


def test_the_end_of_an_older_connection_says_nothing_while_a_newer_one_stands() -> None:
    """Found by seed 8763: two members took each other for unlinked, both stood first, and their votes split."""
    world = founded()
    one, other = world.hosts[:2]
    for host in (one, other):
        world.start(host)
    while not world.network.linked(one, other):
        world.run_until_step(world.steps + 1)
    assert one.core is not None
    world.network.disconnect(one, other)
    world.network.lose(one, other, "fin", 9 * MS)
    world.network.connect(one, other, 2 * MS)
    pass_time(world, 10 * MS)
    assert other.id in one.core.links
    world.network.disconnect(one, other)
    world.network.lose(one, other, "fin", 1 * MS)
    pass_time(world, 10 * MS)
    assert other.id not in one.core.links


def test_what_comes_at_the_very_end_of_a_pause_waits_until_the_clock_is_right() -> None:
    """Found by seed 1449374088158: a turn was taken before the clock of a suspended machine had been set back."""
    world = founded()
    host = world.hosts[0]
    world.start(host)
    for when in (2, 5):  # in its socket when it goes on, and at that very instant
        world.post(world.now + when * MS, lambda late: world.arrive(host, late), Lateness(1 * MS))
    shown = host.clock.at(world.now)
    world.pause(host, 5 * MS, frozen=True)
    pass_time(world, 6 * MS)
    assert host.core is not None
    assert shown <= host.core.now <= host.clock.at(world.now)


def test_a_session_outlives_its_ttl_by_what_its_leader_stood_still() -> None:
    """Found by seed 13481: the leader stood still for 8 of the 14 s in which it heard nothing of a session of 10 s."""
    run = Run(3, 0, 0)
    run.found()
    world, leases = run.world, run.world.observer.leases
    host = world.hosts[0]
    world.start(host)
    silent = SessionId("1-a")
    host.machine.state.sessions[silent] = Session(silent, NodeId("n"), 10_000, "", {}, 0, {}, {})
    leases.ttl_us[silent] = 10 * SECOND
    leases.last_heard[silent] = 1 * SECOND
    host.stood = [(0, 999 * MS), (2 * SECOND, 8 * SECOND)]
    world.now = 22 * SECOND
    assert list(run.healing.overdue(host)) == []
    world.now = 23 * SECOND
    assert len(list(run.healing.overdue(host))) == 1


def test_a_member_may_die_in_the_very_turn_with_which_it_goes_on() -> None:
    """Found by seed 19800: the simulator told the dead one how long it had stood still."""
    world = standing_still()
    host = world.hosts[0]
    host.unfinished.append(lambda: world.crash(host, keep=True))
    world.resume((host, host.life))
    assert host.replica is None
    assert world.steps == 1, "it took no turn but that of its start"


def test_a_member_may_stand_still_again_in_the_very_turn_with_which_it_goes_on() -> None:
    world = standing_still()
    host = world.hosts[0]
    begun = host.paused_local
    host.unfinished.append(lambda: world.pause(host, 7 * MS))
    world.resume((host, host.life))
    assert (world.steps, host.paused_until) == (1, world.now + 7 * MS + 1)
    assert host.paused_local == begun, "in the end it hears of all the time that it stood still"


def test_seeds_of_the_code_are_the_same_again_and_others_are_not() -> None:
    assert parse_seeds("code:5", "ab" * 6) == parse_seeds("code:5", "ab" * 6) != parse_seeds("code:5", "cd" * 6)
    assert len(parse_seeds("code:5", "ab" * 6)) == len(parse_seeds("5", "")) == 5
    assert parse_seeds("5", "") != parse_seeds("5", "")
    assert list(parse_seeds("3..5", "")) == [3, 4]
    assert list(parse_seeds("3,9,", "")) == [3, 9]
    for text in ("", "x", "3..x", "3,x", "cod:5", "-"):
        with pytest.raises(ValueError, match="seeds are"):
            parse_seeds(text, "ab" * 6)
