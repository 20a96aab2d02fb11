"""What can be wrong with a store: each its own type, each naming the file, what was found, and the next step (DESIGN
5).

Torn is not among them: an unfinished last transaction is what a crash leaves behind; it is dropped and noted.
"""

from pathlib import Path
from typing import Final

from tenure.base.errors import TenureError

_REPLACE: Final = (
    "keep the directory for inspection, start this member on an empty one and let it replace the old one in the "
    "cluster (`tenure member replace`); a member must not come back with a damaged disk"
)


class StorageError(TenureError):
    """Base: `file` is what it is about, `what` was found there, `next_step` is for the operator."""

    def __init__(self, file: Path, what: str, next_step: str) -> None:
        super().__init__(f"{file}: {what}. Next step: {next_step}")
        self.file = file
        self.what = what
        self.next_step = next_step


class Corrupt(StorageError):
    """Durable data is damaged or missing: promises of this member may be lost (P1.3)."""

    def __init__(self, file: Path, what: str, next_step: str = _REPLACE) -> None:
        super().__init__(file, f"damaged: {what}", next_step)


class Foreign(StorageError):
    """A database, but not one of Tenure's."""

    def __init__(self, file: Path, what: str) -> None:
        super().__init__(file, what, "give another --data-dir; nothing here was touched")


class Newer(StorageError):
    """Written by a newer Tenure."""

    def __init__(self, file: Path, found: int, known: int) -> None:
        super().__init__(
            file,
            f"store format {found}, this Tenure knows {known}",
            "start the newer Tenure again; stores are not converted back",
        )
        self.found = found


class Locked(StorageError):
    """Another process has the directory."""

    def __init__(self, file: Path, holder: str) -> None:
        super().__init__(file, f"in use by {holder}", "stop that process, or give each member a --data-dir of its own")


class NoSpace(StorageError):
    """ENOSPC or a quota. Nothing of the batch was written; the same batch may be written once there is space."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, "no space left on the device, or over a quota", "free some space; nothing was lost")


class DiskFailed(StorageError):
    """A write or a sync failed. Fatal at once and never retried: after a failed sync nobody knows what is durable."""

    def __init__(self, file: Path, what: str) -> None:
        super().__init__(
            file, f"the disk failed: {what}", "check the disk; start this member again only if it is sound"
        )
