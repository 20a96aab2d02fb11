"""Snapshots with real processes: what stays bounded under writes, and what goes on from a file or from one survivor."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.cluster import Cluster, Member, cluster, environment, eventually, value_of
from tests.e2e.harm import inject, injected
from tests.e2e.measured import measured
from tests.e2e.test_members import get, put
from tests.server.past import stopped_member

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

WRITES: Final = 30_000
KEYS: Final = 1_000
BURST: Final = 50
LANES: Final = 4


def tenure(*arguments: str, before: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
    """A command, as an operator would give it."""
    return subprocess.run(
        [*before, sys.executable, "-m", "tenure", *arguments], env=environment(), capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def told(*arguments: str) -> Any:
    """What a command says with `--json`."""
    done = tenure(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Pipelined(threading.Thread):
    """Puts over a few keys on one connection, a burst at a time."""

    def __init__(self, port: int, numbers: Sequence[int]) -> None:
        super().__init__(daemon=True)
        self.acknowledged = 0
        self.failed: str | None = None
        self._port = port
        self._numbers = numbers

    def run(self) -> None:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=60) as raw:
                answers = raw.makefile("rb")
                for start in range(0, len(self._numbers), BURST):
                    burst = self._numbers[start : start + BURST]
                    raw.sendall(b"".join(self._request(number) for number in burst))
                    for _ in burst:
                        self._answer(answers)
        except (OSError, ValueError, AssertionError) as error:
            self.failed = repr(error)

    def _request(self, number: int) -> bytes:
        body = b'{"value":"%d.%b"}' % (number, b"v" * 100)
        head = b"PUT /v1/kv/key/%d HTTP/1.1\r\nHost: m\r\nContent-Length: %d\r\n\r\n"
        return head % (number % KEYS, len(body)) + body

    def _answer(self, answers: Any) -> None:
        status = answers.readline()
        assert b" 200 " in status, status
        length = 0
        while (line := answers.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        answers.read(length)
        self.acknowledged += 1


def written(member: Member, first: int, count: int) -> None:
    """So many writes through one member, all acknowledged."""
    lanes = [Pipelined(member.api, range(first + lane, first + count, LANES)) for lane in range(LANES)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
        assert lane.failed is None, lane.failed
    assert sum(lane.acknowledged for lane in lanes) == count


def disk_bytes(member: Member) -> int:
    """What the data directory takes."""
    return sum(file.stat().st_blocks * 512 for file in member.folder.iterdir())


def memory_kb(member: Member) -> int:
    """Resident."""
    text = Path(f"/proc/{member.pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))


def counted(member: Member, what: str) -> int:
    """How often it was logged in this life."""
    return sum(1 for line in member.words().splitlines() if f" {what} " in line)


def test_many_writes_over_few_keys_leave_little(tmp_path: Path) -> None:
    """Disk and memory stop growing; a follower that was away catches up by a snapshot while writes go on."""
    flags = {"snapshot_entries": 1_000, "log_kept_entries": 500, "log_held_entries": 2_000}
    with cluster(tmp_path, 3, **flags) as members:
        leader = members[members.leader()]
        away = members.followers()[0]
        written(leader, 0, WRITES // 6)
        members.kill(away)
        written(leader, 0, WRITES // 3)
        before = {
            name: (disk_bytes(members[name]), memory_kb(members[name])) for name in members.members if name != away
        }
        members.start(away)
        written(leader, 0, WRITES // 2)
        members.settled()
        for name, (disk, memory) in before.items():
            now = (disk_bytes(members[name]), memory_kb(members[name]))
            measured(
                f"{name}: {disk / 1e6:.1f} then {now[0] / 1e6:.1f} MB of disk, {memory} then {now[1]} KB of memory"
            )
            assert now[0] < 1.5 * disk + 2_000_000, "half of all writes came since, and nothing is left of them"
            assert now[1] < 1.3 * memory + 10_000
        assert counted(members[away], "snapshot_installed") >= 1
        assert counted(leader, "snapshot_taken") >= 10
        hashes = {json.dumps(get(members[name], f"key/{KEYS - 1}", stale=True)) for name in members.members}
        assert len(hashes) == 1
        members.kill(away)
        members.start(away)
        eventually(members[away].ready, "it restarts from its snapshot")
        restarted = members[away].status()
        assert restarted is not None
        members.settled()


def test_a_cluster_goes_on_from_a_saved_file_and_the_old_one_is_refused(tmp_path: Path) -> None:
    """P1.4 from the command line: save under writes, lose everything, restore, and the old majority comes back."""
    file = tmp_path / "state.snap"
    old = Cluster(tmp_path / "old", 3)
    (tmp_path / "old").mkdir()
    try:
        old.start_all()
        leader = old[old.leader()]
        put(leader, "before", "kept")
        saved = told("snapshot", "save", str(file), "--endpoints", ",".join(old.endpoints))
        put(leader, "after", "lost")
        assert told("snapshot", "inspect", str(file))["contents"]["keys"] == 1
        first_term = told("snapshot", "inspect", str(file))["contents"]["next_term"]
        for name in old.members:
            old.kill(name)
        fresh = Cluster(tmp_path / "new", 1)
        (tmp_path / "new").mkdir()
        m1 = fresh["m1"]
        m1.peer = old["m1"].peer  # where the old ones look for it
        fresh.listed = old.listed
        where = ("--data-dir", str(m1.folder), "--peer", f"127.0.0.1:{m1.peer}")
        made = told("snapshot", "restore", str(file), *where)
        assert made["lineage"][:-1] == saved["lineage"]
        assert made["first_term"] > first_term
        assert tenure("snapshot", "restore", str(file), *where).returncode == 1
        try:
            fresh.start("m1")
            eventually(m1.ready, "the restored member serves")
            assert get(m1, "before") == "kept"
            assert m1.ask("GET", "/v1/kv/after").status == 404
            put(m1, "since", 1)
            old.start("m2")
            old.start("m3")
            eventually(lambda: "left_behind" in old["m2"].words(), "the old one hears that it was left behind")
            eventually(lambda: "left behind" in m1.words(), "the new one refuses the old")
            eventually(old["m2"].ready, "the old majority goes on by itself")
            known = ",".join(made["lineage"])
            refused = old["m2"].ask("PUT", "/v1/kv/before", {"value": "overwritten"}, {"Tenure-Lineage": known})
            assert (refused.status, refused.code) == (409, "wrong_lineage")
            assert get(m1, "before") == "kept"
            assert (m1.status() or {})["consensus"]["leader"] == "m1"
        finally:
            fresh.stop()
    except BaseException:
        old.tell()
        raise
    finally:
        old.stop()


def test_one_survivor_becomes_a_cluster_and_both_survivors_say_forked(tmp_path: Path) -> None:
    """`tenure recover` in earnest: a dry run, the deed, and what happens if it is done twice."""
    with cluster(tmp_path, 3) as members:
        leader = members[members.leader()]
        for number in range(20):
            put(leader, f"k{number}", number)
        members.settled()
        for name in members.members:
            members.terminate(name)
        shutil.rmtree(members["m3"].folder)  # and m3 took the majority with it, says somebody who didn't look for m2
        survivor = members["m1"].folder
        dry = told("recover", "--data-dir", str(survivor))
        assert [one["name"] for one in dry["lost"]] == ["m2", "m3"]
        assert dry["contents"]["keys"] == 20
        refused = tenure("recover", "--data-dir", str(tmp_path / "nothing"))
        assert (refused.returncode, "holds no member" in refused.stderr) == (1, True)
        for name in ("m1", "m2"):
            done = told("recover", "--data-dir", str(members[name].folder), "--majority-is-lost-for-ever")
            assert Path(done["kept"]).is_dir()
            members.start(name)
        for name in ("m1", "m2"):
            eventually(members[name].ready, f"{name} serves alone")
            assert get(members[name], "k19") == 19
            put(members[name], "mine", name)
            eventually(lambda name=name: " forked " in members[name].words(), f"{name} says forked")  # type: ignore[misc]
            report = members[name].status()
            assert report is not None
            assert report["forked"].startswith("forked")
            assert len(report["lineage"]) == 2
            assert value_of(members[name].words(), "member_of", "members") == name


# --- cut off ---------------------------------------------------------------------------------------------------------

RENAMES_MAX: Final = 30


@pytest.mark.integration
def test_a_recovery_may_be_killed_at_any_rename_and_told_again(tmp_path: Path) -> None:
    """Whatever it leaves: told again it is done, by that or before, and the old directory is whole beside the new."""
    interruptions = 0
    for number in range(1, RENAMES_MAX):
        folder = tmp_path / str(number)
        where = stopped_member(folder / "m1")
        words = ("recover", "--data-dir", str(where), "--majority-is-lost-for-ever")
        fault = injected(tmp_path / "strace", inject("/^rename", signal="KILL", when=number))
        first = tenure(*words, before=fault)
        interruptions += not where.exists()
        if first.returncode == 0:
            break
        assert first.returncode == -signal.SIGKILL, first.stderr
        again = tenure(*words)
        assert again.returncode in {0, 8}, again.stderr
        assert (again.returncode == 0) == (" is a cluster of its own now" in again.stdout)
        new, old = sorted(path for path in folder.iterdir())
        assert (new, old.name.startswith("m1.before-recovery-")) == (where, True), sorted(folder.iterdir())
        assert len(told("recover", "--data-dir", str(old))["lineage"]) == 1
        assert len(told("recover", "--data-dir", str(new), "--again")["lineage"]) == 2
    else:
        raise AssertionError("it never comes to an end")
    assert number > 3
    assert interruptions == 1, "between the two renames nothing is there"


def test_a_recovery_whose_disk_fails_at_any_rename_says_so_and_may_be_told_again(tmp_path: Path) -> None:
    for number in range(1, RENAMES_MAX):
        folder = tmp_path / str(number)
        where = stopped_member(folder / "m1")
        words = ("recover", "--data-dir", str(where), "--majority-is-lost-for-ever")
        first = tenure(*words, before=injected(tmp_path / "strace", inject("/^rename", error="EIO", when=number)))
        if first.returncode == 0:
            break
        assert "Input/output error" in first.stderr, first.stderr
        assert "Next step" in first.stderr, first.stderr
        assert "Traceback" not in first.stderr, first.stderr
        again = tenure(*words)
        assert again.returncode == 0, again.stderr
        assert " is a cluster of its own now" in again.stdout
        assert len(told("recover", "--data-dir", str(where), "--again")["lineage"]) == 2
    else:
        raise AssertionError("it never comes to an end")
    assert number > 3
