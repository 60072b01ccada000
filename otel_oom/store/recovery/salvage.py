"""Quarantine of a corrupt database, and salvage of its readable rows.

A quarantined file is known by its name. The new database lists it once its rows are copied, so that
a crash before that leaves the salvage to the next start.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from msgspec import Struct

from otel_oom.model.channel import channel_signal
from otel_oom.store import counters
from otel_oom.store.recovery import checksums
from otel_oom.store.types import END_SUFFIX

_LOG = logging.getLogger(__name__)

_TABLES: Final = {
    "events": "id",
    "dead_letters": "id",
    "outbox": "id",
    "counters": "name",
    "drops": "holder",
    "encoded_events": "uid",
    "settled_messages": "uid",
    "series": "label",
    "repeats": "victim",
}
"""Tables and their order; rows behind an unreadable page are read from the end."""

_QUARANTINE_COLUMNS: Final = "name, reason, quarantined_unix_ns, salvaged_rows"

_SUFFIXES: Final = ("-wal", "-shm", "")
"""SQLite's own files. The log is renamed first: alone, SQLite would delete it."""


class QuarantinedDatabase(Struct, frozen=True):
    """A quarantined database: name of its file, reason, time, and number of salvaged rows."""

    name: str
    reason: str
    quarantined_unix_ns: int
    salvaged_rows: int


def quarantine(database: Path) -> Path:
    """Add the time to the names of the file and its log; return its new path. Raises OSError."""
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name, number = f"{database.stem}-{now}", 1
    while (renamed := database.with_name(f"{name}{database.suffix}")).exists():
        number += 1
        name = f"{database.stem}-{now}-{number}"
    for suffix in _SUFFIXES:
        with suppress(FileNotFoundError):
            database.with_name(database.name + suffix).rename(
                renamed.with_name(renamed.name + suffix)
            )
    return renamed


def unprocessed(db: sqlite3.Connection, database: Path) -> list[Path]:
    """Return the quarantined files that the database does not list yet, oldest first."""
    processed = {name for (name,) in db.execute("SELECT name FROM quarantined_databases")}
    files = database.parent.glob(f"{database.stem}-*{database.suffix}")
    # By time: names of one second are in no order.
    return sorted(
        (path for path in files if path.name not in processed),
        key=lambda path: path.stat().st_mtime_ns,
    )


def quarantined_databases(db: sqlite3.Connection) -> list[QuarantinedDatabase]:
    """Return the quarantined files, oldest first."""
    rows = db.execute(f"SELECT {_QUARANTINE_COLUMNS} FROM quarantined_databases ORDER BY id")  # noqa: S608  names of our own
    return [QuarantinedDatabase(*row) for row in rows]


def salvage(db: sqlite3.Connection, file: Path, reason: str, boot_id: str) -> int:
    """Copy the valid rows of a quarantined file, list it, and return their number.

    Kills of the running boot ``boot_id`` that are lost are a gap in its tally from then on, to be
    filled from the kernel's log. Must run within a transaction. Raises sqlite3.Error if the new
    database can't store them.
    """
    count = 0
    incomplete: set[str] = set()
    # Read-only: nothing changes in the file, and its log is read too.
    uri = f"file:{quote(str(file))}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as old:
        old.text_factory = lambda text: text.decode("utf-8", "replace")
        checksums.register(old)
        # A count that is copied has the start time that it had there.
        db.execute("DELETE FROM counters WHERE name = ?", (counters.KILLS_START_TIME,))
        _copy_quarantine_list(old, db)
        for table, order in _TABLES.items():
            copied, is_complete = _copy_table(old, db, table, order)
            count += copied
            incomplete |= set() if is_complete else {table}
    if "outbox" in incomplete:
        _requeue(db)
    if "events" in incomplete:
        _recount(db, boot_id)
    counters.set_start_time(db)
    # A dead letter that was here already has another id.
    db.execute(
        "DELETE FROM dead_letters WHERE id NOT IN"
        " (SELECT min(id) FROM dead_letters GROUP BY uid, signal, rejected_unix_ns)"
    )
    db.execute(
        f"INSERT INTO quarantined_databases ({_QUARANTINE_COLUMNS}) VALUES (?, ?, ?, ?)",  # noqa: S608  names of our own
        (file.name, reason, time.time_ns(), count),
    )
    return count


