"""Rows in a fair order: one of each holder in turn, the oldest of a holder first.

So the backlog of one holder does not delay another's fresh kill.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

_MAX_CURSORS: Final = 64
"""Holders of which more than one row is yielded."""

Row = tuple[Any, ...]


def round_robin(
    db: sqlite3.Connection, columns: str, source: str, values: Sequence[Any], turn: str
) -> Iterator[Row]:
    """Yield rows of ``source``, beginning with the holder that follows ``turn``.

    ``source`` is SQL from the table on, with a condition, whose index must begin with the holder or
    have it next; ``values`` are its parameters. Each step seeks in that index, and reads one row.
    """
    query = f"SELECT {columns} FROM {source} AND holder = ? ORDER BY id"  # noqa: S608  SQL of our own
    cursors: deque[sqlite3.Cursor] = deque()
    for holder in _holders(db, source, values, turn):
        cursor = db.execute(query, (*values, holder))
        row = cursor.fetchone()
        if row is not None:
            yield row
            if len(cursors) < _MAX_CURSORS:
                cursors.append(cursor)
    while cursors:
        cursor = cursors.popleft()
        row = cursor.fetchone()
        if row is not None:
            yield row
            cursors.append(cursor)


def _holders(
    db: sqlite3.Connection, source: str, values: Sequence[Any], turn: str
) -> Iterator[str]:
    """Yield the holders of ``source`` once each, from behind ``turn`` on and around to it."""
    query = f"SELECT holder FROM {source} AND holder {{}} ? ORDER BY holder LIMIT 1"  # noqa: S608  likewise
    first = turn
    while row := db.execute(query.format(">"), (*values, first)).fetchone():
        first = row[0]
        yield first
    row = db.execute(query.format(">="), (*values, "")).fetchone()
    while row and row[0] <= turn:
        yield row[0]
        row = db.execute(query.format(">"), (*values, row[0])).fetchone()
