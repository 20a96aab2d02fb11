"""The data directory: its names, its lock, the clean-shutdown mark, and the `-wal`'s least size.

- tenure.db: the database
- tenure.db-wal: its write-ahead log, always there while a member runs
- clean-shutdown: present only between a clean close and the next open; it names the last batch
- lock: held with flock by the process that has the directory
- tenure.db.new: a store that is being made; renamed when it is whole

Everything here is done in an order that a crash at any point leaves a state which the next open understands.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from tenure.storage.errors import Corrupt, DiskFailed, Locked, NoSpace, StorageError
from tenure.storage.wal import wal_bytes


class Mark(Struct, frozen=True):
    """What the clean-shutdown mark says: the store that was closed ended just so."""

    member: str
    writes: int
    number: int
    chain: int


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Turn the system's errors into ours."""
    try:
        yield
    except OSError as error:
        raise of_os_error(file, error) from error


def of_os_error(file: Path, error: OSError) -> StorageError:
    """The typed error for one of the system's."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(file)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(file, str(error), "give this process the right to write there, or another --data-dir")
    return DiskFailed(file, str(error))


class Folder:
    """One data directory, locked by this process from `lock` to `unlock`."""

    __slots__ = ("_held", "database", "lock_file", "mark_file", "new", "path", "wal")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "tenure.db"
        self.wal = path / "tenure.db-wal"
        self.mark_file = path / "clean-shutdown"
        self.new = path / "tenure.db.new"
        self.lock_file = path / "lock"
        self._held: IO[str] | None = None

    def lock(self) -> None:
        """Make the directory if need be and take it; `Locked` names the process that has it."""
        with naming(self.path):
            try:
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError, FileNotFoundError) as error:
                step = "give a --data-dir that is a directory, or can be made as one"
                raise StorageError(self.path, error.strerror or str(error), step) from None
            held = open(self.lock_file, "a+", encoding="ascii")  # noqa: SIM115 - held until unlock
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.seek(0)
            holder = held.read(64).strip()
            held.close()
            raise Locked(self.path, f"process {holder}" if holder else "another process") from None
        self._held = held
        with naming(self.lock_file):
            held.truncate(0)
            held.write(f"{os.getpid()}\n")
            held.flush()

    def unlock(self) -> None:
        """Give the directory back; may be called twice."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def sync(self) -> None:
        """Make names durable: creations, renames and removals in the directory."""
        with naming(self.path):
            handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def is_unmade(self) -> bool:
        """No store is here yet, or its making was interrupted before anything was promised."""
        if self.database.exists():
            return False
        if self.new.exists():
            return True
        for left in (self.wal, self.mark_file):
            if left.exists():
                raise Corrupt(self.database, f"the database is missing, but {left.name} is there")
        return True

    def clear_unmade(self) -> None:
        """Remove what an interrupted making left."""
        with naming(self.path):
            for left in (self.new, self.path / "tenure.db.new-wal", self.path / "tenure.db.new-shm", self.mark_file):
                left.unlink(missing_ok=True)

    def read_mark(self) -> Mark | None:
        """The clean-shutdown mark; `Corrupt` if it is there but not readable."""
        try:
            return msgspec.json.decode(self.mark_file.read_bytes(), type=Mark)
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Corrupt(self.mark_file, str(error)) from None
        except OSError as error:
            raise of_os_error(self.mark_file, error) from error

    def write_mark(self, mark: Mark) -> None:
        """Durable when this returns."""
        temporary = self.path / "clean-shutdown.new"
        with naming(temporary), open(temporary, "wb") as file:
            file.write(msgspec.json.encode(mark))
            file.flush()
            os.fsync(file.fileno())
        with naming(self.mark_file):
            temporary.rename(self.mark_file)
        self.sync()

    def remove_mark(self) -> None:
        """Gone, durably, before the first write of a new life."""
        with naming(self.mark_file):
            self.mark_file.unlink(missing_ok=True)
        self.sync()

    def read_wal(self, clean: bool) -> bytes:
        """The `-wal` as it is. After an unclean stop it must be there, and not shorter than it ever is (P1.3)."""
        try:
            data = self.wal.read_bytes()
        except FileNotFoundError:
            if clean:
                return b""
            raise Corrupt(
                self.wal, "missing, although the last stop was not clean (was the database opened by another program?)"
            ) from None
        except OSError as error:
            raise of_os_error(self.wal, error) from error
        if not clean and len(data) < wal_bytes:
            raise Corrupt(self.wal, f"{len(data)} bytes long, never less than {wal_bytes} while a member runs")
        return data

    def stretch_wal(self) -> None:
        """Give the `-wal` its least size, in zeros that SQLite takes for its end. Only before SQLite has it open."""
        with naming(self.wal), open(os.open(self.wal, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            while size < wal_bytes:
                size += file.write(bytes(min(1024 * 1024, wal_bytes - size)))
            os.fsync(file.fileno())
        self.sync()
