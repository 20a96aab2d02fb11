"""A module taken apart says the same as the whole one, and what can't be taken apart stays as it is."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.sim.parting import PART, has_records, part


@pytest.mark.parametrize(
    ("source", "records"),
    [
        ("class A:\n    pass", False),
        ("class A(B):\n    pass", False),
        ("class A(Struct):\n    pass", True),
        ("class A(NamedTuple):\n    pass", True),
        ("class A(B, frozen=True):\n    pass", True),
        ("def f():\n    class A(Struct):\n        pass", True),
    ],
)
def test_modules_with_records_stay_as_they_are(source: str, records: bool) -> None:
    assert has_records(source) == records


SOURCE = '''"""What it is for."""

from dataclasses import dataclass
from msgspec import Struct
from typing import Final

DEFAULT: Final = 3
"""In a record's default."""
OTHER: Final = 4


def double(number: int) -> int:
    """Named by a record."""
    return 2 * number


def alone() -> int:
    """By none."""
    return OTHER


@dataclass(frozen=True)
class Kind:
    """Named in a record's annotation, as text."""

    name: str = "plain"


class One(Struct, frozen=True):
    """A record."""

    number: int = DEFAULT
    kind: "Kind | None" = None

    def twice(self) -> int:
        return double(self.number)


class Many:
    """None."""

    def __init__(self) -> None:
        self.all = [One(), One(OTHER, Kind())]

    def sum(self) -> int:
        return sum(one.twice() for one in self.all) + alone()
'''


def loaded(folder: Path, monkeypatch: pytest.MonkeyPatch, **sources: str) -> ModuleType:
    """The first of these modules."""
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(folder)
    return __import__(next(iter(sources)))


def test_both_parts_together_do_what_the_whole_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = part(SOURCE, "parted")
    assert parts is not None
    assert not has_records(parts.rest)
    parted = loaded(tmp_path, monkeypatch, parted=parts.rest, **{f"parted{PART}": parts.records})
    whole = loaded(tmp_path, monkeypatch, whole=SOURCE)
    assert parted.Many().sum() == whole.Many().sum() == 18
    assert parted.Many.__module__ == "parted"
    assert parted.One.__module__ == parted.Kind.__module__ == f"parted{PART}"
    assert parted.alone.__module__ == "parted", "only what a record needs goes with it"


@pytest.mark.parametrize(
    "source",
    [
        "def f(): pass",
        "class A(Struct):\n    pass",
        "def f():\n    class A(Struct):\n        pass",
        "class A(Struct):\n    class B(Struct): pass\ndef f(): pass",
    ],
)
def test_without_records_or_nothing_else_or_records_within_it_stays(source: str) -> None:
    assert part(source, "module") is None
