"""The tables, and how an older file comes to have them."""

from __future__ import annotations

import sqlite3
from typing import Final

from otel_oom.store.state_dir import StoreError

_STEPS: Final = (
    """
    CREATE TABLE journal (
        id INTEGER PRIMARY KEY,
        uid TEXT NOT NULL UNIQUE,
        boot_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        tgid INTEGER,
        started_ns INTEGER,
        boottime_ns INTEGER NOT NULL,
        stored_unix_ns INTEGER NOT NULL,
        event TEXT NOT NULL,
        witness TEXT NOT NULL,
        exit TEXT,
        reaper TEXT NOT NULL DEFAULT '[]',
        log_queued INTEGER NOT NULL DEFAULT 0,
        span_queued INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX journal_open ON journal (id) WHERE NOT (log_queued AND span_queued);
    CREATE UNIQUE INDEX journal_victim ON journal (boot_id, tgid, started_ns);
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY,
        uid TEXT NOT NULL,
        signal TEXT NOT NULL,
        payload BLOB NOT NULL,
        queued_unix_ns INTEGER NOT NULL,
        UNIQUE (uid, signal)
    );
    CREATE INDEX outbox_signal ON outbox (signal, id);
    CREATE TABLE dead_letters (
        id INTEGER PRIMARY KEY,
        uid TEXT NOT NULL,
        signal TEXT NOT NULL,
        payload BLOB NOT NULL,
        reason TEXT NOT NULL,
        refused_unix_ns INTEGER NOT NULL
    );
    """,
    """
    CREATE TABLE counters (
        boot_id TEXT NOT NULL,
        name TEXT NOT NULL,
        value INTEGER NOT NULL,
        PRIMARY KEY (boot_id, name)
    ) WITHOUT ROWID;
    INSERT INTO counters (boot_id, name, value)
        SELECT boot_id, 'captured.' || iif(kind = 'kill' AND tgid IS NULL, 'skipped', kind),
            count(*)
        FROM journal GROUP BY 1, 2;
    """,
    """
    ALTER TABLE journal ADD COLUMN unreadable TEXT;
    ALTER TABLE journal ADD COLUMN unreadable_by TEXT;
    ALTER TABLE journal ADD COLUMN emptied INTEGER NOT NULL DEFAULT 0;
    DROP INDEX journal_open;
    CREATE INDEX journal_open ON journal (id)
        WHERE unreadable IS NULL AND NOT (log_queued AND span_queued);
    CREATE INDEX journal_unreadable ON journal (id) WHERE unreadable IS NOT NULL;
    CREATE INDEX journal_history ON journal (stored_unix_ns)
        WHERE log_queued AND span_queued AND unreadable IS NULL AND NOT emptied;
    CREATE INDEX journal_emptied ON journal (boot_id) WHERE emptied;
    CREATE TABLE set_aside (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        reason TEXT NOT NULL,
        found_unix_ns INTEGER NOT NULL,
        rescued INTEGER NOT NULL
    );
    """,
    # Ids that are never given twice: what is in flight must not share one with what came after
    # it. SQLite adds that to no table that is there.
    """
    ALTER TABLE outbox RENAME TO outbox_before;
    DROP INDEX outbox_signal;
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        uid TEXT NOT NULL,
        signal TEXT NOT NULL,
        payload BLOB NOT NULL,
        queued_unix_ns INTEGER NOT NULL,
        alone INTEGER NOT NULL DEFAULT 0,
        UNIQUE (uid, signal)
    );
    CREATE INDEX outbox_signal ON outbox (signal, id);
    INSERT INTO outbox (id, uid, signal, payload, queued_unix_ns)
        SELECT id, uid, signal, payload, queued_unix_ns FROM outbox_before;
    DROP TABLE outbox_before;
    ALTER TABLE dead_letters RENAME TO dead_letters_before;
    CREATE TABLE dead_letters (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        uid TEXT NOT NULL,
        signal TEXT NOT NULL,
        payload BLOB NOT NULL,
        endpoint TEXT NOT NULL DEFAULT '',
        reason TEXT NOT NULL,
        doubtful INTEGER NOT NULL DEFAULT 0,
        refused_unix_ns INTEGER NOT NULL
    );
    INSERT INTO dead_letters (id, uid, signal, payload, reason, refused_unix_ns)
        SELECT id, uid, signal, payload, reason, refused_unix_ns FROM dead_letters_before;
    DROP TABLE dead_letters_before;
    """,
    # To the second: a count that begins anew says when.
    """
    INSERT INTO counters (boot_id, name, value)
        VALUES ('since', 'since.kills', strftime('%s', 'now') * 1000000000);
    """,
    # Of rows from before nothing is known.
    """
    ALTER TABLE journal ADD COLUMN sum INTEGER;
    ALTER TABLE outbox ADD COLUMN sum INTEGER;
    """,
    # What an event was told as, for as long as the journal has it.
    """
    CREATE TABLE told (
        uid TEXT NOT NULL,
        signal TEXT NOT NULL,
        payload BLOB NOT NULL,
        PRIMARY KEY (uid, signal)
    );
    CREATE INDEX dead_letters_uid ON dead_letters (uid, signal);
    """,
    # Sums are of more than they were; of rows from before nothing is known.
    """
    UPDATE journal SET sum = NULL;
    """,
)
"""Each brings a file from one version to the next; a new file goes through all of them."""

VERSION: Final = len(_STEPS)

SUMMED: Final = 8
"""From this version on sums are of what they are of now."""


def db_version(db: sqlite3.Connection) -> int:
    """The version that a file is of; 0 for a new one.

    Raises:
        sqlite3.Error: it can't be read.
    """
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def prepare(db: sqlite3.Connection) -> None:
    """Bring the tables to this version, in one transaction.

    Raises:
        sqlite3.Error: that can't be done.
        StoreError: they are of a later version, and are left alone: they are sound, and a
            version that knows them will deliver what they hold.
    """
    version = db_version(db)
    if version > VERSION:
        raise StoreError(
            f"The database was written by a later otel-oom: it has schema version {version}, this "
            f"one knows {VERSION}. Run the later one, or name another folder with --state-dir."
        )
    if version < VERSION:
        steps = "".join(_STEPS[version:])
        db.executescript(f"BEGIN IMMEDIATE;{steps}PRAGMA user_version={VERSION};COMMIT;")
