"""The dead letters: what a backend will never take, with its reason.

Functions over a connection; those that write are to be called within a transaction.
"""

from __future__ import annotations

import sqlite3
import time


def insert(db: sqlite3.Connection, uid: str, signal: str, payload: bytes, reason: str) -> None:
    """Keep what was refused."""
    db.execute(
        "INSERT INTO dead_letters (uid, signal, payload, reason, refused_unix_ns)"
        " VALUES (?, ?, ?, ?, ?)",
        (uid, signal, payload, reason, time.time_ns()),
    )
