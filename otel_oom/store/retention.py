"""Deletions of history, which is what a backend has accepted or rejected.

Anything else is deleted at the size limit alone: see :mod:`otel_oom.store.eviction`.

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
from otel_oom.store import encoded_events

_LOG = logging.getLogger(__name__)

_HISTORY_ROWS: Final = 256
_HOLDER_ROWS: Final = 64
_MAX_HOLDERS: Final = 16
"""Holders that are searched for history: others have too little to be worth it."""

# The terms of the indices events_prunable and events_prunable_holder.
_PRUNABLE: Final = (
    "SELECT id, boot_id = ? OR kind = 'panic' FROM events"
    " WHERE log_queued AND span_queued AND undecodable_reason IS NULL AND NOT pruned"
    " AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.uid = events.uid)"
)
_PRUNED: Final = "SELECT id FROM events WHERE pruned AND kind != 'panic'"

_REPORT_INTERVAL_S: Final = 60.0


def prune_old_history(db: sqlite3.Connection, boot_id: str, min_age_s: float) -> int:
    """Delete some of the oldest history of that age, and return the number of rows."""
    max_unix_ns = time.time_ns() - int(min_age_s * NS_PER_S)
    rows = db.execute(
        f"{_PRUNABLE} AND stored_unix_ns <= ? ORDER BY stored_unix_ns LIMIT ?",
        (boot_id, max_unix_ns, _HISTORY_ROWS),
    )
    return _prune(db, boot_id, rows.fetchall())


def prune_history(db: sqlite3.Connection, boot_id: str) -> int:
    """Delete some of the oldest history of the largest holder, and return the number of rows."""
    holders = db.execute(
        "SELECT holder FROM holder_usage WHERE class = 'events' ORDER BY bytes DESC LIMIT ?",
        (_MAX_HOLDERS,),
    )
    for (holder,) in holders.fetchall():
        rows = db.execute(
            f"{_PRUNABLE} AND holder = ? ORDER BY id LIMIT ?", (boot_id, holder, _HOLDER_ROWS)
        ).fetchall()
        if rows:
            return _prune(db, boot_id, rows)
    return prune_old_history(db, boot_id, 0)


def _prune(db: sqlite3.Connection, boot_id: str, rows: Sequence[tuple[int, bool]]) -> int:
    """Delete events by id, and the remains of those of other boots.

    Kills of this boot keep a row with no more than what identifies them in the kernel's log: see
    :func:`.event_log.newest_kills`. So does a panic, which pstore may have at every start.
    """
    encoded_events.delete(db, (id_ for id_, _ in rows))
    db.executemany(
        "UPDATE events SET pruned = 1, has_report = 0, size = 0, crc32 = NULL,"
        " snapshot = '', exit = NULL, reaper_steps = '[]',"
        " event = iif(json_valid(event), json_object("
        "'victim', json_object('tid', event ->> '$.victim.tid', 'comm', event ->> '$.victim.comm'),"
        " 'capture', json_object('cpu', event ->> '$.capture.cpu',"
        " 'sequence', event ->> '$.capture.sequence')), '{}') WHERE id = ?",
        [(id_,) for id_, may_come_again in rows if may_come_again],
    )
    past = [(id_,) for id_, may_come_again in rows if not may_come_again]
    # By ranges: a scan would read all rows of this boot.
    pruned = db.execute(
        f"SELECT id FROM ({_PRUNED} AND boot_id < ?1"  # noqa: S608  SQL of our own
        f" UNION ALL {_PRUNED} AND boot_id > ?1) LIMIT ?2",
        (boot_id, _HISTORY_ROWS),
    ).fetchall()
    db.executemany("DELETE FROM events WHERE id = ?", past + pruned)
    db.execute("DELETE FROM holder_usage WHERE class IN ('events', 'dead_letters') AND bytes <= 0")
    return len(rows) + len(pruned)


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
