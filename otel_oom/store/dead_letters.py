"""The dead letters: what a backend will never take, with who said so and why.

Functions over a connection; those that write are to be called within a transaction. An id is
never given twice, so that what is refused anew is told from what was looked at before.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from otel_oom.store.types import DeadLetter, Message, Rejection


def insert(db: sqlite3.Connection, messages: Sequence[Message], refusal: Rejection) -> None:
    """Keep a copy of messages of the outbox."""
    now = time.time_ns()
    db.executemany(
        "INSERT INTO dead_letters"
        " (uid, signal, payload, endpoint, reason, ambiguous, rejected_unix_ns)"
        " SELECT uid, signal, payload, ?, ?, ?, ? FROM outbox WHERE id = ? AND uid = ?",
        [
            (refusal.endpoint, refusal.reason, refusal.ambiguous, now, message.id, message.uid)
            for message in messages
        ],
    )


def page(db: sqlite3.Connection, after: int, most: int) -> list[DeadLetter]:
    """The oldest past the id ``after``, at most ``most``."""
    rows = db.execute(
        "SELECT id, uid, signal, length(payload), endpoint, reason, ambiguous, rejected_unix_ns"
        " FROM dead_letters WHERE id > ? ORDER BY id LIMIT ?",
        (after, most),
    )
    return [
        DeadLetter(id_, uid, signal, size, endpoint, reason, bool(ambiguous), rejected_unix_ns)
        for id_, uid, signal, size, endpoint, reason, ambiguous, rejected_unix_ns in rows
    ]


def newest_id(db: sqlite3.Connection) -> int:
    """The highest id; 0 without any."""
    row = db.execute("SELECT max(id) FROM dead_letters").fetchone()
    return row[0] or 0


def copy_to_outbox(db: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Put copies at the end of the outbox.

    What was perhaps taken goes alone this time: the answer is then about it and no other.
    """
    now = time.time_ns()
    db.executemany(
        "INSERT OR IGNORE INTO outbox (uid, signal, payload, queued_unix_ns, send_alone)"
        " SELECT uid, signal, payload, ?, ambiguous FROM dead_letters WHERE id = ?",
        [(now, id_) for id_ in ids],
    )


def delete(db: sqlite3.Connection, ids: Sequence[int]) -> int:
    """Delete some; how many there were."""
    return db.executemany("DELETE FROM dead_letters WHERE id = ?", [(id_,) for id_ in ids]).rowcount
