"""Statistics of the store: what is still to be sent, and how late it is."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Final

from msgspec.structs import replace

from otel_oom.model.channel import channel_exporter, channel_signal
from otel_oom.model.units import NS_PER_S
from otel_oom.store import counters, event_log, fan_out, outbox
from otel_oom.store.database import Database
from otel_oom.store.recovery.disk_space import used_pages
from otel_oom.store.types import Backlog, Message

_PAGE: Final = 1000
"""Messages that are counted in one step."""


_MIN_ROWS: Final = 256
"""Fewer say little about the size of those to come."""
_ROW_BYTES: Final = 8192
"""Mean of an event and its messages, with a report of the kernel of 30 processes."""
_MESSAGES_OF_KILL: Final = {"logs": 2, "traces": 1}


def _mean_row_bytes(db: sqlite3.Connection) -> int | None:
    """Return the mean size of a row with its indices and copies; ``None`` of too few."""
    (rows,) = db.execute(
        "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM outbox)"
    ).fetchone()
    (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
    return used_pages(db) * int(page_bytes) // rows if rows >= _MIN_ROWS else None


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

    def pending_count(self, signals: Collection[str]) -> int:
        """Count what is still to be sent: messages of ``signals``, and pending events."""
        # In this order: an event that becomes a message meanwhile counts twice, not zero times.
        events = self._database.read(event_log.count_pending)
        return events + sum(
            each.count for each in self.backlogs() if channel_signal(each.channel) in signals
        )

    def backlogs(self) -> list[Backlog]:
        """Return the messages in the outbox by channel; concurrent changes may be missing."""
        by_channel: dict[str, Backlog] = {}
        after: int | None = 0
        while after is not None:
            parts, after = self._database.read(partial(outbox.backlogs, after=after, limit=_PAGE))
            for part in parts:
                total = by_channel.get(part.channel, replace(part, count=0, size=0))
                by_channel[part.channel] = replace(
                    total, count=total.count + part.count, size=total.size + part.size
                )
        return [by_channel[channel] for channel in sorted(by_channel)]

    def exporters(self, channels: fan_out.Channels) -> list[dict[str, str | int]]:
        """Return the exporters of ``channels``: how many messages each accepted and rejected.

        OTLP is the exporter without a name.
        """
        counts = self._database.read(lambda db: counters.by_boot(db, counters.NO_BOOT))
        return [
            {
                "signal": signal,
                "exporter": channel_exporter(channel),
                "accepted": counts.get(counters.SENT + channel, 0),
                "rejected": counts.get(counters.REJECTED + channel, 0),
            }
            for signal, targets in channels.items()
            for channel in targets
        ]

    def queue_depth(self, channel: str) -> int:
        """Return the number of messages of a channel in the outbox."""
        return self._read_number("SELECT count(*) FROM outbox WHERE signal = ?", channel)

    def queue_capacity(self, channel: str, copies: Mapping[str, int]) -> int:
        """Return how many messages of a channel fit, at the present mean size of all rows.

        The limit is in bytes, and shared by all rows. A kill takes one, and one for each message;
        ``copies`` is the number of channels by signal. The delivered history does not count, as it
        makes way.
        """
        row_bytes = self._database.read(_mean_row_bytes) or _ROW_BYTES
        rows = 1 + sum(_MESSAGES_OF_KILL[signal] * count for signal, count in copies.items())
        kills = self._database.max_file_bytes // (rows * row_bytes)
        return kills * _MESSAGES_OF_KILL[channel_signal(channel)]

    def oldest_age_s(self, channel: str) -> float:
        """Return the age in seconds of the oldest message of a channel; 0 without any."""
        now = time.time_ns()
        queued_unix_ns = self._read_number(
            "SELECT coalesce((SELECT queued_unix_ns FROM outbox WHERE signal = ?"
            " ORDER BY id LIMIT 1), ?)",
            channel,
            now,
        )
        return max(0.0, (now - queued_unix_ns) / NS_PER_S)

    def dead_letter_count(self, channel: str) -> int:
        """Return the number of dead letters of a channel."""
        return self._read_number("SELECT count(*) FROM dead_letters WHERE signal = ?", channel)

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
