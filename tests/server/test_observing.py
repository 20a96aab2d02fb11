"""What the engine tells becomes lines that an operator can read, and not more of them than he can."""

import io

from tenure.api import Telemetry
from tenure.base.ids import LogIndex, MemberId, Nonce
from tenure.base.instants import SECOND, Instant, WallMs
from tenure.raft.entries import Configuration, Seat
from tenure.raft.founding import Record
from tenure.raft.ready import Trace
from tenure.server.logs import Log
from tenure.server.observing import Observing


class Set:
    def __init__(self) -> None:
        self.at = 0

    def now(self) -> Instant:
        return Instant(self.at)

    def wall(self) -> WallMs:
        return WallMs(0)


def observing() -> tuple[Observing, Set, io.StringIO]:
    clock, stream = Set(), io.StringIO()
    return Observing(Log(clock, "m1", "info", "text", stream), Telemetry(), clock), clock, stream


def test_members_that_refuse_a_wiped_one_by_turns_fill_no_disk() -> None:
    told, clock, stream = observing()
    for _ in range(600):
        clock.at += SECOND // 10
        told.founding((), "m2 refuses")
        told.founding((), "m3 refuses")
        told.founding(("m2", "m3"), None)
    assert stream.getvalue().count("m2 refuses") == 1
    assert stream.getvalue().count("founding_waits") == 1
    clock.at += 60 * SECOND
    told.founding((), "m2 refuses")
    assert stream.getvalue().count("m2 refuses") == 2


def test_a_full_disk_is_told_once_a_minute_and_its_end_too() -> None:
    told, clock, stream = observing()
    for _ in range(100):
        clock.at += SECOND // 2
        told.no_space("tenure.db: no space left. Next step: free some")
    assert stream.getvalue().count("no_space") == 1
    told.disk_synced(1_000)
    told.disk_synced(1_000)
    assert stream.getvalue().count("space_again") == 1
    told.no_space("tenure.db: no space left. Next step: free some")
    assert stream.getvalue().count("no_space") == 2


def test_a_mistake_of_ours_is_told_with_its_place_and_ends_the_process() -> None:
    told, _, stream = observing()
    ends: list[int] = []
    told.end = ends.append
    try:
        raise KeyError("what was never there")
    except KeyError as error:
        told.crashed(error)
    assert ends == [70]
    assert "member_crashed" in stream.getvalue()
    assert "test_observing.py" in stream.getvalue()


def test_members_are_called_by_their_names() -> None:
    told, _, stream = observing()
    seats = (Seat(MemberId("8d968b3926e0ccbc"), "m1", "h:1"), Seat(MemberId("506eb3e594ba069d"), "m2", "h:2"))
    told.sealed(Record(Nonce("33c083e40efc868f"), Configuration(LogIndex(0), seats), 1))
    told.trace(Trace("following", {"leader": "506eb3e594ba069d", "term": 2}))
    assert "following leader=m2 term=2" in stream.getvalue()
