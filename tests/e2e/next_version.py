"""The next version of Tenure: our own sources with a change as a later release would bring it. Members run it as it is.

It speaks feature version 2 and has one command more: a write under `next/` is kept as `{"next": VALUE}`. A program that
doesn't know that command could only guess what it does, so nobody may say it before every member speaks version 2.
"""

import shutil
from pathlib import Path
from typing import Final

from tests.e2e.cluster import root

Edit = tuple[str, str, str]
"""File below src/tenure, what stands there exactly once, what stands there instead."""

_BODY: Final = """class KvPutNext(Body, frozen=True, tag="k2"):
    key: str
    value: bytes


"""
_OPEN: Final = 'class OpenClient(Body, frozen=True, tag="oc"):\n'
_PUT: Final = "        case engine.KvPut():\n"
_PUT_NEXT: Final = """        case engine.KvPut() if request.key.startswith("next/"):
            return KvPutNext(request.key, request.value)
"""
_APPLY: Final = "        case KvPut():\n            return kv.put(turn, body)\n"
_APPLY_NEXT: Final = """        case KvPutNext():
            value = b'{"next":' + body.value + b'}'
            return kv.put(turn, KvPut(body.key, value, None, None, None))
"""

NEXT: Final[tuple[Edit, ...]] = (
    ("base/versions.py", "feature_newest: Final = 1\n", "feature_newest: Final = 2\n"),
    ("leadership/commands.py", _OPEN, _BODY + _OPEN),
    ("leadership/commands.py", "AnyBody = (\n    KvPut\n", "AnyBody = (\n    KvPut\n    | KvPutNext\n"),
    ("leadership/commands.py", "_since: Final[dict[type, int]] = {}\n", "_since = {KvPutNext: 2}\n"),
    ("leadership/commands.py", _PUT, _PUT_NEXT + _PUT),
    ("leadership/machine.py", "    KvPut,\n    OpenClient,\n", "    KvPut,\n    KvPutNext,\n    OpenClient,\n"),
    ("leadership/machine.py", _APPLY, _APPLY + _APPLY_NEXT),
)

CARELESS: Final[tuple[Edit, ...]] = (
    *NEXT,
    ("engines/native/desk.py", "if commands.since(body) > 1 and self._is_too_new(", "if False and self._is_too_new("),
)
"""It says the new command without asking whether the others know it."""


def built(folder: Path, edits: tuple[Edit, ...]) -> Path:
    """A tree of sources with these edits; what a member's PYTHONPATH begins with."""
    shutil.copytree(root / "src", folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, old, new in edits:
        file = folder / "tenure" / name
        text = file.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {name}: move the next version too"
        file.write_text(text.replace(old, new), encoding="utf-8")
    return folder
