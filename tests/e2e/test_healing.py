"""The coordination cluster heals itself (DESIGN 11): a voter that is gone is replaced by a standby, and a member whose
directory is lost comes back by itself under a new id. Nobody does anything but the damage.
"""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Cluster, Member, broken, cluster, eventually, value_of
from tests.e2e.harm import flip, frames
from tests.e2e.measured import measured
from tests.e2e.test_members import Writing, get, put

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
dead_after_ms, stabilise_ms = 2_000, 500


def impatient(members: Cluster) -> None:
    """The autopilot waits for seconds, not for minutes."""
    settings = {"dead_after_ms": dead_after_ms, "stabilise_ms": stabilise_ms}
    answer = members[members.leader()].ask("PUT", "/v1/autopilot", settings)
    assert answer.status == 200, answer.raw


def autopilot(member: Member) -> dict[str, Any]:
    answer = member.ask("GET", "/v1/autopilot")
    assert answer.status == 200, answer.raw
    assert isinstance(answer.data, dict)
    return answer.data


def decisions(member: Member) -> list[tuple[str, str | None]]:
    """What it did and declined, newest first."""
    return [(one["kind"], one["member"]) for one in autopilot(member)["decisions"]]


def seats(member: Member) -> list[dict[str, Any]]:
    """Those of the configuration, as this member has it; none if it doesn't answer."""
    try:
        answer = member.ask("GET", "/v1/members?consistency=stale")
    except broken:
        return []
    return list(answer.data["members"]) if answer.status == 200 else []


def voters(member: Member) -> dict[str, str]:
    """Ids of the voters, by name."""
    return {seat["name"]: seat["id"] for seat in seats(member) if seat["role"] == "voter"}


def is_caught_up(members: Cluster, name: str) -> bool:
    report = members[members.leader()].status()
    seat = report["members"].get(name) if report is not None else None
    return seat is not None and seat["lag"] is not None and seat["lag"] < 100 and seat["state"] == "replicate"


@pytest.mark.parametrize("victim", ["a follower", "the leader"])
def test_a_voter_killed_for_good_is_replaced_by_a_standby_without_a_person(tmp_path: Path, victim: str) -> None:
    """Must-show 6 of the issue: full strength again, in a printed time."""
    with cluster(tmp_path) as members:
        impatient(members)
        members.joins("m4", standby="voter")
        eventually(lambda: is_caught_up(members, "m4"), "m4 has caught up")
        name = members.leader() if victim == "the leader" else members.followers()[0]
        name = name if name != "m4" else next(one for one in members.followers() if one != "m4")
        other = next(member for member in members.others(name) if member.name != "m4")
        before = voters(other)[name]
        put(other, "a", "before")
        writing = Writing(other)
        writing.start()
        members.kill(name)
        killed = time.monotonic()
        left = {"m1", "m2", "m3", "m4"} - {name}
        eventually(lambda: set(voters(other)) == left, "three voters live")
        took = time.monotonic() - killed
        eventually(lambda: decisions(other)[0] == ("healthy", None), "it says so")
        writing.end()
        assert before not in [seat["id"] for seat in seats(other)]
        assert decisions(other) == [("healthy", None), ("remove", name), ("promote", "m4"), ("configured", None)]
        # Full strength: one more may die, whoever it is.
        members.kill(members.leader())
        survivor = members.running[0]
        put(survivor, "a", "after")
        assert get(survivor, "a") == "after"
        measured(
            f"{victim} killed: full strength again after {took:.2f} s, {took - dead_after_ms / 1000:.2f} s of them "
            f"beyond dead_after; slowest write {writing.slowest * 1000:.0f} ms"
        )


def returns(members: Cluster, name: str, old: str) -> str:
    """Wait until `name` votes under another id than `old`, and is as good as any; its new id."""
    other = members.others(name)[0]
    # Its own names are shared with its former self until that is gone.
    eventually(lambda: voters(other).get(name, old) != old and len(seats(other)) == 3, f"{name} is back")
    eventually(members[name].ready, f"{name} answers")
    put(other, "after", name)
    members.settled()
    assert get(members[name], "after", stale=True) == name
    assert get(members[name], "k7", stale=True) == "x" * 500
    eventually(lambda: decisions(other)[0] == ("healthy", None), "the autopilot says so")
    assert decisions(other)[1:3] == [("remove", name), ("promote", name)]
    return voters(other)[name]


@pytest.mark.parametrize("how", ["damaged", "emptied", "gone back"])
def test_a_member_whose_directory_is_lost_comes_back_by_itself(tmp_path: Path, how: str) -> None:
    """Quarantine, a new id, a standby at the old place, promoted instead of what it was: started as always, no more."""
    with cluster(tmp_path) as members:
        impatient(members)
        name = members.followers()[0]
        rest = ",".join(f"http://127.0.0.1:{one.api}" for one in members.others(name))
        members[name].flags["rejoin"] = rest
        old = voters(members.others(name)[0])[name]
        for number in range(30):
            put(members.others(name)[0], f"k{number}", "x" * 500)
        members.settled()
        members.kill(name)
        folder = members[name].folder
        match how:
            case "damaged":
                flip(folder / "tenure.db-wal", frames(folder / "tenure.db-wal")[5] + 100)
            case "emptied":
                shutil.rmtree(folder)
            case _:
                flip(folder / "tenure.db-wal", frames(folder / "tenure.db-wal")[-1] + 100)
        begun = time.monotonic()
        members.start(name)
        new = returns(members, name, old)
        took = time.monotonic() - begun
        aside = folder / "quarantined-1"
        if how == "emptied":
            assert not aside.exists(), "there was nothing to keep"
        else:
            assert (aside / "tenure.db").stat().st_size > 0
            assert (aside / "why").read_text(encoding="utf-8")
            assert value_of(members[name].words(), "quarantined", "path") == str(aside)
        measured(f"{how}: {old} is {new} now, after {took:.2f} s")
        # It is a member like the others: also after a restart with the very same command.
        assert members.terminate(name) == 0
        members.start(name)
        eventually(members[name].ready, f"{name} is back")
        assert voters(members[name])[name] == new


def test_who_was_not_told_to_rejoin_stays_away_and_keeps_its_directory(tmp_path: Path) -> None:
    with cluster(tmp_path) as members:
        name = members.followers()[0]
        put(members.others(name)[0], "a", 1)
        members.settled()
        members.kill(name)
        wal = members[name].folder / "tenure.db-wal"
        flip(wal, frames(wal)[1] + 100)
        before = sorted(path.name for path in members[name].folder.iterdir())
        members.start(name)
        assert members.ended(name) == 65
        assert sorted(path.name for path in members[name].folder.iterdir()) == before
        assert "member replace" in members[name].words()


def test_a_member_that_stopped_for_good_ends_with_65(tmp_path: Path) -> None:
    """A unit that was told to stop it must not look as if all were well."""
    with cluster(tmp_path) as members:
        name = members.followers()[0]
        for number in range(20):
            put(members.others(name)[0], f"k{number}", number)
        members.settled()
        members.kill(name)
        wal = members[name].folder / "tenure.db-wal"
        flip(wal, frames(wal)[-1] + 100)
        members.start(name)
        eventually(lambda: "rolled_back" in members[name].words(), "it is told that its disk went back")
        report = members[name].ask("GET", "/status")
        assert (report.status, report.data["state"]) == (503, "stopped")
        assert "lost acknowledged writes" in report.data["obstacle"], report.data["obstacle"]
        assert members.terminate(name) == 65
        assert (members[name].folder / "tenure.db").exists()
