"""Log lines: one per event, readable or JSON, and never a reason to fall."""

import io
import json
import logging
import os

from tenure.base.instants import Instant, WallMs
from tenure.server.logs import Forward, Log


class Stopped:
    def now(self) -> Instant:
        return Instant(9_007_199_254)

    def wall(self) -> WallMs:
        return WallMs(1_767_225_600_123)


def test_a_line_says_when_how_grave_who_and_what() -> None:
    stream = io.StringIO()
    Log(Stopped(), "m1", "info", "text", stream).tell("info", "leader_elected", term=3, why="notes given", empty="")
    assert stream.getvalue() == (
        '2026-01-01T00:00:00.123Z info    m1 leader_elected term=3 why="notes given" empty=""\n'
    )


def test_json_lines_parse() -> None:
    stream = io.StringIO()
    Log(Stopped(), "m1", "info", "json", stream).tell("warning", "peer", name="m2", state="fin")
    line = json.loads(stream.getvalue())
    assert (line["level"], line["member"], line["what"], line["name"]) == ("warning", "m1", "peer", "m2")


def test_json_lines_tell_intervals_by_the_clock_that_nobody_sets() -> None:
    stream = io.StringIO()
    Log(Stopped(), "m1", "info", "json", stream).tell("info", "leader_elected", term=3)
    assert json.loads(stream.getvalue())["boot_us"] == 9_007_199_254


def test_below_the_level_nothing_is_written_until_it_is_changed() -> None:
    stream = io.StringIO()
    log = Log(Stopped(), "m1", "warning", "text", stream)
    log.tell("info", "quiet")
    assert not stream.getvalue()
    log.set_level("debug")
    log.tell("debug", "loud")
    assert "loud" in stream.getvalue()


def test_a_closed_stream_loses_lines_and_nothing_else() -> None:
    stream = io.StringIO()
    log = Log(Stopped(), "m1", "info", "text", stream)
    stream.close()
    log.tell("info", "lost")


def test_a_pipe_that_nobody_reads_loses_lines_and_holds_nobody_up() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as reader, open(writing, "w", encoding="utf-8") as stream:
        log = Log(Stopped(), "m1", "info", "text", stream)
        for number in range(5_000):  # some 600 KB, a pipe takes 64: with a write that waits this test would not end
            log.tell("info", "told", number=number, text="x" * 100)
        heard = reader.read(1 << 20)
        assert heard.count(b"told") < 5_000
        assert heard.endswith(b"\n"), "lines are whole"
        log.tell("info", "again", text="long " * 2_000)
        heard = reader.read(1 << 20)
        assert b"log_lines_lost lines=" in heard
        assert heard.endswith(b'long "\n')


def test_what_libraries_log_becomes_our_lines() -> None:
    stream = io.StringIO()
    handler = Forward(Log(Stopped(), "m1", "info", "text", stream))
    handler.handle(logging.LogRecord("tenure.api", logging.ERROR, "", 0, "it %s", ("broke",), None))
    assert 'error   m1 library logger=tenure.api text="it broke"' in stream.getvalue()
