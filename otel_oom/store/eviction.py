"""Drops at the size limit: the largest holder loses its oldest data first.

So a holder keeps its share whatever others do. Events of cgroups near their limit are dropped
before all else: they may not cost a kill. A holder's kernel reports and task lists, which take the
most space, are dropped before its kills.

Functions over a connection; all must run within a transaction.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from otel_oom.linux.cgroup_holder import UNKNOWN
from otel_oom.model.channel import channel_signal
from otel_oom.store import counters, drops, encoded_events, fan_out
from otel_oom.store.holder import DROPPED, NEAR_LIMIT
from otel_oom.store.recovery import checksums
from otel_oom.store.types import END_SUFFIX

_ROWS_WITHOUT_LOSS: Final = 256
_DEAD_LETTERS: Final = 64

_FREED_BYTES: Final = 128 << 10
"""Space to make at a time: twice what an event may take."""
_MAX_WRITTEN_BYTES: Final = 1 << 20
"""Events without their report, which are written anew, have to fit into the log."""
_MAX_STEPS: Final = 128


class _Step(Struct, frozen=True):
    """What was dropped by name, and the bytes that this freed, and wrote."""

    counts: Mapping[str, int]
    freed_bytes: int = 0
    written_bytes: int = 0


_NO_LOSS: Final = _Step({"nothing": 0})
"""Space was made without a loss: the counts are not empty."""


def evict(db: sqlite3.Connection) -> Counter[str]:
    """Delete some data, undelivered events last.

    Returns what was dropped: ``dead_letters``, ``reports``, and messages by signal. It is empty if
    there was nothing to delete.
    """
    deleted = (
        _rows_without_loss(db)
        or _events(db, _near_limit_holder)
        or _dead_letters(db)
        or _events(db, _largest_holder)
    )
    dropped = {f"{counters.DROPPED}{name}": count for name, count in deleted.items() if count}
    counters.add(db, counters.NO_BOOT, dropped)
    return deleted


def _rows_without_loss(db: sqlite3.Connection) -> Counter[str]:
    """Delete pruned rows, else copies, whose events can be encoded again."""
    pruned = db.execute(
        "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE pruned LIMIT ?)",
        (_ROWS_WITHOUT_LOSS,),
    ).rowcount
    made_space = pruned or encoded_events.delete_oldest(db, _ROWS_WITHOUT_LOSS)
    return Counter(_NO_LOSS.counts) if made_space else Counter()


def _dead_letters(db: sqlite3.Connection) -> Counter[str]:
    """Delete rejected messages, each the oldest one of the holder that is the largest then."""
    deleted: Counter[str] = Counter()
    while deleted["dead_letters"] < _DEAD_LETTERS:
        holder = _largest_holder(db, "dead_letters")
        oldest = "SELECT id FROM dead_letters WHERE holder = ? ORDER BY id LIMIT 1"
        query = f"DELETE FROM dead_letters WHERE id = ({oldest})"  # noqa: S608  SQL of our own
        if holder is None:
            break
        if not db.execute(query, (holder,)).rowcount:
            _wrong_usage(db, "dead_letters", holder)
            continue
        drops.add(db, _named(holder), "dead_letters")
        deleted["dead_letters"] += 1
    return +deleted


def _events(
    db: sqlite3.Connection, find_holder: Callable[[sqlite3.Connection, str], str | None]
) -> Counter[str]:
    """Drop reports and events, each the oldest one of the holder that is found then."""
    dropped: Counter[str] = Counter()
    freed_bytes = written_bytes = 0
    for _ in range(_MAX_STEPS):
        holder = find_holder(db, "events")
        if holder is None or freed_bytes > _FREED_BYTES or written_bytes > _MAX_WRITTEN_BYTES:
            break
        step = (
            _report(db, holder)
            or _event(db, holder)
            or _message_without_event(db, holder)
            or _wrong_usage(db, "events", holder)
        )
        dropped.update(step.counts)
        freed_bytes += step.freed_bytes
        written_bytes += step.written_bytes
    return dropped


def _largest_holder(db: sqlite3.Connection, class_: str) -> str | None:
    """Return the holder with the most bytes; the reports of drops are few, and stay."""
    row = db.execute(
        "SELECT holder FROM holder_usage WHERE class = ? AND holder != ?"
        " ORDER BY bytes DESC LIMIT 1",
        (class_, DROPPED),
    ).fetchone()
    return None if row is None else str(row[0])


def _near_limit_holder(db: sqlite3.Connection, class_: str) -> str | None:
    row = db.execute(
        "SELECT holder FROM holder_usage WHERE class = ? AND holder = ? AND bytes > 0",
        (class_, NEAR_LIMIT),
    ).fetchone()
    return None if row is None else str(row[0])


def _named(holder: str) -> str:
    return UNKNOWN if holder == NEAR_LIMIT else holder


def _report(db: sqlite3.Connection, holder: str) -> _Step | None:
    """Drop the kernel's report and the task list of an event, and have its log encoded again."""
    row = db.execute(
        "SELECT id, uid, NOT log_queued, size FROM events"
        " WHERE holder = ? AND has_report = 1 ORDER BY id LIMIT 1",
        (holder,),
    ).fetchone()
    if row is None:
        return None
    id_, uid, is_pending, size = row
    messages = _delete_messages(db, f"uid = ? AND {fan_out.OF_SIGNAL}", uid, "logs", "logs")
    checksums.update_events(
        db,
        "has_report = 0, log_queued = log_queued AND NOT ?2, event = iif(json_valid(event),"
        " json_set(json_remove(event, '$.original', '$.tasks'),"
        " '$.report_dropped', json('true')), event) WHERE id = ?1",
        (id_, len(messages)),
    )
    (new_size,) = db.execute(
        "UPDATE events SET size = length(event) + length(snapshot) WHERE id = ? RETURNING size",
        (id_,),
    ).fetchone()
    is_undelivered = is_pending or bool(messages)
    if is_undelivered:
        drops.add(db, _named(holder), "reports")
    freed_bytes = size - new_size + sum(message_size for _, message_size in messages)
    return _Step({"reports": int(is_undelivered)}, freed_bytes, new_size)


