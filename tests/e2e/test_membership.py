"""Members that come and go while clients write: replaced, more, fewer; witnesses, observers far away, the removed."""

import os
import shutil
import time
from pathlib import Path
from typing import Final

import pytest

from tenure.client import lead
from tests.e2e.changing import Changing, Load, Relay, changing
from tests.e2e.cluster import eventually, value_of

rounds: Final = max(1, int(os.environ.get("TENURE_TEST_ROUNDS", "20")) // 20)
"""How often all three members are replaced."""
stops: Final = {3, 5, 7}
"""Numbers of voters at which clients are looked after on the way to seven and back."""
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180 + 60 * rounds)]


def test_every_member_is_replaced_under_load_one_after_the_other(tmp_path: Path) -> None:
    """P7: no acknowledged write is lost, and the longest gap between two is printed."""
    with changing(tmp_path, 3, newcomers=3 * rounds) as members:
        load = Load(members)
        names = list(members.members)
        load.served("the founding")
        for number, old in enumerate(names[: 3 * rounds]):
            new = names[number + 3]
            members.start(new)
            done = members.tenure("member", "replace", old, "--by", new, "--wait", "60s")
            assert done.returncode == 0, done.stderr
            eventually(lambda o=old: "member_stopped" in members[o].words(), f"{old} hears that it has left")  # type: ignore[misc]
            members.terminate(old)
            load.served(f"{new} for {old}")
        assert members.roles() == dict.fromkeys(names[3 * rounds :], "voter")
        load.end()


def test_it_grows_to_seven_voters_no_eighth_and_shrinks_back_to_one(tmp_path: Path) -> None:
    """P7: one voter at a time, each by a majority of the old and of the new."""
    with changing(tmp_path, 1, newcomers=7) as members:
        load = Load(members, ("sequence", "key"))
        names = list(members.members)
        members.joined(*names[1:])
        for voters, name in enumerate(names[1:7], 2):
            members.change(f"/{name}/promote")
            if voters in stops:
                load.served(f"{voters} voters")
        eighth = members.tenure("member", "promote", names[7])
        assert eighth.returncode == 8, eighth.stderr
        assert "at most 7 members vote" in eighth.stderr
        assert list(members.roles().values()).count("voter") == 7
        first, second = members.leader(), next(member.name for member in members.others(members.leader()))
        members.change(f"/{first}/demote")  # the leader, too
        for name in reversed(names):
            if name == second:
                continue
            members.change(f"/{name}/remove")
            voters = list(members.roles().values()).count("voter")
            if voters in stops:
                load.served(f"{voters} voters again")
        assert members.roles() == {second: "voter"}
        last = members.tenure("member", "remove", second)
        assert (last.returncode, "last voter" in last.stderr) == (8, True), last.stderr
        load.served("one voter")
        load.end()


def test_a_witness_keeps_the_quorum_serves_nobody_and_hands_on_what_it_alone_holds(tmp_path: Path) -> None:
    """P8."""
    with changing(tmp_path, 3, witnesses=1) as members:
        witness = members["m3"]
        eventually(lambda: (witness.status() or {}).get("state") == "witness", "the witness says what it is")
        assert "witness" in witness.words()
        assert members.roles() == {"m1": "voter", "m2": "voter", "m3": "witness"}
        for path in ("/v1/kv/a", "/v1/kv/a?consistency=stale", "/v1/events", "/v1/elections/orders"):
            answer = witness.ask("GET", path)
            assert (answer.status, answer.code) == (503, "no_state"), path
        assert witness.ask("GET", "/readyz").status == 503
        with lead("orders", endpoints=f"http://127.0.0.1:{witness.api},{members.endpoints[0]}", node="a", ttl_ms=5_000):
            pass  # who has a witness among its endpoints goes on to the next
        load = Load(members)
        load.served("the founding")
        leader = members.leader()
        other = next(name for name in ("m1", "m2") if name != leader)
        members.kill(other)
        load.served(f"{other} was killed")
        assert members.leader() == leader
        members.kill(leader)  # what it and the witness have committed, the witness alone holds now
        assert witness.ask("PUT", "/v1/kv/b", {"value": 1}).code == "no_state"
        members.start(other)
        load.served(f"{other} is back")
        assert members.leader() == other
        assert "handing_on" in witness.words() or "transfer_begun" in witness.words()
        load.end()


