"""Statistics of the store: what is still to be sent, and how late it is."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from msgspec.structs import replace

from otel_oom.model.units import NS_PER_S
from otel_oom.store import event_log, outbox
from otel_oom.store.database import Database
from otel_oom.store.types import Backlog, Message

_PAGE: Final = 1000
"""Messages that are counted in one step."""


class StoreStats:
    """Numbers of one database; each method raises sqlite3.Error if it can't be read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ping(self) -> None:
        """Read a row, to show that the database is readable."""
        self._read_number("SELECT count(*) FROM (SELECT 1 FROM events LIMIT 1)")

    def row_counts(self) -> dict[str, int]:
        """Return the number of rows of each table."""
        return {
            table: self._read_number(f"SELECT count(*) FROM {table}")  # noqa: S608  names of our own
            for table in ("events", "outbox", "dead_letters")
        }

    def pending_count(self) -> int:
        """Count what is still to be sent: messages, and events that are pending."""
        # In this order: an event that becomes a message meanwhile counts twice, not zero times.
        events = self._database.read(event_log.count_pending)
        return events + sum(backlog.count for backlog in self.backlogs())

    def backlogs(self) -> list[Backlog]:
        """Return the messages in the outbox by signal; concurrent changes may be missing."""
        by_signal: dict[str, Backlog] = {}
        after: int | None = 0
        while after is not None:
            parts, after = self._database.read(partial(outbox.backlogs, after=after, limit=_PAGE))
            for part in parts:
                total = by_signal.get(part.signal, replace(part, count=0, size=0))
                by_signal[part.signal] = replace(
                    total, count=total.count + part.count, size=total.size + part.size
                )
        return [by_signal[signal] for signal in sorted(by_signal)]

    def queue_depth(self, signal: str) -> int:
        """Return the number of messages of ``signal`` in the outbox."""
        return self._read_number("SELECT count(*) FROM outbox WHERE signal = ?", signal)

    def oldest_age_s(self, signal: str) -> float:
        """Return the age in seconds of the oldest message of ``signal``; 0 without any."""
        now = time.time_ns()
        queued_unix_ns = self._read_number(
            "SELECT coalesce((SELECT queued_unix_ns FROM outbox WHERE signal = ?"
            " ORDER BY id LIMIT 1), ?)",
            signal,
            now,
        )
        return max(0.0, (now - queued_unix_ns) / NS_PER_S)

    def dead_letter_count(self, signal: str) -> int:
        """Return the number of dead letters of ``signal``."""
        return self._read_number("SELECT count(*) FROM dead_letters WHERE signal = ?", signal)

    def delivery_delays_s(self, messages: Sequence[Message], boot_id: str) -> list[float]:
        """Return the seconds since the events of ``messages``, by the kernel's clock.

        For an event of another boot than ``boot_id``, it is the time since it was stored.
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
            # An event that was deleted meanwhile has no time.
            return [max(0, row[0]) / NS_PER_S for row in rows if row]

        return self._database.read(read)

    def _read_number(self, query: str, *values: str | int) -> int:
        return self._database.read(lambda db: int(db.execute(query, values).fetchone()[0]))
