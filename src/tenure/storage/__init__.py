"""The durable state of a member, in SQLite through APSW: identity, founding, log, hard state, snapshot.

Idea: a trusted store that a person can open and read (stop the member, or copy the directory; then `sqlite3
tenure.db`), with proof of our own on top, because SQLite drops everything behind an invalid frame of its `-wal`
without a word, and checks no page. Every batch is one transaction, numbered, and chained to the one before by CRC
(P1.3); so are the entries.

At open, in this order: lock the directory; walk the `-wal` (`wal`); let SQLite recover; check structure, chain,
numbers, every CRC (`database`); only then is anything changed. What is found has a name of its own: an empty
directory (a new member id, founding `empty`), a torn last transaction (dropped and noted; peers know better, P1.3),
or an error: `Corrupt`, `Foreign`, `Newer`, `Locked`, `NoSpace`, `DiskFailed`.

Invariants: `write` returns only when the batch is durable. Between open and clean close there is a `-wal` of at least
`wal_bytes` and no clean-shutdown mark; after a clean close the mark names the last batch, and the `-wal` is empty or,
if the close was interrupted behind its mark, ends with that batch. Every transaction rewrites the head, on page 3.
After a failed sync nothing is written any more.

Left out: what the entries mean, and when to compact: `raft` says so. A disk that takes back its last acknowledged
transaction in silence can't be told from a crash here; the other members know the number (`rolled_back`).
"""

from tenure.storage.errors import Corrupt, DiskFailed, Foreign, Locked, Newer, NoSpace, StorageError
from tenure.storage.quarantine import set_aside
from tenure.storage.records import StoredIdentity
from tenure.storage.store import Opened, Store
from tenure.storage.thread import DiskThread

__all__ = [
    "Corrupt",
    "DiskFailed",
    "DiskThread",
    "Foreign",
    "Locked",
    "Newer",
    "NoSpace",
    "Opened",
    "StorageError",
    "Store",
    "StoredIdentity",
    "set_aside",
]
