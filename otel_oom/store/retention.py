"""Deletions when there is no space: history first, the oldest undelivered events last.

History is what a backend has accepted or rejected. Anything else is deleted at the size limit
alone, and is counted and logged.

Functions over a connection; all must run within a transaction.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from otel_oom.model.units import NS_PER_S
from otel_oom.store import counters, encoded_events

_LOG = logging.getLogger(__name__)

_HISTORY_ROWS: Final = 256
_DEAD_LETTERS: Final = 64
_EVENTS: Final = 16

_REPORT_INTERVAL_S: Final = 60.0


def prune_history(db: sqlite3.Connection, boot_id: str, min_age_s: float = 0) -> int:
    """Delete some of the oldest history of that age, and return the number of rows.

    Kills of this boot keep a row with no more than what identifies them in the kernel's log: see
    :func:`.event_log.newest_kills`. So does a panic, which pstore may have at every start.
    """
    rows = db.execute(
        # The terms of the index events_prunable.
        "SELECT id, boot_id = ? OR kind = 'panic' FROM events"
        " WHERE log_queued AND span_queued AND undecodable_reason IS NULL AND NOT pruned"
        " AND stored_unix_ns <= ?"
        " AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.uid = events.uid)"
        " ORDER BY stored_unix_ns LIMIT ?",
        (boot_id, time.time_ns() - int(min_age_s * NS_PER_S), _HISTORY_ROWS),
    ).fetchall()
    encoded_events.delete(db, (id_ for id_, _ in rows))
    db.executemany(
        "UPDATE events SET pruned = 1, crc32 = NULL,"
        " snapshot = '', exit = NULL, reaper_steps = '[]',"
        " event = iif(json_valid(event), json_object("
        "'victim', json_object('tid', event ->> '$.victim.tid', 'comm', event ->> '$.victim.comm'),"
        " 'capture', json_object('cpu', event ->> '$.capture.cpu',"
        " 'sequence', event ->> '$.capture.sequence')), '{}') WHERE id = ?",
        [(id_,) for id_, may_come_again in rows if may_come_again],
    )
    past = [id_ for id_, may_come_again in rows if not may_come_again]
    pruned = _ids(
        db, "events WHERE pruned AND boot_id != ? AND kind != 'panic'", boot_id, _HISTORY_ROWS
    )
    _delete(db, "events", past + pruned)
    return len(rows) + len(pruned)


def prune_oldest(db: sqlite3.Connection) -> Counter[str]:
    """Delete some of the rest, the oldest undelivered events last.

    Returns what was dropped: ``dead_letters``, and messages by signal. It is empty if there was
    nothing to delete.
    """
    deleted = (
        _rows_without_loss(db) or _dead_letters(db) or _events(db) or _messages_without_event(db)
    )
    dropped = {f"{counters.DROPPED}{name}": count for name, count in deleted.items() if count}
    counters.add(db, counters.NO_BOOT, dropped)
    return deleted


def _rows_without_loss(db: sqlite3.Connection) -> Counter[str]:
    """Delete pruned rows, else copies, whose events can be encoded again."""
    ids = _ids(db, "events WHERE pruned ORDER BY id", _HISTORY_ROWS)
    _delete(db, "events", ids)
    # A count of nothing says that they made space.
    made_space = ids or encoded_events.delete_oldest(db, _HISTORY_ROWS)
    return Counter({"nothing": 0} if made_space else {})


def _dead_letters(db: sqlite3.Connection) -> Counter[str]:
    ids = _ids(db, "dead_letters ORDER BY id", _DEAD_LETTERS)
    _delete(db, "dead_letters", ids)
    return Counter({"dead_letters": len(ids)} if ids else {})


def _events(db: sqlite3.Connection) -> Counter[str]:
    """Delete events with their undelivered messages."""
    rows = db.execute(
        "SELECT id, uid, NOT log_queued, NOT span_queued FROM events ORDER BY id LIMIT ?",
        (_EVENTS,),
    ).fetchall()
    dropped: Counter[str] = Counter()
    for _, uid, has_log, has_span in rows:
        dropped.update({"logs": has_log, "traces": has_span})
        messages = db.execute("DELETE FROM outbox WHERE uid = ? RETURNING signal", (uid,))
        dropped.update(signal for (signal,) in messages.fetchall())
    ids = [row[0] for row in rows]
    encoded_events.delete(db, ids)
    _delete(db, "events", ids)
    return dropped


def _messages_without_event(db: sqlite3.Connection) -> Counter[str]:
    """Delete messages whose events are gone, as a damaged file can have them."""
    oldest = "SELECT id FROM outbox ORDER BY id LIMIT ?"
    rows = db.execute(f"DELETE FROM outbox WHERE id IN ({oldest}) RETURNING signal", (_EVENTS,))  # noqa: S608  likewise
    return Counter(signal for (signal,) in rows.fetchall())


def _ids(db: sqlite3.Connection, source: str, *values: str | int) -> list[int]:
    rows = db.execute(f"SELECT id FROM {source} LIMIT ?", values)  # noqa: S608  a text of our own
    return [id_ for (id_,) in rows]


def _delete(db: sqlite3.Connection, table: str, ids: Sequence[int]) -> None:
    db.executemany(f"DELETE FROM {table} WHERE id = ?", [(id_,) for id_ in ids])  # noqa: S608  likewise


class DropReporter:
    """Reporter of drops, once a minute at most: at the size limit every event drops some.

    Safe to use from several threads.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._mutex = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._reported = -_REPORT_INTERVAL_S

    def add(self, counts: Counter[str]) -> None:
        """Add what was dropped, and log it if that is due."""
        with self._mutex:
            self._counts += counts
        self.report()

    def report(self) -> None:
        """Log what is not logged yet, if that is due."""
        with self._mutex:
            if not self._counts or time.monotonic() < self._reported + _REPORT_INTERVAL_S:
                return
            dropped = ", ".join(f"{count} {name}" for name, count in sorted(self._counts.items()))
            self._counts.clear()
            self._reported = time.monotonic()
        _LOG.error(
            "Store %s is at its size limit; dropped undelivered messages: %s",
            self._database,
            dropped,
        )
