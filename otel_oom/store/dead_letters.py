"""Dead letters: rejected messages, with the endpoint and its reason.

No id is given twice: a letter that is rejected again differs from the one that was listed before.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from otel_oom.config.redaction import redact_url
from otel_oom.store.database import Database
from otel_oom.store.types import DeadLetter, Message, Rejection


class DeadLetters:
    """The dead letters of one database; each method raises sqlite3.Error when it fails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, after: int, limit: int) -> list[DeadLetter]:
        """Return the oldest dead letters past the id ``after``."""
        rows = self._database.read(
            lambda db: db.execute(
                "SELECT id, uid, signal, length(payload), endpoint, reason, ambiguous,"
                " rejected_unix_ns FROM dead_letters WHERE id > ? ORDER BY id LIMIT ?",
                (after, limit),
            ).fetchall()
        )
        return [
            DeadLetter(
                *(id_, uid, channel, size),
                # Earlier versions stored the path too.
                redact_url(endpoint),
                *(reason, bool(ambiguous), rejected_unix_ns),
            )
            for id_, uid, channel, size, endpoint, reason, ambiguous, rejected_unix_ns in rows
        ]

    def newest_id(self) -> int:
        """Return the highest id; 0 without any."""
        query = "SELECT coalesce(max(id), 0) FROM dead_letters"
        return self._database.read(lambda db: int(db.execute(query).fetchone()[0]))

    def resend(self, ids: Sequence[int]) -> int:
        """Move dead letters to the end of the outbox, and return their number.

        An ambiguous one is sent alone this time: the response is then about no other.
        """

        def move(db: sqlite3.Connection) -> int:
            now = time.time_ns()
            db.executemany(
                "INSERT OR IGNORE INTO outbox"
                " (uid, signal, payload, queued_unix_ns, send_alone, holder, size)"
                " SELECT uid, signal, payload, ?, ambiguous, holder, size"
                " FROM dead_letters WHERE id = ?",
                [(now, id_) for id_ in ids],
            )
            return _delete(db, ids)

        return self._database.write(move)

    def drop(self, ids: Sequence[int]) -> int:
        """Delete dead letters, and return their number."""
        return self._database.write(lambda db: _delete(db, ids))


def insert(db: sqlite3.Connection, messages: Sequence[Message], rejection: Rejection) -> None:
    """Copy rejected messages from the outbox; must run within a transaction."""
    values = (rejection.endpoint, rejection.reason, rejection.ambiguous, time.time_ns())
    db.executemany(
        "INSERT INTO dead_letters"
        " (uid, signal, payload, endpoint, reason, ambiguous, rejected_unix_ns, holder, size)"
        " SELECT uid, signal, payload, ?, ?, ?, ?, holder, size"
        " FROM outbox WHERE id = ? AND uid = ?",
        [(*values, message.id, message.uid) for message in messages],
    )


def _delete(db: sqlite3.Connection, ids: Sequence[int]) -> int:
    return db.executemany("DELETE FROM dead_letters WHERE id = ?", [(id_,) for id_ in ids]).rowcount
