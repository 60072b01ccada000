"""The outbox: OTLP bytes, until a backend has taken or refused them.

Functions over a connection; those that write are to be called within a transaction.
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
    """Add what an event was translated to."""
    now = time.time_ns()
    db.executemany(
        "INSERT OR IGNORE INTO outbox (uid, signal, payload, queued_unix_ns, crc32)"
        " VALUES (?, ?, ?, ?, ?)",
        [
            (entry.uid, signal, payload, now, checksums.message_crc32(entry.uid, signal, payload))
            for signal, payload in entry.payloads.items()
            if payload is not None
        ],
    )


def next_batch(
    db: sqlite3.Connection, signal: str, most: int, most_bytes: int, but: Iterable[int]
) -> list[Message]:
    """The oldest messages of ``signal``, without those of the ids ``but``.

    At most ``most``, of ``most_bytes`` together; one message alone may be larger, and one that is
    to go alone comes alone.

    Raises:
        Damaged: a message is not as it was written.
    """
    messages: list[Message] = []
    size = 0
    # Row by row: what is past the limit is not read.
    for id_, uid, payload, send_alone, sound in db.execute(
        f"SELECT id, uid, payload, send_alone, {checksums.checksum_ok_sql('outbox')}"  # noqa: S608  SQL of our own
        " FROM outbox WHERE signal = ?"
        " AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?",
        (signal, json.dumps(list(but)), most),
    ):
        if not sound:
            raise CorruptRowError(f"message {id_} is not as it was written")
        size += len(payload)
        if messages and (send_alone or size > most_bytes):
            break
        messages.append(Message(id_, uid, payload))
        if send_alone:
            break
    return messages


def backlogs(db: sqlite3.Connection, after: int, most: int) -> tuple[list[Backlog], int | None]:
    """A part of what waits, by signal: ``most`` messages past the id ``after``.

    With it the id to go on from, or ``None`` at the end: all of a long outbox in one step would
    keep a kill waiting for the disk.
    """
    rows = db.execute(
        "SELECT signal, count(*), sum(length(payload)), min(queued_unix_ns), max(id) FROM"
        " (SELECT * FROM outbox WHERE id > ? ORDER BY id LIMIT ?) GROUP BY signal",
        (after, most),
    ).fetchall()
    found = [Backlog(*row[:4]) for row in rows]
    return found, max((row[4] for row in rows), default=None)


def delete(db: sqlite3.Connection, messages: Sequence[Message]) -> Counter[str]:
    """Let go of messages; how many of each signal there were.

    By id and uid: a database that was begun anew may give an id to another message.
    """
    names = json.dumps([[message.id, message.uid] for message in messages])
    gone = db.execute(
        "DELETE FROM outbox WHERE id IN (SELECT value ->> 0 FROM json_each(?1))"
        " AND uid IN (SELECT value ->> 1 FROM json_each(?1)) RETURNING signal",
        (names,),
    )
    return Counter(signal for (signal,) in gone)
