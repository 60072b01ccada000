"""What goes when there is no room: history first, the oldest that nobody has taken last.

History is what a backend has taken, or refused, of which only the journal still tells. Nothing
else goes but by the bound in bytes, and what goes then is counted.

Functions over a connection; all are to be called within a transaction.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from otel_oom.model.units import NS_PER_S
from otel_oom.store import counters
from otel_oom.store.sent_copies import delete, delete_oldest

_HISTORY: Final = 256
_DEAD_LETTERS: Final = 64
_EVENTS: Final = 16


def prune_history(db: sqlite3.Connection, boot_id: str, max_age_s: float = 0) -> int:
    """Let some of the oldest history go that is older than so long; how many rows there were.

    Of this boot's kills the row stays, with no more than what they can be known by when the
    kernel's log tells of them again: see :func:`otel_oom.store.event_log.stored_kills`. So it does
    of a panic, which the kernel's store may tell of at every start.
    """
    rows = db.execute(
        # As the index events_prunable has it.
        "SELECT id, boot_id = ? OR kind = 'panic' FROM events"
        " WHERE log_queued AND span_queued AND undecodable_reason IS NULL AND NOT pruned"
        " AND stored_unix_ns <= ?"
        " AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.uid = events.uid)"
        " ORDER BY stored_unix_ns LIMIT ?",
        (boot_id, time.time_ns() - int(max_age_s * NS_PER_S), _HISTORY),
    ).fetchall()
    delete(db, (id_ for id_, _ in rows))
    db.executemany(
        "UPDATE events SET pruned = 1, crc32 = NULL,"
        " snapshot = '', exit = NULL, reaper_steps = '[]',"
        " event = iif(json_valid(event), json_object("
        "'victim', json_object('tid', event ->> '$.victim.tid', 'comm', event ->> '$.victim.comm'),"
        " 'capture', json_object('cpu', event ->> '$.capture.cpu',"
        " 'sequence', event ->> '$.capture.sequence')), '{}') WHERE id = ?",
        [(id_,) for id_, told_again in rows if told_again],
    )
    past = [id_ for id_, told_again in rows if not told_again]
    empty = _ids(db, "events WHERE pruned AND boot_id != ? AND kind != 'panic'", boot_id, _HISTORY)
    _delete(db, "events", past + empty)
    return len(rows) + len(empty)


def prune_oldest(db: sqlite3.Connection) -> Counter[str]:
    """Let some of the rest go, the oldest that nobody has taken last; the counters of what went.

    They are ``dropped.dead_letters``, and ``dropped.`` with the signal of a message.
    """
    gone = _emptied(db) or _copies(db) or _dead_letters(db) or _events(db) or _messages(db)
    dropped = {f"{counters.DROPPED}{name}": count for name, count in gone.items() if count}
    counters.add(db, counters.NO_BOOT, dropped)
    return gone


def _emptied(db: sqlite3.Connection) -> Counter[str]:
    """Rows without contents, which only keep a kill from being told again."""
    ids = _ids(db, "events WHERE pruned ORDER BY id", _HISTORY)
    _delete(db, "events", ids)
    # Nothing is lost with them; that they made room is said by a count of nothing.
    return Counter({"nothing": 0} if ids else {})


def _copies(db: sqlite3.Connection) -> Counter[str]:
    """What events that stay were told as: they can be told anew."""
    return Counter({"nothing": 0} if delete_oldest(db, _HISTORY) else {})


def _dead_letters(db: sqlite3.Connection) -> Counter[str]:
    ids = _ids(db, "dead_letters ORDER BY id", _DEAD_LETTERS)
    _delete(db, "dead_letters", ids)
    return Counter({"dead_letters": len(ids)} if ids else {})


def _events(db: sqlite3.Connection) -> Counter[str]:
    """Events with whatever of them has not been taken."""
    rows = db.execute(
        "SELECT id, uid, NOT log_queued, NOT span_queued FROM events ORDER BY id LIMIT ?",
        (_EVENTS,),
    ).fetchall()
    gone: Counter[str] = Counter()
    for _, uid, log, span in rows:
        gone.update({"logs": log, "traces": span})
        sent = db.execute("DELETE FROM outbox WHERE uid = ? RETURNING signal", (uid,))
        gone.update(signal for (signal,) in sent.fetchall())
    ids = [row[0] for row in rows]
    delete(db, ids)
    _delete(db, "events", ids)
    return gone


def _messages(db: sqlite3.Connection) -> Counter[str]:
    """Messages whose events are gone: a damaged file can have such."""
    ids = _ids(db, "outbox ORDER BY id", _EVENTS)
    rows = db.execute("SELECT signal FROM outbox ORDER BY id LIMIT ?", (_EVENTS,)).fetchall()
    _delete(db, "outbox", ids)
    return Counter(signal for (signal,) in rows)


def _ids(db: sqlite3.Connection, which: str, *values: str | int) -> list[int]:
    rows = db.execute(f"SELECT id FROM {which} LIMIT ?", values)  # noqa: S608  a text of our own
    return [id_ for (id_,) in rows]


def _delete(db: sqlite3.Connection, table: str, ids: Sequence[int]) -> None:
    db.executemany(f"DELETE FROM {table} WHERE id = ?", [(id_,) for id_ in ids])  # noqa: S608  likewise
