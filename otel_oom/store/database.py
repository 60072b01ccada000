"""Work on the SQLite file: synced at its commit or soon, repeated after recovery from a fault.

Each kind of fault has its remedy, after which the work runs again from its start:

- disk full: the reserve is used, then history is pruned; see
  :mod:`~otel_oom.store.recovery.disk_space`;
- I/O error: the kernel's cache may differ from the disk, so the file is closed, reopened, rewritten
  from its log and checked;
- corrupt file: it is quarantined, and its readable rows are salvaged into a new one;
- deleted or replaced file: the open one is copied into a new one.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from otel_oom.config.store import StoreLimits
from otel_oom.linux import clock
from otel_oom.store import eviction, retention
from otel_oom.store.database_file import NAME, DatabaseFile, Work, run_in_transaction
from otel_oom.store.recovery.disk_space import DiskReserve
from otel_oom.store.recovery.errors import FaultKind, NoSpaceError, classify, describe
from otel_oom.store.state_dir import StateDirectory, StoreError

_LOG = logging.getLogger(__name__)

_MAX_TRIES: Final = 8
"""Attempts to make space for one piece of work."""

_MAX_DELIVERED: Final = 1024
"""Beyond so many deliveries, a search finds some of their events soon."""

_T = TypeVar("_T")


class Database:
    """Runner of work on the file; safe to use from several threads.

    Each method raises sqlite3.Error if it fails; nothing that the work wrote is on the disk then.
    """

    def __init__(self, directory: StateDirectory, limits: StoreLimits) -> None:
        self._reserve = DiskReserve(directory.path / NAME, limits.max_bytes)
        self._file = DatabaseFile(directory, self._reserve)
        self._boot_id = clock.boot_id()
        self._mutex = threading.Lock()
        self._delivered: set[str] | None = None
        """What left the outbox since a search found no history; ``None`` before such a search.

        A search among many undelivered events takes long.
        """
        self.unsynced_since_s: float | None = None
        """The monotonic time of the first commit that is not synced yet."""
        self._drop_reporter = retention.DropReporter(self._file.path)

    @property
    def max_file_bytes(self) -> int:
        """The size limit of the file."""
        return self._reserve.max_file_bytes

    def open(self) -> None:
        """Open the file, which is created if it is missing, quarantined if it is corrupt.

        Raises:
            OSError: it can't be created, or is a symbolic link.
            StoreError: another user owns it, or it is of a later version.
        """
        with self._mutex:
            db = self._file.open()
            while self._reserve.exceeds_size_limit(db) and self._prune_any(db):
                pass

    def close(self) -> None:
        """Sync what is not synced yet, and close the file."""
        with self._mutex:
            if self._file.is_open:
                # SQLite itself does so only if no other process has the file open.
                if self.unsynced_since_s is not None:
                    with suppress(sqlite3.Error):
                        self._sync()
                self._file.close()
                self._reserve.on_close()

    def read(self, work: Work[_T]) -> _T:
        """Run ``work``, which reads."""
        with self._mutex:
            return self._run(work)

    def write(
        self, work: Work[_T], *, adds: bool = False, spare_only: bool = False, synced: bool = True
    ) -> _T:
        """Run ``work``, and return its result once all that it wrote is on the disk.

        ``adds``: the work adds data, and may not use the space that is reserved for deletions.
        ``spare_only``: nor may anything be dropped for it; without space it raises StoreError.
        Without ``synced`` it survives this process, and the host once a later commit is synced.
        """

        def add(db: sqlite3.Connection) -> _T:
            if spare_only and (self._reserve.disk_full or self._reserve.exceeds_size_limit(db)):
                raise StoreError("the store is at its size limit, or the disk is full")
            self._reserve.require_event_space(db)
            return work(db)

        def step(db: sqlite3.Connection) -> _T:
            self._reserve.reacquire(db)
            self._reserve.schedule_checkpoint(db, early=synced and not adds)
            changes = db.total_changes
            result = run_in_transaction(db, add if adds else work, synced=synced)
            self._note_commit(synced=synced, changed=db.total_changes > changes)
            return result

        with self._mutex:
            result = self._run(step)
            self._shorten_log()
            return result

    def sync(self) -> None:
        """Sync all that was committed."""
        with self._mutex:
            self._sync()

    def _sync(self) -> None:
        def change_page(db: sqlite3.Connection) -> None:
            # A transaction that changes nothing is not synced.
            (version,) = db.execute("PRAGMA user_version").fetchone()
            db.execute(f"PRAGMA user_version={version}")

        self._run(lambda db: run_in_transaction(db, change_page))
        self.unsynced_since_s = None

    def _note_commit(self, *, synced: bool, changed: bool) -> None:
        if synced and changed:
            self.unsynced_since_s = None
        elif changed and self.unsynced_since_s is None:
            self.unsynced_since_s = time.monotonic()

    def has_spare_space(self, db: sqlite3.Connection) -> bool:
        """Return whether optional data fits; to be called within a transaction."""
        return not self._reserve.disk_full and not self._reserve.at_size_limit(db)

    def prune(self, max_age_s: float) -> bool:
        """Delete history of that age, and more near the size limit; return if the disk is full."""
        self._delivered = None
        position: retention.Position | None = retention.START
        while position:
            step = partial(
                retention.prune_old_history,
                boot_id=self._boot_id,
                min_age_s=max_age_s,
                after=position,
            )
            _, position = self.write(step)
        while self.write(lambda db: retention.prune_remains(db, self._boot_id)):
            pass
        while self.read(self._reserve.nearly_full) and self.write(self._prune_history):
            pass
        self.read(self._reserve.vacuum)
        self._drop_reporter.report()
        return self._reserve.disk_full

    def expect_history(self, uids: Iterable[str]) -> None:
        """Note that messages of these events have left the outbox: they may be history now."""
        with self._mutex:
            if self._delivered is not None:
                self._delivered |= {*uids}
                if len(self._delivered) > _MAX_DELIVERED:
                    self._delivered = None

    def _run(self, work: Work[_T]) -> _T:
        """Run ``work``, and again after each remedy for its failure."""
        tries: Counter[FaultKind] = Counter()
        while True:
            try:
                return work(self._file.connection())
            except sqlite3.Error as error:
                kind = classify(error)
                if not self._recover(error, tries[kind]):
                    raise
                tries[kind] += 1

    def _recover(self, error: sqlite3.Error, tries: int) -> bool:
        """Apply the remedy for ``error``, tried that often before; return ``False`` if none."""
        kind = classify(error)
        if kind is FaultKind.DISK_FULL:
            return tries < _MAX_TRIES and self._free_space(error, tries)
        if tries or kind is FaultKind.OTHER:
            return False
        if kind is FaultKind.CORRUPT:
            self._file.replace_corrupt(describe(error))
        else:
            _LOG.error("Store: I/O error: %s: reopening %s", describe(error), self._file.path)
            self._file.close()
        return True

    def _free_space(self, error: sqlite3.Error, tries: int) -> bool:
        db = self._file.connection()
        is_disk_full = not isinstance(error, NoSpaceError)
        if is_disk_full and not tries and not self._reserve.at_size_limit(db):
            self._reserve.consume(db)
            return True
        if is_disk_full or self._reserve.disk_full:
            return bool(run_in_transaction(db, self._prune_history))
        return self._prune_any(db)

    def _prune_any(self, db: sqlite3.Connection) -> bool:
        """Delete history, else what the largest holders have; return ``False`` without either."""
        if run_in_transaction(db, self._prune_history):
            return True
        dropped = run_in_transaction(db, eviction.evict)
        self._drop_reporter.add(dropped)
        return bool(dropped)

    def _prune_history(self, db: sqlite3.Connection) -> int:
        if self._delivered is None:
            pruned = retention.prune_history(db, self._boot_id)
        else:
            pruned = retention.prune_delivered(db, self._boot_id, self._delivered)
        if not pruned:
            self._delivered = set()
        return pruned

    def _shorten_log(self) -> None:
        # What was committed stays so, whatever happens here.
        try:
            self._reserve.truncate_log(self._file.connection())
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._recover(error, tries=0)
