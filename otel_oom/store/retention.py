"""Deletions of history, which is what a backend has accepted or rejected.

Anything else is deleted at the size limit alone: see :mod:`otel_oom.store.eviction`.

Functions over a connection; all must run within a transaction.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from otel_oom.model.units import NS_PER_S
from otel_oom.store import encoded_events
from otel_oom.store.holder import NEAR_LIMIT

_LOG = logging.getLogger(__name__)

_HISTORY_ROWS: Final = 256
_SCANNED_ROWS: Final = 512
"""Rows of one step of the search by age, most of which can be undelivered."""
_HOLDER_ROWS: Final = 64
_MAX_HOLDERS: Final = 16
"""Holders that are searched for history: others have too little to be worth it."""

_MAY_COME_AGAIN: Final = "boot_id = ?1 OR kind = 'panic'"
# The terms of the indices events_prunable and events_prunable_holder.
_QUEUED: Final = "log_queued AND span_queued AND undecodable_reason IS NULL AND NOT pruned"
_DELIVERED: Final = "NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.uid = events.uid)"
_PRUNED: Final = "SELECT id FROM events WHERE pruned AND kind != 'panic'"

_REPORT_INTERVAL_S: Final = 60.0

Position = tuple[int, int]
"""The time and the id of a row, in the order of the search by age."""
START: Final[Position] = (0, 0)


def prune_old_history(
    db: sqlite3.Connection, boot_id: str, min_age_s: float, after: Position = START
) -> tuple[int, Position | None]:
    """Delete some of the oldest history of that age past a position.

    Returns the number of deleted rows and the position to continue from, ``None`` at the end. A
    step passes a limited number of undelivered rows, as a kill waits for the database meanwhile.
    """
    max_unix_ns = time.time_ns() - int(min_age_s * NS_PER_S)
    scanned = db.execute(
        f"SELECT id, {_MAY_COME_AGAIN}, {_DELIVERED}, stored_unix_ns FROM events WHERE {_QUEUED}"  # noqa: S608  SQL of our own
        " AND stored_unix_ns <= ?2 AND (stored_unix_ns, id) > (?3, ?4)"
        " ORDER BY stored_unix_ns, id LIMIT ?5",
        (boot_id, max_unix_ns, *after, _SCANNED_ROWS),
    )
    rows: list[tuple[int, bool]] = []
    position, count = after, 0
    for id_, may_come_again, is_delivered, stored_unix_ns in scanned:
        position, count = (stored_unix_ns, id_), count + 1
        if is_delivered:
            rows.append((id_, may_come_again))
        if len(rows) == _HISTORY_ROWS:
            break
    is_end = count < _SCANNED_ROWS and len(rows) < _HISTORY_ROWS
    scanned.close()
    return _prune(db, boot_id, rows), None if is_end else position


def prune_history(db: sqlite3.Connection, boot_id: str) -> int:
    """Delete some of the oldest history of the largest holder; return the number of rows.

    That of cgroups near their limit goes first.
    """
    holders = db.execute(
        "SELECT holder FROM holder_usage WHERE class = 'events' ORDER BY bytes DESC LIMIT ?",
        (_MAX_HOLDERS,),
    )
    for (holder,) in [(NEAR_LIMIT,), *holders.fetchall()]:
        rows = db.execute(
            f"SELECT id, {_MAY_COME_AGAIN} FROM events WHERE {_QUEUED} AND {_DELIVERED}"  # noqa: S608  SQL of our own
            " AND holder = ?2 ORDER BY id LIMIT ?3",
            (boot_id, holder, _HOLDER_ROWS),
        ).fetchall()
        if rows:
            return _prune(db, boot_id, rows)
    pruned, position = prune_old_history(db, boot_id, 0)
    while not pruned and position:
        pruned, position = prune_old_history(db, boot_id, 0, position)
    return pruned


def prune_delivered(db: sqlite3.Connection, boot_id: str, uids: Iterable[str]) -> int:
    """Delete some of these events, as far as they are history; return the number of rows."""
    rows = db.execute(
        f"SELECT id, {_MAY_COME_AGAIN} FROM events"  # noqa: S608  SQL of our own
        f" WHERE uid IN (SELECT value FROM json_each(?2)) AND {_QUEUED} AND {_DELIVERED}"
        " ORDER BY +id LIMIT ?3",
        (boot_id, json.dumps([*uids]), _HOLDER_ROWS),
    ).fetchall()
    return _prune(db, boot_id, rows) if rows else 0


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
    db.executemany("DELETE FROM events WHERE id = ?", past)
    return len(rows) + prune_remains(db, boot_id)


def prune_remains(db: sqlite3.Connection, boot_id: str) -> int:
    """Delete some remains of events of other boots, and return their number."""
    # By ranges: a scan would read all rows of this boot.
    pruned = db.execute(
        f"SELECT id FROM ({_PRUNED} AND boot_id < ?1"  # noqa: S608  SQL of our own
        f" UNION ALL {_PRUNED} AND boot_id > ?1) LIMIT ?2",
        (boot_id, _HISTORY_ROWS),
    ).fetchall()
    db.executemany("DELETE FROM events WHERE id = ?", pruned)
    db.execute("DELETE FROM holder_usage WHERE class IN ('events', 'dead_letters') AND bytes <= 0")
    return len(pruned)


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
