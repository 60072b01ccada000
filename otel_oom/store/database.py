"""One SQLite file, one connection, synced at every commit."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from otel_oom.store import schema

NAME: Final = "otel-oom.db"

_T = TypeVar("_T")


class Database:
    """The file and its connection; safe to use from several threads.

    One connection: versions of SQLite before 3.51.3 can corrupt the log when two reset it.
    """

    def __init__(self, path: Path) -> None:
        """Prepare to open ``path``."""
        self._path = path
        self._mutex = threading.Lock()

    def open(self) -> None:
        """Open the file, which is made if it is missing.

        Raises:
            OSError: it can't be made, or is a symbolic link.
            sqlite3.Error: it can't be used.
        """
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        self.connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        # In KiB; the default of 2,000 would be a fifteenth of the agent's memory.
        self.connection.execute("PRAGMA cache_size=-256")
        try:
            schema.prepare(self.connection)
        except sqlite3.Error:
            self.connection.close()
            raise

    def close(self) -> None:
        """Close the file."""
        with self._mutex:
            self.connection.close()

    def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What ``work`` reads."""
        with self._mutex:
            return work(self.connection)

    def write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What ``work`` returns, once what it wrote is on the disk: all of it, or nothing.

        Raises:
            sqlite3.Error: it is not on the disk.
        """
        with self._mutex:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                done = work(self.connection)
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
            return done