def _copy_quarantine_list(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """Copy the list of files quarantined before: their rows are in ``old``."""
    with suppress(sqlite3.DatabaseError):
        new.executemany(
            f"INSERT INTO quarantined_databases ({_QUARANTINE_COLUMNS}) SELECT ?1, ?2, ?3, ?4"  # noqa: S608  names of our own
            " WHERE NOT EXISTS (SELECT 1 FROM quarantined_databases WHERE name = ?1)",
            old.execute(
                f"SELECT {_QUARANTINE_COLUMNS} FROM quarantined_databases ORDER BY id"  # noqa: S608  likewise
            ).fetchall(),
        )


def _copy_table(
    old: sqlite3.Connection, new: sqlite3.Connection, table: str, order: str
) -> tuple[int, bool]:
    """Copy the readable rows of a table; return their number, and if they are all."""
    columns = [name for name in _columns(new, table) if name in _columns(old, table)]
    if not columns:
        return 0, False
    names, parameters = ", ".join(columns), ", ".join("?" * len(columns))
    insert = f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({parameters})"  # noqa: S608  names of our own
    checksum_ok = checksums.checksum_ok_sql(table) if "crc32" in columns else "1"
    count = 0
    failures: list[str] = []
    # From the start, and where that ends early, from the end.
    for direction in ("ASC", "DESC"):
        query = f"SELECT {checksum_ok}, {names} FROM {table} ORDER BY {order} {direction}"  # noqa: S608  likewise
        for is_valid, *row in _readable_rows(old, query, failures):
            if not is_valid:
                failures.append(f"wrong checksum of row {row[0]}")
                continue
            copied = new.execute(insert, row).rowcount
            if not copied and columns[0] == "id":
                # The id may belong to a newer row, added after the file was quarantined.
                copied = new.execute(insert, (None, *row[1:])).rowcount
            count += copied
        if not failures:
            return count, True
    _LOG.warning("Store: corrupt rows in table %s were not salvaged: %s", table, failures[0])
    return count, False


def _readable_rows(
    old: sqlite3.Connection, query: str, failures: list[str]
) -> Iterator[tuple[Any, ...]]:
    """Yield rows until one can't be read, and add that to ``failures``."""
    try:
        yield from old.execute(query)
    except sqlite3.DatabaseError as error:
        failures.append(str(error))


def _requeue(db: sqlite3.Connection) -> None:
    """Have messages encoded again that may be lost with a part of the outbox.

    Some may have been delivered: those are sent twice, under one uid.
    """
    for signal, queued, suffix in (
        ("logs", "log_queued", ""),
        ("traces", "span_queued", ""),
        ("logs", "span_queued", END_SUFFIX),
    ):
        for channel in _channels(db, signal):
            checksums.update_events(
                db,
                f"{queued} = 0 WHERE {queued} AND NOT pruned"  # noqa: S608  names of our own
                # Only a kill has a span, and an end.
                f" AND ('{queued}' = 'log_queued' OR tgid IS NOT NULL)"
                " AND (uid || ?3 NOT IN (SELECT uid FROM outbox WHERE signal = ?2"
                " UNION SELECT uid FROM dead_letters WHERE signal = ?2"
                " UNION SELECT uid FROM settled_messages WHERE channel = ?2)"
                # As long as a message is settled for one channel, another waits for it.
                " OR uid || ?3 IN (SELECT uid FROM settled_messages WHERE channel >= ?1"
                " AND channel < ?1 || ';' AND uid NOT IN"
                " (SELECT uid FROM outbox WHERE signal >= ?1 AND signal < ?1 || ';')))",
                (signal, channel, suffix),
            )


def _channels(db: sqlite3.Connection, signal: str) -> list[str]:
    """Return the channels of a signal that are left in some row, or else its own."""
    rows = db.execute("SELECT signal FROM outbox UNION SELECT signal FROM dead_letters")
    return [channel for (channel,) in rows if channel_signal(channel) == signal] or [signal]


def _recount(db: sqlite3.Connection, boot_id: str) -> None:
    """Count the remaining kills of a boot, and have its log read again from its start."""
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
