"""One structured line per decision worth telling, on standard error. Never on the renewal path."""

import json
import logging
import os
import select
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

from tenure.base.clock import Clock

_PIPE_BUF: Final = select.PIPE_BUF
levels: Final = {"debug": 0, "info": 1, "warning": 2, "error": 3}


class Log:
    """Writes lines. A full or broken pipe loses lines, never the member."""

    def __init__(self, clock: Clock, member: str, level: str, form: str, stream: TextIO | None = None) -> None:
        self._clock = clock
        self._member = member
        self._threshold = levels[level]
        self._json = form == "json"
        self._stream = stream or sys.stderr
        self._room = _room_of(self._stream)
        self._lost = 0

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
            self._put(line)
        except (OSError, ValueError):
            self._lost += 1

    def _put(self, line: str) -> None:
        """Only as far as it doesn't block: a member that waits for whoever reads its log leads nobody.

        A pipe that is ready has room for PIPE_BUF bytes. (O_NONBLOCK would be everybody's who has this pipe.)
        """
        if self._room is None:
            self._stream.write(line + "\n")
            self._stream.flush()
            return
        if self._lost and self._room.poll(0):
            lost, self._lost = self._lost, 0
            self.write("warning", "log_lines_lost", {"lines": lost, "text": "nobody read them in time"})
        data = (line + "\n").encode(errors="replace")
        for begin in range(0, len(data), _PIPE_BUF):
            if not any(events & select.POLLOUT for _, events in self._room.poll(0)):
                self._lost += 1
                return
            os.write(self._stream.fileno(), data[begin : begin + _PIPE_BUF])


def _room_of(stream: TextIO) -> "select.poll | None":
    """Tells whether the stream takes bytes now; None for one that is no file."""
    try:
        room = select.poll()
        room.register(stream.fileno(), select.POLLOUT)
    except (OSError, ValueError):
        return None
    return room


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
