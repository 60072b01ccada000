"""What events were told as: OTLP bytes, kept beside the journal, compressed, for its reader.

With it the host's own history shows what the backend has, whatever has changed here since. It may
be missing: a full disk has no room for it, and the event can be told anew.

Functions over a connection; those that write are to be called within a transaction.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable
from typing import Final

from otel_oom.store.types import OutboxEntry

_LEVEL: Final = 1
_MOST_BYTES: Final = 1 << 20
"""More than any one event is told as."""


def insert(db: sqlite3.Connection, entry: OutboxEntry) -> None:
    """Keep what an event of the journal was told as; not of one that is gone by now."""
    if not db.execute("SELECT 1 FROM events WHERE uid = ?", (entry.uid,)).fetchone():
        return
    db.executemany(
        "INSERT OR REPLACE INTO encoded_events (uid, signal, payload) VALUES (?, ?, ?)",
        [
            (entry.uid, signal, zlib.compress(payload, _LEVEL))
            for signal, payload in entry.payloads.items()
            if payload is not None
        ],
    )


def delete(db: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Let go of what the events of these ids of the journal were told as."""
    db.executemany(
        "DELETE FROM encoded_events WHERE uid = (SELECT uid FROM events WHERE id = ?)",
        [(id_,) for id_ in ids],
    )


def delete_oldest(db: sqlite3.Connection, most: int) -> int:
    """Let go of what was kept first; how much there was."""
    return db.execute(
        "DELETE FROM encoded_events WHERE rowid IN"
        " (SELECT rowid FROM encoded_events ORDER BY rowid LIMIT ?)",
        (most,),
    ).rowcount


def load(db: sqlite3.Connection, uid: str, signal: str) -> bytes | None:
    """What the event was told as; ``None`` where that is not kept, or not as it was written."""
    row = db.execute(
        "SELECT payload FROM encoded_events WHERE uid = ? AND signal = ?", (uid, signal)
    ).fetchone()
    if row is None:
        return None
    try:
        unpacked = zlib.decompressobj()
        payload = unpacked.decompress(row[0], _MOST_BYTES)
    except (zlib.error, TypeError):
        return None
    # At its end is a sum, which tells what a disk has changed.
    return payload if unpacked.eof else None