def _event(db: sqlite3.Connection, holder: str) -> _Step | None:
    """Delete an event with its undelivered messages."""
    row = db.execute(
        "SELECT id, uid, NOT log_queued, NOT span_queued, size,"
        " NOT is_counted AND kind IN ('kill', 'userspace_kill'),"
        " CAST(iif(json_valid(snapshot), snapshot -> '$.containers', NULL) AS BLOB)"
        " FROM events WHERE holder = ? AND has_report = 0 ORDER BY id LIMIT 1",
        (holder,),
    ).fetchone()
    if row is None:
        return None
    id_, uid, has_log, has_span, size, is_uncounted, containers = row
    messages = _delete_messages(db, "uid IN (?, ?)", uid, uid + END_SUFFIX)
    encoded_events.delete(db, [id_])
    db.execute("DELETE FROM events WHERE id = ?", (id_,))
    counts = Counter({"logs": has_log, "traces": has_span})
    counts.update(channel_signal(channel) for channel, _ in messages)
    if counts.total():
        drops.add(db, _named(holder), "events", None if holder == NEAR_LIMIT else containers)
    if is_uncounted:
        counters.add(db, counters.NO_BOOT, {counters.KILLS_DROPPED: 1})
    return _Step(counts, size + sum(message_size for _, message_size in messages))


def _message_without_event(db: sqlite3.Connection, holder: str) -> _Step | None:
    """Delete a message whose event is gone, as a damaged file can have it."""
    for stored in fan_out.stored_channels(db):
        oldest = "SELECT id FROM outbox WHERE signal = ? AND holder = ? ORDER BY id LIMIT 1"
        for channel, size in _delete_messages(db, f"id = ({oldest})", stored, holder):
            return _Step({channel_signal(channel): 1}, size)
    return None


def _delete_messages(db: sqlite3.Connection, condition: str, *values: str) -> list[tuple[str, int]]:
    """Delete messages, and return their channels and sizes."""
    query = f"DELETE FROM outbox WHERE {condition} RETURNING signal, size"  # noqa: S608  SQL of our own
    return db.execute(query, values).fetchall()


def _wrong_usage(db: sqlite3.Connection, class_: str, holder: str) -> _Step:
    """Forget the usage of a holder without rows, as a damaged file can have it."""
    db.execute("DELETE FROM holder_usage WHERE class = ? AND holder = ?", (class_, holder))
    return _NO_LOSS
