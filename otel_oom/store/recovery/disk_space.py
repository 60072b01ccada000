"""Room on the disk: what is kept for letting go, and who may use it when nothing else is left.

On a full disk SQLite can't even delete: a deletion is first written to the log, and the log can
only begin anew when all of it is in the file, which then may have to grow. So the log's own space
is allocated at the opening, and a ballast holds what the file may have to grow by. Once the
ballast has been given back, events may fill the pages that the file has, but for some that are
kept for the outbox: it is the outbox through which events leave.
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
"""What the log has: twice of what lets a checkpoint begin, for one transaction to end in."""
_LOG_PAGES: Final = 256

BALLAST_BYTES: Final = 5 << 20
"""The file grows by at most what the log and the outbox hold; the rest is for an opening."""

_OUTBOX_PAGES: Final = 512
_EVENT_PAGES: Final = 16
"""More than an event, its indices and its counter can take."""
_FREE_PAGES: Final = 1024
"""So many free ones may stay in the file for what comes next."""
_SHRINK_PAGES: Final = 512
"""At a time: what they are moved with has to fit into the log."""

_RETAKE_S: Final = 1.0


class DiskReserve:
    """The ballast, and the limits that hold with and without it."""

    def __init__(self, database: Path, max_bytes: int) -> None:
        """For a ``database`` that may take ``max_bytes``, log and ballast included."""
        self._folder = database.parent
        self._log = database.with_name(f"{database.name}-wal")
        self._reserve_file = ReserveFile(self._folder / "ballast", BALLAST_BYTES)
        self._file_bytes = max_bytes - LOG_BYTES - BALLAST_BYTES
        self._full = False
        self._ceiling = 0
        self._tried = 0.0

    @property
    def disk_full(self) -> bool:
        """Whether the disk is, and the ballast spent."""
        return self._full

    def on_open(self, db: sqlite3.Connection) -> None:
        """Allocate ahead, for a connection that is new."""
        db.execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
        if not allocate_file(self._log, LOG_BYTES):
            self.release()
            any(allocate_file(self._log, LOG_BYTES // part) for part in (1, 2, 4))
        if self._reserve_file.take():
            self._allow_growth(db)
        else:
            self._forbid_growth(db, by=0)

    def on_close(self) -> None:
        """Keep what the log has just let go of, for the next opening to have it."""
        self._reserve_file.take_some(LOG_BYTES)

    def release(self) -> bool:
        """Let the ballast go; ``False`` when there was none."""
        return self._reserve_file.give_back()

    def consume(self, db: sqlite3.Connection) -> None:
        """Use the ballast to bring the log into the file, so that the log can begin anew.

        Raises:
            sqlite3.Error: it was not enough: somebody else was faster.
        """
        self.release()
        try:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            if not self._full:
                self._forbid_growth(db, by=_OUTBOX_PAGES)

    def reacquire(self, db: sqlite3.Connection) -> None:
        """Take the ballast back, if there is room again; looks only now and then."""
        if not self._full or time.monotonic() < self._tried + _RETAKE_S:
            return
        self._tried = time.monotonic()
        if allocate_file(self._log, LOG_BYTES) and self._reserve_file.take():
            _LOG.info("The disk of %s has room again", self._folder)
            self._allow_growth(db)

    def require_event_space(self, db: sqlite3.Connection) -> None:
        """See that an event leaves the room that is kept for what goes out.

        Raises:
            NoRoom: it would not.
        """
        if used_pages(db) + _EVENT_PAGES > self._ceiling:
            raise NoSpaceError("no room but what is kept for sending")

    def at_size_limit(self, db: sqlite3.Connection) -> bool:
        """Whether it is the bound that stands in the way of one more transaction."""
        return used_pages(db) + _OUTBOX_PAGES > self._size_limit_pages(db)

    def exceeds_size_limit(self, db: sqlite3.Connection) -> bool:
        """Whether the file holds more than its bound allows, which then has been lowered."""
        return not self._full and used_pages(db) + _EVENT_PAGES > self._ceiling

    def nearly_full(self, db: sqlite3.Connection) -> bool:
        """Whether history should go before an event has to wait for that."""
        return used_pages(db) > self._ceiling - self._ceiling // 8

    def truncate_log(self, db: sqlite3.Connection) -> None:
        """Bring the log back to its size, when a large transaction has made it longer.

        Raises:
            sqlite3.Error: what is in the log can't be brought into the file.
        """
        if not self._full and file_size(self._log) > LOG_BYTES:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            allocate_file(self._log, LOG_BYTES)

    def vacuum(self, db: sqlite3.Connection) -> None:
        """Give some free pages back to the disk, when there are many.

        Raises:
            sqlite3.Error: it can't be done.
        """
        free = _number(db, "freelist_count")
        if free > max(_FREE_PAGES, used_pages(db)) or used_pages(
            db
        ) + free > self._size_limit_pages(db):
            # A script, for that is carried on to its end; execute() stops after one page.
            db.executescript(f"PRAGMA incremental_vacuum({min(free, _SHRINK_PAGES)})")
        if not self._full:
            self._allow_growth(db)

    def _size_limit_pages(self, db: sqlite3.Connection) -> int:
        """How many pages the file may have by its bound."""
        return self._file_bytes // _number(db, "page_size")

    def _allow_growth(self, db: sqlite3.Connection) -> None:
        self._full = False
        self._set_page_limit(db, self._size_limit_pages(db))

    def _forbid_growth(self, db: sqlite3.Connection, *, by: int) -> None:
        """Bound the file to what it has, and to what the ballast has made room for."""
        _LOG.error(
            "The disk of %s is full: what is stored stays, and kills are stored as long as the "
            "file that is there has room",
            self._folder,
        )
        self._full = True
        self._set_page_limit(db, min(self._size_limit_pages(db), _number(db, "page_count") + by))

    def _set_page_limit(self, db: sqlite3.Connection, pages: int) -> None:
        # It never becomes less than what the file has: SQLite sees to that.
        db.execute(f"PRAGMA max_page_count={pages}")
        self._ceiling = pages - _OUTBOX_PAGES


def used_pages(db: sqlite3.Connection) -> int:
    """The pages of the file that hold something."""
    return _number(db, "page_count") - _number(db, "freelist_count")


def _number(db: sqlite3.Connection, pragma: str) -> int:
    return int(db.execute(f"PRAGMA {pragma}").fetchone()[0])
