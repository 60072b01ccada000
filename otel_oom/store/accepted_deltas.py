"""What a backend has accepted of the kills' counters, where it gets deltas."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from otel_oom.store import counters
from otel_oom.store.counters import EXPORTED, EXPORTED_TIME, KILLS, NO_BOOT
from otel_oom.store.database import Database


class AcceptedDeltas:
    """Accepted deltas in the store, of which a series has never more than kills."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def overflow_names(self) -> dict[str, str]:
        """Return the counter into which each series of an owner would be merged."""
        query = "SELECT label, overflow_label FROM series"
        rows = self._database.read(lambda db: db.execute(query).fetchall())
        return {KILLS + label: KILLS + overflow_label for label, overflow_label in rows}

    def add(self, deltas: Mapping[str, int], overflow: Mapping[str, str], now_unix_ns: int) -> None:
        """Add ``deltas`` that were accepted, until ``now_unix_ns``, to those before.

        If a series was merged during the request, its delta belongs to its overflow series.
        ``overflow`` is of :meth:`overflow_names`, from before the counters were read.
        """
        self._database.write(lambda db: _add(db, deltas, overflow, now_unix_ns))


def _add(
    db: sqlite3.Connection,
    deltas: Mapping[str, int],
    overflow: Mapping[str, str],
    now_unix_ns: int,
) -> None:
    values = counters.by_boot(db, NO_BOOT)
    for name, delta in deltas.items():
        is_merged = values.get(EXPORTED + name, 0) + delta > values.get(name, 0)
        target = overflow.get(name) if is_merged else name
        if target:
            counters.add(db, NO_BOOT, {EXPORTED + target: delta})
    counters.set_values(db, NO_BOOT, {EXPORTED_TIME: now_unix_ns})
