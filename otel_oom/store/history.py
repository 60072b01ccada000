"""The host's own history: each event with its state of delivery.

Each step reads a bounded number of rows, as a kill waits for the disk meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from otel_oom.store import encoded_events
from otel_oom.store.database import Database
from otel_oom.store.fan_out import OF_SIGNAL
from otel_oom.store.types import EXCLUDED, SKIPPED, HistoryRow, repeated_kill

PAGE: Final = 16
"""Most events that are read at a time."""
_MAX_PAGE_BYTES: Final = 1 << 20

_MAX_SCANNED: Final = 128
_MAX_IDS: Final = 64
_FINAL: Final = {SKIPPED: "off", EXCLUDED: "excluded"}
_KILL: Final = "kind IN ('kill', 'userspace_kill')"
_BOOTS: Final = (
    "WITH RECURSIVE boots(boot_id) AS (SELECT min(boot_id) FROM events UNION ALL"
    " SELECT (SELECT min(boot_id) FROM events WHERE boot_id > boots.boot_id) FROM boots"
    " WHERE boots.boot_id IS NOT NULL)"
)
"""The boots that have events; one seek for each."""


class History:
    """Reader of the events of one database; each method raises sqlite3.Error if it can't."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page_before(self, id_: int | None) -> list[HistoryRow]:
        """Return a page of the newest events before that id, or of all, newest first."""
        return self._database.read(
            lambda db: _page(db, _find_ids(db, "(?1 IS NULL OR id < ?1)", id_, limit=PAGE))
        )

    def rows(self, ids: Sequence[int]) -> list[HistoryRow]:
        """Return a page of the first of some events, in this order, without deleted ones."""
        return self._database.read(lambda db: _page(db, ids[:PAGE]))

    def find_by_uid(self, prefix: str) -> list[int]:
        """Return ids of events whose uid begins with ``prefix``, newest first."""
        return self._database.read(
            lambda db: _find_ids(db, "uid >= ?1 AND uid < ?1 || char(0x10FFFF)", prefix)
        )

    def find_by_pid(self, pid: int) -> list[int]:
        """Return ids of the kills of a pid, newest first."""
        # By boots, as there is an index of boot and pid.
        boots = "boot_id IN (SELECT boot_id FROM boots)"

        def find(db: sqlite3.Connection) -> list[int]:
            rows = db.execute(
                f"{_BOOTS} SELECT id FROM events WHERE {boots} AND tgid = ? AND NOT pruned"  # noqa: S608  SQL of our own
                " ORDER BY id DESC LIMIT ?",
                (pid, _MAX_IDS),
            ).fetchall()
            # A victim that the kernel did not kill has its pid in the JSON alone, which is not read
            # for the sake of the order.
            rows += db.execute(
                f"{_BOOTS} SELECT id FROM events WHERE id IN (SELECT id FROM events"  # noqa: S608  likewise
                f" WHERE {boots} AND tgid IS NULL AND {_KILL} AND NOT pruned"
                " ORDER BY id DESC LIMIT ?)"
                " AND iif(json_valid(event), event ->> '$.victim.tgid', NULL) = ?",
                (_MAX_SCANNED, pid),
            ).fetchall()
            return sorted((id_ for (id_,) in rows), reverse=True)

        return self._database.read(find)

    def find_newest_kill(self) -> list[int]:
        """Return the id of the newest kill, if there is one."""
        return self._database.read(lambda db: _find_ids(db, _KILL, None, limit=1))

    def find_incident_members(self, incident: str, after: int) -> tuple[list[int], int | None]:
        """Return ids past ``after`` of what was killed along with the uid ``incident``.

        The second value is the id to continue from, ``None`` at the end.
        """
        rows = self._database.read(
            lambda db: db.execute(
                "SELECT id, iif(json_valid(event), event ->> '$.incident', NULL) FROM"
                " (SELECT id, event FROM events WHERE id > ? AND NOT pruned ORDER BY id LIMIT ?)",
                (after, _MAX_SCANNED),
            ).fetchall()
        )
        members = [id_ for id_, leader in rows if leader == incident]
        return members, rows[-1][0] if len(rows) == _MAX_SCANNED else None


def _find_ids(
    db: sqlite3.Connection, condition: str, value: str | int | None, limit: int = _MAX_IDS
) -> list[int]:
    """Return ids of events that meet a condition in SQL, newest first."""
    rows = db.execute(
        f"SELECT id FROM events WHERE {condition} AND NOT pruned ORDER BY id DESC LIMIT ?2",  # noqa: S608  SQL of our own
        (value, limit),
    )
    return [id_ for (id_,) in rows]


def _page(db: sqlite3.Connection, ids: Iterable[int]) -> list[HistoryRow]:
    """Return the first of some events that fit into a page, one at least."""
    page: list[HistoryRow] = []
    size = 0
    for id_ in ids:
        for row in _read_row(db, id_):
            size += len(row.event) + len(row.snapshot) + len(row.log or b"") + len(row.span or b"")
            if page and size > _MAX_PAGE_BYTES:
                return page
            page.append(row)
    return page


def _read_row(db: sqlite3.Connection, id_: int) -> list[HistoryRow]:
    # As bytes: one text that is not UTF-8 would keep all others from being read.
    rows = db.execute(
        "SELECT id, CAST(uid AS BLOB), CAST(kind AS BLOB), CAST(event AS BLOB),"
        " CAST(snapshot AS BLOB), CAST(exit AS BLOB), CAST(reaper_steps AS BLOB), stored_unix_ns,"
        " CAST(undecodable_reason AS BLOB), log_queued, span_queued, tgid, repeat_count,"
        " repeat_first_unix_ns FROM events WHERE id = ?",
        (id_,),
    ).fetchall()
    return [_history_row(db, row) for row in rows]


def _history_row(db: sqlite3.Connection, row: tuple[Any, ...]) -> HistoryRow:
    uid = _text(row[1])
    # Only a kill has a pid here, and a span.
    has_span = row[11] is not None
    return HistoryRow(
        id=row[0],
        uid=uid,
        kind=_text(row[2]),
        event=_text(row[3]),
        snapshot=_text(row[4]),
        exit=None if row[5] is None else _text(row[5]),
        reaper_steps=_text(row[6]),
        stored_unix_ns=int(row[7]),
        undecodable_reason=None if row[8] is None else _text(row[8]),
        log=encoded_events.load(db, uid, "logs"),
        span=encoded_events.load(db, uid, "traces") if has_span else None,
        log_status=_status(db, uid, "logs", row[9]),
        span_status=_status(db, uid, "traces", row[10]) if has_span else None,
        repeat=repeated_kill(row[12], row[13]),
    )


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _status(db: sqlite3.Connection, uid: str, signal: str, queued: int) -> str:
    if not queued:
        return "pending"
    if queued in _FINAL:
        return _FINAL[queued]
    condition, values = f"uid = ? AND {OF_SIGNAL}", (uid, signal, signal)
    if db.execute(f"SELECT 1 FROM outbox WHERE {condition}", values).fetchone():  # noqa: S608  SQL of our own
        return "queued"
    letter = db.execute(
        f"SELECT endpoint, reason FROM dead_letters WHERE {condition}",  # noqa: S608  likewise
        values,
    ).fetchone()
    return f"rejected by {letter[0]}: {letter[1]}" if letter else "delivered"
