"""What kind of trouble an error of SQLite's is: each kind has its own remedy.

The codes are those of https://sqlite.org/rescode.html; the low byte of an extended one is its
primary one.
"""

from __future__ import annotations

import errno
import sqlite3
from enum import Enum, auto
from typing import Final


class NoSpaceError(sqlite3.OperationalError):
    """What little room is left is for what makes room."""


class CorruptRowError(sqlite3.DatabaseError):
    """The file is a database, and not a sound one."""


class FaultKind(Enum):
    """A kind of error."""

    FULL = auto()
    """The disk, or the bound of the database."""
    DAMAGED = auto()
    """What is in the file is no database, or no whole one."""
    BROKEN = auto()
    """The file can't be read, written, synced or found: what it holds now is not known."""
    OTHER = auto()
    """Nothing that could be mended here."""


_KINDS: Final = {
    sqlite3.SQLITE_FULL: FaultKind.FULL,
    sqlite3.SQLITE_CORRUPT: FaultKind.DAMAGED,
    sqlite3.SQLITE_NOTADB: FaultKind.DAMAGED,
    sqlite3.SQLITE_IOERR: FaultKind.BROKEN,
    sqlite3.SQLITE_CANTOPEN: FaultKind.BROKEN,
    sqlite3.SQLITE_READONLY: FaultKind.BROKEN,
}

_UNREADABLE: Final = frozenset(
    {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}
)

NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def classify(error: sqlite3.Error) -> FaultKind:
    """The kind of ``error``; the module's own errors, which have no code, are none of SQLite's."""
    if isinstance(error, NoSpaceError):
        return FaultKind.FULL
    if isinstance(error, CorruptRowError):
        return FaultKind.DAMAGED
    return _KINDS.get(_code(error) & 0xFF, FaultKind.OTHER)


def is_unreadable(error: sqlite3.Error) -> bool:
    """Whether a file that was just opened will not be read the next time either."""
    return classify(error) is FaultKind.DAMAGED or _code(error) in _UNREADABLE


def describe(error: sqlite3.Error) -> str:
    """The error as text, with SQLite's own name for it: many share one sentence."""
    name = getattr(error, "sqlite_errorname", None)
    return f"{error} ({name})" if name else str(error)


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0)
