"""The event log: one row an event, with its snapshot and how its victim ended.

Functions over a connection; those that write must run within a transaction.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, Final

from otel_oom.model.events import (
    NoVictim,
    OomKill,
    ReaperStep,
    ReplayedEvent,
    StoredEvent,
    UserspaceKill,
    VictimExit,
)
from otel_oom.model.loss import MissedKills
from otel_oom.model.snapshot import Snapshot
from otel_oom.store import counters, fair_order
from otel_oom.store.holder import event_holder
from otel_oom.store.recovery import checksums
from otel_oom.store.recovery.errors import CorruptRowError
from otel_oom.store.types import (
    OutboxEntry,
    PendingEvent,
    decode,
    decode_event,
    encode,
    repeated_kill,
)

_VICTIM: Final = (
    "(SELECT id FROM events WHERE boot_id = ?2 AND tgid = ?3"
    " AND (start_boottime_ns IS NULL OR start_boottime_ns = ?4)"
    " ORDER BY start_boottime_ns IS NULL, id DESC LIMIT 1)"
)
"""The kill of a process. Without its start, the last one of its pid: earlier processes are gone."""

PENDING: Final = "undecodable_reason IS NULL AND NOT (log_queued AND span_queued)"

_OVERDUE: Final = "(boot_id != ?1 OR boottime_ns < ?2)"

_MIN_REPORT_BYTES: Final = 1024

_AWAITS_EXIT: Final = "(kind = 'userspace_kill' AND start_boottime_ns IS NOT NULL)"
"""A userspace kill whose log says whether its victim exited."""

_MAX_REAPER_STEPS: Final = 16
"""The reaper tries a victim again and again; only the first and the last of it matter."""


def insert(db: sqlite3.Connection, event: StoredEvent, snapshot: Snapshot) -> bool:
    """Add an event; return ``False`` if it is stored already.

    A process is killed once: marked again, by any thread, it is the same kill. A kill by user space
    and one by the kernel are two decisions, even on one process. Only a kill has a span. Raises
    CorruptRowError if it is stored with a wrong checksum.
    """
    victim = event.victim if isinstance(event, OomKill) else None
    has_span = isinstance(event, UserspaceKill) or (
        isinstance(event, OomKill) and not event.skipped
    )
    event_json, snapshot_json = encode(event), encode(snapshot)
    cursor = db.execute(
        "INSERT OR IGNORE INTO events (uid, boot_id, kind, tgid, start_boottime_ns, boottime_ns,"
        " stored_unix_ns, event, snapshot, span_queued, holder, size, has_report)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            event.uid,
            event.boot_id,
            event.kind,
            victim.tgid if victim and has_span else None,
            event.awaited_start_ns if isinstance(event, OomKill | UserspaceKill) else None,
            event.boottime_ns,
            time.time_ns(),
            event_json,
            snapshot_json,
            not has_span,
            event_holder(event),
            len(event_json) + len(snapshot_json),
            _has_report(event),
        ),
    )
    is_new = cursor.rowcount == 1
    if is_new and cursor.lastrowid is not None:
        checksums.update_event_checksums(db, [(cursor.lastrowid,)])
        counters.add(db, event.boot_id, _counts(event))
    elif not _is_checksum_ok(db, event.uid):
        raise CorruptRowError(f"wrong checksum of event {event.uid}")
    return is_new


def _has_report(event: StoredEvent) -> bool:
    """Return whether an event has a report or a task list that takes space worth dropping."""
    if not isinstance(event, OomKill | NoVictim):
        return False
    tasks = event.tasks if isinstance(event, OomKill | UserspaceKill) else None
    size = len(event.original or "") + (len(encode(tasks)) if tasks else 0)
    return size >= _MIN_REPORT_BYTES


def _is_checksum_ok(db: sqlite3.Connection, uid: str) -> bool:
    query = f"SELECT {checksums.checksum_ok_sql('events')} FROM events WHERE uid = ?"  # noqa: S608  SQL of our own
    return all(is_ok for (is_ok,) in db.execute(query, (uid,)))


def _counts(event: StoredEvent) -> dict[str, int]:
    """Return the counters that a new event raises; kills not counted by the kernel have others."""
    kind = event.kind
    if isinstance(event, OomKill) and not event.counted:
        kind = "skipped" if event.skipped else "already_exiting"
    counts = {counters.CAPTURED + kind: 1}
    if isinstance(event, MissedKills) and event.killer is None:
        counts[counters.MISSED] = event.count
    return counts


def add_exit(db: sqlite3.Connection, boot_id: str, exit_: VictimExit) -> bool:
    """Store the exit of a victim; return ``False`` without such a victim."""
    if exit_.kill_uid:
        update = "exit = ? WHERE uid = ? AND exit IS NULL"
        return checksums.update_events(db, update, (encode(exit_), exit_.kill_uid)) > 0
    values = (encode(exit_), boot_id, exit_.tgid, exit_.start_boottime_ns)
    update = f"exit = ?1 WHERE id = {_VICTIM} AND exit IS NULL"
    return checksums.update_events(db, update, values) > 0


def replace_kill(db: sqlite3.Connection, kill: OomKill, snapshot: Snapshot) -> None:
    """Replace a kill and its snapshot by more complete ones, under the same uid."""
    event_json, snapshot_json = encode(kill), encode(snapshot)
    size = len(event_json) + len(snapshot_json)
    checksums.update_events(
        db,
        "event = ?, snapshot = ?, size = ?, has_report = ? WHERE uid = ?",
        (event_json, snapshot_json, size, _has_report(kill), kill.uid),
    )


def add_reaper_step(db: sqlite3.Connection, boot_id: str, step: ReaperStep) -> bool:
    """Store a step of the kernel's reaper; return ``False`` if the victim has none or too many."""
    values = (encode(step), boot_id, step.tgid, step.start_boottime_ns, _MAX_REAPER_STEPS)
    update = (
        f"reaper_steps = json_insert(reaper_steps, '$[#]', json(?1)) WHERE id = {_VICTIM}"
        " AND CASE WHEN json_valid(reaper_steps) THEN json_array_length(reaper_steps) < ?5 END"
    )
    return checksums.update_events(db, update, values) > 0


