"""A sum of what a row holds: a disk may give back other bytes than it was given, and says nothing.

SQLite has such sums for its log alone. A row whose sum is another is as good as a damaged file: it
is left behind when that is moved aside, and its kill is made good from the journal, for a message,
or from the kernel's log, for a row of the journal.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable
from typing import Final

_PARTS: Final = {
    "events": (
        *("uid", "boot_id", "kind", "tgid", "start_boottime_ns", "boottime_ns"),
        *("log_queued", "span_queued", "event", "snapshot", "exit", "reaper_steps"),
    ),
    "outbox": ("uid", "signal", "payload"),
}
_LENGTH_BYTES: Final = 8


def register(db: sqlite3.Connection) -> None:
    """Let ``db`` have sums: see :func:`row_crc32`."""
    db.create_function("row_crc32", -1, row_crc32, deterministic=True)


def row_crc32(*parts: bytes | None) -> int:
    """The CRC-32 of some values, each with its length; ``None`` is another value than none."""
    crc = 0
    for part in parts:
        length = -1 if part is None else len(part)
        crc = zlib.crc32(part or b"", zlib.crc32(length.to_bytes(_LENGTH_BYTES, signed=True), crc))
    return crc


def message_crc32(uid: str, signal: str, payload: bytes) -> int:
    """The sum of a row of the outbox."""
    return row_crc32(uid.encode(), signal.encode(), payload)


def checksum_ok_sql(table: str) -> str:
    """SQL that tells whether a row of ``table`` is as it was written; one without a sum is."""
    return f"(crc32 IS NULL OR crc32 = {_sql(table)})"


def update_checksums(db: sqlite3.Connection, table: str, ids: Iterable[int]) -> None:
    """Give rows of ``table`` that were just written their sums."""
    update = f"UPDATE {table} SET crc32 = {_sql(table)} WHERE id = ?"  # noqa: S608  names of our own
    db.executemany(update, [(id_,) for id_ in ids])


def _sql(table: str) -> str:
    # As bytes: a text may be none any more.
    return f"row_crc32({', '.join(f'CAST({part} AS BLOB)' for part in _PARTS[table])})"
