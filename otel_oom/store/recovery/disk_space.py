"""Disk space reserved for deletions, and who may use it when the disk is full.

On a full disk SQLite can't even delete: a deletion is first written to the write-ahead log. That
log can only restart once all of it is in the file, which may have to grow for that. So the log's
own space is allocated at the start, and a reserve file (a ballast) holds what the file may have to
grow by. Once the reserve is released, events may fill the pages that the file has, except some that
are reserved for the outbox: it is the outbox through which events leave.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from pathlib import Path
from typing import Final

from otel_oom.store.recovery.errors import NoSpaceError
from otel_oom.store.recovery.reserve_file import ReserveFile, allocate_file, file_size

_LOG = logging.getLogger(__name__)

LOG_BYTES: Final = 2 << 20
"""Space of the write-ahead log: twice the size that starts a checkpoint, for one transaction."""
_CHECKPOINT_PAGES: Final = 256
_EARLY_CHECKPOINT_PAGES: Final = 128
"""Some kills' pages less: a checkpoint syncs both files, which takes milliseconds."""

RESERVE_BYTES: Final = 5 << 20
"""The file grows by at most what log and outbox hold; the rest is for opening it."""

_OUTBOX_PAGES: Final = 512
_EVENT_PAGES: Final = 16
"""More than an event, its indices and its counter take."""
_MAX_FREE_PAGES: Final = 1024
"""Free pages that may stay in the file for later."""
_VACUUM_PAGES: Final = 512
"""Pages released at a time: moving them must fit into the log."""

_REACQUIRE_S: Final = 1.0


class DiskReserve:
    """The reserve file, and the page limits with and without it.

    Each method of a connection raises sqlite3.Error if that fails.
    """

    def __init__(self, database: Path, max_bytes: int) -> None:
        """Reserve for ``database``, which may take ``max_bytes`` with log and reserve."""
        self._folder = database.parent
        self._log = database.with_name(f"{database.name}-wal")
        self._reserve_file = ReserveFile(self._folder / "reserve", RESERVE_BYTES)
        self.max_file_bytes = max_bytes - LOG_BYTES - RESERVE_BYTES
        self.disk_full = False
        """True if the disk is full and the reserve is used."""
        self._event_page_limit = 0
        self._reacquire_tried = 0.0

    def on_open(self, db: sqlite3.Connection) -> None:
        """Allocate ahead for a new connection."""
        if not allocate_file(self._log, LOG_BYTES):
            self.release()
            any(allocate_file(self._log, LOG_BYTES // part) for part in (1, 2, 4))
        if self._reserve_file.allocate():
            self._allow_growth(db)
        else:
            self._forbid_growth(db, by=0)

    def schedule_checkpoint(self, db: sqlite3.Connection, *, early: bool) -> None:
        """Set the size of the log from which the next commit writes it into the file.

        ``early``: that of a commit for which no kill waits.
        """
        pages = _EARLY_CHECKPOINT_PAGES if early else _CHECKPOINT_PAGES
        db.execute(f"PRAGMA wal_autocheckpoint={pages}")

    def on_close(self) -> None:
        """Keep the space of the log, which was just deleted, for the next start."""
        self._reserve_file.allocate_part(LOG_BYTES)

    def release(self) -> bool:
        """Release the reserve; return ``False`` if there was none."""
        return self._reserve_file.release()

    def consume(self, db: sqlite3.Connection) -> None:
        """Use the reserve to write the log into the file, so that the log can restart."""
        self.release()
        try:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            if not self.disk_full:
                self._forbid_growth(db, by=_OUTBOX_PAGES)

    def reacquire(self, db: sqlite3.Connection) -> None:
        """Allocate the reserve again, if the disk has space; tried once a second at most."""
        if not self.disk_full or time.monotonic() < self._reacquire_tried + _REACQUIRE_S:
            return
        self._reacquire_tried = time.monotonic()
        if allocate_file(self._log, LOG_BYTES) and self._reserve_file.allocate():
            _LOG.info("Store: disk of %s has space again", self._folder)
            self._allow_growth(db)

    def require_event_space(self, db: sqlite3.Connection) -> None:
        """Raise NoSpaceError if an event would take the space that is reserved for deletions."""
        if used_pages(db) + _EVENT_PAGES > self._event_page_limit:
            raise NoSpaceError("no space left except what is reserved for sending")

    def at_size_limit(self, db: sqlite3.Connection) -> bool:
        """Return whether the size limit, not the disk, prevents one more transaction."""
        return used_pages(db) + _OUTBOX_PAGES > self._size_limit_pages(db)

    def exceeds_size_limit(self, db: sqlite3.Connection) -> bool:
        """Return whether the file is larger than its limit, which was lowered since."""
        return not self.disk_full and used_pages(db) + _EVENT_PAGES > self._event_page_limit

    def nearly_full(self, db: sqlite3.Connection) -> bool:
        """Return whether history must be pruned before an event has to wait for that."""
        return used_pages(db) > self._event_page_limit - self._event_page_limit // 8

    def truncate_log(self, db: sqlite3.Connection) -> None:
        """Shorten the log to its size, after a large transaction has extended it."""
        if not self.disk_full and file_size(self._log) > LOG_BYTES:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            allocate_file(self._log, LOG_BYTES)

    def vacuum(self, db: sqlite3.Connection) -> None:
        """Release some free pages to the disk, if there are many."""
        free, used = _read_number(db, "freelist_count"), used_pages(db)
        if free > max(_MAX_FREE_PAGES, used) or used + free > self._size_limit_pages(db):
            # A script runs to its end; execute() stops after one page.
            db.executescript(f"PRAGMA incremental_vacuum({min(free, _VACUUM_PAGES)})")
        if not self.disk_full:
            self._allow_growth(db)

    def _size_limit_pages(self, db: sqlite3.Connection) -> int:
        return self.max_file_bytes // _read_number(db, "page_size")

    def _allow_growth(self, db: sqlite3.Connection) -> None:
        self.disk_full = False
        self._set_page_limit(db, self._size_limit_pages(db))

    def _forbid_growth(self, db: sqlite3.Connection, *, by: int) -> None:
        """Limit the file to its pages, and to those that the reserve has made space for."""
        _LOG.error(
            "Store: disk full: %s: stored events are kept; new ones need free pages of the file",
            self._folder,
        )
        self.disk_full = True
        self._set_page_limit(
            db, min(self._size_limit_pages(db), _read_number(db, "page_count") + by)
        )

    def _set_page_limit(self, db: sqlite3.Connection, pages: int) -> None:
        # SQLite never lowers it below the pages of the file.
        db.execute(f"PRAGMA max_page_count={pages}")
        self._event_page_limit = pages - _OUTBOX_PAGES


def used_pages(db: sqlite3.Connection) -> int:
    """Return the number of pages of the file that hold data."""
    return _read_number(db, "page_count") - _read_number(db, "freelist_count")


def _read_number(db: sqlite3.Connection, pragma: str) -> int:
    return int(db.execute(f"PRAGMA {pragma}").fetchone()[0])
