"""Members' lives: planned stops, wiped, shared and damaged data directories, failing disks, long absences."""

import os
import shutil
import sqlite3
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tenure.cli.demo_processes import free_ports
from tests.e2e.cluster import Cluster, Connection, Member, broken, cluster, environment, eventually, value_of
from tests.e2e.harm import flip, frames

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
exit_error, exit_data, exit_disk = 1, 65, 74
"""As documented by `tenure serve --help`."""


def put(member: Member, key: str, value: object = 1) -> int:
    answer = member.ask("PUT", f"/v1/kv/{key}", {"value": value})
    assert answer.status == 200, answer.raw
    revision: int = answer.data["revision"]
    return revision


def get(member: Member, key: str, *, stale: bool = False) -> Any:
    answer = member.ask("GET", f"/v1/kv/{key}" + ("?consistency=stale" if stale else ""))
    assert answer.status == 200, answer.raw
    return answer.data["value"]


# --- planned stops -----------------------------------------------------------------------------------------------


class Writing(threading.Thread):
    """Writes through one member all the time; `failed` holds what was not acknowledged."""

    def __init__(self, member: Member) -> None:
        super().__init__(daemon=True)
        self.member = member
        self.acknowledged = 0
        self.failed: list[str] = []
        self.slowest = 0.0
        self._stop_asked = threading.Event()

    def run(self) -> None:
        connection = Connection(self.member.api)
        while not self._stop_asked.is_set():
            begun = time.monotonic()
            try:
                answer = connection.ask("PUT", f"/v1/kv/writing/{self.member.name}", {"value": self.acknowledged})
            except broken as error:
                self.failed.append(repr(error))
                continue
            if answer.status != 200:
                self.failed.append(f"{answer.status} {answer.raw!r}")
                continue
            self.acknowledged += 1
            self.slowest = max(self.slowest, time.monotonic() - begun)
            time.sleep(0.002)
        connection.close()

    def end(self) -> None:
        self._stop_asked.set()
        self.join()


def test_sigterm_hands_over_first_and_no_write_through_another_member_fails(tmp_path: Path) -> None:
    with cluster(tmp_path) as three:
        for _ in range(3):
            leader, term = three.leader(), three.term()
            writers = [Writing(member) for member in three.others(leader)]
            for writer in writers:
                writer.start()
            eventually(lambda w=writers: all(each.acknowledged > 20 for each in w), "writes before")  # type: ignore[misc]
            assert three.terminate(leader) == 0
            before = [writer.acknowledged for writer in writers]
            eventually(
                lambda w=writers, b=before: all(each.acknowledged > at + 20 for each, at in zip(w, b, strict=True)),  # type: ignore[misc]
                "writes after",
            )
            for writer in writers:
                writer.end()
            assert [writer.failed for writer in writers] == [[], []]
            words = three[leader].words()
            assert value_of(words, "stopping", "handed_over") == "True", words
            successor = three.leader()
            assert successor != leader
            assert three.term() == term + 1, "one transfer, no failed round"
            print(f"slowest write {max(writer.slowest for writer in writers) * 1000:.0f} ms")
            three.start(leader)
            eventually(three[leader].ready, f"{leader} is back")
            assert value_of(three[leader].words(), "store_opened", "clean") == "True"


def test_sigterm_of_all_one_after_the_other_loses_nothing(tmp_path: Path) -> None:
    with cluster(tmp_path) as three:
        put(three["m1"], "a", "kept")
        for name in three.members:
            assert three.terminate(name) == 0
        three.start_all()
        assert [get(member, "a") for member in three.running] == ["kept"] * 3


# --- data directories --------------------------------------------------------------------------------------------


