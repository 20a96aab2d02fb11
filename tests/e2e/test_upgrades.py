"""Members of two versions (P10): upgraded one by one under load, the feature version rises once and only behind the
last; nobody goes back behind it, and who meets what it doesn't know stops and says so.
"""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Cluster, Connection, Member, cluster, eventually, patience_s, root
from tests.e2e.load import Style, User, attempt_s
from tests.e2e.measured import measured
from tests.e2e.next_version import CARELESS, NEXT, built
from tests.e2e.story import every_own_write_is_there, read_all
from tests.e2e.test_healing import is_caught_up
from tests.e2e.test_members import get, put
from tests.sim.linearizability import check

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
styles: tuple[Style, ...] = ("sequence", "key", "bare")
exit_data = 65
too_old = "upgrade this member"


def consensus(member: Member) -> dict[str, Any]:
    report = member.status()
    return report["consensus"] if report is not None else {}


def speaks(members: Cluster) -> dict[str, int]:
    """As the leader knows it."""
    report = members[members.leader()].status()
    return {name: seat["speaks"] for name, seat in report["members"].items()} if report is not None else {}


def upgrade(members: Cluster, name: str, source: Path) -> None:
    """As an operator does it: stop, exchange the program, start, see that it has caught up."""
    assert members.terminate(name) == 0
    members[name].source = source
    members.start(name)
    eventually(members[name].ready, f"{name} is back")


def upgrade_all(members: Cluster, source: Path) -> None:
    for name in list(members.members):
        upgrade(members, name, source)
    eventually(lambda: all(consensus(one).get("feature") == 2 for one in members.running), "the version rises")


def users_of(members: Cluster, stop: threading.Event) -> list[User]:
    users = []
    for number, style in enumerate(styles):
        connections = [Connection(one.api, attempt_s) for one in members.members.values()]
        users.append(User(connections, number, style, number, stop))
    for user in users:
        user.start()
    return users


def served(users: list[User]) -> None:
    """Every client gets new answers."""
    before = [user.acks for user in users]
    eventually(lambda: all(user.acks > at for user, at in zip(users, before, strict=True)), "all clients are served")


def test_upgraded_one_by_one_under_load_the_version_rises_once_and_only_after_the_last(tmp_path: Path) -> None:
    new = built(tmp_path / "next", NEXT)
    with cluster(tmp_path) as members:
        stop = threading.Event()
        users = users_of(members, stop)
        served(users)
        for name in ("m1", "m2", "m3"):
            # As long as one is missing, nothing of the new version is said, whoever leads.
            for one in members.running:
                assert consensus(one)["feature"] == 1
            if members[members.leader()].source == new:
                refused = members[members.leader()].ask("PUT", "/v1/kv/next/a", {"value": 1})
                assert (refused.status, refused.code) == (409, "version_too_old"), refused.raw
                assert "upgrade every member first" in refused.data["detail"]
            begun = time.monotonic()
            upgrade(members, name, new)
            served(users)
            measured(f"{name} upgraded in {time.monotonic() - begun:.1f} s")
        eventually(lambda: all(consensus(one).get("feature") == 2 for one in members.running), "the version rises")
        assert set(speaks(members).values()) == {2}
        put(members["m2"], "next/a", 1)
        served(users)
        stop.set()
        for user in users:
            user.join(patience_s)
            assert not user.is_alive(), f"{user.name} hangs"
        members.settled()
        for name in members.members:
            every_own_write_is_there(members, name, users)
            assert get(members[name], "next/a", stale=True) == {"next": 1}
        assert not [text for user in users for text in user.odd]
        operations = [*(each for user in users for each in user.operations), *read_all(members, users)]
        assert not check(operations)
        raised = [line for one in members.running for line in one.words(all_lives=True).splitlines() if is_rise(line)]
        assert len(raised) == 1, raised
        started = [line for line in members["m3"].words().splitlines() if " serving " in line]
        assert raised[0] > started[0], "lines begin with the time"
        measured(f"{len(operations)} operations, linearizable; {raised[0]}")


def is_rise(line: str) -> bool:
    return " feature_raised " in line


