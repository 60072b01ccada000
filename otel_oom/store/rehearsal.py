"""A rehearsal of storing a kill, of which nothing is kept."""

from __future__ import annotations

import sqlite3
from typing import Never

from otel_oom.model.events import OomKill
from otel_oom.model.snapshot import Snapshot
from otel_oom.store import event_log
from otel_oom.store.database import Database


class Rehearsal:
    """Work on the database that is rolled back."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, kill: OomKill, snapshot: Snapshot) -> bool:
        """Insert a kill, and roll back; return ``False`` if it could not be inserted."""

        def insert(db: sqlite3.Connection) -> Never:
            event_log.insert(db, kill, snapshot)
            raise _RehearsedError

        try:
            # Without ``adds``: a store at its size limit would drop events for the space.
            self._database.write(insert)
        except _RehearsedError:
            return True
        except sqlite3.Error:
            return False


class _RehearsedError(Exception):
    """The end of the work, so that its transaction is rolled back."""
