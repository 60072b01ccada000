"""Counts that outlive the process and the rows that they were of: what the health metrics tell.

A counter belongs to a boot, or to none (:data:`NO_BOOT`). Those of the store's own are counted in
the transaction that they count, so that a crash makes them neither more nor less.

Functions over a connection; those that write are to be called within a transaction.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from typing import Final

NO_BOOT: Final = ""

CAPTURED: Final = "captured."
"""With the journal's kind behind it, of the event's boot: ``captured.kill`` and so on."""

CAPTURED_KILL: Final = "captured.kill"
"""Kills that the kernel counts as well."""

CAPTURED_EXITING: Final = "captured.already_exiting"
"""Victims that were exiting already, which the kernel does not count."""

DOUBLE_COUNTED: Final = "kernel.double_counted"
"""How often the kernel counted the first of a group a second time, of its boot."""

MISSED: Final = "kernel.missed"
"""Kills that the kernel counted and that were told as missed, of their boot."""

LOG_SEQUENCE: Final = "kernel.log_sequence"
"""The line of the kernel's log up to which a boot is settled."""

LOG_START: Final = "kernel.log_start"
"""The line of the kernel's log up to which nothing of a boot is ever told, if there is such."""

SENT: Final = "sent."
"""With the signal behind it, of no boot: messages that a backend took."""

REJECTED: Final = "rejected."
"""With the signal behind it, of no boot: messages that a backend will never take."""

DROPPED: Final = "dropped."
"""With the signal behind it, or ``dead_letters``, of no boot: what the bound in bytes let go of,
messages that no backend will get."""

UNDECODABLE: Final = "undecodable"
"""Of no boot: journal rows that were set aside because they could not be read or encoded."""

KILLS: Final = "kills."
"""With the attributes behind it, of no boot: kills that were told, for ``oom.kills``."""

KILLS_START_TIME: Final = "start_time.kills"
"""When that count began, in nanoseconds of Unix time; of :data:`SINCE`, for it is no number of
anything."""

START_TIME: Final = "start_time"
"""What takes a boot's place for times."""


def add(db: sqlite3.Connection, boot_id: str, counts: Mapping[str, int]) -> None:
    """Raise counters by so much each."""
    db.executemany(
        "INSERT INTO counters (boot_id, name, value) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET value = value + excluded.value",
        [(boot_id, name, count) for name, count in counts.items()],
    )


def set_start_time(db: sqlite3.Connection) -> None:
    """Say that the count of kills begins now, unless it has begun."""
    db.execute(
        "INSERT OR IGNORE INTO counters (boot_id, name, value) VALUES (?, ?, ?)",
        (START_TIME, KILLS_START_TIME, time.time_ns()),
    )


def set_values(db: sqlite3.Connection, boot_id: str, values: Mapping[str, int]) -> None:
    """Set counters: for what counts elsewhere and was last seen at such a value."""
    db.executemany(
        "INSERT OR REPLACE INTO counters (boot_id, name, value) VALUES (?, ?, ?)",
        [(boot_id, name, value) for name, value in values.items()],
    )


def by_boot(db: sqlite3.Connection, boot_id: str) -> dict[str, int]:
    """The counters of a boot, by name."""
    return dict(db.execute("SELECT name, value FROM counters WHERE boot_id = ?", (boot_id,)))


def totals(db: sqlite3.Connection) -> dict[str, int]:
    """The counters of all boots together, by name."""
    return dict(db.execute("SELECT name, sum(value) FROM counters GROUP BY name"))
