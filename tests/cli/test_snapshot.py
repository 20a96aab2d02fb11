"""`tenure snapshot` and `tenure recover`: what they make, what they refuse, and in which words."""

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from tenure.base.ids import MemberId
from tenure.raft.entries import Seat
from tests.cli.conftest import Tenure
from tests.server.past import SEATS, changed, joined_member, stopped_member, written_file

M1, M2, M3 = SEATS
M4 = Seat(MemberId("4" * 16), "m4", "10.0.0.4:8369", "observer")


def test_a_saved_file_tells_what_is_in_it(ask: Tenure, tenure: Tenure, tmp_path: Path) -> None:
    file = tmp_path / "state.snap"
    ask("kv", "put", "a", "1")
    ask("kv", "put", "b", '"x"')
    saved = ask("snapshot", "save", str(file), "--json")
    assert saved.code == 0
    assert saved.json["file"] == str(file)
    assert file.stat().st_mode & 0o777 == 0o600, "what stands in it is as secret as the data directory"
    found = tenure("snapshot", "inspect", str(file), "--json").json
    assert found["contents"]["keys"] == 2
    assert found["sha256"] == saved.json["sha256"]
    assert found["consistency"] == "linearizable"
    text = tenure("snapshot", "inspect", str(file)).out
    assert "2 keys" in text
    assert f"sha256 {found['sha256']}" in text
    assert [path.name for path in tmp_path.iterdir()] == ["state.snap"]


def test_a_stale_one_says_so(ask: Tenure, tenure: Tenure, tmp_path: Path) -> None:
    file = str(tmp_path / "state.snap")
    assert ask("snapshot", "save", file, "--stale").code == 0
    assert tenure("snapshot", "inspect", file, "--json").json["consistency"] == "stale"


def test_an_existing_file_is_kept_unless_told(ask: Tenure, tmp_path: Path) -> None:
    file = tmp_path / "state.snap"
    file.write_text("precious")
    refused = ask("snapshot", "save", str(file))
    assert refused.code == 1
    assert "--overwrite" in refused.err
    assert file.read_text() == "precious"
    assert ask("snapshot", "save", str(file), "--overwrite").code == 0
    assert file.read_bytes().startswith(b"tenure-snapshot 1\n")


def test_a_save_that_fails_leaves_nothing(tenure: Tenure, tmp_path: Path) -> None:
    gone = tenure("snapshot", "save", str(tmp_path / "s"), "--endpoints", "http://127.0.0.1:1", "--timeout", "0.3")
    assert gone.code == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-40], "ends after"),
        (lambda data: data[:100] + b"X" + data[101:], "snapshot"),
        (lambda data: data[:-150] + b"\0" + data[-149:], "changed"),
        (lambda _: b"PK\3\4 something else", "no snapshot of Tenure's"),
        (lambda data: b"tenure-snapshot 9" + data[17:], "format 9"),
        (lambda _: b"", "ends after 0 bytes"),
    ],
)
def test_a_damaged_file_is_named_and_restores_nothing(
    tenure: Tenure, tmp_path: Path, change: Callable[[bytes], bytes], words: str
) -> None:
    file = written_file(tmp_path / "s.snap")
    file.write_bytes(change(file.read_bytes()))
    for command in (("inspect", str(file)), ("restore", str(file), "--data-dir", str(tmp_path / "d"))):
        said = tenure("snapshot", *command)
        assert said.code == 1
        assert words in said.err
        assert "Traceback" not in said.err
    assert not (tmp_path / "d").exists()
    assert tenure("snapshot", "inspect", str(file), "--json").error["exit"] == 1


def test_a_file_that_is_not_there(tenure: Tenure, tmp_path: Path) -> None:
    said = tenure("snapshot", "inspect", str(tmp_path / "nothing"))
    assert (said.code, "can't be read: No such file" in said.err) == (1, True)


def test_restore_makes_one_member_that_can_be_started(tenure: Tenure, tmp_path: Path) -> None:
    file = written_file(tmp_path / "s.snap")
    where = tmp_path / "d"
    said = tenure("snapshot", "restore", str(file), "--data-dir", str(where), "--peer", "127.0.0.1:7001", "--json")
    assert said.code == 0
    assert said.json["data_dirs"] == {"m1": str(where)}
    assert len(said.json["lineage"]) == 2
    assert [member["peer"] for member in said.json["members"]] == ["127.0.0.1:7001"]
    again = tenure("snapshot", "restore", str(file), "--data-dir", str(where))
    assert again.code == 1
    assert "not empty" in again.err


