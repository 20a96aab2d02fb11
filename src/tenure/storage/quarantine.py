"""Sets a lost or damaged store aside, whole, so that the directory is empty for a new one. Nothing is ever deleted.

What is set aside goes into a folder of its own inside the data directory (`quarantined-1`, …): a directory that is a
mount point, or whose parent belongs to somebody else, can't be renamed. The database goes first: a crash in between
leaves a directory that is damaged, never one that looks sound and is not.
"""

import os
from pathlib import Path
from typing import Final

from tenure.storage.errors import StorageError
from tenure.storage.folder import Folder, naming

quarantined_max: Final = 8
"""So many are kept; a disk that damages more needs a person."""
_name: Final = "quarantined-"
_step: Final = "look at them, keep elsewhere what you need, and remove the folders; or replace the disk"


def set_aside(directory: Path, why: str) -> Path:
    """Move everything in `directory` into a new folder in it, durably; `why` is written down there.

    Raises `Locked` if a process has the directory, and `StorageError` if it holds too many such folders already.
    """
    folder = Folder(directory)
    folder.lock()
    try:
        with naming(directory):
            kept = sorted(one.name for one in directory.iterdir() if one.name.startswith(_name))
            if len(kept) >= quarantined_max:
                raise StorageError(directory, f"{len(kept)} stores are set aside here already", _step)
            numbers = [int(name[len(_name) :]) for name in kept if name[len(_name) :].isdecimal()]
            aside = directory / f"{_name}{max(numbers, default=0) + 1}"
            aside.mkdir(mode=0o700)
            _write(aside / "why", why)
            there = [one for one in directory.iterdir() if one != folder.lock_file and not one.name.startswith(_name)]
            for one in sorted(there, key=lambda path: path != folder.database):
                one.rename(aside / one.name)
            _sync(aside)
        folder.sync()
        return aside
    finally:
        folder.unlock()


def _write(file: Path, text: str) -> None:
    with open(file, "x", encoding="utf-8") as stream:
        stream.write(text + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