def test_a_newer_member_joins_an_older_cluster_and_an_older_one_delays_the_rise(tmp_path: Path) -> None:
    new = built(tmp_path / "next", NEXT)
    with cluster(tmp_path) as members:
        put(members["m1"], "a", 1)
        members.joins("m4", source=new)
        eventually(lambda: is_caught_up(members, "m4"), "m4 has caught up")
        assert speaks(members) == {"m1": 1, "m2": 1, "m3": 1, "m4": 2}
        old = members.joins("m5")
        eventually(lambda: is_caught_up(members, "m5"), "m5 has caught up")
        for name in ("m1", "m2", "m3"):
            upgrade(members, name, new)
        put(members["m1"], "b", 1)
        time.sleep(0.5)  # many heartbeats: each could have raised it
        assert consensus(members["m1"])["feature"] == 1, "an observer counts as every member"
        upgrade(members, old.name, new)
        eventually(lambda: all(consensus(one).get("feature") == 2 for one in members.running), "the version rises")


def test_behind_the_rise_nobody_goes_back_and_nobody_older_comes_in(tmp_path: Path) -> None:
    new = built(tmp_path / "next", NEXT)
    with cluster(tmp_path) as members:
        upgrade_all(members, new)
        put(members["m1"], "next/a", 1)
        name = members.followers()[0]
        assert members.terminate(name) == 0
        members[name].source = root / "src"  # our own sources are the older ones now
        members.start(name)
        eventually(lambda: too_old in members[name].words(), "it says what it lacks")
        report = members[name].ask("GET", "/status")
        assert (report.status, report.data["state"]) == (503, "stopped")
        assert "feature version 2, this member only 1" in report.data["obstacle"]
        refused = members[name].ask("GET", "/v1/kv/next/a")
        assert (refused.status, refused.code) == (503, "no_part")
        assert too_old in refused.data["detail"]
        assert members[name].ask("GET", "/livez").status == 200
        put(members.others(name)[0], "next/a", 2)
        assert members.terminate(name) == exit_data
        # Upgraded again it goes on where it was.
        members[name].source = new
        members.start(name)
        eventually(members[name].ready, f"{name} is back")
        assert get(members[name], "next/a") == {"next": 2}
        # A new member of the old program isn't taken in.
        late = members.joins("m4")
        eventually(lambda: "joining_waits" in late.words(), "it is refused")
        assert "m4 speaks feature version 1, this cluster 2" in late.words()
        report = late.ask("GET", "/status")
        assert (report.status, report.data["state"]) == (503, "joining")
        assert "m4 speaks feature version 1" in report.data["obstacle"]
        assert {seat["name"] for seat in members["m1"].ask("GET", "/v1/members").data["members"]} == {"m1", "m2", "m3"}


def test_a_command_that_a_member_does_not_know_stops_it_and_it_never_guesses(tmp_path: Path) -> None:
    """A program with a mistake says it too early. The others stop in front of it, and go on once they are upgraded."""
    careless = built(tmp_path / "careless", CARELESS)
    with cluster(tmp_path) as members:
        upgrade(members, "m1", careless)
        asked = lambda: members["m1"].ask("POST", "/leadership/stepdown", {"successor": "m1"}).status == 200  # noqa: E731
        eventually(asked, "m1 can take over")
        eventually(lambda: members.leader_now() == "m1", "m1 leads")
        put(members["m1"], "a", 1)
        members.settled()
        before = consensus(members["m2"])["applied_index"]
        said = members["m1"].ask("PUT", "/v1/kv/next/a", {"value": 1})
        assert said.status in {200, 503}, said.raw  # it was committed; the answer may find no quorum any more
        for name in ("m2", "m3"):
            eventually(lambda n=name: "member_stopped" in members[n].words(), f"{name} stops")  # type: ignore[misc]
            report = members[name].ask("GET", "/status")
            assert (report.status, report.data["state"]) == (503, "stopped")
            assert "a command of feature version 2, and this program speaks 1" in report.data["obstacle"]
            assert report.data["consensus"]["applied_index"] == before, "nothing was guessed"
            missing = members[name].ask("GET", "/v1/kv/next/a?consistency=stale")
            assert missing.status == 404, missing.raw
            assert members.terminate(name) == exit_data
        for name in ("m2", "m3"):
            members[name].source = careless
            members.start(name)
        members.leader()
        members.settled()
        for member in members.running:
            assert get(member, "next/a", stale=True) == {"next": 1}
