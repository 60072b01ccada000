"""The outbox: OTLP bytes, until a backend has taken or refused them.

Functions over a connection; those that write are to be called within a transaction.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Sequence

from otel_oom.store.rows import Encoded, Message


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


def oldest(db: sqlite3.Connection, signal: str, most: int, most_bytes: int) -> list[Message]:
    """The oldest messages of ``signal``: at most ``most``, of ``most_bytes`` together.

    One message alone may be larger.
    """
    messages: list[Message] = []
    size = 0
    for id_, uid, payload in db.execute(
        "SELECT id, uid, payload FROM outbox WHERE signal = ? ORDER BY id LIMIT ?", (signal, most)
    ):
        size += len(payload)
        if messages and size > most_bytes:
            break
        messages.append(Message(id_, uid, payload))
    return messages


def delete(db: sqlite3.Connection, messages: Sequence[Message]) -> Counter[str]:
    """Let go of messages; how many of each signal there were."""
    gone: Counter[str] = Counter()
    for message in messages:
        gone.update(
            signal
            for (signal,) in db.execute(
                "DELETE FROM outbox WHERE id = ? RETURNING signal", (message.id,)
            )
        )
    return gone
