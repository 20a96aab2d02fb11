"""What the guardian asks of the kernel that the standard library doesn't offer. No `typing`, no `dataclasses`: the
guardian loads this, and its resident memory is paid once for every application.
"""

import ctypes
import os
import time

_libc = ctypes.CDLL(None, use_errno=True)

CLOCK_BOOTTIME = 7
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_SLAVE = 0x2, 0x4, 0x8, 0x4000, 0x80000
SIGKILL = 9
_TIMER_ABSTIME = 1
_SIGEV_SIGNAL = 0
_TFD_FLAGS = 0o2004000  # TFD_CLOEXEC | TFD_NONBLOCK
_FAR = 2**62 // 1000


class _Sigevent(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_uint64),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_int * 12),
    )


class _Timerspec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


def now_us() -> int:
    """Microseconds of CLOCK_BOOTTIME."""
    return time.clock_gettime_ns(CLOCK_BOOTTIME) // 1000


def _checked(result: int, call: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")
    return result


def _at(instant_us: int | None) -> _Timerspec:
    """`None` disarms; an instant that has passed fires at once."""
    if instant_us is None:
        return _Timerspec(0, 0, 0, 0)
    instant = min(max(instant_us, 1), _FAR)
    return _Timerspec(0, 0, instant // 1_000_000, instant % 1_000_000 * 1000)


def prctl(option: int, value: int) -> None:
    """`prctl(2)` with one number."""
    _checked(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), "prctl")


def set_name(name: bytes) -> None:
    """What `ps` shows; 15 bytes."""
    _checked(_libc.prctl(PR_SET_NAME, ctypes.c_char_p(name), 0, 0, 0), "prctl")


class KillTimer:
    """A kernel timer on CLOCK_BOOTTIME that sends SIGKILL to this process. It needs no code of ours to run."""

    def __init__(self) -> None:
        self._id = ctypes.c_void_p()
        event = _Sigevent(0, SIGKILL, _SIGEV_SIGNAL)
        _checked(_libc.timer_create(CLOCK_BOOTTIME, ctypes.byref(event), ctypes.byref(self._id)), "timer_create")

    def set(self, instant_us: int | None) -> None:
        """Move it, or take it away with None."""
        spec = _at(instant_us)
        _checked(_libc.timer_settime(self._id, _TIMER_ABSTIME, ctypes.byref(spec), None), "timer_settime")


class Alarm:
    """A timerfd on CLOCK_BOOTTIME: readable once its instant has passed."""

    def __init__(self) -> None:
        self.fd = _checked(_libc.timerfd_create(CLOCK_BOOTTIME, _TFD_FLAGS), "timerfd_create")

    def set(self, instant_us: int | None) -> None:
        """Move it, or take it away with None."""
        spec = _at(instant_us)
        _checked(_libc.timerfd_settime(self.fd, _TIMER_ABSTIME, ctypes.byref(spec), None), "timerfd_settime")


def unshare(flags: int) -> None:
    """`unshare(2)`."""
    _checked(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """`setns(2)`."""
    _checked(_libc.setns(fd, kind), "setns")


def mount(source: bytes, target: bytes, kind: bytes | None, flags: int) -> None:
    """`mount(2)` without data."""
    _checked(_libc.mount(source, target, kind, ctypes.c_ulong(flags), None), "mount")
