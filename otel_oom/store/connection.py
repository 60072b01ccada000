"""A connection to the database file: opened, configured, and used for one transaction."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from otel_oom.store import schema
from otel_oom.store.recovery import checksums
from otel_oom.store.recovery.errors import CorruptRowError
from otel_oom.store.state_dir import StoreError

_BUSY_S: Final = 1.0
"""The longest wait for another process that reads or writes the file."""

_T = TypeVar("_T")
Work = Callable[[sqlite3.Connection], _T]


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection, for any thread, that begins no transaction by itself."""
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    checksums.register(db)
    return db


def configure(db: sqlite3.Connection, *, check: bool) -> None:
    """Configure the connection and create the tables; ``check`` a file that failed before.

    Raises:
        sqlite3.Error: the file can't be used.
        StoreError: it is of a later version, or SQLite is too old.
    """
    _require_json_operators(db)
    if db.execute("PRAGMA page_count").fetchone()[0] == 0:
        # Only a new file can change to this.
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    # Deleted rows need not be overwritten with zeros: nobody else reads the file.
    db.execute("PRAGMA secure_delete=OFF")
    # In KiB; the default of 2,000 would be a fifteenth of the agent's memory.
    db.execute("PRAGMA cache_size=-256")
    if check:
        # The whole log is written and synced once more, into the file, before it is relied on.
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        result = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if result != "ok":
            raise CorruptRowError(result)
    schema.migrate(db)


def _require_json_operators(db: sqlite3.Connection) -> None:
    try:
        db.execute("SELECT '{}' ->> '$.x'")
    except sqlite3.Error as error:
        raise StoreError(
            f"This Python has SQLite {sqlite3.sqlite_version}, which lacks what the store needs "
            f"({error}). Use one with SQLite 3.38 or later: Debian 12, Ubuntu 22.10 and Fedora 37 "
            "have it."
        ) from error


def run_in_transaction(db: sqlite3.Connection, work: Work[_T]) -> _T:
    """Run ``work`` and return its result once all that it wrote is on the disk.

    Raises sqlite3.Error if nothing of it is on the disk.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        result = work(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        raise
    return result


def close(db: sqlite3.Connection) -> None:
    """Close the connection; a log that can't be written to the file stays."""
    with suppress(sqlite3.Error):
        db.close()


def inode(path: Path) -> int:
    """Return the inode of ``path``, without following a link; 0 if there is none."""
    try:
        return os.lstat(path).st_ino
    except FileNotFoundError:
        return 0
