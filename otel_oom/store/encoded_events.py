"""Copies of the OTLP bytes that events were encoded as, compressed, for the host's history.

The history thus shows what the backend has, whatever the version. A copy may be missing: a full
disk has no space for it, and the event can be encoded again.

Functions over a connection; those that write must run within a transaction.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable
from typing import Final

from otel_oom.store.types import OutboxEntry

_LEVEL: Final = 1
_MAX_BYTES: Final = 1 << 20
"""More than any one event is encoded as."""


def insert(db: sqlite3.Connection, entry: OutboxEntry) -> None:
    """Keep a copy of ``entry``, unless its event was deleted meanwhile."""
    if not db.execute("SELECT 1 FROM events WHERE uid = ?", (entry.uid,)).fetchone():
        return
    db.executemany(
        "INSERT OR REPLACE INTO encoded_events (uid, signal, payload) VALUES (?, ?, ?)",
        [
            (entry.uid, signal, zlib.compress(payload, _LEVEL))
            for signal, payload in entry.payloads.items()
        ],
    )


def delete(db: sqlite3.Connection, event_ids: Iterable[int]) -> None:
    """Delete the copies of some events."""
    db.executemany(
        "DELETE FROM encoded_events WHERE uid = (SELECT uid FROM events WHERE id = ?)",
        [(id_,) for id_ in event_ids],
    )


def delete_oldest(db: sqlite3.Connection, limit: int) -> int:
    """Delete the oldest copies, and return their number."""
    return db.execute(
        "DELETE FROM encoded_events WHERE rowid IN"
        " (SELECT rowid FROM encoded_events ORDER BY rowid LIMIT ?)",
        (limit,),
    ).rowcount


def load(db: sqlite3.Connection, uid: str, signal: str) -> bytes | None:
    """Return the copy of an event; ``None`` if there is none, or it is damaged."""
    row = db.execute(
        "SELECT payload FROM encoded_events WHERE uid = ? AND signal = ?", (uid, signal)
    ).fetchone()
    if row is None:
        return None
    try:
        decompressor = zlib.decompressobj()
        payload = decompressor.decompress(row[0], _MAX_BYTES)
    except (zlib.error, TypeError):
        return None
    # zlib's own checksum stands at the end.
    return payload if decompressor.eof else None