def pending(  # noqa: PLR0913  the last are named at the call
    db: sqlite3.Connection,
    limit: int,
    boot_id: str,
    deadline_boottime_ns: int,
    *,
    excluded_uid: str | None = None,
    decoded: Mapping[str, PendingEvent] = {},
    turn: str = "",
) -> tuple[list[PendingEvent], dict[int, str]]:
    """Return events whose log or span is due and not queued.

    They are in the order of :func:`.fair_order.round_robin`, from behind the holder ``turn`` on.
    The second value has the rows among them that can't be decoded, with the reason by id. Events
    that the caller has ``decoded`` before, by uid, are not decoded again. Raises CorruptRowError
    for a wrong checksum.
    """
    events, undecodable = [], {}
    rows = fair_order.round_robin(
        db,
        # As bytes: one text that is not UTF-8 would keep all others from being read.
        "id, CAST(kind AS BLOB), CAST(event AS BLOB), CAST(snapshot AS BLOB),"
        " CAST(exit AS BLOB), CAST(reaper_steps AS BLOB),"
        f" {_OVERDUE}, stored_unix_ns, log_queued, span_queued,"
        f" {checksums.checksum_ok_sql('events')}, CAST(uid AS BLOB),"
        " repeat_count, repeat_first_unix_ns",
        f"events INDEXED BY events_pending WHERE {PENDING}"
        f" AND (NOT (log_queued OR {_AWAITS_EXIT}) OR exit IS NOT NULL OR {_OVERDUE})"
        " AND uid IS NOT ?3",
        (boot_id, deadline_boottime_ns, excluded_uid),
        turn,
    )
    for row in islice(rows, limit):
        if not row[10]:
            raise CorruptRowError(f"wrong checksum of event row {row[0]}")
        # Of one whose report was dropped since, the log is encoded again.
        earlier = decoded.get(row[11].decode()) if row[8] else None
        try:
            events.append(_decode_row(row, earlier))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            undecodable[row[0]] = f"{type(error).__name__}: {error}"
    return events, undecodable


