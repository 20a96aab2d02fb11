"""Golden scripts: one claim a file, named after it (VERIFICATION 1). `make golden` rewrites their outputs."""

import os
from pathlib import Path

import pytest

from tests.raft.offices import OfficeScript
from tests.raft.script import parse, render

SCRIPTS = sorted((Path(__file__).parent / "golden").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    written = path.read_text(encoding="utf-8")
    now = render(OfficeScript().run(parse(written)))
    if os.environ.get("TENURE_GOLDEN") == "rewrite":
        assert not os.environ.get("CI"), "CI reads golden scripts, it never rewrites them"
        path.write_text(now, encoding="utf-8")
    else:
        assert now == written, "run `make golden` and review the difference"
