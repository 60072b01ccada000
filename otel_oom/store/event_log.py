"""The journal: one row an event, with what is known of its end, until both its signals are told.

Functions over a connection; those that write are to be called within a transaction.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from otel_oom.model.events import (
    MissedKills,
    NoVictim,
    OomKill,
    Panic,
    ReaperStep,
    StoredEvent,
    UserspaceKill,
    VictimExit,
)
from otel_oom.model.snapshot import Snapshot
from otel_oom.store import counters
from otel_oom.store.codec import decode, decode_event, encode
from otel_oom.store.recovery import checksums
from otel_oom.store.recovery.errors import CorruptRowError
from otel_oom.store.types import OutboxEntry, PendingEvent, StoredKill

_VICTIM: Final = (
    "(SELECT id FROM events WHERE boot_id = ?2 AND tgid = ?3"
    " AND (start_boottime_ns IS NULL OR start_boottime_ns = ?4)"
    " ORDER BY start_boottime_ns IS NULL, id DESC LIMIT 1)"
)
"""The kill of that process. Where no start was told, the last one of its id: earlier ones are of
processes that are gone."""

_MOST_STEPS: Final = 16
"""The reaper tries a victim again and again; what counts is the first and the last of it."""


def insert(db: sqlite3.Connection, event: StoredEvent, snapshot: Snapshot) -> bool:
    """Add an event; ``False`` when it was there already.

    A process dies once: marked again, by whatever thread, it is the same kill. One by user space
    and one by the kernel are two decisions, even on one process. Only what was killed has a span.

    Raises:
        Damaged: it is there, and not as it was written.
    """
    victim = event.victim if isinstance(event, OomKill) else None
    dies = isinstance(event, UserspaceKill) or (isinstance(event, OomKill) and not event.skipped)
    cursor = db.execute(
        "INSERT OR IGNORE INTO events (uid, boot_id, kind, tgid, start_boottime_ns, boottime_ns,"
        " stored_unix_ns, event, snapshot, span_queued)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            event.uid,
            event.boot_id,
            event.kind,
            victim.tgid if victim and dies else None,
            victim.start_boottime_ns if victim else None,
            event.boottime_ns,
            time.time_ns(),
            encode(event),
            encode(snapshot),
            not dies,
        ),
    )
    new = cursor.rowcount == 1
    if new and cursor.lastrowid is not None:
        checksums.update_checksums(db, "events", [cursor.lastrowid])
        counters.add(db, event.boot_id, _counts(event))
    elif not _sound(db, event.uid):
        raise CorruptRowError(f"the journal's row of {event.uid} is not as it was written")
    return new


def _sound(db: sqlite3.Connection, uid: str) -> bool:
    query = f"SELECT {checksums.checksum_ok_sql('events')} FROM events WHERE uid = ?"  # noqa: S608  SQL of our own
    return all(sound for (sound,) in db.execute(query, (uid,)))


def _counts(event: StoredEvent) -> dict[str, int]:
    """What a new event raises: kills that the kernel does not count are counted apart."""
    kind = event.kind
    if isinstance(event, OomKill) and not event.counted:
        kind = "skipped" if event.skipped else "already_exiting"
    counts = {counters.CAPTURED + kind: 1}
    if isinstance(event, MissedKills):
        counts[counters.MISSED] = event.count
    return counts


def add_exit(db: sqlite3.Connection, boot_id: str, exit_: VictimExit) -> bool:
    """Note how the victim's process ended; ``False`` without such a victim."""
    found = db.execute(
        f"UPDATE events SET exit = ?1 WHERE id = {_VICTIM} AND exit IS NULL RETURNING id",  # noqa: S608  SQL of our own
        (encode(exit_), boot_id, exit_.tgid, exit_.start_boottime_ns),
    ).fetchall()
    checksums.update_checksums(db, "events", [id_ for (id_,) in found])
    return bool(found)


def set_snapshot(db: sqlite3.Connection, uid: str, snapshot: Snapshot) -> None:
    """Put ``snapshot`` in place of what an event has."""
    found = db.execute(
        "UPDATE events SET snapshot = ? WHERE uid = ? RETURNING id",
        (encode(snapshot), uid),
    ).fetchall()
    checksums.update_checksums(db, "events", [id_ for (id_,) in found])


def add_reaper_step(db: sqlite3.Connection, boot_id: str, step: ReaperStep) -> bool:
    """Note a step of the kernel's reaper, at most some of them; ``False`` when it is not kept."""
    found = db.execute(
        "UPDATE events SET reaper_steps = json_insert(reaper_steps, '$[#]', json(?1))"  # noqa: S608  as above
        f" WHERE id = {_VICTIM}"
        " AND CASE WHEN json_valid(reaper_steps)"
        " THEN json_array_length(reaper_steps) < ?5 END RETURNING id",
        (encode(step), boot_id, step.tgid, step.start_boottime_ns, _MOST_STEPS),
    ).fetchall()
    checksums.update_checksums(db, "events", [id_ for (id_,) in found])
    return bool(found)


