from collections.abc import Iterator

import pytest

from tests.api.scripted import Scripted, Server, serving


@pytest.fixture
def engine() -> Scripted:
    return Scripted()


@pytest.fixture
def server(engine: Scripted) -> Iterator[Server]:
    with serving(engine) as running:
        yield running
