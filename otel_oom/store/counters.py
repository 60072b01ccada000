"""Counters that outlive the process and the rows that they counted.

A counter belongs to a boot or to none (:data:`NO_BOOT`). The store raises its own in the
transaction that they count, so that a crash makes them neither more nor less.

Functions over a connection; those that write must run within a transaction.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from typing import Final

NO_BOOT: Final = ""

START_TIME: Final = "start_time"
"""Takes the place of a boot for times."""

CAPTURED: Final = "captured."
"""Followed by an event's kind, of its boot: ``captured.kill`` and so on."""

CAPTURED_KILL: Final = "captured.kill"
"""Kills that the kernel counts as well."""

CAPTURED_EXITING: Final = "captured.already_exiting"
"""Victims that were exiting already, which the kernel does not count."""

DOUBLE_COUNTED: Final = "kernel.double_counted"
"""First kills of a group that the kernel counted twice, of their boot."""

MISSED: Final = "kernel.missed"
"""Kills that the kernel counted and that were reported as missed, of their boot."""

LOG_SEQUENCE: Final = "kernel.log_sequence"
"""The line of the kernel's log up to which a boot is reconciled."""

LOG_START: Final = "kernel.log_start"
"""The line of the kernel's log up to which kills of a boot are ignored, if any."""

SENT: Final = "sent."
"""Followed by the channel, of no boot: messages that a backend accepted."""

REJECTED: Final = "rejected."
"""Followed by the channel, of no boot: messages that a backend rejected."""

DROPPED: Final = "dropped."
"""Followed by the signal or ``dead_letters``, of no boot: dropped at the size limit."""

EXCLUDED: Final = "excluded."
"""Followed by a variable or a processor, of no boot: events that it excluded from being sent."""

UNDECODABLE: Final = "undecodable"
"""Of no boot: events that were quarantined because they could not be decoded or encoded."""

KILLS: Final = "kills."
"""Followed by the attributes, of no boot: the metric ``oom.kills``."""

LAST_KILL: Final = "last_kill."
"""Likewise: the time of the last of those kills, in nanoseconds of Unix time."""

VICTIM_MEMORY: Final = "victim_memory."
"""Followed by ``sum.`` or the index of a bucket, and attributes: ``oom.victim.memory``."""

EXPORTED: Final = "exported."
"""Followed by the name of a counter: its value that a backend has accepted as deltas."""

KILLS_DROPPED: Final = f'{KILLS}{{"oom.outcome": "dropped"}}'
"""Kills that were dropped before their log was encoded, with the attributes of others."""

KILLS_START_TIME: Final = "start_time.kills"
"""When that count started, in nanoseconds of Unix time; of :data:`START_TIME`."""

EXPORTED_TIME: Final = EXPORTED + KILLS_START_TIME
"""The end of the last deltas that a backend has accepted, of no boot."""


def add(db: sqlite3.Connection, boot_id: str, counts: Mapping[str, int]) -> None:
    """Add ``counts`` to counters of a boot."""
    db.executemany(
        "INSERT INTO counters (boot_id, name, value) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET value = value + excluded.value",
        [(boot_id, name, count) for name, count in counts.items()],
    )


def raise_values(db: sqlite3.Connection, boot_id: str, values: Mapping[str, int]) -> None:
    """Raise counters of a boot to ``values``; those that are higher stay."""
    db.executemany(
        "INSERT INTO counters (boot_id, name, value) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET value = max(value, excluded.value)",
        [(boot_id, name, value) for name, value in values.items()],
    )


def take(db: sqlite3.Connection, boot_id: str, name: str) -> int | None:
    """Delete a counter of a boot, and return its value; ``None`` if there is none."""
    row = db.execute(
        "DELETE FROM counters WHERE boot_id = ? AND name = ? RETURNING value", (boot_id, name)
    ).fetchone()
    return None if row is None else int(row[0])


def set_values(db: sqlite3.Connection, boot_id: str, values: Mapping[str, int]) -> None:
    """Set counters of a boot to ``values``."""
    db.executemany(
        "INSERT OR REPLACE INTO counters (boot_id, name, value) VALUES (?, ?, ?)",
        [(boot_id, name, value) for name, value in values.items()],
    )


def set_start_time(db: sqlite3.Connection) -> None:
    """Let the count of kills start now, unless it has started."""
    db.execute(
        "INSERT OR IGNORE INTO counters (boot_id, name, value) VALUES (?, ?, ?)",
        (START_TIME, KILLS_START_TIME, time.time_ns()),
    )


def by_boot(db: sqlite3.Connection, boot_id: str) -> dict[str, int]:
    """Return the counters of a boot, by name."""
    return dict(db.execute("SELECT name, value FROM counters WHERE boot_id = ?", (boot_id,)))
