"""What tests have measured is told at the end of a run, though they passed: it is what such a run is for."""

import pytest

from tests.e2e.measured import PREFIX


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Each figure, under the name of its test."""
    told = [
        (report.nodeid, line.removeprefix(PREFIX))
        for report in terminalreporter.getreports("passed")
        if report.when == "call"
        for line in report.capstdout.splitlines()
        if line.startswith(PREFIX)
    ]
    if told:
        terminalreporter.section("measured")
    for test, line in told:
        terminalreporter.line(f"{test.rpartition('::')[2]}: {line}")
