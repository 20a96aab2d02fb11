"""The commands against the real API: what they print, their JSON, their exit codes."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tenure.cli.status import described
from tenure.client.lease import Leadership, lead
from tenure.leadership.engine import AsOf, ConsensusView, KvGet, KvValue, StatusReport
from tests.api.scripted import Scripted, serving
from tests.cli.conftest import Tenure

PATIENCE = 30.0
INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def stand(url: str, node: str = "a") -> Leadership:
    return lead("orders", endpoints=url, node=node, ttl_ms=20_000, timeout=PATIENCE)


def test_status_shows_members_elections_and_nodes(ask: Tenure, url: str) -> None:
    with stand(url) as lease:
        said = ask("status")
    assert said.code == 0
    rows = [line.split() for line in said.out.splitlines()]
    assert ["orders", "a", str(lease.term), "held"] in [row[:4] for row in rows]
    assert "\x1b" not in said.out, "no colours where there is no terminal"


@pytest.mark.parametrize(
    ("state", "missing", "obstacle", "said"),
    [
        ("founding", ("m2", "m3"), None, "FOUNDING: waits for m2, m3;"),
        (
            "refused",
            (),
            "the cluster stands",
            "REFUSED: m1 can't found or join the cluster: the cluster stands",
        ),
        ("joining", ("http://h:1",), "no answer", "JOINING: m1 asks http://h:1 to take it in: no answer"),
        ("stopped", (), "an unknown command", "STOPPED: m1 takes no part any more: an unknown command"),
        ("follower", ("m2",), None, "m1 hears no leader. Not connected: m2. See that the others run"),
    ],
)
def test_status_without_a_quorum_says_why(
    state: str, missing: tuple[str, ...], obstacle: str | None, said: str
) -> None:
    nothing = ConsensusView(None, 0, 0, 0)
    report = StatusReport(None, "m1", state, False, nothing, {}, {}, {}, missing=missing, obstacle=obstacle)
    assert said in described(report)


def test_status_of_a_member_that_was_left_behind_does_not_send_for_the_others() -> None:
    """P1.4: the others went on without it; back, they would only be a second cluster."""
    nothing = ConsensusView(None, 0, 0, 0)
    told = "left behind: the cluster of m1 came out of this one"
    report = StatusReport("c", "m2", "follower", False, nothing, {}, {}, {}, missing=("m1", "m3"), forked=told)
    said = described(report)
    assert "LEFT BEHIND: the cluster of m1 came out of this one" in said
    assert "See that the others run" not in said
    sibling = described(msgspec.structs.replace(report, forked="forked: x and this member belong to two clusters"))
    assert "FORKED: x and this member" in sibling, "and this one may be the one that goes on"
    assert "See that the others run" in sibling


def test_status_says_what_hinders_a_member_that_takes_part() -> None:
    leads = ConsensusView("m1", 3, 9, 9)
    report = StatusReport("c", "m1", "leader", True, leads, {}, {}, {}, obstacle="no space left")
    assert "HINDERED: m1: no space left" in described(report)


def test_status_as_json_has_the_shape_of_the_api(ask: Tenure) -> None:
    said = ask("status", "--json")
    assert {"cluster_id", "member", "consensus", "members", "nodes", "elections"} <= set(said.json)


def test_why_tells_the_history_in_words(ask: Tenure, url: str) -> None:
    with stand(url) as first:
        pass
    with stand(url, "b"):
        said = ask("why", "orders")
    assert said.code == 0
    newest, oldest = said.out.split("\n\n")
    assert newest.startswith("b leads orders")
    assert "its predecessor gave it back" in newest
    assert f"a led orders, term {first.term}" in oldest
    assert "it gave the office back" in oldest
    holdings = ask("why", "orders", "--json").json["holdings"]
    assert [holding["node_id"] for holding in holdings] == ["b", "a"]
    assert all(re.fullmatch(INSTANT, phase["at"]) for holding in holdings for phase in holding["phases"])


def test_why_tells_a_crash_with_its_reason(ask: Tenure, url: str) -> None:
    with pytest.raises(ZeroDivisionError), stand(url):
        _ = 1 / 0
    with stand(url, "b"):
        newest, oldest = ask("why", "orders").out.split("\n\n")
    assert "its predecessor's application failed" in newest
    assert "its application failed, and it gave the office back" in oldest
    assert "reason   ZeroDivisionError" in oldest


def test_why_of_an_unknown_election_says_the_next_step(ask: Tenure) -> None:
    said = ask("why", "nothing")
    assert said.code == 1
    assert "begins with its first campaign" in said.err
    assert ask("why", "nothing", "--json").error["code"] == "unknown_election"


def test_validate_says_valid_and_not_valid(ask: Tenure, url: str) -> None:
    with stand(url) as lease:
        assert ask("validate", lease.fence_token).code == 0
        assert ask("validate", "orders", str(lease.term), "--json").json == {
            "type": "validated",
            "valid": True,
            "reason": "current",
            "current_term": lease.term,
        }
    said = ask("validate", lease.fence_token)
    assert said.code == 3
    assert "isn't held" in said.out
    assert ask("validate", "orders").code == 2


def test_kv_keeps_values_and_refuses_stale_terms(ask: Tenure, url: str) -> None:
    with stand(url) as lease:
        assert (
            ask("kv", "put", "config/x", '{"a": [1, 2]}', "--election", "orders", "--term", str(lease.term)).code == 0
        )
        assert ask("kv", "get", "config/x", "--json").json["value"] == {"a": [1, 2]}
        assert ask("kv", "list", "config/").out == "config/x\n"
        stale = ask("kv", "put", "config/x", "2", "--election", "orders", "--term", str(lease.term - 1))
    assert stale.code == 3
    assert "somebody else leads" in stale.err
    assert ask("kv", "get", "missing").code == 1
    assert ask("kv", "put", "k", "not json").code == 2
    assert ask("kv", "put", "k", "not json", "--string").code == 0
    assert ask("kv", "get", "k").out == '"not json"\n'


def test_stepdown_without_a_successor_is_refused(ask: Tenure, url: str) -> None:
    with stand(url) as lease:
        said = ask("stepdown", "orders")
        lease.check()
    assert said.code == 3
    assert "candidates" in said.err


def test_stepdown_needs_an_election_or_consensus_and_not_both(ask: Tenure) -> None:
    assert ask("stepdown").code == 2
    assert ask("stepdown", "orders", "--consensus").code == 2


def test_watch_tells_and_executes(ask: Tenure, url: str, tmp_path: Path) -> None:
    note = tmp_path / "note"
    script = f"import os; open({str(note)!r}, 'w').write(os.environ['TENURE_NODE'] + os.environ['TENURE_TERM'])"
    with stand(url) as lease:
        said = ask("watch", "orders", "--count", "1", "--json", "--exec", f'{sys.executable} -c "{script}"')
    assert said.code == 0
    assert (said.json["node_id"], said.json["term"]) == ("a", lease.term)
    assert note.read_text() == f"a{lease.term}"


def test_watch_goes_on_when_its_command_fails(ask: Tenure, url: str) -> None:
    with stand(url):
        said = ask("watch", "orders", "--count", "1", "--exec", "/does/not/exist")
    assert said.code == 0
    assert "can't run /does/not/exist" in said.err


def test_nobody_there_is_4(tenure: Tenure) -> None:
    with serving() as server:
        port = server.port
    said = tenure("status", "--endpoints", f"http://127.0.0.1:{port}", "--timeout", "0.1", "--json")
    assert said.code == 4
    assert said.error["exit"] == 4
    assert "TENURE_ENDPOINTS" in said.error["next_step"]


def test_a_missing_credential_is_9_and_the_secret_file_helps(tenure: Tenure, tmp_path: Path) -> None:
    from dataclasses import replace

    from tenure.engines.memory import MemoryEngine
    from tests.api.scripted import INFO

    with serving(MemoryEngine(), replace(INFO, secret=b"correct horse battery")) as server:
        url = f"http://127.0.0.1:{server.port}"
        assert tenure("status", "--endpoints", url).code == 9
        secret = tmp_path / "secret"
        secret.write_text("correct horse battery\n")
        assert tenure("status", "--endpoints", url, "--secret-file", str(secret)).code == 0
        assert tenure("status", "--endpoints", url, "--secret-file", str(tmp_path / "none")).code == 2


def test_the_environment_names_endpoints(tenure: Tenure, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENURE_ENDPOINTS", url)
    assert tenure("kv", "list").code == 0


@pytest.mark.parametrize("arguments", [["nonsense"], ["kv", "get"], ["status", "--nonsense"], ["kv", "put", "k"]])
def test_usage_errors_are_2(tenure: Tenure, arguments: list[str]) -> None:
    said = tenure(*arguments)
    assert said.code == 2
    assert said.err.count("\n") == 1, "one line like all errors"
    assert "--help`" in said.err, "which ends with the next step"
    told = tenure(*arguments, "--json")
    assert (told.code, told.out) == (2, "")
    assert told.error["exit"] == 2
    assert told.error["reason"] in said.err
    assert told.error["next_step"] in said.err


def test_json_behind_the_dashes_is_the_commands_own(tenure: Tenure) -> None:
    assert tenure("run", "Orders", "--json", "--", "true").error["exit"] == 125
    assert tenure("run", "Orders", "--", "true", "--json").err.startswith("tenure: election: ")


def test_bad_endpoints_are_2(tenure: Tenure) -> None:
    assert tenure("status", "--endpoints", "ftp://x").code == 2


def test_usage_errors_of_run_stay_out_of_the_childs_codes(tenure: Tenure) -> None:
    assert tenure("run").code == 125
    assert tenure("run", "orders", "--ttl", "3", "--", "true").code == 125


@pytest.mark.parametrize("name", ["serve", "run", "status", "watch", "why", "stepdown", "validate", "kv", "timing"])
def test_every_command_explains_itself(tenure: Tenure, name: str) -> None:
    said = tenure(name, "--help")
    assert said.code == 0
    assert "Usage: tenure" in said.out


def test_help_loads_no_command() -> None:
    program = "import sys\nfrom tenure.cli.main import main\nmain(['--help'])\nprint('\\n'.join(sys.modules))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    modules = set(out.split())
    assert not {"msgspec", "urllib3", "websockets", "asyncio", "tenure.client", "tenure.server"} & modules
    assert {name for name in modules if name.startswith("tenure.cli.")} == {"tenure.cli.main"}


def test_status_loads_no_server() -> None:
    program = "import sys\nimport tenure.cli.status\nprint('\\n'.join(sys.modules))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not {"uvicorn", "starlette", "apsw", "uvloop", "tenure.server", "websockets"} & set(out.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(tenure: Tenure, shell: str) -> None:
    said = tenure("--completion", shell)
    assert said.code == 0
    assert "_TENURE_COMPLETE" in said.out


def test_completion_completes_commands(monkeypatch: pytest.MonkeyPatch, tenure: Tenure) -> None:
    monkeypatch.setenv("_TENURE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "tenure st")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert tenure().out.split() == ["plain,status", "plain,stepdown"]


def test_a_reader_who_leaves_is_no_error(url: str) -> None:
    command = f"{sys.executable} -m tenure status --watch --interval 0.1 --endpoints {url} --json | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith('{"type":"status"')
    assert done.stderr == ""


def test_a_stale_read_tells_its_age_beside_the_value(tenure: Tenure) -> None:
    value = KvValue("a", b'"b"', 7, as_of=AsOf(42, 130))
    with serving(Scripted(script=lambda request: value if isinstance(request, KvGet) else None)) as server:
        url = f"http://127.0.0.1:{server.port}"
        said = tenure("kv", "get", "a", "--stale", "--endpoints", url)
        assert (said.code, said.out) == (0, '"b"\n')
        assert said.err == "tenure kv get: age at most 130 ms, applied 42\n"
        told = tenure("kv", "get", "a", "--stale", "--json", "--endpoints", url)
        assert (told.json["as_of"], told.err) == ({"applied_index": 42, "lag_ms": 130}, "")
