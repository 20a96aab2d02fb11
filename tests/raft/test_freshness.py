"""How old a state is, as its member says: never older than that in truth, and not much younger than said."""

import pytest

from tenure.base.ids import Boot, ConsensusTerm, LogIndex, MemberId
from tenure.base.instants import MS, Instant
from tenure.raft.freshness import Freshness, moments_max
from tenure.raft.messages import Heartbeat
from tests.raft.net import Net

BEAT_US = 25 * MS
ME = MemberId("me")


def beat(number: int, committed: int, echo: int, term: int = 1) -> Heartbeat:
    return Heartbeat(
        ConsensusTerm(term), Boot("leader"), number, LogIndex(0), BEAT_US, 0, (), {}, True, LogIndex(committed),
        {ME: echo},
    )  # fmt: skip


def at(ms: int) -> Instant:
    return Instant(ms * MS)


def test_what_was_committed_when_an_answer_left_is_there_once_so_much_is_applied() -> None:
    fresh = Freshness()
    fresh.answer(beat(1, 5, 0), ME, at(100))
    assert fresh.as_of(LogIndex(5)) is None, "when heartbeat 1 was made we can't tell: the way may be long"
    fresh.answer(beat(2, 7, 1), ME, at(180))
    assert fresh.as_of(LogIndex(6)) is None
    assert fresh.as_of(LogIndex(7)) == at(100), "heartbeat 2 was made when the answer of 100 ms had arrived"
    assert fresh.as_of(LogIndex(3)) == at(100), "what was known stays known"


def test_numbers_of_another_life_or_term_say_nothing_about_these_answers() -> None:
    fresh = Freshness()
    fresh.answer(beat(1, 5, 0), ME, at(100))
    fresh.answer(beat(9, 7, 1, term=2), ME, at(200))
    assert fresh.as_of(LogIndex(7)) is None


def test_memory_is_bounded_whatever_the_lag_and_the_way() -> None:
    fresh = Freshness()
    for number in range(1, 5_000):
        fresh.answer(beat(number, number, max(0, number - 40)), ME, at(number * 25))
    assert len(fresh.marks.moments) <= moments_max
    assert len(fresh.answers.moments) <= moments_max
    since = fresh.as_of(LogIndex(2_000))
    assert since is not None
    assert at(1_880 * 25) <= since <= at(1_960 * 25), "fewer marks make the answer later, never wrong"


def test_a_quiet_hour_that_nobody_asked_in_makes_no_state_old() -> None:
    """Nothing new is committed, so what is known of now is known of the same index."""
    fresh, beats = Freshness(), 3_600 * 40
    for number in range(1, beats + 1):
        fresh.answer(beat(number, 7, number - 2), ME, at(number * 25))
    assert len(fresh.marks.moments) <= moments_max
    since = fresh.as_of(LogIndex(7))
    assert since is not None
    assert since >= at((beats - 3) * 25)


def watched(net: Net, micros: int, every_us: int, propose_every: int) -> dict[str, int]:
    """Run; check after each moment that nobody claims to know what it lacks. The largest lag by member, in µs."""
    committed: list[tuple[int, int]] = [(0, 0)]  # when, up to which index
    worst: dict[str, int] = {}
    for turn in range(micros // every_us):
        net.run(every_us)
        leader = net.leader()
        if leader is not None and turn % propose_every == 0:
            net.propose(leader)
        top = max(node.raft.commit for node in net.nodes.values() if node.raft is not None)
        if top > committed[-1][1]:
            committed.append((net.now, top))
        for name, node in net.nodes.items():
            since = node.raft.as_of(node.raft.commit) if node.raft is not None else None
            if node.raft is None or since is None:
                continue
            # `committed` was noted late by one turn at most: what stood there before that is surely older.
            due = max(index for when, index in committed if when <= since)
            assert node.raft.commit >= due, f"{name} at {node.raft.commit} claims {since}, when {due} was committed"
            worst[name] = max(worst.get(name, 0), net.now - since)
    return worst


@pytest.mark.parametrize(("delay_ms", "jitter_ms", "loss"), [(0, 0, 0), (50, 0, 0), (10, 20, 5), (50, 40, 10)])
def test_nobody_claims_a_younger_state_than_it_has(delay_ms: int, jitter_ms: int, loss: int) -> None:
    net = Net(4, delay_us=delay_ms * MS + 500, observers=1)
    net.jitter_us, net.loss_percent = jitter_ms * MS, loss
    net.until_led(5_000 * MS)
    watched(net, 1_000 * MS, 2 * MS, 3)
    worst = watched(net, 1_500 * MS, 2 * MS, 3)
    assert set(worst) == set(net.nodes)
    if not loss:  # an answer's way there, the next heartbeat's way back, and the intervals between: every second tells
        limit = 2 * (net.delay_us + net.jitter_us) + 5 * BEAT_US
        assert worst["m4"] <= limit, worst


def test_a_change_of_leader_and_a_member_that_was_away_are_told_as_they_are() -> None:
    net = Net(4, delay_us=5 * MS, observers=1)
    net.until_led(2_000 * MS)
    watched(net, 300 * MS, 1 * MS, 5)
    first = net.leader()
    assert first is not None
    net.kill(first)
    watched(net, 1_000 * MS, 1 * MS, 5)
    assert net.leader() not in (None, first)
    for way in ("m1>m4", "m2>m4", "m3>m4"):
        net.cut(way)
    worst = watched(net, 700 * MS, 1 * MS, 5)
    assert worst["m4"] >= 690 * MS, "it hears nobody, and says how long ago that was"
    net.heal()
    watched(net, 600 * MS, 1 * MS, 5)
    assert watched(net, 100 * MS, 1 * MS, 5)["m4"] < 170 * MS