def _decode_row(row: tuple[Any, ...], decoded: PendingEvent | None) -> PendingEvent:
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
        repeat=repeated_kill(row[12], row[13]),
    )


def quarantine(db: sqlite3.Connection, reasons: Mapping[int, str], version: str) -> None:
    """Quarantine rows, by id, that ``version`` can't decode or encode."""
    db.executemany(
        "UPDATE events SET undecodable_reason = ?, undecodable_version = ? WHERE id = ?",
        [(reason, version, id_) for id_, reason in reasons.items()],
    )
    counters.add(db, counters.NO_BOOT, {counters.UNDECODABLE: len(reasons)})


def retry_undecodable(db: sqlite3.Connection, version: str) -> None:
    """Release the rows that another version quarantined."""
    db.execute(
        "UPDATE events SET undecodable_reason = NULL, undecodable_version = NULL"
        " WHERE undecodable_reason IS NOT NULL AND undecodable_version != ?",
        (version,),
    )


def oldest_pending_boottime_ns(db: sqlite3.Connection, boot_id: str) -> int | None:
    """Return the kernel time of the oldest pending event of a boot; ``None`` without any."""
    row = db.execute(
        f"SELECT min(boottime_ns) FROM events INDEXED BY events_pending WHERE {PENDING}"  # noqa: S608  SQL of our own
        " AND boot_id = ? AND typeof(boottime_ns) = 'integer'",
        (boot_id,),
    ).fetchone()
    return None if row[0] is None else int(row[0])


def count_pending(db: sqlite3.Connection) -> int:
    """Count the pending events."""
    query = f"SELECT count(*) FROM events INDEXED BY events_pending WHERE {PENDING}"  # noqa: S608  SQL of our own
    return int(db.execute(query).fetchone()[0])


def mark_queued(db: sqlite3.Connection, entry: OutboxEntry) -> bool:
    """Mark the signals of an event that are queued or skipped; return if it is to be counted.

    It is counted once, however often its log is encoded.
    """
    key = (entry.event_id, entry.uid)
    row = db.execute("SELECT is_counted FROM events WHERE id = ? AND uid = ?", key).fetchone()
    checksums.update_events(
        db,
        "log_queued = max(log_queued, ?3), span_queued = max(span_queued, ?4),"
        " is_counted = is_counted OR ?3, repeat_count = coalesce(repeat_count, ?5),"
        " repeat_first_unix_ns = coalesce(repeat_first_unix_ns, ?6) WHERE id = ?1 AND uid = ?2",
        (
            *(*key, entry.queue_state("logs"), entry.queue_state("traces")),
            *((repeat.count, repeat.first_unix_ns) if (repeat := entry.repeat) else (None, None)),
        ),
    )
    return row is None or not row[0]


def replayed_events(
    db: sqlite3.Connection, after: int, limit: int
) -> tuple[list[ReplayedEvent], int | None]:
    """Return some events of old logs past the id ``after``, and the id to continue from.

    Rows that can't be decoded, and pruned ones, are left out.
    """
    events: list[ReplayedEvent] = []
    last: int | None = None
    for id_, kind, text in db.execute(
        "SELECT id, kind, CAST(event AS BLOB) FROM events"
        " WHERE id > ? AND kind IN ('kill', 'userspace_kill', 'no_victim', 'panic')"
        " ORDER BY id LIMIT ?",
        (after, limit),
    ):
        last = int(id_)
        with suppress(ValueError, TypeError, RecursionError):
            event = decode_event(kind, text)
            if isinstance(event, ReplayedEvent) and event.provenance:
                events.append(event)
    return events, last
