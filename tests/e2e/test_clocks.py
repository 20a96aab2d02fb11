"""Clocks of real processes: each in a time of its own, wall clocks that jump while somebody leads (P3.7).

Leases count on CLOCK_BOOTTIME of whoever counts; members and nodes never compare clocks. CLOCK_REALTIME is for people.
"""

import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e import harm
from tests.e2e.applications import Applications
from tests.e2e.cluster import Cluster, Member, eventually, now_us, started
from tests.e2e.harm import Faketime

pytestmark = [pytest.mark.e2e, pytest.mark.integration, pytest.mark.timeout(300)]
hour_s: Final = 3_600
near_s: Final = 600
"""So near is meant by "an hour ahead": what these processes tell is some seconds old."""
elsewhens: Final = ((0, 0), (90 * 86_400, 5), (7, 400 * 86_400), (3_600, 3_600), (400 * 86_400, 0))
"""CLOCK_BOOTTIME and CLOCK_MONOTONIC of each member, in seconds before the machine's."""
release_s: Final = 1_735_689_600
"""2025-01-01: no clock of a founding may be before."""


@pytest.fixture
def time_namespaces() -> None:
    try:
        harm.check_elsewhen()
    except harm.NotPermitted as why:
        pytest.skip(f"SKIPPED, NOTHING WAS CHECKED: {why}")


def held(members: Cluster, election: str = "orders") -> dict[str, Any]:
    """The election as its consensus leader sees it."""
    data: dict[str, Any] = members[members.leader()].ask("GET", f"/v1/elections/{election}").data
    return data


def ahead_s(told: str) -> float:
    """How far a wall clock is ahead that said this just now."""
    return datetime.fromisoformat(told).timestamp() - time.time()


def lease_ahead_s(members: Cluster) -> float:
    """The same of the consensus leader's, as far as its hint for people tells (the lease ends in some seconds)."""
    told = held(members)["lease_expiry"]
    return ahead_s(told) if told is not None else 0.0


def log_ahead_s(member: Member, what: str) -> float:
    """By its last line of this kind."""
    told = [line.split()[0] for line in member.words().splitlines() if f" {what} " in line]
    assert told, f"{member.name} told no {what}"
    return ahead_s(told[-1])


def judged(members: Cluster, apps: Applications) -> None:
    apps.end()
    holdings = members[members.leader()].ask("GET", "/v1/elections/orders/history?limit=50").data["holdings"]
    apps.judge({holding["term"]: holding for holding in holdings})


@pytest.mark.usefixtures("time_namespaces")
@pytest.mark.parametrize("size", [3, 5])
def test_every_member_may_live_in_a_time_of_its_own(tmp_path: Path, size: int) -> None:
    """Time namespaces: uptimes that differ by years. Sessions, leases and fail-over go by differences alone."""
    members = Cluster(tmp_path, size)
    for name, (boottime, monotonic) in zip(members.members, elsewhens, strict=False):
        members[name].before = harm.elsewhen(boottime, monotonic)
    with started(members), Applications(members.endpoints, "orders", {"a": 1_000, "b": 1_000}, tmp_path) as apps:
        times = {Path(f"/proc/{member.pid}/ns/time").readlink() for member in members.running}
        assert len(times) == size, "each has a namespace of its own"
        apps.all_standing(members)
        apps.leading()
        for _ in range(2):
            leader = members.leader()
            members.kill(leader)
            members.leader(but=leader)
            members.start(leader)
            eventually(members[leader].ready, f"{leader} is back")
        apps.all_standing(members)
        before, holder = held(members)["term"], apps.leading()
        apps.kill(holder)
        assert held(members)["term"] > before, f"{holder} is dead"
        judged(members, apps)


every_jump: Final = ((-1, "leader"), (1, "leader"), (-1, "everybody"), (1, "everybody"), (0, "everybody"))
some_jumps: Final = ((1, "leader"), (-1, "everybody"))


