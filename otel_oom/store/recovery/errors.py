"""Kinds of SQLite errors, each with its own remedy.

The codes are those of https://sqlite.org/rescode.html; the low byte of an extended one is its
primary one.
"""

from __future__ import annotations

import errno
import sqlite3
from enum import Enum, auto
from typing import Final


class NoSpaceError(sqlite3.OperationalError):
    """The remaining space is reserved for what makes space."""


class CorruptRowError(sqlite3.DatabaseError):
    """The file is a database with corrupt contents."""


class FaultKind(Enum):
    """A kind of error."""

    DISK_FULL = auto()
    """The disk is full, or the database is at its size limit."""
    CORRUPT = auto()
    """The file is no database, or a damaged one."""
    IO_ERROR = auto()
    """The file can't be read, written, synced or opened: its state on the disk is unknown."""
    OTHER = auto()
    """No remedy here."""


_KINDS: Final = {
    sqlite3.SQLITE_FULL: FaultKind.DISK_FULL,
    sqlite3.SQLITE_CORRUPT: FaultKind.CORRUPT,
    sqlite3.SQLITE_NOTADB: FaultKind.CORRUPT,
    sqlite3.SQLITE_IOERR: FaultKind.IO_ERROR,
    sqlite3.SQLITE_CANTOPEN: FaultKind.IO_ERROR,
    sqlite3.SQLITE_READONLY: FaultKind.IO_ERROR,
}

_UNREADABLE: Final = frozenset(
    {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}
)

NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def classify(error: sqlite3.Error) -> FaultKind:
    """Return the kind of ``error``."""
    # Errors of this module have no code of SQLite.
    if isinstance(error, NoSpaceError):
        return FaultKind.DISK_FULL
    if isinstance(error, CorruptRowError):
        return FaultKind.CORRUPT
    return _KINDS.get(_code(error) & 0xFF, FaultKind.OTHER)


def is_unreadable(error: sqlite3.Error) -> bool:
    """Return whether a file that was just opened will stay unreadable."""
    return classify(error) is FaultKind.CORRUPT or _code(error) in _UNREADABLE


def describe(error: sqlite3.Error) -> str:
    """Return the error as text, with SQLite's name for it: many share one sentence."""
    name = getattr(error, "sqlite_errorname", None)
    return f"{error} ({name})" if name else str(error)


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0)