def test_observers_follow_and_are_never_counted_whatever_becomes_of_them(tmp_path: Path) -> None:
    """Also where no namespaces are allowed: one of them hears the others late. A cable that is long both ways,
    and what writes pay for it, is in tests/lab/test_observers.
    """
    members = Changing(tmp_path, 3, newcomers=2)
    relay = Relay(members["m4"].peer, 0.05)
    members["m4"].flags["advertise_peer"] = f"127.0.0.1:{relay.port}"
    try:
        members.start_all()
        load = Load(members)
        members.joined("m4", "m5")
        far = members["m4"]
        put = members["m1"].ask("PUT", "/v1/kv/far", {"value": "seen"})
        assert put.status == 200, put.raw
        eventually(lambda: far.ask("GET", "/v1/kv/far?consistency=stale").status == 200, "the far observer follows")
        stale = far.ask("GET", "/v1/kv/far?consistency=stale")
        assert int(stale.headers["tenure-applied-index"]) >= put.data["revision"]
        lag_ms = int(stale.headers["tenure-lag-ms"])
        assert lag_ms >= 50, "what is read there was on its way for so long"
        print(f"the far observer's state is at most {lag_ms} ms old")
        with lead("orders", endpoints=f"http://127.0.0.1:{far.api}", node="far", ttl_ms=10_000, timeout=60) as lease:
            lease.check()  # a session through an observer is as good as any
        shown = members.told("member", "list")["members"]
        assert {seat["name"]: seat["role"] for seat in shown}["m4"] == "observer"
        members.kill("m4")
        members.pause("m5")
        load.served("one observer is dead, one is frozen", 10)
        members.resume("m5")
        members.start("m4")
        eventually(members["m4"].ready, "the far observer is back")
        load.served("both are back")
        load.end()
        leader = members.leader()
        for name in ("m1", "m2", "m3"):
            if name != leader:
                members.kill(name)
        alone = members[leader].ask("PUT", "/v1/kv/far", {"value": "lost"})
        assert (alone.status, alone.code) == (503, "no_quorum"), "two observers and one of three voters are no majority"
        assert members["m4"].ask("GET", "/v1/kv/far?consistency=stale").data["value"] == "seen"
    except BaseException:
        members.tell()
        raise
    finally:
        members.stop()
        relay.end()


def test_the_leader_is_removed_under_load_and_the_wiped_and_the_removed_are_told_what_to_do(tmp_path: Path) -> None:
    with changing(tmp_path, 3) as members:
        load = Load(members)
        load.served("the founding")
        gone = members.leader()
        done = members.tenure("member", "remove", gone, "--dry-run")
        assert done.stdout.startswith(f"1. hand the consensus leadership over from {gone}\n2. remove {gone}"), (
            done.stderr
        )
        assert members.tenure("member", "remove", gone).returncode == 0
        load.served(f"the leader {gone} was removed")
        eventually(lambda: "member_stopped" in members[gone].words(), f"{gone} says that it was removed")
        report = members[gone].status()
        assert report is not None
        assert report["state"] == "stopped"
        assert "was removed from the cluster" in report["obstacle"]
        assert "tenure serve --join" in report["obstacle"]
        assert value_of(members[gone].words(), "member_stopped", "reason") == "removed"
        members.terminate(gone)
        members.start(gone)  # with its old directory it stays what it is: removed
        eventually(lambda: "member_stopped" in members[gone].words(), f"{gone} is told again")
        members.terminate(gone)
        members.founders.remove(gone)
        shutil.rmtree(members[gone].folder)
        members.joined(gone)  # with an empty one it comes back, under its old name
        members.change(f"/{gone}/promote")

        wiped = next(name for name in members.founders if name != members.leader())
        members.kill(wiped)
        shutil.rmtree(members[wiped].folder)
        members.founders.remove(wiped)
        members.start(wiped)  # with --join, under a name that a voter has
        eventually(lambda: "joining_waits" in members[wiped].words(), f"{wiped} is told that its name is in use")
        report = members[wiped].status()
        assert report is not None
        assert report["state"] == "joining"
        assert f"{wiped} is the name of the member" in report["obstacle"]
        assert "tenure member remove" in report["obstacle"]
        assert members[wiped].ask("GET", "/livez").status == 200
        assert members[wiped].ask("GET", "/readyz").status == 503
        members.change(f"/{wiped}/remove")  # an operator follows that
        began = time.monotonic()
        eventually(members[wiped].ready, f"{wiped} is taken in by itself")
        print(f"taken in {time.monotonic() - began:.1f} s after the old one was removed")
        assert members.roles()[wiped] == "observer"
        load.served("a new member under the old name")
        load.end()
