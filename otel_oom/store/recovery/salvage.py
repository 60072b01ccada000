"""An unreadable database is moved aside and kept, and what it still tells is taken over.

A file that has been moved is known by its name; the new database notes it once its rows are
taken over, so that a crash in between leaves that to the next opening.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from otel_oom.store import counters
from otel_oom.store.recovery import checksums

_LOG = logging.getLogger(__name__)

_TABLES: Final = {
    "events": "id",
    "dead_letters": "id",
    "outbox": "id",
    "counters": "name",
    "encoded_events": "uid",
}
"""By what each is in order; what stands behind a page that can't be read is read from the end."""

_QUARANTINE_COLUMNS: Final = "name, reason, quarantined_unix_ns, salvaged_rows"

_TAILS: Final = ("-wal", "-shm", "")
"""SQLite's own files beside a database. The log goes first: alone it would be taken for rubbish."""


@dataclass(frozen=True, slots=True)
class QuarantinedDatabase:
    """A database that was moved aside: its file's name, why, when, and how many rows it gave."""

    name: str
    reason: str
    quarantined_unix_ns: int
    salvaged_rows: int


def quarantine(database: Path) -> Path:
    """Give the file, with its log, the time in its name; its new path.

    Raises:
        OSError: it can't be moved.
    """
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name, number = f"{database.stem}-{now}", 1
    while (moved := database.with_name(f"{name}{database.suffix}")).exists():
        number += 1
        name = f"{database.stem}-{now}-{number}"
    for tail in _TAILS:
        part = database.with_name(database.name + tail)
        with suppress(FileNotFoundError):
            part.rename(moved.with_name(moved.name + tail))
    return moved


def unprocessed(db: sqlite3.Connection, database: Path) -> list[Path]:
    """Files that were moved aside, oldest first, and that the database does not know of yet."""
    seen = {name for (name,) in db.execute("SELECT name FROM quarantined_databases")}
    found = database.parent.glob(f"{database.stem}-*{database.suffix}")
    return sorted((path for path in found if path.name not in seen), key=_last_written)


def _last_written(path: Path) -> int:
    # Names of one second are in no order.
    return path.stat().st_mtime_ns


def salvage(db: sqlite3.Connection, moved: Path, reason: str, boot_id: str) -> int:
    """Take over each row that can still be believed, and note the file; how many there were.

    What is not in it any more of the boot ``boot_id``, which runs, is a gap in its account from
    then on, to be filled from the kernel's log. To be called within a transaction.

    Raises:
        sqlite3.Error: the new database does not take them.
    """
    rescued = 0
    lost: set[str] = set()
    # Read-only: nothing is changed in it, and what its log has is read too.
    uri = f"file:{quote(str(moved))}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as old:
        old.text_factory = lambda text: text.decode("utf-8", "replace")
        checksums.register(old)
        # A count that is taken over began when it began there.
        db.execute("DELETE FROM counters WHERE name = ?", (counters.KILLS_START_TIME,))
        _copy_quarantine_list(old, db)
        for table, order in _TABLES.items():
            count, whole = _copy_table(old, db, table, order)
            rescued += count
            lost |= set() if whole else {table}
    if "outbox" in lost:
        _requeue(db)
    if "events" in lost:
        _recount(db, boot_id)
    counters.set_start_time(db)
    # One that was here already has got another id.
    db.execute(
        "DELETE FROM dead_letters WHERE id NOT IN"
        " (SELECT min(id) FROM dead_letters GROUP BY uid, signal, rejected_unix_ns)"
    )
    db.execute(
        f"INSERT INTO quarantined_databases ({_QUARANTINE_COLUMNS}) VALUES (?, ?, ?, ?)",  # noqa: S608  names of our own
        (moved.name, reason, time.time_ns(), rescued),
    )
    return rescued


