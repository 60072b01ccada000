"""Stored events as far as they identify what is read again: from the kernel's log, from old logs.

Functions over a connection.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress

from otel_oom.model.events import NoVictim, OomKill, Panic
from otel_oom.store.codec import decode_event
from otel_oom.store.types import StoredKill


def newest_kills(db: sqlite3.Connection, boot_id: str, limit: int) -> list[StoredKill]:
    """Return the newest kills of a boot."""
    rows = db.execute(
        "SELECT tgid, json_extract(event, '$.victim.tid'),"
        " CAST(json_extract(event, '$.victim.comm') AS BLOB), boottime_ns,"
        " iif(json_extract(event, '$.capture.cpu') IS NULL,"
        " json_extract(event, '$.capture.sequence'), NULL)"
        # Of a row with damaged JSON the columns are enough, if their types are right.
        " FROM (SELECT id, tgid, boottime_ns, iif(json_valid(event), event, '{}') AS event"
        " FROM events WHERE boot_id = ? AND kind = 'kill'"
        " AND typeof(tgid) = 'integer' AND typeof(boottime_ns) = 'integer'"
        " ORDER BY id DESC LIMIT ?)",
        (boot_id, limit),
    )
    return [
        StoredKill(
            tgid, tid, comm.decode("utf-8", "replace") if comm else None, boottime_ns, log_sequence
        )
        for tgid, tid, comm, boottime_ns, log_sequence in rows
    ]


def replayed_events(
    db: sqlite3.Connection, after: int, limit: int
) -> tuple[list[OomKill | NoVictim | Panic], int | None]:
    """Return some events of old logs past the id ``after``, and the id to continue from.

    Rows that can't be decoded, and pruned ones, are left out.
    """
    events: list[OomKill | NoVictim | Panic] = []
    last: int | None = None
    for id_, kind, text in db.execute(
        "SELECT id, kind, CAST(event AS BLOB) FROM events"
        " WHERE id > ? AND kind IN ('kill', 'no_victim', 'panic') ORDER BY id LIMIT ?",
        (after, limit),
    ):
        last = int(id_)
        with suppress(ValueError, TypeError, RecursionError):
            event = decode_event(kind, text)
            if isinstance(event, OomKill | NoVictim | Panic) and event.provenance:
                events.append(event)
    return events, last
