"""Checksums of rows: a disk may return other bytes than were written, without an error.

SQLite has checksums for its write-ahead log alone. A row with a wrong checksum counts as a damaged
file: it is left out when that is salvaged. A message is then encoded again from its event, an event
read again from the kernel's log.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

_COLUMNS: Final = {
    "events": (
        *("uid", "boot_id", "kind", "tgid", "start_boottime_ns", "boottime_ns"),
        *("log_queued", "span_queued", "event", "snapshot", "exit", "reaper_steps"),
    ),
    "outbox": ("uid", "signal", "payload"),
}
_LENGTH_BYTES: Final = 8


def register(db: sqlite3.Connection) -> None:
    """Register the SQL function ``row_crc32`` in ``db``."""
    db.create_function("row_crc32", -1, row_crc32, deterministic=True)


def row_crc32(*values: bytes | None) -> int:
    """Return the CRC-32 of some values, each with its length; ``None`` differs from empty."""
    crc = 0
    for value in values:
        length = -1 if value is None else len(value)
        crc = zlib.crc32(value or b"", zlib.crc32(length.to_bytes(_LENGTH_BYTES, signed=True), crc))
    return crc


def message_crc32(uid: str, signal: str, payload: bytes) -> int:
    """Return the checksum of a row of the outbox."""
    return row_crc32(uid.encode(), signal.encode(), payload)


def checksum_ok_sql(table: str) -> str:
    """Return SQL that verifies the checksum of a row of ``table``; a row without one is valid."""
    return f"(crc32 IS NULL OR crc32 = {_crc32_sql(table)})"


def update_events(db: sqlite3.Connection, assignments: str, values: Sequence[Any]) -> int:
    """Update events by an ``UPDATE`` from its ``SET`` on, and return their number."""
    update = f"UPDATE events SET {assignments} RETURNING id"  # noqa: S608  names of our own
    rows = db.execute(update, values).fetchall()
    update_event_checksums(db, rows)
    return len(rows)


def update_event_checksums(db: sqlite3.Connection, ids: Iterable[tuple[int]]) -> None:
    """Update the checksums of events that were just written."""
    db.executemany(f"UPDATE events SET crc32 = {_crc32_sql('events')} WHERE id = ?", ids)  # noqa: S608  names of our own


def _crc32_sql(table: str) -> str:
    # As bytes: a damaged text may not be UTF-8.
    return f"row_crc32({', '.join(f'CAST({name} AS BLOB)' for name in _COLUMNS[table])})"
