"""docs/http.md says what is so: its calls, codes, messages and figures are those of the code."""

import re
from pathlib import Path
from typing import get_args

from tenure.api.messages import Attach, Behind, Ended, Granted, Observe, SessionGone, SteppingDown
from tenure.api.routes import OPERATIONS
from tenure.leadership import limits
from tenure.leadership.engine import AnyRequest, Disconnected
from tenure.leadership.steward import StewardSettings
from tenure.wire import bodies

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
STREAM = PAGE[PAGE.index("## The stream") : PAGE.index("## Health")]


def test_every_call_it_names_exists() -> None:
    known = [(one.method, re.compile(re.sub(r"\{\w+\}", "[^/]+", one.path))) for one in OPERATIONS]
    named = re.findall(r"(GET|POST|PUT|PATCH|DELETE) (?:\$M)?(/[\w/{}.-]+)", PAGE)
    assert len(named) > 10
    for method, path in named:
        plain = path.replace("{name}", "x").replace("{key}", "x").replace("{election}", "x").replace("{member}", "x")
        assert any(method == other and form.fullmatch(plain) for other, form in known), f"{method} {path}"


def test_every_code_stands_in_its_table() -> None:
    table = PAGE[PAGE.index("| status | codes |") : PAGE.index("Instants are")]
    rows = {row.split("|")[1]: row for row in table.splitlines() if row.startswith("| ")}
    for code, status in bodies.status_of.items():
        if code == "compacted":
            continue  # an event, no refusal of a call
        row = next(text for head, text in rows.items() if str(status) in head)
        assert f"`{code}`" in row, code


def test_every_message_of_the_stream_is_named() -> None:
    own = (Attach, Observe, Granted, SteppingDown, Ended, SessionGone, Behind)
    for kind in {*get_args(AnyRequest), *own} - {Disconnected}:
        tag = kind.__struct_config__.tag
        assert f"`{tag}`" in STREAM, tag


def test_its_figures_are_the_limits() -> None:
    settings = StewardSettings()
    assert f"up to {limits.key_chars_max} characters" in PAGE
    assert f"Kept for {settings.keyed_keep_ms // 60_000} minutes, at most {limits.keyed_max // 1_000} 000" in PAGE
    assert f"The last {limits.client_window_max} answers" in PAGE
    assert settings.clients_keep_ms == 3_600_000, "an hour without use"
    assert f"({limits.transitions_max} are, at most)" in PAGE
