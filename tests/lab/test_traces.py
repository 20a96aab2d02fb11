"""What the logs say about a change of leader."""

import json

from lab.traces import Event, FailOver, fail_over, parse, two_in_a_term, vote_requests


def line(at: int, member: str, what: str, **detail: object) -> bytes:
    return json.dumps({"at": "…", "boot_us": at, "level": "info", "member": member, "what": what, **detail}).encode()


def events(*lines: bytes) -> list[Event]:
    return sorted(parse(b"\n".join(lines)), key=lambda event: event.at_us)


STORY = (
    line(50, "m1", "leader_elected", term=1, noop=1, votes=2),
    line(60, "m1", "first_command", term=1, index=2),
    line(110, "m2", "leader_lost", leader="m1", term=1, evidence="fin", rank=0),
    line(112, "m3", "leader_lost", leader="m1", term=1, evidence="fin", rank=1),
    line(121, "m2", "vote_asked", term=2, attempt=1, why="notes", transfer=False),
    line(142, "m2", "leader_elected", term=2, noop=9, votes=2),
    line(163, "m2", "leader_serves", term=2, commit=9),
    line(164, "m2", "first_command", term=2, index=10),
)


def test_a_change_of_leader_is_told_by_the_new_leaders_lines() -> None:
    found = fail_over(events(*STORY), 100, "m1", 3)
    assert found == FailOver(100, "m2", 2, 110, 112, 142, 163, 164, asked=1)
    assert found.convergence_us == 32
    assert found.first_write_us == 64


def test_a_leader_that_noticed_last_is_measured_from_when_a_majority_had() -> None:
    later = [event for event in events(*STORY) if event.what != "leader_lost"]
    lost = [
        Event(at, member, "leader_lost", {"leader": "m1"}) for at, member in ((105, "m3"), (106, "m4"), (107, "m5"))
    ]
    late = Event(130, "m2", "leader_lost", {"leader": "m1"})
    found = fail_over(sorted([*later, *lost, late], key=lambda event: event.at_us), 100, "m1", 5)
    assert found is not None
    assert (found.noticed_us, found.majority_us, found.convergence_us) == (130, 107, 142 - 107)


def test_nothing_is_told_before_somebody_serves() -> None:
    assert fail_over(events(*STORY[:-1]), 100, "m1", 3) is None
    assert fail_over(events(*STORY), 165, "m1", 3) is None


def test_what_the_struck_leader_still_says_is_not_the_new_one() -> None:
    assert fail_over(events(*STORY), 55, "m1", 3) == FailOver(55, "m2", 2, 110, 112, 142, 163, 164, asked=1)


def test_requests_that_were_asked_for_are_no_false_elections() -> None:
    told = events(
        line(10, "m1", "vote_asked", term=2, attempt=1, why="transfer", transfer=True),
        line(20, "m1", "vote_asked", term=3, attempt=1, why="outbid", transfer=True),
        line(30, "m1", "vote_asked", term=4, attempt=1, why="notes", transfer=False),
        line(40, "m1", "vote_asked", term=5, attempt=1, why="pre_votes", transfer=False),
        line(40, "m1", "pre_vote_asked", term=5, attempt=1, granted=1),
    )
    assert [event.at_us for event in vote_requests(told, 0, 40)] == [30]
    assert [event.at_us for event in vote_requests(told, 40, 50)] == [40]


def test_two_leaders_in_a_term_are_found_in_each_of_their_deeds() -> None:
    assert two_in_a_term(events(*STORY)) == []
    for deed in ("leader_elected", "leader_serves", "first_command"):
        assert two_in_a_term([*events(*STORY), Event(200, "m3", deed, {"term": 2})]) == [f"term 2: {deed} by m2, m3"]


def test_lines_that_are_cut_off_or_not_ours_are_left_out() -> None:
    whole = line(1, "m1", "serving")
    assert [event.what for event in parse(b"Traceback\n" + whole + b'\n{"at": "x"}\n' + whole[:20])] == ["serving"]
