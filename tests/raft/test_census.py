"""Who hears whom, as the leader puts it together from what voters say with their heartbeats' answers (P7.4)."""

from tenure.base.ids import MemberId
from tenure.raft.census import Sight
from tests.raft import names
from tests.raft.script import Script

M2, M3 = names.member_id("m2"), names.member_id("m3")


def three() -> Script:
    script = Script()
    for line in ("cluster 3", "elect m1", "run 100ms"):
        do(script, line)
    return script


def do(script: Script, line: str) -> None:
    name, *words = line.split()
    getattr(script, f"do_{name}")(*words)


def seen(script: Script) -> dict[MemberId, Sight]:
    return script.stage.raft("m1").sights()


def deaf(script: Script, member: MemberId) -> set[str]:
    return {names.name_of(one) for one in seen(script)[member].unheard_by}


def test_all_hear_all() -> None:
    script = three()
    assert deaf(script, M2) == deaf(script, M3) == set()
    assert all(sight.answers and sight.lag == 0 for sight in seen(script).values())


def test_voters_tell_whom_they_do_not_hear_and_take_it_back() -> None:
    script = three()
    for line in ("lose m2 m3 timeout", "lose m3 m2 timeout", "run 100ms"):
        do(script, line)
    assert (deaf(script, M3), deaf(script, M2)) == ({"m2"}, {"m3"})
    for line in ("link m2 m3", "run 100ms"):
        do(script, line)
    assert deaf(script, M3) == deaf(script, M2) == set()


def test_the_word_of_who_does_not_answer_counts_for_nothing() -> None:
    script = three()
    for line in ("lose m2 m3 timeout", "run 100ms", "crash m2", "run 400ms m1 m3"):
        do(script, line)
    assert not seen(script)[M2].answers
    assert deaf(script, M3) == set()


def test_a_new_leader_takes_nobody_for_alive_whom_it_has_not_heard() -> None:
    script = three()
    for line in ("kill m3", "run 600ms m1 m2", "transfer m1 m2", "settle"):
        do(script, line)
    sights = script.stage.raft("m2").sights()
    assert not sights[M3].answers
    assert sights[names.member_id("m1")].answers


def test_only_the_leader_sees() -> None:
    assert three().stage.raft("m2").sights() == {}
