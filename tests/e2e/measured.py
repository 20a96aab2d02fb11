"""Figures that stand at the end of a run (`conftest`), beside the claims that must hold."""

from typing import Final

PREFIX: Final = "measured: "


def measured(text: str) -> None:
    """Have `text`, one line, told if this test passes."""
    assert "\n" not in text
    print(f"{PREFIX}{text}")
