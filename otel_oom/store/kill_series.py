"""The series of ``oom.kills``: a limited number of owners, shared by the holders.

A holder may have as many series as are free, so one alone gets half of the limit, and another's
first kill has one. Beyond that, kills count in the overflow series of their outcome and limit. A
series without kills for a month is merged into its overflow series where others need it.

Functions over a connection; they must run within a transaction.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Final

from otel_oom.model.units import DAY_S, NS_PER_S
from otel_oom.store import counters
from otel_oom.store.counters import EXPORTED, KILLS, LAST_KILL, NO_BOOT
from otel_oom.store.holder import has_share
from otel_oom.store.types import KillCount, OutboxEntry

_DAY_NS: Final = DAY_S * NS_PER_S
_IDLE_DAYS: Final = 30


def count(db: sqlite3.Connection, entry: OutboxEntry, holder: str, limit: int) -> None:
    """Count an event of ``holder`` that was not counted before."""
    counters.add(db, NO_BOOT, entry.counts)
    if entry.kills:
        _add(db, entry.kills, holder, limit)


def _add(db: sqlite3.Connection, kills: KillCount, holder: str, limit: int) -> None:
    is_limited = bool(kills.overflow_label)
    is_admitted = not is_limited or _admit(db, kills, holder, limit)
    label = kills.label if is_admitted else kills.overflow_label
    counters.add(db, NO_BOOT, {KILLS + label: kills.count})
    if kills.last_unix_ns is not None:
        counters.raise_values(db, NO_BOOT, {LAST_KILL + label: kills.last_unix_ns})


def _admit(db: sqlite3.Connection, kills: KillCount, holder: str, limit: int) -> bool:
    """Return true for a series that exists, or that its holder may have."""
    day = (kills.last_unix_ns or 0) // _DAY_NS
    row = db.execute("SELECT last_day FROM series WHERE label = ?", (kills.label,)).fetchone()
    if row:
        if day > row[0]:
            db.execute("UPDATE series SET last_day = ? WHERE label = ?", (day, kills.label))
        return True
    if not has_share(db, "series", holder, limit) and not (
        _merge_idle(db) and has_share(db, "series", holder, limit)
    ):
        return False
    db.execute(
        "INSERT INTO series (label, overflow_label, holder, last_day) VALUES (?, ?, ?, ?)",
        (kills.label, kills.overflow_label, holder, day),
    )
    return True


def _merge_idle(db: sqlite3.Connection) -> bool:
    """Merge series without recent kills into their overflow series; return whether there was one.

    The sums stay, also those of the deltas.
    """
    idle = db.execute(
        "DELETE FROM series WHERE last_day < ? RETURNING label, overflow_label",
        (time.time_ns() // _DAY_NS - _IDLE_DAYS,),
    ).fetchall()
    for label, overflow_label in idle:
        for prefix in (KILLS, EXPORTED + KILLS):
            value = counters.take(db, NO_BOOT, prefix + label)
            if value is not None:
                counters.add(db, NO_BOOT, {prefix + overflow_label: value})
        last_unix_ns = counters.take(db, NO_BOOT, LAST_KILL + label)
        if last_unix_ns is not None:
            counters.raise_values(db, NO_BOOT, {LAST_KILL + overflow_label: last_unix_ns})
    return bool(idle)