@pytest.mark.parametrize(("size", "jumps"), [(3, every_jump), (5, some_jumps)], ids=["three", "five"])
def test_a_wall_clock_that_jumps_by_hours_costs_no_lease_and_no_leader(
    tmp_path: Path, size: int, jumps: tuple[tuple[int, str], ...]
) -> None:
    """REALTIME back and forth by an hour under members and holders. Forward makes a holder doubt until its next
    confirmed keepalive; nobody loses an office, and the next term is greater, whatever the clocks say.
    """
    members = Cluster(tmp_path, size)
    clocks = {name: Faketime(tmp_path / f"{name}.clock") for name in members.members}
    for name, clock in clocks.items():
        members[name].environment = clock.environment
    own = Faketime(tmp_path / "applications.clock")
    with (
        started(members),
        Applications(members.endpoints, "orders", {"a": 10_000, "b": 10_000}, tmp_path, own.environment) as apps,
    ):
        apps.all_standing(members)
        holder, term = apps.leading(), held(members)["term"]
        for step, who in jumps:
            leader = members.leader()
            for name, clock in clocks.items():
                if who == "everybody" or name == leader:
                    clock.set(step * hour_s)
            own.set(step * hour_s)
            reached(members, apps, holder, step * hour_s)
            seen = len(apps.written(holder))
            eventually(lambda s=seen: len(apps.written(holder)) > s + 20, "the holder goes on with fenced writes")  # type: ignore[misc]
            now = held(members)
            assert (now["node_id"], now["term"], now["state"]) == (holder, term, "held"), f"{step} h at {who}"
        for clock in clocks.values():
            clock.set(-hour_s)
        apps.kill(holder)
        later = held(members)
        assert later["term"] > term, "terms rise also while the clock is an hour behind"
        leader = members.leader()
        members.kill(leader)
        members.leader(but=leader)
        for member in members.running:
            assert abs(log_ahead_s(member, "leader_lost") + hour_s) < near_s, "all had heard that it is an hour ago"
        assert held(members)["term"] >= later["term"]
        members.start(leader)
        eventually(members[leader].ready, f"{leader} is back")
        judged(members, apps)


def reached(members: Cluster, apps: Applications, holder: str, ahead: int) -> None:
    """The leader and the holder have seen their clocks jump."""
    eventually(lambda: abs(lease_ahead_s(members) - ahead) < near_s, f"the leader's clock is {ahead} s ahead")
    truth_s = time.time() - now_us() / 1_000_000
    eventually(
        lambda: abs(apps.wall_ahead_us(holder) / 1_000_000 - truth_s - ahead) < near_s,
        f"the holder's clock is {ahead} s ahead",
    )


def test_a_founding_by_a_clock_from_before_the_release_is_refused_until_a_floor_is_given(tmp_path: Path) -> None:
    """P2.2: its terms could be below those of a cluster that was here before."""
    clock = Faketime(tmp_path / "clock")
    clock.set(release_s - int(time.time()) - 86_400)
    one = Cluster(tmp_path, 1)
    one["m1"].environment = clock.environment
    try:
        one.start("m1")
        eventually(lambda: "term-floor" in one["m1"].words(), "it says what is wrong and what to do")
        assert not one["m1"].ready()
        one.kill("m1")
        one["m1"].flags["term_floor"] = 10_000_000
        one.start("m1")
        one.leader()
        opened = one["m1"].ask("POST", "/v1/sessions", {"node": "a", "ttl_ms": 60_000, "process": "0" * 16})
        session = {"session": opened.data["session"]}
        assert one["m1"].ask("POST", "/v1/elections/orders/campaign", session).status == 200
        eventually(lambda: held(one)["node_id"] == "a", "a is granted")
        assert held(one)["term"] >= 10_000_000
    except BaseException:
        one.tell()
        raise
    finally:
        one.stop()
