"""Exit codes: for scripts, so they never change (docs/cli.md). `tenure run` has its own (DESIGN 8)."""

from enum import IntEnum

from tenure.base.errors import Invalid, TenureError
from tenure.client import errors


class Exit(IntEnum):
    """What a command ends with."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_LEADER = 3
    UNREACHABLE = 4
    NO_QUORUM = 5
    TIMED_OUT = 6
    UNSAFE = 8
    DENIED = 9


class Unsafe(TenureError):
    """What was asked for is refused because it could break a promise."""


def code_of(error: TenureError) -> Exit:
    """The exit code for an error."""
    match error:
        case errors.Unreachable():
            return Exit.UNREACHABLE
        case errors.NoQuorum():
            return Exit.NO_QUORUM
        case errors.TimedOut():
            return Exit.TIMED_OUT
        case errors.Denied():
            return Exit.DENIED
        case errors.NotHeld() | errors.NodeInUse() | errors.StaleTerm() | errors.NoSuccessor() | errors.LeaseLost():
            return Exit.NOT_LEADER
        case Unsafe() | errors.UnsafeChange():
            return Exit.UNSAFE
        case Invalid() | errors.InvalidRequest():
            return Exit.USAGE
        case _:
            return Exit.ERROR
