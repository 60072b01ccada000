"""What kind of trouble an error of SQLite's is: each kind has its own remedy.

The codes are those of https://sqlite.org/rescode.html; the low byte of an extended one is its
primary one.
"""

from __future__ import annotations

import errno
import sqlite3
from enum import Enum, auto
from typing import Final


class NoRoom(sqlite3.OperationalError):
    """What little room is left is for what makes room."""


class Damaged(sqlite3.DatabaseError):
    """The file is a database, and not a sound one."""


class Trouble(Enum):
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
    sqlite3.SQLITE_FULL: Trouble.FULL,
    sqlite3.SQLITE_CORRUPT: Trouble.DAMAGED,
    sqlite3.SQLITE_NOTADB: Trouble.DAMAGED,
    sqlite3.SQLITE_IOERR: Trouble.BROKEN,
    sqlite3.SQLITE_CANTOPEN: Trouble.BROKEN,
    sqlite3.SQLITE_READONLY: Trouble.BROKEN,
}

_UNREADABLE: Final = frozenset(
    {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}
)

NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def kind(error: sqlite3.Error) -> Trouble:
    """The kind of ``error``; the module's own errors, which have no code, are none of SQLite's."""
    if isinstance(error, NoRoom):
        return Trouble.FULL
    if isinstance(error, Damaged):
        return Trouble.DAMAGED
    return _KINDS.get(_code(error) & 0xFF, Trouble.OTHER)


def unreadable(error: sqlite3.Error) -> bool:
    """Whether a file that was just opened will not be read the next time either."""
    return kind(error) is Trouble.DAMAGED or _code(error) in _UNREADABLE


def named(error: sqlite3.Error) -> str:
    """The error as text, with SQLite's own name for it: many share one sentence."""
    name = getattr(error, "sqlite_errorname", None)
    return f"{error} ({name})" if name else str(error)


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0)
