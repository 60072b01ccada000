"""The dead letters: what a backend will never take, with its reason.

Functions over a connection; those that write are to be called within a transaction.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from otel_oom.store.rows import Message


def insert(db: sqlite3.Connection, messages: Sequence[Message], reason: str) -> None:
    """Keep a copy of messages of the outbox."""
    now = time.time_ns()
    db.executemany(
        "INSERT INTO dead_letters (uid, signal, payload, reason, refused_unix_ns)"
        " SELECT uid, signal, payload, ?, ? FROM outbox WHERE id = ? AND uid = ?",
        [(reason, now, message.id, message.uid) for message in messages],
    )
