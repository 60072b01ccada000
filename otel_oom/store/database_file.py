"""The database file and its connection: opened, reopened, and quarantined when corrupt."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from otel_oom.linux import clock
from otel_oom.store import schema
from otel_oom.store.recovery import checksums, salvage
from otel_oom.store.recovery.disk_space import DiskReserve
from otel_oom.store.recovery.errors import CorruptRowError, describe, is_unreadable
from otel_oom.store.state_dir import StateDirectory, StoreError

_LOG = logging.getLogger(__name__)

NAME: Final = "otel-oom.db"

_BUSY_S: Final = 1.0
"""The longest wait for another process that reads or writes the file."""

SYNCED: Final = "PRAGMA synchronous=FULL"
_UNSYNCED: Final = "PRAGMA synchronous=NORMAL"

_T = TypeVar("_T")
Work = Callable[[sqlite3.Connection], _T]


class DatabaseFile:
    """The file and its connection.

    One connection: versions of SQLite before 3.51.3 can corrupt the log when two reset it. Each
    method raises sqlite3.Error if the file can't be used.
    """

    def __init__(self, directory: StateDirectory, reserve: DiskReserve) -> None:
        self.path = directory.path / NAME
        self._directory = directory
        self._reserve = reserve
        self._names = (self.path, self.path.with_name(f"{NAME}-wal"))
        self._db: sqlite3.Connection | None = None
        self._inodes: tuple[int, ...] = ()
        self._quarantine_reasons: dict[str, str] = {}

    @property
    def is_open(self) -> bool:
        """Return whether there is a connection."""
        return self._db is not None

    def open(self, *, check: bool = False) -> sqlite3.Connection:
        """Open the file, which is created if it is missing, quarantined if it is corrupt.

        Raises:
            OSError: it can't be created, or is a symbolic link.
            StoreError: another user owns it, or it is of a later version.
        """
        try:
            self._db = self._connect(check=check)
        except sqlite3.Error as error:
            if not is_unreadable(error):
                raise
            self._db = self.replace_corrupt(describe(error))
        return self._db

    def connection(self) -> sqlite3.Connection:
        """Return the connection, reopened if it was closed or its file replaced."""
        try:
            if self._db is None:
                return self.open(check=True)
            if self._inodes != self._current_inodes():
                self._db = self._recreate_from_open_file(self._db)
        except (OSError, StoreError) as error:
            raise sqlite3.OperationalError(str(error)) from error
        return self._db

    def replace_corrupt(self, reason: str) -> sqlite3.Connection:
        """Quarantine the file, and salvage its readable rows into a new one."""
        self.close()
        try:
            quarantined = salvage.quarantine(self.path)
            _LOG.error(
                "Store: database %s is corrupt: %s: quarantined as %s, starting a new one",
                self.path,
                reason,
                quarantined.name,
            )
            self._quarantine_reasons[quarantined.name] = reason
            self._db = self._connect()
        except (OSError, StoreError) as error:
            raise sqlite3.OperationalError(str(error)) from error
        return self._db

    def close(self) -> None:
        """Close the connection."""
        if self._db is not None:
            # A log that can't be written to the file stays.
            with suppress(sqlite3.Error):
                self._db.close()
        self._db = None

    def _connect(self, *, check: bool = False) -> sqlite3.Connection:
        self._directory.lock()
        self._directory.prepare_file(NAME)
        self._directory.sync()
        db = connect(self.path)
        try:
            try:
                configure(db, check=check)
            except sqlite3.OperationalError:
                # A new log and its index need space of their own.
                if not self._reserve.release():
                    raise
                configure(db, check=check)
            self._reserve.on_open(db)
        except BaseException:
            with suppress(sqlite3.Error):
                db.close()
            raise
        self._inodes = self._current_inodes()
        self._salvage_quarantined(db)
        return db

    def _salvage_quarantined(self, db: sqlite3.Connection) -> None:
        tried: set[str] = set()
        while files := [p for p in salvage.unprocessed(db, self.path) if p.name not in tried]:
            # The newest also has the list of older ones that it was salvaged from.
            file = files[-1]
            tried.add(file.name)
            reason = self._quarantine_reasons.pop(file.name, "")
            try:
                rows = run_in_transaction(
                    db, partial(salvage.salvage, file=file, reason=reason, boot_id=clock.boot_id())
                )
            except sqlite3.Error as error:
                _LOG.error("Store: salvage of %s failed: %s", file.name, describe(error))
            else:
                _LOG.warning("Store: salvaged from %s: rows=%d", file.name, rows)

    def _recreate_from_open_file(self, old: sqlite3.Connection) -> sqlite3.Connection:
        """Copy the open file into a new one, as its name leads elsewhere now."""
        _LOG.error("Store: database %s was deleted or replaced; rewriting it", self.path)
        self._directory.lock()
        new_path = self.path.with_name(f"{NAME}.new")
        new_path.unlink(missing_ok=True)
        self._directory.prepare_file(new_path.name)
        with closing(sqlite3.connect(new_path)) as new:
            old.backup(new)
        if self.path.exists():
            salvage.quarantine(self.path)
        new_path.rename(self.path)
        # Before the new one's log is created: closing deletes the log by its name.
        self.close()
        return self._connect()

    def _current_inodes(self) -> tuple[int, ...]:
        return tuple(_inode(name) for name in self._names)


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
    db.execute(SYNCED)
    # Deleted rows need not be overwritten with zeros: nobody else reads the file.
    db.execute("PRAGMA secure_delete=OFF")
    # In KiB; the default of 2,000 would be a fifteenth of the agent's memory.
    db.execute("PRAGMA cache_size=-256")
    _set_temporary_folder(db)
    if check:
        # The whole log is written and synced once more, into the file, before it is relied on.
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        result = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if result != "ok":
            raise CorruptRowError(result)
    schema.migrate(db)


def _set_temporary_folder(db: sqlite3.Connection) -> None:
    """Let rows that exceed the cache go to the state directory while they are sorted.

    By default they go to ``/var/tmp`` or ``/tmp``, which can't be written in a container whose root
    is read-only. SQLite reads the variable SQLITE_TMPDIR before any module can set it.
    """
    (_, _, file) = db.execute("PRAGMA database_list").fetchone()
    folder = str(Path(file).parent)
    # For the whole process: it must not change while another thread uses it.
    if db.execute("PRAGMA temp_store_directory").fetchone() != (folder,):
        quoted = folder.replace("'", "''")
        # SQLite checks by access(2), which ignores the capabilities of a user other than root.
        with suppress(sqlite3.OperationalError):
            db.execute(f"PRAGMA temp_store_directory='{quoted}'")


def _require_json_operators(db: sqlite3.Connection) -> None:
    try:
        db.execute("SELECT '{}' ->> '$.x'")
    except sqlite3.Error as error:
        raise StoreError(
            f"This Python has SQLite {sqlite3.sqlite_version}, which lacks what the store needs "
            f"({error}). Use one with SQLite 3.38 or later: Debian 12, Ubuntu 22.10 and Fedora 37 "
            "have it."
        ) from error


def run_in_transaction(db: sqlite3.Connection, work: Work[_T], *, synced: bool = True) -> _T:
    """Run ``work`` and return its result once all that it wrote is on the disk.

    After sqlite3.Error, nothing of it is on the disk. Without ``synced``, the next commit that is
    synced syncs this one as well: the log is one file (sqlite.org/pragma.html#pragma_synchronous).
    """
    db.execute(SYNCED if synced else _UNSYNCED)
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


def _inode(path: Path) -> int:
    try:
        return os.lstat(path).st_ino
    except FileNotFoundError:
        return 0
