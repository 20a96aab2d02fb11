"""Disks of real members: full, stalled, failing, cut off in the middle, gone back in time.

Each ends in a clear error or in a hand-over, and in the repair that docs/operating/disk-faults.md names; never in a
wrong answer. That a lost directory is replaced is told in test_healing.

TENURE_TEST_STALL_S   how long a disk stalls, 30 unless given
TENURE_TEST_ROUNDS    more than 20: a founding is interrupted at each sync, not at some
"""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.e2e import harm, nemesis
from tests.e2e.applications import Applications
from tests.e2e.cluster import Cluster, Member, broken, cluster, eventually, started, value_of
from tests.e2e.harm import Injection, SmallDisk, inject, injected
from tests.e2e.story import drawn_seed, play
from tests.e2e.test_members import get, put

pytestmark = [pytest.mark.e2e, pytest.mark.integration, pytest.mark.timeout(300)]
exit_error, exit_data, exit_disk = 1, 65, 74
stall_s: Final = float(os.environ.get("TENURE_TEST_STALL_S", "30"))


def moved(three: Cluster, frm: str, what: str) -> str:
    """The leader that follows `frm`."""
    found: list[str | None] = [None]

    def another() -> bool:
        found[0] = three.leader_now()
        return found[0] not in {None, frm}

    eventually(another, f"another leads: {what}")
    assert found[0] is not None
    return found[0]


def nobody_handed_over(every: Cluster) -> None:
    """All disks are in the same plight: another leader would be no better. (Who doesn't hear the leader, on a machine
    that stood still, may stand for election; but that is no matter of disks.)
    """
    for member in every.running:
        words = member.words()
        assert "transfer_begun" not in words, words
        assert "reason=disk_stalled" not in words, words


# --- full ------------------------------------------------------------------------------------------------------------


disks_of_five: Final = (
    "a sync fails at the leader",
    "the leader dies at a sync",
    "a follower's disk is full",
)


@contextmanager
def small_disks(folder: Path, megabytes: int) -> Iterator[tuple[Cluster, dict[str, SmallDisk]]]:
    """Three members, each on a file system of its own."""
    three = Cluster(folder, shutdown_ms=500)
    with ExitStack() as stack:
        try:
            disks = {name: stack.enter_context(SmallDisk(folder / f"disk-{name}", megabytes)) for name in three.members}
        except harm.NotPermitted as why:
            pytest.skip(f"SKIPPED, NOTHING WAS CHECKED: {why}")
        for name, disk in disks.items():
            three[name].folder = disk.path / name
            three[name].before = disk.inside
        stack.enter_context(started(three))
        yield three, disks


def fills(member: Member, disk: SmallDisk, by: Member) -> None:
    """Nothing more fits, and the member has noticed."""
    disk.fill()

    def noticed() -> bool:
        with suppress(*broken):
            by.ask("PUT", "/v1/kv/large", {"value": "x" * 200_000}, timeout=3.0)
        return "no_space" in member.words()

    eventually(noticed, f"{member.name} has no space")


def test_a_full_disk_hands_over_waits_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with small_disks(tmp_path, 40) as (three, disks):
        put(three["m1"], "before")
        leader = three.leader()
        follower, other = three.followers()
        fills(three[follower], disks[follower], three[leader])
        eventually(
            lambda: "no space" in str((three[follower].status() or {}).get("obstacle")), "its status says so, too"
        )
        put(three[other], "follower-full")
        nobody_handed_over(three)
        disks[follower].make_room()
        three.settled()
        eventually(lambda: "space_again" in three[follower].words(), "it says that this is over")
        assert get(three[follower], "follower-full", stale=True) == 1

        leader = three.leader()
        other = three.others(leader)[0].name
        fills(three[leader], disks[leader], three[other])
        moved(three, leader, "the leader's disk is full")
        assert value_of(three[leader].words(), "disk_stalled", "target"), "it says why, and to whom it hands over"
        put(three[other], "leader-full")
        three.signal(leader, signal.SIGTERM)
        assert three.ended(leader) == exit_error, "a planned stop ends without a person, and says what it could not do"
        assert "no space" in (value_of(three[leader].words(), "stopped_in_haste", "text") or ""), three[leader].words()
        three.start(leader)
        assert three.ended(leader) == exit_error, "there is no room to start in"
        assert "Next step: free some space; nothing was lost" in three[leader].words()
        disks[leader].make_room()
        three.start(leader)
        eventually(three[leader].ready, "with room it is back")
        three.settled()
        assert [get(three[leader], key, stale=True) for key in ("before", "leader-full")] == [1, 1]


