import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tenure.cli.main import main
from tenure.engines.memory import MemoryEngine
from tests.api.scripted import serving


@pytest.fixture
def url() -> Iterator[str]:
    with serving(MemoryEngine()) as server:
        yield f"http://127.0.0.1:{server.port}"


class Said:
    """What a command ended with and said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err)


Tenure = Callable[..., Said]


@pytest.fixture
def tenure(capsys: pytest.CaptureFixture[str]) -> Tenure:
    """A command in this process; its colours and environment are those of the tests."""

    def run(*arguments: str) -> Said:
        code = main(arguments)
        captured = capsys.readouterr()
        return Said(int(code), captured.out, captured.err)

    return run


@pytest.fixture
def ask(tenure: Tenure, url: str) -> Tenure:
    """A command that asks the cluster of this test."""
    return lambda *arguments: tenure(*arguments, "--endpoints", url)
