"""P6 at one member: what it takes for the leader's silence, and what for its own."""

from tenure.base.ids import BatchNumber, Boot, ConsensusTerm, LogIndex, MemberId
from tenure.base.instants import MS, Instant
from tenure.raft.events import Lateness, LinkUp, ReadIndex
from tenure.raft.messages import AppendReply, Heartbeat, HeartbeatReply
from tenure.raft.settings import Settings
from tests.raft.test_one_member import M1, M3, Member, append, heartbeat

FLOOR_US = Settings().floor_us
INTERVAL_US = Settings().heartbeat_us
NONE: dict[MemberId, BatchNumber] = {}


def beat(member: Member, number: int, interval_us: int = INTERVAL_US, lateness_us: int = 0) -> int:
    """The leader's next sign of life; how long the member waits for the one after it."""
    said = Heartbeat(ConsensusTerm(1), Boot("leader"), number, LogIndex(0), interval_us, lateness_us, (M1, M3), NONE)
    return member.hear(M1, said).deadline - member.now


def follower() -> Member:
    """m2 follows m1."""
    member = Member(1)
    member.step(LinkUp(M1, Boot("leader"), BatchNumber(0), 1), LinkUp(M3, Boot("m3.1"), BatchNumber(0), 1))
    assert beat(member, 1) == INTERVAL_US + FLOOR_US
    return member


def test_gaps_are_measured_against_the_leaders_own_interval() -> None:
    """P6.1: it beats every 100 ms and says so."""
    member = follower()
    beat(member, 2, interval_us=100 * MS)
    for number in range(3, 10):
        member.now = Instant(member.now + 100 * MS)
        assert beat(member, number, interval_us=100 * MS) <= 100 * MS + FLOOR_US


def test_a_leader_on_a_busy_machine_is_given_the_time_that_it_says_it_needs() -> None:
    """P6.1, P6.2."""
    member = follower()
    member.now = Instant(member.now + INTERVAL_US)
    assert beat(member, 2, lateness_us=120 * MS) == INTERVAL_US + 120 * MS


def test_the_timeout_counts_from_the_last_heartbeat_also_while_entries_come() -> None:
    """P6.2: the next beat was due an interval after the last one, whatever came in between."""
    member = follower()
    begun = member.now
    for _ in range(10):
        member.now = Instant(member.now + 2 * MS)
        assert member.hear(M1, append(1, (1, 1), ())).deadline == begun + INTERVAL_US + FLOOR_US


def test_a_leader_whose_entries_come_is_not_lost_for_a_late_heartbeat() -> None:
    """Any frame of it is a sign of life, and is worth what a late heartbeat is given."""
    member = follower()
    for _ in range(20):
        member.now = Instant(member.now + 20 * MS)
        member.hear(M1, append(1, (1, 1), ()))
        assert member.step(drained=True).deadline >= member.now + FLOOR_US
    assert member.raft.leader == M1
    member.now = Instant(member.now + FLOOR_US)
    member.step(drained=True)
    assert member.raft.leader is None


def test_the_gap_that_a_new_connection_made_is_no_sample() -> None:
    """P6.2."""
    member = follower()
    member.step(LinkUp(M1, Boot("leader"), BatchNumber(0), 1))
    member.now = Instant(member.now + 90 * MS)
    assert beat(member, 2) == INTERVAL_US + FLOOR_US


def test_ones_own_lateness_is_taken_off_the_gap() -> None:
    """P6.3: ten times a little late, and the heartbeat was read late by just that."""
    member = follower()
    for _ in range(10):
        member.now = Instant(member.now + 9 * MS)
        member.step(Lateness(9 * MS))
    assert beat(member, 2) == INTERVAL_US + FLOOR_US


def test_after_an_own_stall_the_leader_gets_time_to_be_heard() -> None:
    """P6.3: its heartbeats may be on their way; one more interval and round trip."""
    member = follower()
    member.now = Instant(member.now + 200 * MS)
    member.step(Lateness(190 * MS), drained=True)
    assert member.raft.leader == M1
    member.now = Instant(member.now + 2 * INTERVAL_US)
    member.step(drained=True)
    assert member.raft.leader is None