def test_when_all_disks_are_full_the_leader_stays_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    with small_disks(tmp_path, 40) as (three, disks):
        leader = three.leader()
        for disk in disks.values():
            disk.fill()
        written, refused = 0, None
        while refused is None:
            answer = three[leader].ask("PUT", f"/v1/kv/k{written}", {"value": "x" * 300_000})
            assert answer.status in {200, 503}, answer.raw
            written += answer.status == 200
            refused = answer if answer.status == 503 else None
            assert written < 500, "the disks never filled up"
        assert refused.code == "no_quorum", refused.raw
        assert refused.headers.get("retry-after"), "a client is told when to come again"
        assert len(get(three[leader], "k0")) == 300_000, "reads need no disk"
        eventually(lambda: "disk_stalled_everywhere" in three[leader].words(), "the leader says that it's everybody's")
        for disk in disks.values():
            disk.make_room()

        def serves() -> bool:
            with suppress(*broken):
                return three[leader].ask("PUT", "/v1/kv/after", {"value": 1}).status == 200
            return False

        eventually(serves, "with room it goes on")
        nobody_handed_over(three)
        three.settled()
        for member in three.running:
            assert all(len(get(member, f"k{number}", stale=True)) == 300_000 for number in range(written))


# --- stalled ---------------------------------------------------------------------------------------------------------


def stalled(member: Member) -> Injection:
    """From now on its next sync never ends, until this does."""
    return Injection(member, inject(harm.syncs, delay_enter=harm.hours_us, when=1))


def test_a_disk_that_stalls_costs_its_member_the_leadership_and_nothing_else(tmp_path: Path) -> None:
    """Beside it a cluster all of whose disks stall as long: there the leader stays, refuses what it can't write, and
    renews leases, which need no disk.
    """
    for folder in ("one", "all"):
        (tmp_path / folder).mkdir()
    with (
        cluster(tmp_path / "one") as one,
        cluster(tmp_path / "all") as every,
        Applications(every.endpoints, "orders", {"a": 10_000}, tmp_path) as apps,
        ExitStack() as stack,
    ):
        apps.leading()
        leader, stays = one.leader(), every.leader()
        put(one[leader], "before")
        # A leader's disk that stalls while others still acknowledge is its own matter (P4.1), so its comes last.
        for member in [one[leader], *every.others(stays), every[stays]]:
            stack.enter_context(stalled(member))
        begun = time.monotonic()
        with suppress(*broken):
            one[leader].ask("PUT", "/v1/kv/stalls", {"value": 1}, timeout=3.0)
        refused = every[stays].ask("PUT", "/v1/kv/stalls", {"value": 1})
        assert (refused.status, refused.code) == (503, "no_quorum"), refused.raw

        moved(one, leader, "the leader's disk stalls")
        assert value_of(one[leader].words(), "disk_stalled", "target"), "it says why, and to whom it hands over"
        put(one.others(leader)[0], "meanwhile")
        eventually(lambda: "disk_stalled_everywhere" in every[stays].words(), "the leader says that it's everybody's")
        while time.monotonic() < begun + stall_s:
            assert every[stays].ask("PUT", "/v1/kv/stalls", {"value": 2}).status == 503
            put(one.others(leader)[0], "meanwhile")
        stack.close()

        one.settled()
        assert get(one[leader], "meanwhile", stale=True) == 1
        assert "disk_slow" in one[leader].words()
        nobody_handed_over(every)
        every.settled()
        put(every[stays], "after")
        assert apps.losses() == [], "the lease was renewed all the time"
        written = len(apps.written("a"))
        eventually(lambda: len(apps.written("a")) > written, "its holder writes again")


def test_a_planned_stop_of_a_member_whose_disk_stalls_can_be_hurried(tmp_path: Path) -> None:
    with cluster(tmp_path) as three:
        name = three.followers()[0]
        with stalled(three[name]):
            put(three.others(name)[0], "a")
            three.signal(name, signal.SIGTERM)
            eventually(lambda: " stopping " in three[name].words(), "it has heard")
            three.signal(name, signal.SIGTERM)
            eventually(lambda: "stopped_in_haste" in three[name].words(), "it doesn't wait for the disk")
        assert three.ended(name) == exit_error
        three.start(name)
        eventually(three[name].ready, "it is back")


