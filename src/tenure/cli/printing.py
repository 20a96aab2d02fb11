"""What commands print: aligned tables and plain sentences for people, JSON for programs.

Colours stand only on a terminal, and not where NO_COLOR is set (no-color.org) or TERM is `dumb`.
"""

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

Style = Literal["plain", "bold", "dim", "good", "bad", "warn"]
_CODES: Final[dict[Style, str]] = {"plain": "", "bold": "1", "dim": "2", "good": "32", "bad": "31", "warn": "33"}


def is_colourful() -> bool:
    """Whether stdout takes colours."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def styled(text: str, style: Style) -> str:
    """The text in a style, where there is colour."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if style != "plain" and is_colourful() else text


Cell = str | tuple[str, Style]


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Columns as wide as their widest cell, two spaces between; numbers to the right."""
    plain = [[cell if isinstance(cell, str) else cell[0] for cell in row] for row in rows]
    widths = [max(len(row[place]) for row in [list(head), *plain]) for place in range(len(head))]
    right = [bool(plain) and all(_is_number(row[place]) for row in plain) for place in range(len(head))]

    def line(cells: Sequence[Cell]) -> str:
        parts = []
        for cell, width, numeric in zip(cells, widths, right, strict=True):
            text, style = (cell, "plain") if isinstance(cell, str) else cell
            padded = text.rjust(width) if numeric else text.ljust(width)
            parts.append(styled(padded, style))  # type: ignore[arg-type] # a cell's style is a Style
        return "  ".join(parts).rstrip()

    return "\n".join([line([(title, "dim") for title in head]), *(line(row) for row in rows)])


def _is_number(text: str) -> bool:
    return text in {"", "-"} or text.removeprefix("-").replace(".", "", 1).removesuffix(" ms").isdigit()


def json_line(value: object) -> str:
    """One JSON object on one line."""
    return msgspec.json.encode(value).decode()


def say(text: str) -> None:
    """A line on stdout, at once: whoever reads a pipe shouldn't wait."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    """A line on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def moment(at_ms: int) -> str:
    """Unix ms as local time of this machine, for people."""
    return datetime.fromtimestamp(at_ms / 1_000, UTC).astimezone().isoformat(sep=" ", timespec="milliseconds")[:23]


def span(ms: float) -> str:
    """A duration in words: 12 ms, 3.4 s, 5 min, 2 h 5 min."""
    if ms < 1_000:
        return f"{ms:.0f} ms" if ms >= 10 or ms == int(ms) else f"{ms:.1f} ms"
    if ms < 60_000:
        return f"{ms / 1_000:.1f} s"
    minutes = round(ms / 60_000)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours < 48 else f"{hours // 24} days"