def _copy_quarantine_list(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """Take over which files were moved aside before: what they told is in ``old``."""
    with suppress(sqlite3.DatabaseError):
        new.executemany(
            f"INSERT INTO quarantined_databases ({_QUARANTINE_COLUMNS}) SELECT ?1, ?2, ?3, ?4"  # noqa: S608  names of our own
            " WHERE NOT EXISTS (SELECT 1 FROM quarantined_databases WHERE name = ?1)",
            old.execute(
                f"SELECT {_QUARANTINE_COLUMNS} FROM quarantined_databases ORDER BY id"  # noqa: S608  names of our own
            ).fetchall(),
        )


def quarantined_databases(db: sqlite3.Connection) -> list[QuarantinedDatabase]:
    """The files that were moved aside, oldest first."""
    rows = db.execute(
        f"SELECT {_QUARANTINE_COLUMNS} FROM quarantined_databases ORDER BY id"  # noqa: S608  names of our own
    )
    return [QuarantinedDatabase(*row) for row in rows]


def _copy_table(
    old: sqlite3.Connection, new: sqlite3.Connection, table: str, order: str
) -> tuple[int, bool]:
    """Copy the rows of a table that can be read; how many, and whether they are all."""
    columns = [name for name in _columns(new, table) if name in _columns(old, table)]
    if not columns:
        return 0, False
    names, places = ", ".join(columns), ", ".join("?" * len(columns))
    insert = f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({places})"  # noqa: S608  names of our own
    sound = checksums.checksum_ok_sql(table) if "crc32" in columns else "1"
    count = 0
    failures: list[str] = []
    # From the front, and where that ends early, from the back.
    for direction in ("ASC", "DESC"):
        query = f"SELECT {sound}, {names} FROM {table} ORDER BY {order} {direction}"  # noqa: S608  likewise
        for believed, *row in _rows(old, query, failures):
            if not believed:
                failures.append(f"row {row[0]} is not as it was written")
                continue
            copied = new.execute(insert, row).rowcount
            if not copied and columns[0] == "id":
                # The id may be another's by now, which came after the file was moved.
                copied = new.execute(insert, (None, *row[1:])).rowcount
            count += copied
        if not failures:
            return count, True
    _LOG.warning("Not every row of %s can be read: %s", table, failures[0])
    return count, False


def _rows(old: sqlite3.Connection, query: str, failures: list[str]) -> Iterator[tuple[Any, ...]]:
    """The rows until one can't be read, which is noted."""
    try:
        yield from old.execute(query)
    except sqlite3.DatabaseError as error:
        failures.append(str(error))


def _requeue(db: sqlite3.Connection) -> None:
    """Have messages made again that may have been lost with a part of the outbox.

    Some will have been delivered: those are sent twice, under one uid.
    """
    for signal, queued in (("logs", "log_queued"), ("traces", "span_queued")):
        found = db.execute(
            f"UPDATE events SET {queued} = 0 WHERE {queued} AND NOT pruned"  # noqa: S608  names of our own
            # What did not die has no span.
            " AND (?1 = 'logs' OR tgid IS NOT NULL)"
            " AND uid NOT IN (SELECT uid FROM outbox WHERE signal = ?1"
            " UNION SELECT uid FROM dead_letters WHERE signal = ?1) RETURNING id",
            (signal,),
        ).fetchall()
        checksums.update_checksums(db, "events", [id_ for (id_,) in found])


def _recount(db: sqlite3.Connection, boot_id: str) -> None:
    """Count the kills of a boot that there are, and have its log read from where it counts."""
    db.execute(
        "UPDATE counters SET value = (SELECT count(*) FROM events"
        " WHERE boot_id = ?1 AND kind = 'kill' AND tgid IS NOT NULL)"
        " - coalesce((SELECT value FROM counters WHERE boot_id = ?1 AND name = ?3), 0)"
        " WHERE boot_id = ?1 AND name = ?2",
        (boot_id, counters.CAPTURED_KILL, counters.CAPTURED_EXITING),
    )
    db.execute(
        "UPDATE counters SET value ="
        " coalesce((SELECT value FROM counters WHERE boot_id = ?1 AND name = ?3), -1)"
        " WHERE boot_id = ?1 AND name = ?2",
        (boot_id, counters.LOG_SEQUENCE, counters.LOG_START),
    )


def _columns(db: sqlite3.Connection, table: str) -> list[str]:
    try:
        return [column[1] for column in db.execute(f"PRAGMA table_info({table})")]
    except sqlite3.DatabaseError:
        return []
