"""The tables, and the version that a file has of them.

The ``signal`` of outbox and dead letters is a channel: see :mod:`otel_oom.model.channel`.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from otel_oom.store.state_dir import StoreError
from otel_oom.store.types import END_SUFFIX


def _usage_triggers(table: str, class_: str) -> str:
    """Return triggers that count the bytes of a table by holder, whoever writes to it."""
    return f"""
    CREATE TRIGGER {table}_added AFTER INSERT ON {table} BEGIN
        INSERT INTO holder_usage (class, holder, bytes) VALUES ('{class_}', NEW.holder, NEW.size)
            ON CONFLICT (class, holder) DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER {table}_resized AFTER UPDATE OF size ON {table} BEGIN
        INSERT INTO holder_usage (class, holder, bytes)
            VALUES ('{class_}', NEW.holder, NEW.size - OLD.size)
            ON CONFLICT (class, holder) DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER {table}_deleted AFTER DELETE ON {table} BEGIN
        UPDATE holder_usage SET bytes = bytes - OLD.size
            WHERE class = '{class_}' AND holder = OLD.holder;
    END;
    """  # noqa: S608  names of our own


# What is long stands last: SQLite reads it to get at a column behind it.
# AUTOINCREMENT: no id is given twice, as a message in flight must not share its id with one that
# came after it.
_TABLES: Final = """
    CREATE TABLE events (
        id INTEGER PRIMARY KEY,
        uid TEXT NOT NULL UNIQUE,
        boot_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        tgid INTEGER,
        start_boottime_ns INTEGER,
        boottime_ns INTEGER NOT NULL,
        stored_unix_ns INTEGER NOT NULL,
        log_queued INTEGER NOT NULL DEFAULT 0,
        span_queued INTEGER NOT NULL DEFAULT 0,
        undecodable_reason TEXT,
        undecodable_version TEXT,
        pruned INTEGER NOT NULL DEFAULT 0,
        holder TEXT NOT NULL DEFAULT '',
        size INTEGER NOT NULL DEFAULT 0,
        has_report INTEGER NOT NULL DEFAULT 0,
        is_counted INTEGER NOT NULL DEFAULT 0,
        crc32 INTEGER,
        event TEXT NOT NULL,
        snapshot TEXT NOT NULL,
        exit TEXT,
        reaper_steps TEXT NOT NULL DEFAULT '[]'
    );
    CREATE UNIQUE INDEX events_victim ON events (boot_id, tgid, start_boottime_ns);
    CREATE INDEX events_holder ON events (holder, has_report);
    CREATE INDEX events_pending ON events (holder)
        WHERE undecodable_reason IS NULL AND NOT (log_queued AND span_queued);
    CREATE INDEX events_undecodable ON events (id) WHERE undecodable_reason IS NOT NULL;
    CREATE INDEX events_prunable ON events (stored_unix_ns)
        WHERE log_queued AND span_queued AND undecodable_reason IS NULL AND NOT pruned;
    CREATE INDEX events_prunable_holder ON events (holder)
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
        queued_unix_ns INTEGER NOT NULL,
        holder TEXT NOT NULL DEFAULT '',
        size INTEGER NOT NULL DEFAULT 0,
        send_alone INTEGER NOT NULL DEFAULT 0,
        crc32 INTEGER,
        payload BLOB NOT NULL,
        UNIQUE (uid, signal)
    );
    CREATE INDEX outbox_signal ON outbox (signal, id);
    CREATE INDEX outbox_holder ON outbox (signal, holder);
    CREATE TABLE dead_letters (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        uid TEXT NOT NULL,
        signal TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        reason TEXT NOT NULL,
        ambiguous INTEGER NOT NULL,
        rejected_unix_ns INTEGER NOT NULL,
        holder TEXT NOT NULL DEFAULT '',
        size INTEGER NOT NULL DEFAULT 0,
        payload BLOB NOT NULL
    );
    CREATE INDEX dead_letters_uid ON dead_letters (uid, signal);
    CREATE INDEX dead_letters_holder ON dead_letters (holder);
    CREATE TABLE holder_usage (
        class TEXT NOT NULL,
        holder TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (class, holder)
    ) WITHOUT ROWID;
    CREATE INDEX holder_usage_bytes ON holder_usage (class, bytes);
    CREATE TABLE drops (
        holder TEXT PRIMARY KEY,
        events INTEGER NOT NULL DEFAULT 0,
        reports INTEGER NOT NULL DEFAULT 0,
        dead_letters INTEGER NOT NULL DEFAULT 0,
        first_unix_ns INTEGER NOT NULL,
        containers BLOB
    ) WITHOUT ROWID;
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
"""

_USAGE: Final = (("events", "events"), ("outbox", "events"), ("dead_letters", "dead_letters"))

_OLDEST: Final = 2
"""The first version that is migrated; no release has an earlier one."""

_SETTLED: Final = f"""
    CREATE TABLE settled_messages (
        uid TEXT NOT NULL,
        channel TEXT NOT NULL,
        PRIMARY KEY (uid, channel)
    ) WITHOUT ROWID;
    CREATE TRIGGER events_settled AFTER DELETE ON events BEGIN
        DELETE FROM settled_messages WHERE uid IN (OLD.uid, OLD.uid || '{END_SUFFIX}');
    END;
"""  # noqa: S608  a name of our own
"""The channels that are done with a message while others are not."""

_SERIES: Final = """
    CREATE TABLE series (
        label TEXT PRIMARY KEY,
        overflow_label TEXT NOT NULL,
        holder TEXT NOT NULL,
        last_day INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX series_holder ON series (holder);
    CREATE INDEX series_last_day ON series (last_day);
"""
"""The series of kills that have an owner; their values are counters."""

_REPEATS: Final = """
    CREATE TABLE repeats (
        victim TEXT PRIMARY KEY,
        holder TEXT NOT NULL,
        count INTEGER NOT NULL,
        first_unix_ns INTEGER NOT NULL,
        last_unix_ns INTEGER NOT NULL,
        incidents TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX repeats_holder ON repeats (holder, last_unix_ns);
    ALTER TABLE events ADD COLUMN repeat_count INTEGER;
    ALTER TABLE events ADD COLUMN repeat_first_unix_ns INTEGER;
"""
"""The last kill of each victim, and what its kills had counted when they were queued."""

_MIGRATIONS: Final = (
    "".join((_TABLES, *(_usage_triggers(*names) for names in _USAGE))),
    _SETTLED,
    _SERIES,
    _REPEATS,
)
"""Each step brings a file to the next version; a new file goes through all of them."""

VERSION: Final = _OLDEST + len(_MIGRATIONS) - 1


def migrate(db: sqlite3.Connection) -> None:
    """Bring the tables to this version, in one transaction.

    Raises:
        sqlite3.Error: the file can't be read or written.
        StoreError: the file has a later version, or one that was never released. It is left alone:
            it is intact, and a program that knows that version will deliver its contents.
    """
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise StoreError(
            f"The database was written by a later otel-oom: it has schema version {version}, this "
            f"one knows {VERSION}. Run the later one, or name another directory with --state-dir."
        )
    if 0 < version < _OLDEST:
        raise StoreError(
            f"The database was written by an otel-oom before its first release: it has schema "
            f"version {version}. Deliver its contents by that one, then delete the state "
            "directory; or name another with --state-dir."
        )
    if version < VERSION:
        steps = "".join(_MIGRATIONS[max(0, version - _OLDEST + 1) :])
        db.executescript(f"BEGIN IMMEDIATE;{steps}PRAGMA user_version={VERSION};COMMIT;")
