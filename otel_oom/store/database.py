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
from otel_oom.store.connection import Work, close, connect, inode, prepare, transaction
from otel_oom.store.recovery import salvage
from otel_oom.store.recovery.disk_space import DiskReserve
from otel_oom.store.recovery.drop_log import DropReporter
from otel_oom.store.recovery.errors import FaultKind, NoSpaceError, kind, named, unreadable
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
        self._room = DiskReserve(self._path, bounds.max_bytes)
        self._boot_id = clock.boot_id()
        self._mutex = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._inodes: tuple[int, ...] = ()
        self._reasons: dict[str, str] = {}
        self._dropped = DropReporter(self._path)

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
                if not unreadable(error):
                    raise
                self._db = self._begin_anew(named(error))
            while self._room.over(self._db) and self._prune(self._db):
                pass

    def close(self) -> None:
        """Close the file."""
        with self._mutex:
            if self._db is not None:
                self._close()
                self._room.closed()

    def read(self, work: Work[_T]) -> _T:
        """What ``work`` reads.

        Raises:
            sqlite3.Error: it can't be read.
        """
        with self._mutex:
            return self._attempt(work)

    def write(self, work: Work[_T], *, adds: bool = False) -> _T:
        """What ``work`` returns, once what it wrote is on the disk: all of it, or nothing.

        ``adds`` is of what comes in: it may not take the room that is kept for what goes out.

        Raises:
            sqlite3.Error: it is not on the disk.
        """

        def checked(db: sqlite3.Connection) -> _T:
            self._room.for_event(db)
            return work(db)

        def step(db: sqlite3.Connection) -> _T:
            self._room.retake(db)
            return transaction(db, checked if adds else work)

        with self._mutex:
            done = self._attempt(step)
            self._after_commit()
            return done

    def spare(self, db: sqlite3.Connection) -> bool:
        """Whether there is room for what could be done without; within a step of work."""
        return not self._room.full and not self._room.at_bound(db)

    def tidy(self, max_age_s: float) -> bool:
        """Let go of old history; whether the disk is full.

        Raises:
            sqlite3.Error: it can't be done.
        """
        while self.write(lambda db: retention.history(db, self._boot_id, max_age_s)):
            pass
        while self.read(self._room.too_much) and self.write(self._prune_history):
            pass
        self.read(self._room.shrink)
        self._dropped.report()
        return self._room.full

    def _attempt(self, work: Work[_T]) -> _T:
        """Do ``work``, and again after each remedy for its failure."""
        tried: Counter[FaultKind] = Counter()
        while True:
            try:
                return work(self._ready())
            except sqlite3.Error as error:
                trouble = kind(error)
                if not self._mend(error, tried[trouble]):
                    raise
                tried[trouble] += 1

    def _mend(self, error: sqlite3.Error, before: int) -> bool:
        """Do something about ``error``, having tried so often before; ``False`` without a way."""
        trouble = kind(error)
        if trouble is FaultKind.FULL:
            return before < _MOST_TRIES and self._make_room(error, before)
        if before or trouble is FaultKind.OTHER:
            return False
        if trouble is FaultKind.DAMAGED:
            self._db = self._begin_anew(named(error))
        else:
            _LOG.error("The database %s fails: %s; it is opened anew", self._path, named(error))
            self._close()
        return True

    def _make_room(self, error: sqlite3.Error, before: int) -> bool:
        db = self._ready()
        of_disk = not isinstance(error, NoSpaceError)
        if of_disk and not before and not self._room.at_bound(db):
            self._room.spend(db)
            return True
        if of_disk or self._room.full:
            return bool(transaction(db, self._prune_history))
        return self._prune(db)

    def _prune(self, db: sqlite3.Connection) -> bool:
        """Let go of history, else of what is oldest; whether there was anything."""
        if transaction(db, self._prune_history):
            return True
        gone = transaction(db, retention.oldest)
        self._dropped.add(gone)
        return bool(gone)

    def _prune_history(self, db: sqlite3.Connection) -> int:
        return retention.history(db, self._boot_id)

    def _after_commit(self) -> None:
        """Keep the log short; what was committed stays so, whatever comes of that."""
        try:
            self._room.trim(self._ready())
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._mend(error, before=0)

    def _ready(self) -> sqlite3.Connection:
        """The connection, opened anew where that is due."""
        try:
            if self._db is None:
                self._db = self._reopen()
            elif self._inodes != self._found():
                self._db = self._carry_over(self._db)
        except (OSError, StoreError) as error:
            raise sqlite3.OperationalError(str(error)) from error
        return self._db

    def _connect(self, *, check: bool = False) -> sqlite3.Connection:
        self._folder.take()
        self._folder.file(NAME)
        self._folder.sync()
        db = connect(self._path)
        try:
            try:
                prepare(db, check=check)
            except sqlite3.OperationalError:
                # A new log and its index want some room of their own.
                if not self._room.give_back():
                    raise
                prepare(db, check=check)
            self._room.opened(db)
        except BaseException:
            close(db)
            raise
        self._inodes = self._found()
        self._take_over(db)
        return db

    def _reopen(self) -> sqlite3.Connection:
        try:
            return self._connect(check=True)
        except sqlite3.Error as error:
            if not unreadable(error):
                raise
            return self._begin_anew(named(error))

    def _begin_anew(self, reason: str) -> sqlite3.Connection:
        """Move the file aside, and take over what it still tells."""
        self._close()
        try:
            moved = salvage.move(self._path)
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

    def _take_over(self, db: sqlite3.Connection) -> None:
        tried: set[str] = set()
        while new := [path for path in salvage.unseen(db, self._path) if path.name not in tried]:
            # What the newest knows of the older ones goes for them, too.
            moved = new[-1]
            tried.add(moved.name)
            reason = self._reasons.pop(moved.name, "")
            try:
                rescued = transaction(
                    db, partial(salvage.rescue, moved=moved, reason=reason, boot_id=self._boot_id)
                )
            except sqlite3.Error as error:
                _LOG.error("Nothing of %s can be taken over now: %s", moved.name, named(error))
            else:
                _LOG.warning("Of %s, %d rows were taken over", moved.name, rescued)

    def _carry_over(self, old: sqlite3.Connection) -> sqlite3.Connection:
        """Write what the open file holds into a new one, for its name leads elsewhere now."""
        _LOG.error("The database %s was taken away; it is written anew", self._path)
        self._folder.take()
        made = self._path.with_name(f"{NAME}.new")
        made.unlink(missing_ok=True)
        self._folder.file(made.name)
        with closing(sqlite3.connect(made)) as new:
            old.backup(new)
        if self._path.exists():
            salvage.move(self._path)
        made.rename(self._path)
        # Before the new one's log is made: closing deletes the log by its name.
        self._close()
        return self._connect()

    def _close(self) -> None:
        if self._db is not None:
            close(self._db)
        self._db = None

    def _found(self) -> tuple[int, ...]:
        """What the names of the file and of its log lead to now."""
        return tuple(inode(name) for name in self._names)
