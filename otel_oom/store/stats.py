"""What the store can say of itself: how much waits, for how long, and how late what goes out is."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from otel_oom.model.units import NS_PER_S
from otel_oom.store.database import Database
from otel_oom.store.types import Message


class StoreStats:
    """Numbers of one database; each method raises sqlite3.Error when it can't be read."""

    def __init__(self, database: Database) -> None:
        """Read them in ``database``, when somebody asks."""
        self._database = database

    def ping(self) -> None:
        """Show that it can be read."""
        self._number("SELECT count(*) FROM (SELECT 1 FROM events LIMIT 1)")

    def queue_depth(self, signal: str) -> int:
        """How many messages of ``signal`` wait to be sent."""
        return self._number("SELECT count(*) FROM outbox WHERE signal = ?", signal)

    def oldest_age_s(self, signal: str) -> float:
        """How many seconds the oldest of them has waited; 0 where none does."""
        now = time.time_ns()
        since = self._number(
            "SELECT coalesce((SELECT queued_unix_ns FROM outbox WHERE signal = ?"
            " ORDER BY id LIMIT 1), ?)",
            signal,
            now,
        )
        return max(0.0, (now - since) / NS_PER_S)

    def dead_letter_count(self, signal: str) -> int:
        """How many messages of ``signal`` are kept that a backend will never take."""
        return self._number("SELECT count(*) FROM dead_letters WHERE signal = ?", signal)

    def delivery_delays_s(self, messages: Sequence[Message], boot_id: str) -> list[float]:
        """How many seconds ago the events of ``messages`` were, by the kernel's clock.

        For one of another boot than ``boot_id`` it is the time since it was stored.
        """
        boot, unix = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()

        def read(db: sqlite3.Connection) -> list[float]:
            rows = (
                db.execute(
                    "SELECT CASE boot_id WHEN ? THEN ? - boottime_ns ELSE ? - stored_unix_ns END"
                    " FROM events WHERE uid = ?",
                    (boot_id, boot, unix, message.uid),
                ).fetchone()
                for message in messages
            )
            # One whose journal row has gone by now has no time that could be told.
            return [max(0, row[0]) / NS_PER_S for row in rows if row]

        return self._database.read(read)

    def _number(self, query: str, *values: str | int) -> int:
        return self._database.read(lambda db: int(db.execute(query, values).fetchone()[0]))
