"""One SQLite file, one connection, synced at every commit, and what is done when it fails.

Each kind of trouble has its remedy, after which the work is done again from its beginning:

- no room: what was allocated ahead is used, then history goes; see
  :mod:`~otel_oom.store.recovery.disk_space`;
- a file that can't be read, written or synced: what the kernel holds of it may differ from what
  is on the disk, so it is closed, opened, written anew from its log and checked;
- a damaged file: it is moved aside, and what it still tells is taken over into a new one;
- a file that somebody took away: all of it is still read through what is open, into a new one.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter
from contextlib import closing, suppress
from functools import partial
from typing import Final, TypeVar

from otel_oom.config.store import StoreLimits
from otel_oom.linux import clock
from otel_oom.store import retention
from otel_oom.store.connection import Work, close, configure, connect, inode, run_in_transaction
from otel_oom.store.recovery import salvage
from otel_oom.store.recovery.disk_space import DiskReserve
from otel_oom.store.recovery.drop_log import DropReporter
from otel_oom.store.recovery.errors import (
    FaultKind,
    NoSpaceError,
    classify,
    describe,
    is_unreadable,
)
from otel_oom.store.state_dir import StateFolder, StoreError

_LOG = logging.getLogger(__name__)

NAME: Final = "otel-oom.db"

_MOST_TRIES: Final = 5
"""How often room is made for one and the same work."""

_T = TypeVar("_T")


class Database:
    """The file and its connection; safe to use from several threads.

    One connection: versions of SQLite before 3.51.3 can corrupt the log when two reset it.
    """

    def __init__(self, folder: StateFolder, bounds: StoreLimits) -> None:
        """Prepare to open the file in ``folder``."""
        self._folder = folder
        self._path = folder.path / NAME
        self._names = (self._path, self._path.with_name(f"{NAME}-wal"))
        self._reserve = DiskReserve(self._path, bounds.max_bytes)
        self._boot_id = clock.boot_id()
        self._mutex = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._inodes: tuple[int, ...] = ()
        self._reasons: dict[str, str] = {}
        self._drop_reporter = DropReporter(self._path)

    def open(self) -> None:
        """Open the file, which is made if it is missing, and moved aside if it can't be read.

        Raises:
            OSError: it can't be made, or is a symbolic link.
            StoreError: it is somebody else's, or of a later version.
            sqlite3.Error: it can't be used.
        """
        with self._mutex:
            try:
                self._db = self._connect()
            except sqlite3.Error as error:
                if not is_unreadable(error):
                    raise
                self._db = self._replace_damaged_file(describe(error))
            while self._reserve.exceeds_size_limit(self._db) and self._prune_oldest(self._db):
                pass

    def close(self) -> None:
        """Close the file."""
        with self._mutex:
            if self._db is not None:
                self._close()
                self._reserve.on_close()

    def read(self, work: Work[_T]) -> _T:
        """What ``work`` reads.

        Raises:
            sqlite3.Error: it can't be read.
        """
        with self._mutex:
            return self._run(work)

    def write(self, work: Work[_T], *, adds: bool = False) -> _T:
        """What ``work`` returns, once what it wrote is on the disk: all of it, or nothing.

        ``adds`` is of what comes in: it may not take the room that is kept for what goes out.

        Raises:
            sqlite3.Error: it is not on the disk.
        """

        def checked(db: sqlite3.Connection) -> _T:
            self._reserve.require_event_space(db)
            return work(db)

        def step(db: sqlite3.Connection) -> _T:
            self._reserve.reacquire(db)
            return run_in_transaction(db, checked if adds else work)

        with self._mutex:
            done = self._run(step)
            self._after_commit()
            return done

    def has_spare_space(self, db: sqlite3.Connection) -> bool:
        """Whether there is room for what could be done without; within a step of work."""
        return not self._reserve.disk_full and not self._reserve.at_size_limit(db)

    def prune(self, max_age_s: float) -> bool:
        """Let go of old history; whether the disk is full.

        Raises:
            sqlite3.Error: it can't be done.
        """
        while self.write(lambda db: retention.prune_history(db, self._boot_id, max_age_s)):
            pass
        while self.read(self._reserve.nearly_full) and self.write(self._prune_history):
            pass
        self.read(self._reserve.vacuum)
        self._drop_reporter.report()
        return self._reserve.disk_full

    def _run(self, work: Work[_T]) -> _T:
        """Do ``work``, and again after each remedy for its failure."""
        tried: Counter[FaultKind] = Counter()
        while True:
            try:
                return work(self._open_connection())
            except sqlite3.Error as error:
                trouble = classify(error)
                if not self._recover(error, tried[trouble]):
                    raise
                tried[trouble] += 1

    def _recover(self, error: sqlite3.Error, before: int) -> bool:
        """Do something about ``error``, having tried so often before; ``False`` without a way."""
        trouble = classify(error)
        if trouble is FaultKind.FULL:
            return before < _MOST_TRIES and self._free_space(error, before)
        if before or trouble is FaultKind.OTHER:
            return False
        if trouble is FaultKind.DAMAGED:
            self._db = self._replace_damaged_file(describe(error))
        else:
            _LOG.error("The database %s fails: %s; it is opened anew", self._path, describe(error))
            self._close()
        return True

    def _free_space(self, error: sqlite3.Error, before: int) -> bool:
        db = self._open_connection()
        of_disk = not isinstance(error, NoSpaceError)
        if of_disk and not before and not self._reserve.at_size_limit(db):
            self._reserve.consume(db)
            return True
        if of_disk or self._reserve.disk_full:
            return bool(run_in_transaction(db, self._prune_history))
        return self._prune_oldest(db)

    def _prune_oldest(self, db: sqlite3.Connection) -> bool:
        """Let go of history, else of what is oldest; whether there was anything."""
        if run_in_transaction(db, self._prune_history):
            return True
        gone = run_in_transaction(db, retention.prune_oldest)
        self._drop_reporter.add(gone)
        return bool(gone)

    def _prune_history(self, db: sqlite3.Connection) -> int:
        return retention.prune_history(db, self._boot_id)

    def _after_commit(self) -> None:
        """Keep the log short; what was committed stays so, whatever comes of that."""
        try:
            self._reserve.truncate_log(self._open_connection())
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._recover(error, before=0)

    def _open_connection(self) -> sqlite3.Connection:
        """The connection, opened anew where that is due."""
        try:
            if self._db is None:
                self._db = self._reopen()
            elif self._inodes != self._current_inodes():
                self._db = self._recreate_from_open_file(self._db)
        except (OSError, StoreError) as error:
            raise sqlite3.OperationalError(str(error)) from error
        return self._db

    def _connect(self, *, check: bool = False) -> sqlite3.Connection:
        self._folder.lock()
        self._folder.prepare_file(NAME)
        self._folder.sync()
        db = connect(self._path)
        try:
            try:
                configure(db, check=check)
            except sqlite3.OperationalError:
                # A new log and its index want some room of their own.
                if not self._reserve.release():
                    raise
                configure(db, check=check)
            self._reserve.on_open(db)
        except BaseException:
            close(db)
            raise
        self._inodes = self._current_inodes()
        self._salvage(db)
        return db

    def _reopen(self) -> sqlite3.Connection:
        try:
            return self._connect(check=True)
        except sqlite3.Error as error:
            if not is_unreadable(error):
                raise
            return self._replace_damaged_file(describe(error))

    def _replace_damaged_file(self, reason: str) -> sqlite3.Connection:
        """Move the file aside, and take over what it still tells."""
        self._close()
        try:
            moved = salvage.quarantine(self._path)
            _LOG.error(
                "The database %s can't be read (%s); it is kept as %s, and a new one begun",
                self._path,
                reason,
                moved.name,
            )
            self._reasons[moved.name] = reason
            return self._connect()
        except (OSError, StoreError) as error:
            raise sqlite3.OperationalError(str(error)) from error

    def _salvage(self, db: sqlite3.Connection) -> None:
        tried: set[str] = set()
        while new := [
            path for path in salvage.unprocessed(db, self._path) if path.name not in tried
        ]:
            # What the newest knows of the older ones goes for them, too.
            moved = new[-1]
            tried.add(moved.name)
            reason = self._reasons.pop(moved.name, "")
            try:
                rescued = run_in_transaction(
                    db, partial(salvage.salvage, moved=moved, reason=reason, boot_id=self._boot_id)
                )
            except sqlite3.Error as error:
                _LOG.error("Nothing of %s can be taken over now: %s", moved.name, describe(error))
            else:
                _LOG.warning("Of %s, %d rows were taken over", moved.name, rescued)

    def _recreate_from_open_file(self, old: sqlite3.Connection) -> sqlite3.Connection:
        """Write what the open file holds into a new one, for its name leads elsewhere now."""
        _LOG.error("The database %s was taken away; it is written anew", self._path)
        self._folder.lock()
        made = self._path.with_name(f"{NAME}.new")
        made.unlink(missing_ok=True)
        self._folder.prepare_file(made.name)
        with closing(sqlite3.connect(made)) as new:
            old.backup(new)
        if self._path.exists():
            salvage.quarantine(self._path)
        made.rename(self._path)
        # Before the new one's log is made: closing deletes the log by its name.
        self._close()
        return self._connect()

    def _close(self) -> None:
        if self._db is not None:
            close(self._db)
        self._db = None

    def _current_inodes(self) -> tuple[int, ...]:
        """What the names of the file and of its log lead to now."""
        return tuple(inode(name) for name in self._names)
