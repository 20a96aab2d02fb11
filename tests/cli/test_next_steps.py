"""What goes wrong at the command line ends in one sentence that points to the right place, never in a traceback."""

import io
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tenure.cli.demo_processes import free_ports
from tenure.client.lease import lead
from tests.cli.conftest import Tenure

PATIENCE = 30.0


def nowhere() -> str:
    """An address where nobody listens."""
    return f"http://127.0.0.1:{free_ports(1)[0]}"


def test_a_missing_key_is_not_taken_for_a_missing_election(ask: Tenure) -> None:
    said = ask("kv", "get", "nothing")
    assert said.code == 1
    assert "tenure kv list" in said.err
    assert "campaign" not in said.err


def test_a_reserved_key_is_no_question_of_the_secret(ask: Tenure) -> None:
    said = ask("kv", "put", "leader_status/orders", "1")
    assert said.code == 9
    assert "secret" not in said.err


def test_a_write_without_the_key_s_election_is_told_to_name_it(ask: Tenure, url: str) -> None:
    with lead("orders", endpoints=url, node="a", ttl_ms=20_000, timeout=PATIENCE) as lease:
        ask("kv", "put", "config", "1", "--election", "orders", "--term", str(lease.term))
        said = ask("kv", "put", "config", "2")
    assert said.code == 3
    assert "--election and --term" in said.err


def test_a_field_is_named_once(ask: Tenure) -> None:
    assert "token: token:" not in ask("validate", "t1.x").err
    assert "term: term:" not in ask("kv", "put", "a", "1", "--election", "orders").err


def test_bytes_that_are_no_text_are_a_matter_of_usage(ask: Tenure, monkeypatch: pytest.MonkeyPatch) -> None:
    for flags in ((), ("--string",)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe")))
        said = ask("kv", "put", "a", "-", *flags)
        assert said.code == 2
        assert "UTF-8" in said.err
    assert ask("kv", "put", "a", "\udcff", "--string").code == 2


def test_no_keys_is_no_key(ask: Tenure) -> None:
    said = ask("kv", "list", "nothing")
    assert (said.code, said.out) == (0, "")
    assert "nothing" in said.err


def test_what_is_no_tenure_is_told_in_words(tenure: Tenure) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        deaf = subprocess.Popen(
            [sys.executable, "-m", "tenure", "status", "--endpoints", url, "--timeout", "0.5"],
            stderr=subprocess.PIPE,
        )
        answering, _ = server.accept()
        answering.sendall(b"\x00\x01garbage\r\n\r\n")
        answering.close()
        server.close()
        _, err = deaf.communicate(timeout=PATIENCE)
    assert deaf.returncode == 4
    assert b"Traceback" not in err
    assert b"))" not in err


def test_a_watch_says_that_nobody_answers() -> None:
    watch = subprocess.Popen(
        [sys.executable, "-m", "tenure", "watch", "orders", "--endpoints", nowhere(), "--timeout", "0.2"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watch.stderr is not None
    assert "no answer, still trying" in watch.stderr.readline()
    watch.kill()
    watch.wait()
    watch.stderr.close()


def test_run_says_why_it_cannot_connect_and_what_try_came_to(tmp_path: Path) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tenure", "run", "orders", "--try", "--endpoints", nowhere(), "--", "true"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 125
    assert "no connection" in done.stderr
    assert "check --endpoints" in done.stderr
    assert done.stderr.count("no connection") <= 1 + (time.monotonic() - began) / 30


def test_run_does_not_take_the_command_for_the_election(tenure: Tenure) -> None:
    said = tenure("run", "--node", "a", "--", "sleep", "1")
    assert said.code == 125
    assert "before --" in said.err
    assert "Usage" in tenure("run", "--help", "--", "x").out


def test_run_refuses_an_empty_secret(tenure: Tenure, tmp_path: Path) -> None:
    empty = tmp_path / "secret"
    empty.touch()
    said = tenure("run", "orders", "--secret-file", str(empty), "--", "true")
    assert said.code == 125
    assert "is empty" in said.err