def test_a_member_whose_directory_was_emptied_is_refused_and_told_what_to_do(tmp_path: Path) -> None:
    """P1.2: on its return it must not vote for what it has forgotten."""
    with cluster(tmp_path) as three:
        put(three["m1"], "a", "before")
        wiped = three.followers()[0]
        three.kill(wiped)
        shutil.rmtree(three[wiped].folder)
        leader, term = three.leader(), three.term()
        three.start(wiped)
        eventually(lambda: "member replace" in three[wiped].words(), "its log names the next step")
        assert "--join" in three[wiped].words()
        eventually(lambda: "has no seat in this cluster" in three[leader].words(), "so does the log of who refuses it")
        refused = three[wiped].ask("PUT", "/v1/kv/a", {"value": "after"})
        assert (refused.status, refused.code) == (503, "founding")
        assert "member replace" in refused.data["detail"]
        assert three[wiped].ask("GET", "/livez").status == 200
        assert three[wiped].ask("GET", "/readyz").status == 503
        report = three[wiped].ask("GET", "/status")
        assert (report.status, report.data["state"]) == (503, "refused")
        assert "member replace" in report.data["obstacle"]
        # It counts for nothing: with one more dead there is no quorum, so nothing is acknowledged that could be lost.
        assert (three.leader(), three.term()) == (leader, term)
        other = next(member.name for member in three.running if member.name not in {wiped, leader})
        three.kill(leader)
        alone = three[other].ask("PUT", "/v1/kv/a", {"value": "after"})
        assert (alone.status, alone.code) == (503, "no_quorum")
        three.start(leader)
        three.leader()
        assert get(three[other], "a") == "before"


def test_a_cluster_that_was_wiped_and_founded_anew_issues_higher_terms(tmp_path: Path) -> None:
    """P2.1: what an earlier cluster issued is on the guards' marks."""
    terms = []
    three = Cluster(tmp_path)
    try:
        for _ in range(2):
            three.start_all()
            member = three["m1"]
            opened = member.ask("POST", "/v1/sessions", {"node": "a", "ttl_ms": 60_000, "process": "0" * 16})
            for _ in range(3):
                session = {"session": opened.data["session"]}
                assert member.ask("POST", "/v1/elections/orders/campaign", session).status == 200
                eventually(
                    lambda m=member: m.ask("GET", "/v1/elections/orders").data["node_id"] == "a",  # type: ignore[misc]
                    "a is granted",
                )
                term = member.ask("GET", "/v1/elections/orders").data["term"]
                terms.append(term)
                release = {**session, "term": term, "withdraw": True}
                assert member.ask("POST", "/v1/elections/orders/release", release).status == 200
            for name in three.members:
                three.kill(name)
                shutil.rmtree(three[name].folder)
    except BaseException:
        three.tell()
        raise
    finally:
        three.stop()
    assert terms == sorted(set(terms)), terms


