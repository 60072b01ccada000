"""The outbox: OTLP messages, until a backend has accepted or rejected them.

Functions over a connection; those that write must run within a transaction.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from otel_oom.store.recovery import checksums
from otel_oom.store.recovery.errors import CorruptRowError
from otel_oom.store.types import Backlog, Message, OutboxEntry


def insert(db: sqlite3.Connection, entry: OutboxEntry) -> None:
    """Add the messages of an encoded event."""
    now = time.time_ns()
    db.executemany(
        "INSERT OR IGNORE INTO outbox (uid, signal, payload, queued_unix_ns, crc32)"
        " VALUES (?, ?, ?, ?, ?)",
        [
            (entry.uid, signal, payload, now, checksums.message_crc32(entry.uid, signal, payload))
            for signal, payload in entry.payloads.items()
        ],
    )


def next_batch(
    db: sqlite3.Connection, signal: str, max_count: int, max_bytes: int, excluded: Iterable[int]
) -> list[Message]:
    """Return the oldest messages of ``signal``, without those of the ids ``excluded``.

    There are at most ``max_count``, of ``max_bytes`` together. A single message may be larger, and
    one that is marked ``send_alone`` comes alone. Raises CorruptRowError for a wrong checksum.
    """
    messages: list[Message] = []
    size = 0
    # Row by row: what exceeds the limit is not read.
    for id_, uid, payload, send_alone, checksum_ok in db.execute(
        f"SELECT id, uid, payload, send_alone, {checksums.checksum_ok_sql('outbox')}"  # noqa: S608  SQL of our own
        " FROM outbox WHERE signal = ?"
        " AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?",
        (signal, json.dumps(list(excluded)), max_count),
    ):
        if not checksum_ok:
            raise CorruptRowError(f"wrong checksum of message {id_}")
        size += len(payload)
        if messages and (send_alone or size > max_bytes):
            break
        messages.append(Message(id_, uid, payload))
        if send_alone:
            break
    return messages


def backlogs(db: sqlite3.Connection, after: int, limit: int) -> tuple[list[Backlog], int | None]:
    """Count ``limit`` messages past the id ``after``, by signal.

    The second value is the id to continue from, ``None`` at the end: counting a long outbox in one
    step would delay a kill.
    """
    rows = db.execute(
        "SELECT signal, count(*), sum(length(payload)), min(queued_unix_ns), max(id) FROM"
        " (SELECT * FROM outbox WHERE id > ? ORDER BY id LIMIT ?) GROUP BY signal",
        (after, limit),
    ).fetchall()
    return [Backlog(*row[:4]) for row in rows], max((row[4] for row in rows), default=None)


def delete(db: sqlite3.Connection, messages: Sequence[Message]) -> Counter[str]:
    """Delete messages, and return how many of each signal there were.

    By id and uid: a recreated database may give an id to another message.
    """
    keys = json.dumps([[message.id, message.uid] for message in messages])
    deleted = db.execute(
        "DELETE FROM outbox WHERE id IN (SELECT value ->> 0 FROM json_each(?1))"
        " AND uid IN (SELECT value ->> 1 FROM json_each(?1)) RETURNING signal",
        (keys,),
    )
    return Counter(signal for (signal,) in deleted)