# --- failing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "only"), [(harm.writes, "tenure.db-wal"), (harm.syncs, "tenure.db")])
def test_any_write_that_fails_ends_the_member_with_its_reason(tmp_path: Path, call: str, only: str) -> None:
    """Also when frames move into the database, which is no part of any write that waits."""
    with cluster(tmp_path, 1) as one:
        member = one["m1"]
        put(member, "before")
        written = 0
        with Injection(member, inject(call, error="EIO", when=1), only=member.folder / only):
            while member.alive:
                with suppress(*broken):
                    written += member.ask("PUT", f"/v1/kv/k{written}", {"value": "x" * 100_000}).status == 200
                assert written < 1_000, "the error never came"
        assert one.ended("m1") == exit_disk
        text = value_of(member.words(), "disk_failed", "text") or ""
        assert "SQLITE_IOERR" in text, text
        assert "check the disk" in text
        one.start("m1")
        one.leader()
        assert get(member, "before") == 1
        assert [get(member, f"k{number}") for number in range(written)] == ["x" * 100_000] * written


def test_a_disk_that_fails_at_start_or_at_the_end_is_told_as_such(tmp_path: Path) -> None:
    with cluster(tmp_path, 1) as one:
        member = one["m1"]
        put(member, "a")
        with Injection(member, inject("fsync", error="EIO", when=1)):
            assert one.terminate("m1") == exit_disk
        assert "stopped_without_mark" in member.words(), member.words()
        assert "start_failed" not in member.words()
        one.start("m1", before=injected(tmp_path / "strace", inject(harm.syncs, error="EIO", when=1)))
        assert one.ended("m1") == exit_disk
        assert value_of(member.words(), "start_failed", "text"), member.words()
        one.start("m1")
        one.leader()
        assert get(member, "a") == 1, "neither of both cost anything"


# --- cut off ---------------------------------------------------------------------------------------------------------

many: Final = int(os.environ.get("TENURE_TEST_ROUNDS", "20")) > 20
deaths: Final = tuple(range(1, 27)) if many else (3, 14, 19, 22)
"""At which sync: while the store is made, opened, founded, and after that."""


def test_a_founding_survives_a_member_that_dies_at_a_sync(tmp_path: Path) -> None:
    """P1.2, with real processes: what is pending stays pending, and all listed members come to one lineage."""
    three = Cluster(tmp_path)
    try:
        three.start("m1")
        three.start("m3")
        for number in deaths:
            fault = inject(harm.syncs, signal="KILL", when=number)
            three.start("m2", before=injected(tmp_path / "strace", fault))
            eventually(lambda: not three["m2"].alive or three["m2"].ready(), "m2 dies, or is through")
            if three["m2"].alive:
                three.kill("m2")
            else:
                assert three.ended("m2") == -signal.SIGKILL
        three.start("m2")
        eventually(three["m2"].ready, "m2 is through")
        put(three["m2"], "a")
        lineages = {value_of(member.words(all_lives=True), "member_of", "lineage") for member in three.running}
        assert len(lineages) == 1
        assert None not in lineages
    except BaseException:
        three.tell()
        raise
    finally:
        three.stop()


def test_a_lone_member_that_dies_at_a_write_has_everything_that_it_acknowledged(tmp_path: Path) -> None:
    """Nobody else could fill it in."""
    with cluster(tmp_path, 1) as one:
        member, written = one["m1"], 0
        for call, number in ((harm.writes, 7), (harm.syncs, 5), (harm.writes, 36)):
            with Injection(member, inject(call, signal="KILL", when=number)):
                while member.alive:
                    with suppress(*broken):
                        written += member.ask("PUT", f"/v1/kv/k{written}", {"value": written}).status == 200
            assert one.ended("m1") == -signal.SIGKILL
            one.start("m1")
            one.leader()
            assert [get(member, f"k{at}") for at in range(written)] == list(range(written))


