"""Disks and clocks that fail on demand under real members.

* `Injection` attaches strace to a running member and lets it go again: errors, delays and death at system calls that
  were chosen, from one moment to another. Attaching to what isn't one's own child needs root, or a kernel with
  `kernel.yama.ptrace_scope=0`; else strace says so, and the test fails with its words.
* `injected` is the command to put in front of a member, for what must happen while it starts.
* `SmallDisk` is a file system of a few megabytes in a mount namespace of its own.
* `elsewhen` starts a member in a time namespace; `Faketime` makes its wall clock jump while it runs.

A tool that is missing fails a test. Where namespaces aren't allowed, `NotPermitted` says what the system answered.
"""

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.e2e.cluster import Member, eventually

writes: Final = "pwrite64"
"""What SQLite writes with, to the database and to the `-wal`."""
syncs: Final = "fdatasync"
"""What SQLite syncs with; names, the clean-shutdown mark and the stretched `-wal` are synced with fsync."""
hours_us: Final = 10 * 3_600_000_000
refusals: Final = ("not permitted", "denied", "Invalid argument", "No space left", "not implemented")
"""How a kernel or a container says that there shall be no more namespaces, or none of this kind."""


class NotPermitted(Exception):
    """This machine doesn't let us make such a namespace; the text is the system's."""


def _tool(name: str) -> str:
    found = shutil.which(name)
    assert found, f"this test needs {name} (tools/setup.sh test installs it)"
    return found


def _refused(doing: str, words: str) -> NotPermitted:
    """Words that tell of anything else are a failure."""
    assert any(each in words for each in refusals), f"can't {doing}: {words}"
    return NotPermitted(f"this machine can't {doing}: {words.strip()}")


def _unshare(*what: str) -> list[str]:
    """The command to stand before another. Who isn't root is it in a user namespace."""
    rootless = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return [_tool("unshare"), *rootless, *what]


def inject(call: str, **what: object) -> list[str]:
    """strace's expressions for one fault: `inject("fdatasync", error="EIO", when="3+")`."""
    details = "".join(f":{name}={value}" for name, value in what.items())
    return ["-e", f"trace={call}", "-e", f"inject={call}{details}"]


def injected(told: Path, fault: Sequence[str], *, only: Path | None = None) -> list[str]:
    """A command to stand before a member's. `-D`: the member stays the process that we started."""
    at = [] if only is None else ["-P", str(only)]
    return [_tool("strace"), "-D", "-f", "-qq", "-o", str(told), *at, *fault]


class Injection:
    """A fault in a running member, from `with` to its end; a delay ends with it too. Counts are per thread."""

    def __init__(self, member: Member, fault: Sequence[str], *, only: Path | None = None) -> None:
        self.told = member.folder.parent / f"{member.name}.strace"
        self._words = self.told.with_suffix(".strace-err")
        at = [] if only is None else ["-P", str(only)]
        self._command = [_tool("strace"), "-f", "-p", str(member.pid), "-o", str(self.told), *at, *fault]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with open(self._words, "wb") as words:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, start_new_session=True
            )
        try:
            eventually(lambda: b"attached" in self._words.read_bytes() or self._over(), "strace is attached")
            assert b"attached" in self._words.read_bytes(), self._words.read_text(encoding="utf-8")
        except BaseException:
            self.heal()
            raise
        return self

    def _over(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.heal()

    def heal(self) -> None:
        """Let the member go; may be called twice."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.terminate()
                self._process.wait(2.0)
            self._process.kill()  # it may wait for ever for a delayed thread that has died
            self._process.wait()
            self._process = None


class SmallDisk:
    """A tmpfs at `path`, seen by whoever is started with `inside` before it. It lasts as long as its block."""

    def __init__(self, path: Path, megabytes: int) -> None:
        self.path = path
        path.mkdir(parents=True)
        mount = 'mount -t tmpfs -o size="$1"m tenure-test "$2" && echo mounted && exec sleep infinity'
        self._keeper = subprocess.Popen(
            [*_unshare("--mount"), "sh", "-c", mount, "sh", str(megabytes), str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._keeper.stdout is not None
        said = self._keeper.stdout.readline()
        if said != b"mounted\n":
            self.close()
            raise _refused("mount a small disk in a mount namespace", said.decode(errors="replace"))

    @property
    def inside(self) -> list[str]:
        """The command to stand before another."""
        at = f"/proc/{self._keeper.pid}/ns"
        user = [] if os.geteuid() == 0 else [f"--user={at}/user", "--preserve-credentials"]
        return [_tool("nsenter"), *user, f"--mount={at}/mnt"]

    @property
    def seen(self) -> Path:
        """The same directory, as everybody can reach it."""
        return Path(f"/proc/{self._keeper.pid}/root{self.path}")

    def fill(self) -> None:
        """Not one byte is left."""
        with open(self.seen / "filler", "ab", buffering=0) as file:
            try:
                while file.write(bytes(65_536)):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def make_room(self) -> None:
        (self.seen / "filler").unlink()

    def close(self) -> None:
        self._keeper.kill()
        self._keeper.wait()
        assert self._keeper.stdout is not None
        self._keeper.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def elsewhen(boottime_s: int, monotonic_s: int) -> list[str]:
    """The command to stand before another, so that it lives in a time namespace."""
    return _unshare("--time", "--boottime", str(boottime_s), "--monotonic", str(monotonic_s))


def check_elsewhen() -> None:
    """`NotPermitted` unless whoever is started so is in another time. (Kernels before 6.2 move only its children.)"""
    asked = [*elsewhen(77, 77), "readlink", "/proc/self/ns/time"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise _refused("make a time namespace", done.stderr)
    if done.stdout.strip() == str(Path("/proc/self/ns/time").readlink()):
        raise NotPermitted("this machine can't start a process in a time namespace: its kernel is older than 6.2")


class Faketime:
    """A wall clock that is set while its processes run; CLOCK_MONOTONIC and CLOCK_BOOTTIME stay right."""

    def __init__(self, file: Path) -> None:
        found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        assert found, "this test needs libfaketime (tools/setup.sh test installs it)"
        self._library = found[0]
        self._file = file
        self.set(0)

    def set(self, seconds: int) -> None:
        """So far from the truth it is from now on."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}s", encoding="ascii")
        fresh.rename(self._file)

    @property
    def environment(self) -> dict[str, str]:
        """For the processes that shall see it. The last setting keeps waits on CLOCK_MONOTONIC as they are: else each
        wait for Python's lock ends at once, and two threads of one process get a twentieth of their work done.
        """
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }


# --- damage to files -------------------------------------------------------------------------------------------------

page_bytes: Final = 4096
frame_bytes: Final = 24 + page_bytes


def flip(file: Path, at: int, bits: int = 0xFF) -> None:
    """These bits of one byte; all of them unless told."""
    with file.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)
        stream.seek(at)
        stream.write(bytes([byte[0] ^ bits]))


def frames(wal: Path) -> list[int]:
    """Where the frames of the `-wal`'s present round begin."""
    data = wal.read_bytes()
    salts = data[16:24]
    found = []
    for start in range(32, len(data) - frame_bytes + 1, frame_bytes):
        if data[start + 8 : start + 16] != salts:
            break
        found.append(start)
    return found


def flipped_somewhere(file: Path, rng: random.Random) -> int:
    """Flip one bit of what is in use; in which byte."""
    end = file.stat().st_size
    if file.name.endswith("-wal"):
        end = max(frames(file), default=0) + frame_bytes
    at = rng.randrange(end)
    flip(file, at, 1 << rng.randrange(8))
    return at