def test_a_leader_that_was_stalled_itself_does_not_resign_before_it_can_hear_anybody() -> None:
    """P6.3: CheckQuorum likewise."""
    member = Member(1)
    member.lead()
    member.now = Instant(member.now + 600 * MS)
    member.step(Lateness(590 * MS), drained=True)
    assert member.raft.leader == member.raft.configuration.seats[1].id
    member.now = Instant(member.now + 2 * INTERVAL_US)
    member.step(drained=True)
    assert member.raft.leader is None


def told_lateness(member: Member) -> int:
    """What its newest heartbeat says of its own lateness."""
    return next(said.lateness_us for _, said in reversed(member.sent) if isinstance(said, Heartbeat))


def test_a_stall_that_its_leader_survived_is_told_with_its_heartbeats() -> None:
    """P6.1."""
    member = Member(1)
    member.lead()
    member.now = Instant(member.now + 90 * MS)
    member.step(Lateness(65 * MS), drained=True)
    member.now = Instant(member.now + INTERVAL_US)
    member.step(drained=True)
    assert told_lateness(member) == 65 * MS


def test_a_stall_in_which_its_leader_was_replaced_is_no_sample() -> None:
    """P6.2, as for the gap at the others: else each freeze would be noticed later than the one before."""
    member = Member(1)
    member.lead()
    member.now = Instant(member.now + 125 * MS)
    member.step(Lateness(100 * MS))
    member.hear(M1, heartbeat(int(member.raft.term) + 1))
    member.step(drained=True)
    while member.batch is not None:
        member.persist()
    member.now = Instant(member.now + 200 * MS)
    member.lead()
    assert told_lateness(member) == 0


def asked(member: Member, beats: int) -> list[bool]:
    """Whether its next heartbeats to m1 want an answer."""
    del member.sent[:]
    for _ in range(beats):
        member.now = Instant(member.now + INTERVAL_US)
        member.step(drained=True)
    return [said.answer for to, said in member.sent if to == M1 and isinstance(said, Heartbeat)]


def test_an_idle_leader_wants_every_second_heartbeat_answered() -> None:
    """An answer wakes two processes, and CheckQuorum waits for ten heartbeats."""
    member = Member(1)
    member.lead()
    for peer in (M1, M3):
        member.hear(peer, AppendReply(member.raft.term, member.raft.last_index, BatchNumber(2)))
    while member.batch is not None:
        member.persist()
    answers = asked(member, 6)
    assert answers in ([True, False] * 3, [False, True] * 3)


def test_while_something_waits_for_answers_every_heartbeat_wants_one() -> None:
    """A read's round; and an append whose acknowledgement is out may have to be sent again."""
    member = Member(1)
    member.lead()  # m3 has not acknowledged its no-op
    assert all(asked(member, 4))
    member.hear(M3, AppendReply(member.raft.term, member.raft.last_index, BatchNumber(2)))
    assert not all(asked(member, 4))
    for number in range(2):  # one of them opens its round with a heartbeat that would not have asked by itself
        del member.sent[:]
        member.step(ReadIndex(number))
        said = [message for _, message in member.sent if isinstance(message, Heartbeat)]
        assert [beat.answer for beat in said] == [True, True]
        assert all(asked(member, 2))
        member.hear(M1, HeartbeatReply(member.raft.term, Boot("m2.1"), said[0].number, BatchNumber(2), 1))


def test_a_follower_answers_only_who_asks() -> None:
    """A leader of an earlier version asks always: the field is missing then."""
    member = follower()
    for number, answer in ((2, False), (3, True)):
        del member.sent[:]
        said = Heartbeat(ConsensusTerm(1), Boot("leader"), number, LogIndex(0), INTERVAL_US, 0, (M1, M3), NONE, answer)
        member.hear(M1, said)
        assert any(isinstance(reply, HeartbeatReply) for _, reply in member.sent) == answer


def test_what_one_long_gap_taught_is_remembered_for_half_a_minute() -> None:
    """P6.2: a second such gap ten seconds later deposes nobody."""
    member = follower()
    number, waits = 1, 0
    for gap_ms in (*[25] * 50, 85, *[25] * 400):
        number += 1
        member.now = Instant(member.now + gap_ms * MS)
        waits = beat(member, number)
    assert waits >= INTERVAL_US + 90 * MS
