"""One structured line per decision worth telling, on standard error. Never on the renewal path."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

from tenure.base.clock import Clock

levels: Final = {"debug": 0, "info": 1, "warning": 2, "error": 3}


class Log:
    """Writes lines. A full or broken pipe loses lines, never the member."""

    def __init__(self, clock: Clock, member: str, level: str, form: str, stream: TextIO | None = None) -> None:
        self._clock = clock
        self._member = member
        self._threshold = levels[level]
        self._json = form == "json"
        self._stream = stream or sys.stderr

    def set_level(self, level: str) -> None:
        """From now on (SIGHUP)."""
        self._threshold = levels[level]

    def tell(self, level: str, what: str, **detail: object) -> None:
        """One line: what happened, and its values."""
        self.write(level, what, detail)

    def write(self, level: str, what: str, detail: dict[str, object]) -> None:
        """One line."""
        if levels[level] < self._threshold:
            return
        at = datetime.fromtimestamp(self._clock.wall() / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
        if self._json:
            # The wall clock may be set while we run, and knows only milliseconds here: intervals are for `boot_us`.
            head = {"at": at, "boot_us": self._clock.now(), "level": level, "member": self._member, "what": what}
            line = json.dumps({**head, **detail}, default=str)
        else:
            rest = " ".join(f"{key}={_plain(value)}" for key, value in detail.items())
            line = f"{at} {level:<7} {self._member} {what} {rest}".rstrip()
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass


def _plain(value: object) -> str:
    text = str(value)
    return json.dumps(text) if " " in text or '"' in text or not text else text


class Forward(logging.Handler):
    """What libraries say through `logging` becomes lines of ours."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """One record."""
        level = "error" if record.levelno >= logging.ERROR else "warning"
        self._log.write(level, "library", {"logger": record.name, "text": self.format(record)})
