"""One life of a store, from its making to its clean close: `python -m tests.storage.life DIRECTORY TOLD`.

What is durable is said in the file TOLD, one batch number a line; whoever kills this process at any system call holds
the next life against it.
"""

import os
import sys
from pathlib import Path

from tenure.base.ids import BatchNumber, LogIndex
from tenure.raft.ready import Batch
from tests.storage.histories import RECORD, entries, opened, snapshot


def main(directory: Path, told: Path) -> None:
    with open(told, "ab", buffering=0) as saying:
        store = opened(directory).store
        if store.identity.founding != "sealed":
            store.set_founding("pending", RECORD)
            store.set_founding("sealed", RECORD)
            saying.write(b"sealed\n")
        number = store.restored().batch
        for _ in range(4):
            number = BatchNumber(number + 1)
            last = LogIndex(number * 3)
            more = {"snapshot": snapshot(last - 3), "compact_to": last - 4} if number % 3 == 0 else {}
            store.write(Batch(number, entries=entries(last - 2, last), **more))  # type: ignore[arg-type]
            saying.write(b"%d\n" % number)
            store.tidy()
        store.close(clean=True)
        saying.write(b"closed\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    os._exit(0)