# --- gone back, or damaged -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "stop"), [("leader", "killed"), ("follower", "stopped")])
def test_a_directory_restored_from_an_older_copy_takes_no_part(tmp_path: Path, role: str, stop: str) -> None:
    """P1.3: it has forgotten what it acknowledged; its peers have not."""
    with cluster(tmp_path) as three:
        name = three.leader() if role == "leader" else three.followers()[0]
        put(three[name], "a", "old")
        three.settled()
        three.terminate(name) if stop == "stopped" else three.kill(name)
        shutil.copytree(three[name].folder, tmp_path / "copy")
        three.start(name)
        eventually(three[name].ready, f"{name} is back")
        for number in range(10):
            put(three.others(name)[0], "a", number)
        three.settled()
        three.terminate(name) if stop == "stopped" else three.kill(name)
        shutil.rmtree(three[name].folder)
        shutil.copytree(tmp_path / "copy", three[name].folder)
        leader = three.leader()
        three.start(name)
        eventually(lambda: "rolled_back" in three[name].words(), "its peers tell it")
        eventually(lambda: (three[name].status() or {}).get("state") == "stopped", "its status says so")
        assert "member replace" in (three[name].status() or {})["obstacle"]
        assert [three[name].ask("GET", path).status for path in ("/livez", "/readyz")] == [200, 503]
        assert three[name].ask("PUT", "/v1/kv/a", {"value": "never"}).status == 503
        # Neither its vote nor its acknowledgement counts: without one of the others there is no quorum.
        other = next(member for member in three.others(name) if member.name != leader)
        three.kill(leader)
        answer = other.ask("PUT", "/v1/kv/a", {"value": "never"})
        assert (answer.status, answer.code) == (503, "no_quorum")
        three.start(leader)
        three.leader()
        assert get(other, "a") == 9


def test_five_members_go_on_with_one_wiped_and_one_restored_from_a_copy(tmp_path: Path) -> None:
    with cluster(tmp_path, 5) as five:
        put(five["m1"], "a", "old")
        five.settled()
        wiped, restored = five.followers()[:2]
        five.kill(restored)
        shutil.copytree(five[restored].folder, tmp_path / "copy")
        five.start(restored)
        eventually(five[restored].ready, f"{restored} is back")
        put(five["m1"], "a", "new")
        five.settled()
        for name in (wiped, restored):
            five.kill(name)
            shutil.rmtree(five[name].folder)
        shutil.copytree(tmp_path / "copy", five[restored].folder)
        for name in (wiped, restored):
            five.start(name)
        eventually(lambda: "member replace" in five[wiped].words(), "the wiped one is refused")
        eventually(lambda: "rolled_back" in five[restored].words(), "the restored one is told")
        healthy = [member for member in five.running if member.name not in {wiped, restored}]
        for member in healthy:
            assert get(member, "a") == "new"
            put(member, "b", member.name)
        five.kill(healthy[0].name)
        assert healthy[1].ask("PUT", "/v1/kv/b", {"value": "never"}).status == 503, "two of five are no quorum"


def test_five_members_lose_nothing_to_disks_that_fail_fill_up_and_stop_in_the_middle(tmp_path: Path) -> None:
    """Under load and with an office held; `make faults` does many more of these, with three and with five."""
    seed = drawn_seed()
    print(f"TENURE_TEST_SEED={seed}")
    play(tmp_path, 5, disks_of_five, nemesis.ALL, seed)


def test_damage_under_a_running_member_shows_at_its_next_start_at_the_latest(tmp_path: Path) -> None:
    """It works from memory; what moves from the `-wal` into the database meanwhile takes the damage with it."""
    with cluster(tmp_path) as three:
        name = three.followers()[0]
        wal = three[name].folder / "tenure.db-wal"
        for number in range(40):
            put(three[name], f"k{number}", "x" * 5_000)
        for place in harm.frames(wal)[20:24]:
            harm.flip(wal, place + 24 + 2_000)
        for number in range(60):  # enough for a checkpoint
            put(three[name], f"k{number % 40}", "y" * 90_000)
        three.terminate(name)
        three.start(name)
        eventually(lambda: not three[name].alive or three[name].ready(), "it is refused, or has lost nothing")
        for number in range(40):
            value = "y" * 90_000
            assert get(three.others(name)[0], f"k{number}") == value
            if three[name].alive:
                assert get(three[name], f"k{number}") == value
        if not three[name].alive:
            assert three.ended(name) == exit_data
            assert "damaged" in three[name].words()


def test_a_database_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    with cluster(tmp_path, 1) as one:
        for number in range(60):
            put(one["m1"], f"k{number}", "x" * 3_000)
        one.terminate("m1")
        database = one["m1"].folder / "tenure.db"
        os.truncate(database, database.stat().st_size // 2)
        one.start("m1")
        assert one.ended("m1") == exit_data, one["m1"].words()
        assert value_of(one["m1"].words(), "start_failed", "text")