def test_restore_makes_a_directory_for_each_of_a_list(tenure: Tenure, tmp_path: Path) -> None:
    file = written_file(tmp_path / "s.snap")
    listed = "a=10.0.0.1:8369,b=10.0.0.2:8369,c=10.0.0.3:8369"
    said = tenure("snapshot", "restore", str(file), "--data-dir", str(tmp_path / "d"), "--cluster", listed)
    assert said.code == 0
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["a", "b", "c"]
    assert "Carry each directory" in said.out


def test_a_list_or_a_floor_that_is_none_is_a_wrong_use(tenure: Tenure, tmp_path: Path) -> None:
    file = str(written_file(tmp_path / "s.snap"))
    where = str(tmp_path / "d")
    for wrong in (
        ("--cluster", "nonsense"),
        ("--peer", "nowhere"),
        ("--term-floor", "0"),
        ("--term-floor", str(2**60)),
    ):
        assert tenure("snapshot", "restore", file, "--data-dir", where, *wrong).code == 2
    assert not Path(where).exists()


@pytest.mark.parametrize("more", [(), ("--cluster", "m1=10.0.0.1:8369,m2=10.0.0.2:8369")])
def test_restore_to_a_file_is_refused_in_words(tenure: Tenure, tmp_path: Path, more: tuple[str, ...]) -> None:
    file, where = written_file(tmp_path / "s.snap"), tmp_path / "f"
    where.write_text("precious")
    said = tenure("snapshot", "restore", str(file), "--data-dir", str(where), *more)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"tenure: {where} is no directory. Next step: give a --data-dir")
    assert where.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "s.snap"]


# --- recover --------------------------------------------------------------------------------------------------------


def test_recover_tells_first_and_changes_nothing(tenure: Tenure, tmp_path: Path) -> None:
    where = stopped_member(tmp_path / "m1")
    before = {path.name: path.read_bytes() for path in where.iterdir()}
    said = tenure("recover", "--data-dir", str(where))
    assert said.code == 0
    assert said.out.startswith("DRY RUN")
    assert "LOST: whatever only these had, acknowledged or not: m2 (voter), m3 (voter)" in said.out
    assert "--majority-is-lost-for-ever" in said.out
    found = tenure("recover", "--data-dir", str(where), "--json").json
    assert found["dry_run"] is True
    assert [one["name"] for one in found["lost"]] == ["m2", "m3"]
    assert {path.name: path.read_bytes() for path in where.iterdir() if path.name != "lock"} == {
        name: data for name, data in before.items() if name != "lock"
    }


def test_recover_does_it_when_it_is_meant(tenure: Tenure, tmp_path: Path) -> None:
    where = stopped_member(tmp_path / "m1")
    said = tenure("recover", "--data-dir", str(where), "--majority-is-lost-for-ever", "--json")
    assert said.code == 0
    kept = Path(said.json["kept"])
    assert kept.name.startswith("m1.before-recovery-")
    assert (kept / "tenure.db").exists()
    assert [member["peer"] for member in said.json["members"]] == ["10.0.0.1:8369"], "it keeps its address"
    again = tenure("recover", "--data-dir", str(where), "--again", "--json").json
    assert again["lineage"] == said.json["lineage"]
    assert again["lost"] == []


@pytest.mark.parametrize("meant", [(), ("--majority-is-lost-for-ever",)])
def test_recover_of_what_was_recovered_is_refused_unless_it_is_told_so(
    tenure: Tenure, tmp_path: Path, meant: tuple[str, ...]
) -> None:
    """The only voter needs nobody: another lineage would be another cluster, for nothing."""
    where = stopped_member(tmp_path / "m1")
    recover = ("recover", "--data-dir", str(where))
    first = tenure(*recover, "--majority-is-lost-for-ever", "--json").json
    there = sorted(path.name for path in tmp_path.iterdir())
    refused = tenure(*recover, *meant)
    assert (refused.code, refused.out) == (8, "")
    assert "m1 is the only voter of its cluster" in refused.err
    assert "recovered or restored already" in refused.err
    assert "start it as before" in refused.err
    assert "if this directory is an older copy: --again, which takes new terms" in refused.err
    assert sorted(path.name for path in tmp_path.iterdir()) == there
    dry = tenure(*recover, "--again")
    assert "tenure recover --data-dir" in dry.out
    assert dry.out.splitlines()[-1].endswith("--again --majority-is-lost-for-ever")
    again = tenure(*recover, "--again", "--majority-is-lost-for-ever", "--json").json
    assert again["lineage"][:-1] == first["lineage"]


def test_recover_of_one_whose_cluster_may_have_had_another_voter_is_not_refused(tenure: Tenure, tmp_path: Path) -> None:
    """Whether the last change was decided nobody can say (P7.1)."""
    where = changed(stopped_member(tmp_path / "m1"), (M1, M2), (M1, M4))
    assert tenure("recover", "--data-dir", str(where)).code == 0
    changed(where, (M1,))
    refused = tenure("recover", "--data-dir", str(where))
    assert (refused.code, "already" in refused.err) == (8, False), "an observer counts for nothing"