def pending(  # noqa: PLR0913  the last are named at the call
    db: sqlite3.Connection,
    most: int,
    boot_id: str,
    deadline_boottime_ns: int,
    *,
    but: str | None = None,
    decoded: Mapping[str, PendingEvent] = {},
) -> tuple[list[PendingEvent], dict[int, str]]:
    """The oldest events that owe a log, or a span that can be told now, less the uid ``but``.

    With them, by id, the rows among them that can't be read, and why: this version is older than
    what wrote them. Events that the caller has ``decoded`` before, by uid, are not decoded again.

    Raises:
        Damaged: a row is not as it was written.
    """
    rows, undecodable = [], {}
    # As bytes: one text that is not UTF-8 would keep all the others from being read.
    for row in db.execute(
        "SELECT id, CAST(kind AS BLOB), CAST(event AS BLOB), CAST(snapshot AS BLOB),"  # noqa: S608  SQL of our own
        " CAST(exit AS BLOB), CAST(reaper_steps AS BLOB),"
        " boot_id != ?1 OR boottime_ns < ?2 AS waited, stored_unix_ns, log_queued, span_queued,"
        f" {checksums.checksum_ok_sql('events')}, CAST(uid AS BLOB)"
        " FROM events WHERE undecodable_reason IS NULL AND NOT (log_queued AND span_queued)"
        " AND (NOT log_queued OR exit IS NOT NULL OR waited)"
        " AND uid IS NOT ?4 ORDER BY id LIMIT ?3",
        (boot_id, deadline_boottime_ns, most, but),
    ):
        if not row[10]:
            raise CorruptRowError(f"row {row[0]} of the journal is not as it was written")
        try:
            rows.append(_row(row, decoded.get(row[11].decode())))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            undecodable[row[0]] = f"{type(error).__name__}: {error}"
    return rows, undecodable


def _row(row: tuple[Any, ...], decoded: PendingEvent | None) -> PendingEvent:
    return PendingEvent(
        id=row[0],
        event=decoded.event if decoded else decode_event(row[1].decode(), row[2]),
        snapshot=decoded.snapshot if decoded else decode(Snapshot, row[3]),
        exit=decode(VictimExit, row[4]) if row[4] else None,
        reaper_steps=decode(tuple[ReaperStep, ...], row[5]),
        exit_overdue=bool(row[6]),
        stored_unix_ns=int(row[7]),
        log_queued=bool(row[8]),
        span_queued=bool(row[9]),
    )


def quarantine(db: sqlite3.Connection, reasons: Mapping[int, str], version: str) -> None:
    """Set rows aside, by id, that ``version`` can't read or encode."""
    for id_, reason in reasons.items():
        db.execute(
            "UPDATE events SET undecodable_reason = ?, undecodable_version = ? WHERE id = ?",
            (reason, version, id_),
        )
    counters.add(db, counters.NO_BOOT, {counters.UNDECODABLE: len(reasons)})


def retry_undecodable(db: sqlite3.Connection, version: str) -> None:
    """Take rows up again that another version could not read."""
    db.execute(
        "UPDATE events SET undecodable_reason = NULL, undecodable_version = NULL"
        " WHERE undecodable_reason IS NOT NULL AND undecodable_version != ?",
        (version,),
    )


def oldest_pending_boottime_ns(db: sqlite3.Connection, boot_id: str) -> int | None:
    """When the oldest event of this boot that still owes something was, if there is one."""
    row = db.execute(
        "SELECT min(boottime_ns) FROM events"
        " WHERE undecodable_reason IS NULL AND NOT (log_queued AND span_queued)"
        " AND boot_id = ? AND typeof(boottime_ns) = 'integer'",
        (boot_id,),
    ).fetchone()
    return None if row[0] is None else int(row[0])


def stored_kills(db: sqlite3.Connection, boot_id: str, most: int) -> list[StoredKill]:
    """The newest kills of a boot, as far as they can be known again in the kernel's log."""
    rows = db.execute(
        "SELECT tgid, json_extract(event, '$.victim.tid'),"
        " CAST(json_extract(event, '$.victim.comm') AS BLOB), boottime_ns,"
        " iif(json_extract(event, '$.capture.cpu') IS NULL,"
        " json_extract(event, '$.capture.sequence'), NULL)"
        # Of a row that the disk has changed its columns are enough, if those are sound.
        " FROM (SELECT id, tgid, boottime_ns, iif(json_valid(event), event, '{}') AS event"
        " FROM events WHERE boot_id = ? AND kind = 'kill'"
        " AND typeof(tgid) = 'integer' AND typeof(boottime_ns) = 'integer'"
        " ORDER BY id DESC LIMIT ?)",
        (boot_id, most),
    )
    return [
        StoredKill(
            tgid, tid, comm.decode("utf-8", "replace") if comm else None, boottime_ns, in_log
        )
        for tgid, tid, comm, boottime_ns, in_log in rows
    ]


def replayed_after(
    db: sqlite3.Connection, after: int, most: int
) -> tuple[list[OomKill | NoVictim | Panic], int | None]:
    """Some of what was found in logs of the past, past the id ``after``, and where to go on.

    Rows that can't be read, and those that history has pruned, are left out.
    """
    found: list[OomKill | NoVictim | Panic] = []
    last: int | None = None
    for id_, kind, event in db.execute(
        "SELECT id, kind, CAST(event AS BLOB) FROM events"
        " WHERE id > ? AND kind IN ('kill', 'no_victim', 'panic') ORDER BY id LIMIT ?",
        (after, most),
    ):
        last = int(id_)
        with suppress(ValueError, TypeError, RecursionError):
            told = decode_event(kind, event)
            if isinstance(told, OomKill | NoVictim | Panic) and told.provenance:
                found.append(told)
    return found, last


def count_pending(db: sqlite3.Connection) -> int:
    """How many events owe a log or a span."""
    row = db.execute(
        "SELECT count(*) FROM events"
        " WHERE undecodable_reason IS NULL AND NOT (log_queued AND span_queued)"
    ).fetchone()
    return int(row[0])


def mark_queued(db: sqlite3.Connection, entry: OutboxEntry) -> None:
    """Note what of an event is in the outbox now."""
    db.execute(
        "UPDATE events SET log_queued = log_queued OR ?,"
        " span_queued = span_queued OR ? WHERE id = ? AND uid = ?",
        (entry.log is not None, entry.span is not None, entry.event_id, entry.uid),
    )
    checksums.update_checksums(db, "events", [entry.event_id])
