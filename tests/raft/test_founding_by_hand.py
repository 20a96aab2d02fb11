"""P1.2 and P2.1 at one member: what a record may do to it, and when a founding may end."""

from tenure.base.chance import SplitMix64
from tenure.base.ids import LogIndex, MemberId, Nonce
from tenure.base.instants import Instant, WallMs
from tenure.raft.entries import Configuration, Seat
from tenure.raft.founding import (
    FoundHello,
    Founding,
    FoundingReady,
    FoundPersisted,
    FoundReceived,
    FoundSeal,
    Listed,
    Record,
    Stored,
    stamp_rest_us,
)

LIST = (Listed("m1", "host:m1"), Listed("m2", "host:m2"))
M1, M2 = MemberId("1" * 16), MemberId("2" * 16)


def record(lineage: str, *ids: MemberId) -> Record:
    seats = tuple(Seat(member, one.name, one.peer) for member, one in zip(ids, LIST, strict=True))
    return Record(Nonce(lineage * 16), Configuration(LogIndex(0), seats), 7)


def member(name: str, stored: Stored) -> Founding:
    me, own = (LIST[0], M1) if name == "m1" else (LIST[1], M2)
    return Founding(me, own, LIST, stored, SplitMix64(1), lambda wall: 7)


def hear(founding: Founding, name: str, message: FoundHello | FoundSeal) -> FoundingReady:
    return founding.step([FoundReceived(name, message)], Instant(0), WallMs(0))


def test_a_pending_member_neither_votes_nor_serves() -> None:
    """P1.2b: the record is handed to the member only when it is sealed."""
    founding = member("m2", Stored("pending", record("a", M1, M2)))
    assert founding.step([], Instant(0), WallMs(0)).sealed is None


def test_a_seal_of_another_record_than_the_pending_one_seals_nobody() -> None:
    """P1.2c: it may be old mail, or this disk went back. The operator is told."""
    founding = member("m2", Stored("pending", record("b", M1, M2)))
    ready = hear(founding, "m1", FoundSeal(record("a", M1, M2)))
    assert (ready.persist, ready.sealed) == (None, None)
    assert ready.refused is not None
    assert "went back" in ready.refused


def test_a_seal_that_names_another_id_under_our_name_is_refused_and_says_what_to_do() -> None:
    """P1.2: a wiped member is not its former self."""
    founding = member("m2", Stored("empty", None))
    ready = hear(founding, "m1", FoundSeal(record("a", M1, MemberId("9" * 16))))
    assert (ready.persist, ready.sealed) == (None, None)
    assert ready.refused is not None
    assert "--join" in ready.refused
    assert "member replace" in ready.refused


def test_a_founding_ends_no_sooner_than_two_ms_after_its_stamp() -> None:
    """P2.1: whoever is founded after this one was thrown away has a greater stamp."""
    alone = (LIST[0],)
    founding = Founding(LIST[0], M1, alone, Stored("empty", None), SplitMix64(1), lambda wall: 7)
    ready = founding.step([], Instant(0), WallMs(0))
    assert ready.persist is not None
    assert ready.persist.state == "pending"
    ready = founding.step([FoundPersisted("pending", ready.persist.record)], Instant(1), WallMs(0))
    assert ready.persist is None
    assert ready.deadline <= stamp_rest_us
    ready = founding.step([], Instant(stamp_rest_us), WallMs(0))
    assert ready.persist is not None
    assert ready.persist.state == "sealed"
