"""What the cluster's history is told about an application that ended by itself: a cause, and a reason in words."""

import os
import signal

from tenure.leadership.engine import ReleaseCause

Ending = tuple[ReleaseCause, str]


def ending(code: int, errno: int, frozen: bool) -> Ending:
    """`code` as a shell tells it; `errno` of an exec that failed; `frozen`: stopped by others, so we ended it."""
    if errno:
        return "crash", f"the command can't be executed: {os.strerror(errno)}"
    if frozen:
        return "crash", f"the application was frozen, and was ended before its lease, with {_status(code)}"
    return "released" if code == 0 else "crash", f"the application ended with {_status(code)}"


def _status(code: int) -> str:
    number = code - 128
    if number in set(signal.Signals):
        return f"status {code} (signal {number}, {signal.Signals(number).name})"
    return f"status {code}"
