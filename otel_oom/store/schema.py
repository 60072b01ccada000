"""The tables, and the version that a file has of them."""

from __future__ import annotations

import sqlite3
from typing import Final

from otel_oom.store.state_dir import StoreError

_MIGRATIONS: Final = (
    # AUTOINCREMENT: no id is given twice, as a message in flight must not share its id with one
    # that came after it.
    """
    CREATE TABLE events (
        id INTEGER PRIMARY KEY,
        uid TEXT NOT NULL UNIQUE,
        boot_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        tgid INTEGER,
        start_boottime_ns INTEGER,
        boottime_ns INTEGER NOT NULL,
        stored_unix_ns INTEGER NOT NULL,
        event TEXT NOT NULL,
        snapshot TEXT NOT NULL,
        exit TEXT,
        reaper_steps TEXT NOT NULL DEFAULT '[]',
        log_queued INTEGER NOT NULL DEFAULT 0,
        span_queued INTEGER NOT NULL DEFAULT 0,
        undecodable_reason TEXT,
        undecodable_version TEXT,
        pruned INTEGER NOT NULL DEFAULT 0,
        crc32 INTEGER
    );
    CREATE UNIQUE INDEX events_victim ON events (boot_id, tgid, start_boottime_ns);
    CREATE INDEX events_pending ON events (id)
        WHERE undecodable_reason IS NULL AND NOT (log_queued AND span_queued);
    CREATE INDEX events_undecodable ON events (id) WHERE undecodable_reason IS NOT NULL;
    CREATE INDEX events_prunable ON events (stored_unix_ns)
        WHERE log_queued AND span_queued AND undecodable_reason IS NULL AND NOT pruned;
    CREATE INDEX events_pruned ON events (boot_id) WHERE pruned;
    CREATE TABLE encoded_events (
        uid TEXT NOT NULL,
        signal TEXT NOT NULL,
        payload BLOB NOT NULL,
        PRIMARY KEY (uid, signal)
    );
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        uid TEXT NOT NULL,
        signal TEXT NOT NULL,
        payload BLOB NOT NULL,
        queued_unix_ns INTEGER NOT NULL,
        send_alone INTEGER NOT NULL DEFAULT 0,
        crc32 INTEGER,
        UNIQUE (uid, signal)
    );
    CREATE INDEX outbox_signal ON outbox (signal, id);
    CREATE TABLE dead_letters (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        uid TEXT NOT NULL,
        signal TEXT NOT NULL,
        payload BLOB NOT NULL,
        endpoint TEXT NOT NULL,
        reason TEXT NOT NULL,
        ambiguous INTEGER NOT NULL,
        rejected_unix_ns INTEGER NOT NULL
    );
    CREATE INDEX dead_letters_uid ON dead_letters (uid, signal);
    CREATE TABLE counters (
        boot_id TEXT NOT NULL,
        name TEXT NOT NULL,
        value INTEGER NOT NULL,
        PRIMARY KEY (boot_id, name)
    ) WITHOUT ROWID;
    INSERT INTO counters (boot_id, name, value)
        VALUES ('start_time', 'start_time.kills', strftime('%s', 'now') * 1000000000);
    CREATE TABLE quarantined_databases (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        reason TEXT NOT NULL,
        quarantined_unix_ns INTEGER NOT NULL,
        salvaged_rows INTEGER NOT NULL
    );
    """,
)
"""Each step brings a file from one version to the next; a new file goes through all of them."""

VERSION: Final = len(_MIGRATIONS)


def migrate(db: sqlite3.Connection) -> None:
    """Bring the tables to this version, in one transaction.

    Raises:
        sqlite3.Error: the file can't be read or written.
        StoreError: the file has a later version. It is left alone: it is intact, and a program
            that knows that version will deliver its contents.
    """
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise StoreError(
            f"The database was written by a later otel-oom: it has schema version {version}, this "
            f"one knows {VERSION}. Run the later one, or name another directory with --state-dir."
        )
    if version < VERSION:
        steps = "".join(_MIGRATIONS[version:])
        db.executescript(f"BEGIN IMMEDIATE;{steps}PRAGMA user_version={VERSION};COMMIT;")
