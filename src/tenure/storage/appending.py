"""New entries of the log as rows, in few statements: each takes and gives back the interpreter's lock (P6.4)."""

from typing import Final

import apsw

from tenure.base.ids import LogIndex
from tenure.raft.entries import Entry
from tenure.storage.records import BatchRecord, entry_crc

rows_per_statement_max: Final = 64
_ROW: Final = "(?, ?, ?, ?, ?)"
_PUT_ENTRIES: Final = "INSERT INTO entries(idx, term, kind, data, crc) VALUES"
_statements: dict[int, str] = {}


def put_entries(connection: apsw.Connection, record: BatchRecord, entries: tuple[Entry, ...]) -> tuple[LogIndex, int]:
    """Insert them behind the last one. Returns the last index then, and its chained CRC."""
    last, crc = record.last, record.last_crc
    if not entries:
        return last, crc
    assert entries[0].index == last + 1, f"entry {entries[0].index} after {last}"
    execute = connection.execute
    for start in range(0, len(entries), rows_per_statement_max):
        piece = entries[start : start + rows_per_statement_max]
        values: list[int | bytes] = []
        for entry in piece:
            crc = entry_crc(entry, crc)
            values += (entry.index, entry.term, entry.kind, entry.data, crc)
        execute(_insert(len(piece)), values)
    return entries[-1].index, crc


def _insert(rows: int) -> str:
    statement = _statements.get(rows)
    if statement is None:
        statement = _statements[rows] = _PUT_ENTRIES + ", ".join([_ROW] * rows)
    return statement