def test_an_interrupted_recovery_of_who_had_lost_nobody_says_how_to_undo_it(tenure: Tenure, tmp_path: Path) -> None:
    """`tenure serve` says that it shall be told again, so that must not end in a refusal that leads nowhere."""
    where = changed(stopped_member(tmp_path / "m1"), (M1, M4), (M1,))
    first = tenure("recover", "--data-dir", str(where), "--again", "--majority-is-lost-for-ever", "--json").json
    kept = Path(first["kept"])
    where.rename(tmp_path / f".m1.recovered-{first['lineage'][-1]}")
    refused = tenure("recover", "--data-dir", str(where))
    assert refused.code == 8
    assert f"What it had put aside ({kept}) is m1, the only voter of its cluster" in refused.err
    undo = f"mv -T {kept} {where}"
    assert f"`{undo}`" in refused.err
    assert subprocess.run(undo.split(), check=False).returncode == 0
    assert "start it as before; if this directory is an older copy" in tenure("recover", "--data-dir", str(where)).err


def test_recover_goes_on_where_another_was_killed_between_its_renames(tenure: Tenure, tmp_path: Path) -> None:
    where = stopped_member(tmp_path / "m1")
    recover = ("recover", "--data-dir", str(where))
    first = tenure(*recover, "--majority-is-lost-for-ever", "--json").json
    kept = Path(first["kept"])
    where.rename(tmp_path / f".m1.recovered-{first['lineage'][-1]}")
    there = sorted(path.name for path in tmp_path.iterdir())
    dry = tenure(*recover)
    assert (dry.code, dry.out.splitlines()[0]) == (
        0,
        f"DRY RUN: nothing was changed in {where}, member m1 ({M1.id})",
    )
    assert f"An earlier recovery was interrupted. What it had put aside ({kept}) is what is told of here" in dry.out
    assert "LOST: whatever only these had, acknowledged or not: m2 (voter), m3 (voter)" in dry.out
    assert tenure(*recover, "--json").json["interrupted"] == str(kept)
    assert sorted(path.name for path in tmp_path.iterdir()) == there
    again = tenure(*recover, "--majority-is-lost-for-ever", "--json").json
    assert again["lineage"][:-1] == first["lineage"][:-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m1", Path(again["kept"]).name]
    assert tenure(*recover).code == 8, "it is done"


def test_recover_in_the_directory_itself(tenure: Tenure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = stopped_member(tmp_path / "m1")
    monkeypatch.chdir(where)
    assert tenure("recover", "--data-dir", ".").code == 0
    said = tenure("recover", "--data-dir", ".", "--majority-is-lost-for-ever", "--json")
    assert (said.code, said.err) == (0, "")
    assert Path(said.json["kept"]).parent == tmp_path
    assert said.json["data_dir"] == str(where)
    assert tenure("recover", "--data-dir", str(where), "--again", "--json").json["lineage"] == said.json["lineage"]


def test_recover_through_a_link_leaves_the_link(tenure: Tenure, tmp_path: Path) -> None:
    where = stopped_member(tmp_path / "disk" / "m1")
    link = tmp_path / "data"
    link.symlink_to(where)
    said = tenure("recover", "--data-dir", str(link), "--majority-is-lost-for-ever", "--json")
    assert Path(said.json["kept"]).parent == where.parent
    assert link.resolve() == where


@pytest.mark.parametrize("place", ["loop", "loop/m1", "x" * 300, "x" * 300 + "/m1"])
def test_recover_of_a_place_that_can_t_be_looked_into(tenure: Tenure, tmp_path: Path, place: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    where = tmp_path / place
    said = tenure("recover", "--data-dir", str(where))
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"tenure: {where} can't be looked into: ")
    assert "Next step: give the --data-dir of the surviving one" in said.err
    assert tenure("recover", "--data-dir", str(where), "--json").error["exit"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]


def test_recover_of_nothing(tenure: Tenure, tmp_path: Path) -> None:
    said = tenure("recover", "--data-dir", str(tmp_path / "nothing"))
    assert (said.code, "holds no member" in said.err) == (1, True)
    assert not (tmp_path / "nothing").exists()


def test_recover_of_a_wrong_directory_leaves_it_as_it_was(tenure: Tenure, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    said = tenure("recover", "--data-dir", str(tmp_path))
    assert (said.code, "holds no member" in said.err) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_recover_names_the_members_of_the_log(tenure: Tenure, tmp_path: Path) -> None:
    """Somebody joined since the snapshot, and somebody left, if that was decided."""
    where = changed(stopped_member(tmp_path / "m1"), (M1, M2, M3, M4), (M1, M2, M4))
    dry = tenure("recover", "--data-dir", str(where))
    lost = "m2 (voter), m4 (observer), m3 (voter, unless its removal was decided)"
    assert f"LOST: whatever only these had, acknowledged or not: {lost}\n" in dry.out
    assert "If any of m2, m4, m3 can still be started" in dry.out
    assert [one["name"] for one in tenure("recover", "--data-dir", str(where), "--json").json["lost"]] == [
        "m2", "m4", "m3"
    ]  # fmt: skip
    done = tenure("recover", "--data-dir", str(where), "--majority-is-lost-for-ever")
    assert "Never start these again, they would be a second cluster: m2, m4, m3.\n" in done.out


def test_recover_tells_two_of_one_name_apart(tenure: Tenure, tmp_path: Path) -> None:
    back = Seat(MemberId("5" * 16), "m2", M2.peer, "observer")
    where = changed(stopped_member(tmp_path / "m1"), (M1, M2, M3, back))
    assert f"m2@{M2.id} (voter), m3 (voter), m2@{back.id} (observer)" in tenure("recover", "--data-dir", str(where)).out


def test_recover_of_one_that_joined_later_needs_no_peer(tenure: Tenure, tmp_path: Path) -> None:
    where = joined_member(tmp_path / "m4", M4)
    said = tenure("recover", "--data-dir", str(where), "--majority-is-lost-for-ever", "--json")
    assert said.code == 0
    assert [member["peer"] for member in said.json["members"]] == [M4.peer]


@pytest.mark.parametrize("meant", [(), ("--majority-is-lost-for-ever",)])
@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (("--peer", "nowhere"), "peer"),
        (("--peer", "host:99999"), "peer"),
        (("--peer", ""), "peer"),
        (("--term-floor", "0"), "term_floor"),
        (("--term-floor", str(2**60)), "term_floor"),
    ],
)
def test_recover_takes_no_address_or_floor_that_is_none(
    tenure: Tenure, tmp_path: Path, meant: tuple[str, ...], wrong: tuple[str, ...], field: str
) -> None:
    """Before anything is done, and in the dry run too."""
    where = stopped_member(tmp_path / "m1")
    before = {path.name: path.read_bytes() for path in where.iterdir()}
    said = tenure("recover", "--data-dir", str(where), *wrong, *meant, "--json")
    assert (said.code, said.out) == (2, "")
    assert said.error["field"] == field
    assert [path.name for path in tmp_path.iterdir()] == ["m1"]
    assert {path.name: path.read_bytes() for path in where.iterdir()} == before


@pytest.mark.parametrize("more", [(), ("--peer", "[::1]:7001"), ("--peer", "h:7001", "--term-floor", str(2**51))])
def test_recover_s_dry_run_ends_with_the_command_as_it_was_given(
    tenure: Tenure, tmp_path: Path, more: tuple[str, ...]
) -> None:
    where = stopped_member(tmp_path / "of our member" / "m1")
    *_, last = tenure("recover", "--data-dir", str(where), *more).out.splitlines()
    said, _, command = last.partition(": ")
    assert said == "To do it"
    assert shlex.split(command) == [
        "tenure", "recover", "--data-dir", str(where), *more, "--majority-is-lost-for-ever"
    ]  # fmt: skip
    done = tenure(*shlex.split(command)[1:], "--json").json
    assert [member["peer"] for member in done["members"]] == [more[1] if more else M1.peer]
    assert done["first_term"] == 2**51 or len(more) < 4


@pytest.mark.parametrize(
    ("changes", "warnings"),
    [
        (((M1, M2, M3),), []),
        (((replace(M1, role="observer"), M2, M3),), ["This member is an OBSERVER: in no quorum"]),
        (((replace(M1, role="witness"), M2, M3),) * 2, ["This member is a WITNESS: what it holds is a copy"]),
        (
            ((replace(M1, role="observer"), M2, M3), SEATS),
            ["This member was, before the last change in its log, an OBSERVER: in no quorum"],
        ),
        ((SEATS, (M2, M3)), ["This member has NO SEAT by the last change in its log"]),
    ],
)
def test_recover_says_what_a_member_cannot_promise_that_is_no_full_voter(
    tenure: Tenure, tmp_path: Path, changes: tuple[tuple[Seat, ...], ...], warnings: list[str]
) -> None:
    where = str(changed(stopped_member(tmp_path / "m1"), *changes))
    dry, as_json = tenure("recover", "--data-dir", where), tenure("recover", "--data-dir", where, "--json")
    done = tenure("recover", "--data-dir", where, "--majority-is-lost-for-ever")
    for lines in (dry.out.splitlines(), as_json.json["warnings"], done.out.splitlines()):
        said = [line for line in lines if line.startswith("This member ")]
        assert len(said) == len(warnings)
        assert all(line.startswith(words) for line, words in zip(said, warnings, strict=True))