def outcome(three: Cluster, name: str, **changes: object) -> tuple[int, str]:
    """Run a member's command until it ends by itself; exit code and words."""
    line = three.command(name)
    for flag, value in changes.items():
        line[line.index("--" + flag) + 1] = str(value)
    done = subprocess.run(line, env=environment(), capture_output=True, timeout=60, cwd=three.folder, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


def test_a_second_process_on_one_directory_is_refused_and_the_first_one_named(tmp_path: Path) -> None:
    with cluster(tmp_path) as three:
        free = [f"127.0.0.1:{port}" for port in free_ports(2)]
        code, words = outcome(three, "m2", api=free[0], peer=free[1])
        assert code == exit_error, words
        assert f"in use by process {three['m2'].pid}" in words
        code, words = outcome(three, "m2")
        assert code == exit_error, words
        assert "can't listen" in words
        assert put(three["m2"], "a")


def damaged(three: Cluster, name: str) -> tuple[Path, Path]:
    """Kill a member that has some entries; the paths of its database and of its `-wal`."""
    for number in range(30):
        put(three.running[0], f"k{number}", "x" * 500)
    three.settled()
    three.kill(name)
    return three[name].folder / "tenure.db", three[name].folder / "tenure.db-wal"


def test_damage_is_told_apart_from_a_torn_end_and_each_has_its_exit_code(tmp_path: Path) -> None:
    with cluster(tmp_path) as three:
        name = three.followers()[0]
        database, wal = damaged(three, name)
        folder, safe = three[name].folder, tmp_path / "safe"
        shutil.copytree(folder, safe)

        def restored() -> None:
            shutil.rmtree(folder)
            shutil.copytree(safe, folder)

        places = frames(wal)
        assert len(places) > 20

        flip(wal, places[len(places) // 2] + 100)
        code, words = outcome(three, name)
        assert (code, "damaged" in words, "tenure.db-wal" in words) == (exit_data, True, True), words
        assert "member replace" in words

        restored()
        wal.unlink()
        code, words = outcome(three, name)
        assert (code, "missing" in words) == (exit_data, True), words

        restored()
        os.truncate(wal, places[3])
        code, words = outcome(three, name)
        assert (code, "damaged" in words) == (exit_data, True), words

        restored()
        database.write_bytes(os.urandom(8192))
        code, words = outcome(three, name)
        assert code == exit_data, words

        restored()
        database.unlink()
        code, words = outcome(three, name)
        assert (code, "the database is missing" in words) == (exit_data, True), words


def test_a_torn_end_is_dropped_and_said_and_the_others_fill_it_in(tmp_path: Path) -> None:
    """What a crash in the middle of a write leaves behind the last whole transaction."""
    with cluster(tmp_path) as three:
        name = three.followers()[0]
        _, wal = damaged(three, name)
        last = frames(wal)[-1]
        with wal.open("r+b") as stream:
            stream.seek(last)
            whole = stream.read(24 + 4096)
            stream.write(whole[:16] + b"\0" * 8 + whole[24:2_000])  # the same salts, a wrong checksum, half a page
        put(three.running[0], "meanwhile", 1)
        three.start(name)
        eventually(three[name].ready, "the torn member is back")
        assert "unfinished last transaction" in three[name].words()
        three.settled()
        assert [get(three[name], f"k{number}", stale=True) for number in range(30)] == ["x" * 500] * 30
        assert get(three[name], "meanwhile", stale=True) == 1


def test_a_last_transaction_lost_after_it_was_acknowledged_is_known_to_the_others(tmp_path: Path) -> None:
    """P1.3: the disk alone can't tell it from a torn end; the peers know the batch's number."""
    with cluster(tmp_path) as three:
        name = three.followers()[0]
        _, wal = damaged(three, name)
        flip(wal, frames(wal)[-1] + 100)
        three.start(name)
        eventually(lambda: "rolled_back" in three[name].words(), "it is told that its disk went back")
        assert not three[name].ready()
        refused = three[name].ask("PUT", "/v1/kv/a", {"value": 1})
        assert refused.status == 503, refused.raw
        put(three.others(name)[0], "a", 1)
        # Its vote and its acknowledgements count for nothing.
        leader = three.leader()
        three.kill(leader)
        other = next(member for member in three.running if member.name != name)
        assert other.ask("PUT", "/v1/kv/a", {"value": 2}).status == 503
        three.start(leader)
        three.leader()
        put(other, "a", 3)


def test_a_damaged_database_page_is_found_at_start(tmp_path: Path) -> None:
    with cluster(tmp_path) as three:
        name = three.followers()[0]
        for number in range(50):
            put(three[name], f"k{number}", "needle" * 100)
        three.settled()
        assert three.terminate(name) == 0
        database = three[name].folder / "tenure.db"
        assert sqlite3.connect(f"file:{database}?mode=ro", uri=True).execute("PRAGMA integrity_check").fetchone() == (
            "ok",
        )
        at = database.read_bytes().rindex(b"needleneedle")
        flip(database, at)
        code, words = outcome(three, name)
        assert (code, "damaged" in words) == (exit_data, True), words


# --- disks that fail ---------------------------------------------------------------------------------------------


@pytest.mark.integration
@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_failed_sync_ends_the_member_at_once_and_the_rest_goes_on(tmp_path: Path, role: str) -> None:
    """EIO on fdatasync, never retried: after it nobody knows what is durable."""
    assert shutil.which("strace"), "this test needs strace (tools/setup.sh test installs it)"
    with cluster(tmp_path) as three:
        name = three.followers()[0]
        three.kill(name)
        inject = ["strace", "-f", "--seccomp-bpf", "-o", str(tmp_path / "strace"), "-e", "trace=fdatasync"]
        three.start(name, before=[*inject, "-e", "inject=fdatasync:error=EIO:when=60+"])
        eventually(three[name].ready, f"{name} runs under strace")
        if role == "leader":
            moved = three[name].ask("POST", "/leadership/stepdown", {"successor": name})
            assert moved.status == 200, moved.raw
            assert three.leader() == name
        others = three.others(name)
        written = 0
        while three[name].alive:
            with suppress(AssertionError, *broken):  # in the moment of its death
                put(others[0], f"k{written}", written)
                written += 1
            assert written < 5_000, "the injected error never came"
        assert three.ended(name) == exit_disk
        assert "disk_failed" in three[name].words()
        assert three.leader() != name
        for number in range(written):
            assert get(others[1], f"k{number}") == number
        put(others[0], "after", "all")
        three.start(name)
        eventually(three[name].ready, "on a sound disk it is back")
        three.settled()
        assert get(three[name], "after", stale=True) == "all"
        assert get(three[name], f"k{written - 1}", stale=True) == written - 1


# --- long absences -----------------------------------------------------------------------------------------------


def put_many(member: Member, key: str, count: int) -> int:
    connection = Connection(member.api)
    done = [connection.ask("PUT", f"/v1/kv/{key}", {"value": value}).status for value in range(count)]
    connection.close()
    return done.count(200)


@pytest.mark.parametrize("absence", ["stopped", "dead"])
def test_who_comes_back_behind_the_compacted_log_catches_up_by_snapshot(tmp_path: Path, absence: str) -> None:
    with cluster(tmp_path, snapshot_entries=200) as three:
        name = three.followers()[0]
        put(three[name], "before", "it left")
        if absence == "stopped":
            three.pause(name)
        else:
            three.kill(name)
        leader = three.leader()
        with ThreadPoolExecutor(8) as pool:  # the log keeps 1000 entries below its snapshot
            written = list(pool.map(lambda key: put_many(three[leader], key, 200), [f"k{at}" for at in range(8)]))
        assert sum(written) == 1_600
        if absence == "stopped":
            three.resume(name)
        else:
            three.start(name)
        eventually(three[name].ready, f"{name} is back")
        three.settled()
        assert get(three[name], "before", stale=True) == "it left"
        assert [get(three[name], f"k{at}", stale=True) for at in range(8)] == [199] * 8
        assert "snapshot" in three[name].words(), three[name].words()
        # And it is a full member: with it and one other the cluster goes on.
        three.kill(leader)
        three.leader(but=leader)
        put(three[name], "k0", "after")
        assert get(three[name], "k0") == "after"


# --- a wrong secret ----------------------------------------------------------------------------------------------


def test_a_member_with_a_wrong_secret_gets_nowhere(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("s" * 40, encoding="ascii")
    wrong.write_text("w" * 40, encoding="ascii")
    with cluster(tmp_path, cluster_secret_file=right) as three:
        follower = three.followers()[0]
        three.kill(follower)
        leader, term = three.leader(), three.term()
        three[follower].flags["cluster_secret_file"] = wrong
        three.start(follower)
        eventually(lambda: "another cluster secret" in three[leader].words(), "the leader says why it refuses")
        eventually(lambda: "another cluster secret" in three[follower].words(), "and so does the one that is refused")
        refused: Any = None
        with suppress(*broken):
            refused = three[follower].ask("PUT", "/v1/kv/a", {"value": 1})
        assert refused is None or refused.status == 503, refused
        assert three[leader].ask("PUT", "/v1/kv/a", {"value": 2}).status == 200
        assert (three.leader(), three.term()) == (leader, term)
        three.kill(follower)
        three[follower].flags["cluster_secret_file"] = right
        three.start(follower)
        eventually(three[follower].ready, "with the right one it is back")
        assert three[follower].ask("GET", "/v1/kv/a").data["value"] == 2
        assert (three.leader(), three.term()) == (leader, term)
