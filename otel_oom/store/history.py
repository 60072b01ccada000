"""The host's own history: each event of the journal, told or not, and what has become of it.

What is read in one step is bounded: a kill waits for the disk meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from otel_oom.store import sent_copies
from otel_oom.store.database import Database
from otel_oom.store.types import HistoryRow

PAGE: Final = 16
"""So many events are read at a time, at most."""
_MOST_BYTES: Final = 1 << 20

_SCANNED: Final = 128
_MOST_FOUND: Final = 64
_KILL: Final = "kind IN ('kill', 'userspace_kill')"
"""Whoever killed."""


class History:
    """Reads the journal of one database; each method raises sqlite3.Error when it can't."""

    def __init__(self, database: Database) -> None:
        """Read it in ``database``, when somebody asks."""
        self._database = database

    def page_before(self, id_: int | None) -> list[HistoryRow]:
        """The newest events before the one of that id, or of all: a page, the newest first."""
        return self._database.read(
            lambda db: _page(db, _ids(db, "(?1 IS NULL OR id < ?1)", id_, most=PAGE))
        )

    def rows(self, ids: Sequence[int]) -> list[HistoryRow]:
        """The events of the first of some ids: a page, in this order; not those that have gone."""
        return self._database.read(lambda db: _page(db, ids[:PAGE]))

    def find_by_uid(self, prefix: str) -> list[int]:
        """The ids of the events whose uid begins with ``prefix``: some, the newest first."""
        return self._database.read(
            lambda db: _ids(db, "uid >= ?1 AND uid < ?1 || char(0x10FFFF)", prefix)
        )

    def find_by_pid(self, pid: int) -> list[int]:
        """The ids of the kills of that process id: some, the newest first."""
        # By boots, for such an index there is.
        boots = "boot_id IN (SELECT DISTINCT boot_id FROM events)"

        def find(db: sqlite3.Connection) -> list[int]:
            killed = _ids(db, f"{boots} AND tgid = ?1", pid)
            # One that the kernel did not kill has its process id in the event alone.
            spared = db.execute(
                "SELECT id FROM (SELECT id, event FROM events"  # noqa: S608  SQL of our own
                f" WHERE {boots} AND tgid IS NULL AND {_KILL} AND NOT pruned"
                " ORDER BY id DESC LIMIT ?1)"
                " WHERE iif(json_valid(event), event ->> '$.victim.tgid', NULL) = ?2",
                (_SCANNED, pid),
            )
            return sorted([*killed, *(id_ for (id_,) in spared)], reverse=True)

        return self._database.read(find)

    def find_newest_kill(self) -> list[int]:
        """The id of the newest kill, if there is one."""
        return self._database.read(lambda db: _ids(db, _KILL, None, most=1))

    def find_incident_members(self, incident: str, after: int) -> tuple[list[int], int | None]:
        """The ids of what was killed along with the event of the uid ``incident``, past an id.

        With them the id to go on from, for some events are looked at in one step; ``None`` at the
        end.
        """
        rows = self._database.read(
            lambda db: db.execute(
                "SELECT id, iif(json_valid(event), event ->> '$.incident', NULL) FROM"
                " (SELECT id, event FROM events WHERE id > ? AND NOT pruned"
                " ORDER BY id LIMIT ?)",
                (after, _SCANNED),
            ).fetchall()
        )
        found = [id_ for id_, leader in rows if leader == incident]
        return found, rows[-1][0] if len(rows) == _SCANNED else None


def _ids(
    db: sqlite3.Connection, which: str, value: str | int | None, most: int = _MOST_FOUND
) -> list[int]:
    """The ids of events for which the SQL ``which`` holds, the newest first."""
    rows = db.execute(
        f"SELECT id FROM events WHERE {which} AND NOT pruned ORDER BY id DESC LIMIT ?2",  # noqa: S608  SQL of our own
        (value, most),
    )
    return [id_ for (id_,) in rows]


def _page(db: sqlite3.Connection, ids: Iterable[int]) -> list[HistoryRow]:
    """The events of the first of some ids, as many as are not too large together, one at least."""
    rows: list[HistoryRow] = []
    size = 0
    for id_ in ids:
        for row in _of_id(db, id_):
            size += len(row.event) + len(row.snapshot) + len(row.log or b"") + len(row.span or b"")
            if rows and size > _MOST_BYTES:
                return rows
            rows.append(row)
    return rows


def _of_id(db: sqlite3.Connection, id_: int) -> list[HistoryRow]:
    # As bytes: one text that is not UTF-8 would keep all the others from being read.
    rows = db.execute(
        "SELECT id, CAST(uid AS BLOB), CAST(kind AS BLOB), CAST(event AS BLOB),"
        " CAST(snapshot AS BLOB), CAST(exit AS BLOB), CAST(reaper_steps AS BLOB), stored_unix_ns,"
        " CAST(undecodable_reason AS BLOB), log_queued, span_queued, tgid FROM events WHERE id = ?",
        (id_,),
    ).fetchall()
    return [_row(db, row) for row in rows]


def _row(db: sqlite3.Connection, row: tuple[Any, ...]) -> HistoryRow:
    uid = _text(row[1])
    # What did not die has no span.
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
        log=sent_copies.load(db, uid, "logs"),
        span=sent_copies.load(db, uid, "traces") if has_span else None,
        log_status=_fate(db, uid, "logs") if row[9] else "pending",
        span_status=(_fate(db, uid, "traces") if row[10] else "pending") if has_span else None,
    )


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _fate(db: sqlite3.Connection, uid: str, signal: str) -> str:
    values = (uid, signal)
    if db.execute("SELECT 1 FROM outbox WHERE uid = ? AND signal = ?", values).fetchone():
        return "queued"
    refused = db.execute(
        "SELECT endpoint, reason FROM dead_letters WHERE uid = ? AND signal = ?", values
    ).fetchone()
    return f"rejected by {refused[0]}: {refused[1]}" if refused else "delivered"
