"""Durations on the command line: `500ms`, `3s`, `1.5s`, `2m`, as in `tenure run --ttl`."""

from typing import Any, Final

import click

from tenure.agent.options import duration
from tenure.base.errors import Invalid


class Duration(click.ParamType[int]):
    """A duration; the value is an integer of microseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it; a number without a unit is refused."""
        if isinstance(value, int):
            return value
        try:
            return duration(str(value), "duration")
        except Invalid as error:
            self.fail(error.reason, param, ctx)


DURATION: Final = Duration()
