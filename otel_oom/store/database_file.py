"""The database file: opened, reopened after a failure, quarantined when corrupt."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from functools import partial
from typing import Final

from otel_oom.linux import clock
from otel_oom.store.connection import close, configure, connect, inode, run_in_transaction
from otel_oom.store.recovery import salvage
from otel_oom.store.recovery.disk_space import DiskReserve
from otel_oom.store.recovery.errors import describe, is_unreadable
from otel_oom.store.state_dir import StateDirectory, StoreError

_LOG = logging.getLogger(__name__)

NAME: Final = "otel-oom.db"


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
            close(self._db)
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
            close(db)
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
        return tuple(inode(name) for name in self._names)
