"""Kills of one victim that follow each other: a limited number, shared by the holders.

Functions over a connection; those that write must run within a transaction.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Final

from otel_oom.model.units import NS_PER_S
from otel_oom.store.holder import has_share
from otel_oom.store.types import Repeat

QUIET_NS: Final = 36 * 3600 * NS_PER_S
"""Kills with more time between them are not repeats; those of a job that runs daily are."""

MAX_REPEATS: Final = 4096


def find(db: sqlite3.Connection, key: str) -> Repeat | None:
    """Return the last kill of the victim named ``key``."""
    row = db.execute(
        "SELECT victim, count, first_unix_ns, last_unix_ns, incidents FROM repeats"
        " WHERE victim = ?",
        (key,),
    ).fetchone()
    if row is None:
        return None
    name, count, first_unix_ns, last_unix_ns, incidents = row
    return Repeat(name, count, first_unix_ns, last_unix_ns, tuple(incidents.split()))


def save(db: sqlite3.Connection, repeat: Repeat, holder: str, limit: int = MAX_REPEATS) -> None:
    """Store the last kill of a victim of ``holder``.

    A holder may have as many victims as are free, so one alone gets half of the limit. Beyond that
    each new one replaces its oldest, or that of all where it has none.
    """
    if find(db, repeat.key) is None and not has_share(db, "repeats", holder, limit):
        quiet_since_ns = time.time_ns() - QUIET_NS
        db.execute("DELETE FROM repeats WHERE last_unix_ns < ?", (quiet_since_ns,))
        if not has_share(db, "repeats", holder, limit):
            _delete_oldest(db, holder)
    db.execute(
        "INSERT OR REPLACE INTO repeats"
        " (victim, holder, count, first_unix_ns, last_unix_ns, incidents)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            *(repeat.key, holder, repeat.count),
            *(repeat.first_unix_ns, repeat.last_unix_ns, " ".join(repeat.incidents)),
        ),
    )


def _delete_oldest(db: sqlite3.Connection, holder: str) -> None:
    for condition in ("holder = ?", "?1 IS NOT NULL"):
        oldest = f"SELECT victim FROM repeats WHERE {condition} ORDER BY last_unix_ns LIMIT 1"  # noqa: S608  SQL of our own
        if db.execute(f"DELETE FROM repeats WHERE victim = ({oldest})", (holder,)).rowcount:  # noqa: S608  likewise
            return
