"""Drops by holder, until an event reports them.

A drop is added in the transaction that drops, so a crash makes the counts neither more nor less.
The events are few: one for each holder of this table, and none before the last ones have left.

Functions over a connection; those that write must run within a transaction.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from typing import Final

from otel_oom.linux import clock
from otel_oom.linux.cgroup_holder import UNKNOWN
from otel_oom.model.loss import DroppedEvents
from otel_oom.model.snapshot import EventContainers, Snapshot
from otel_oom.store import event_log
from otel_oom.store.holder import DROPPED
from otel_oom.store.types import decode

_MAX_HOLDERS: Final = 64
"""Drops of further ones count to :data:`UNKNOWN`."""
_MAX_CONTAINERS_BYTES: Final = 4096


def add(db: sqlite3.Connection, holder: str, name: str, containers: bytes | None = None) -> None:
    """Add one of the ``events``, ``reports`` or ``dead_letters`` of a holder, by ``name``.

    ``containers`` is the JSON of the event's containers.
    """
    is_known = "SELECT count(*) < ?2 OR sum(holder = ?1) FROM drops"
    if not db.execute(is_known, (holder, _MAX_HOLDERS)).fetchone()[0]:
        holder, containers = UNKNOWN, None
    if containers and len(containers) > _MAX_CONTAINERS_BYTES:
        containers = None
    db.execute(
        f"INSERT INTO drops (holder, {name}, first_unix_ns, containers)"  # noqa: S608  a name of our own
        f" VALUES (?, 1, ?, ?) ON CONFLICT (holder) DO UPDATE SET {name} = {name} + 1,"
        " containers = coalesce(excluded.containers, containers)",
        (holder, time.time_ns(), containers),
    )


def is_report_due(db: sqlite3.Connection) -> bool:
    """Return whether there are drops to report, and no earlier report is undelivered."""
    return bool(
        db.execute(
            "SELECT EXISTS (SELECT 1 FROM drops)"  # noqa: S608  SQL of our own
            f" AND NOT EXISTS (SELECT 1 FROM events WHERE holder = ?1 AND {event_log.PENDING})"
            " AND NOT EXISTS (SELECT 1 FROM outbox WHERE signal = 'logs' AND holder = ?1)",
            (DROPPED,),
        ).fetchone()[0]
    )


def report(db: sqlite3.Connection, boot_id: str) -> None:
    """Store an event for each holder in place of its drops."""
    boottime_ns = clock.boottime_ns()
    for holder, events, reports, dead_letters, first_unix_ns, containers in db.execute(
        "DELETE FROM drops RETURNING"
        " holder, events, reports, dead_letters, first_unix_ns, containers"
    ).fetchall():
        dropped = DroppedEvents(
            boot_id=boot_id,
            boottime_ns=boottime_ns,
            time_unix_ns=boottime_ns + clock.boot_to_unix_offset_ns(),
            holder=holder,
            count=events,
            report_count=reports,
            dead_letter_count=dead_letters,
            start_unix_ns=first_unix_ns,
        )
        event_log.insert(db, dropped, Snapshot(process_found=False, containers=_decode(containers)))


def _decode(containers: bytes | None) -> EventContainers | None:
    with suppress(ValueError, RecursionError):
        return decode(EventContainers, containers) if containers else None
    return None
