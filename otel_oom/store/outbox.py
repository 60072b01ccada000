"""The outbox: OTLP bytes, until a backend has taken or refused them.

Functions over a connection; those that write are to be called within a transaction.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable

from otel_oom.store import counters, dead_letters
from otel_oom.store.rows import Encoded, Message, Settled


def insert(db: sqlite3.Connection, entry: Encoded) -> None:
    """Add what an event was translated to."""
    db.executemany(
        "INSERT OR IGNORE INTO outbox (uid, signal, payload, queued_unix_ns) VALUES (?, ?, ?, ?)",
        [
            (entry.uid, signal, payload, time.time_ns())
            for signal, payload in entry.payloads.items()
            if payload is not None
        ],
    )


def oldest(
    db: sqlite3.Connection, signal: str, most: int, most_bytes: int, but: Iterable[int]
) -> list[Message]:
    """The oldest messages of ``signal``, without those of the ids ``but``.

    At most ``most``, of ``most_bytes`` together; one message alone may be larger.
    """
    messages: list[Message] = []
    size = 0
    for id_, uid, payload in db.execute(
        "SELECT id, uid, payload FROM outbox WHERE signal = ?"
        " AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?",
        (signal, json.dumps(list(but)), most),
    ):
        size += len(payload)
        if messages and size > most_bytes:
            break
        messages.append(Message(id_, uid, payload))
    return messages


def settle(db: sqlite3.Connection, settled: Iterable[Settled]) -> None:
    """Let go of messages that a backend has answered for; the refused become dead letters.

    Each is counted once, however often it is settled.
    """
    counts: Counter[str] = Counter()
    for message in settled:
        for signal, payload in db.execute(
            "DELETE FROM outbox WHERE id = ? AND uid = ? RETURNING signal, payload",
            (message.id, message.uid),
        ).fetchall():
            if message.refusal is None:
                counts[counters.SENT + signal] += 1
            else:
                dead_letters.insert(db, message.uid, signal, payload, message.refusal)
                counts[counters.REFUSED + signal] += 1
    counters.add(db, counters.NO_BOOT, counts)
