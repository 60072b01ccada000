"""The outbox: OTLP messages, until a backend has accepted or rejected them.

Functions over a connection; those that write must run within a transaction.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from otel_oom.linux.cgroup_holder import UNKNOWN
from otel_oom.store import fair_order, fan_out
from otel_oom.store.recovery import checksums
from otel_oom.store.recovery.checksums import message_crc32
from otel_oom.store.recovery.errors import CorruptRowError
from otel_oom.store.types import Backlog, Message, OutboxEntry

_MAX_PART_BYTES: Final = 1 << 20
"""With copies of it, what is reserved for the outbox."""


def split(
    entries: Iterable[OutboxEntry], channels: fan_out.Channels
) -> Iterator[list[OutboxEntry]]:
    """Yield entries in parts of 1 MiB, with a copy for each channel, or of one larger entry."""
    part: list[OutboxEntry] = []
    size = 0
    for entry in entries:
        entry_size = sum(
            len(payload) * max(1, len(channels.get(signal, ())))
            for _, signal, payload in entry.messages
        )
        size += entry_size
        if part and size > _MAX_PART_BYTES:
            yield part
            part, size = [], entry_size
        part.append(entry)
    if part:
        yield part


def insert(db: sqlite3.Connection, entry: OutboxEntry, channels: fan_out.Channels) -> str:
    """Add the messages of an encoded event, one for each channel, and return its holder."""
    now = time.time_ns()
    row = db.execute("SELECT holder FROM events WHERE uid = ?", (entry.uid,)).fetchone()
    holder = row[0] if row else UNKNOWN
    db.executemany(
        "INSERT OR IGNORE INTO outbox"
        " (uid, signal, payload, queued_unix_ns, holder, size, crc32)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (key, channel, payload, now, holder, len(payload), message_crc32(key, channel, payload))
            for key, signal, payload in entry.messages
            for channel in fan_out.unsettled_channels(db, key, signal, channels)
        ],
    )
    return str(holder)


def next_batch(  # noqa: PLR0913  the last is named at the call
    db: sqlite3.Connection,
    channel: str,
    max_count: int,
    max_bytes: int,
    excluded: Iterable[int],
    *,
    turn: str = "",
    parked: Iterable[str] = (),
) -> list[Message]:
    """Return messages of a channel, without those of the ids ``excluded`` and uids ``parked``.

    They are in the order of :func:`.fair_order.round_robin`, from behind the holder ``turn`` on.
    There are at most ``max_count``, of ``max_bytes`` together. A single message may be larger, and
    one that is marked ``send_alone`` comes alone. Raises CorruptRowError for a wrong checksum.
    """
    messages: list[Message] = []
    size = 0
    # Row by row: what exceeds the limit is not read.
    rows = fair_order.round_robin(
        db,
        f"id, uid, payload, send_alone, {checksums.checksum_ok_sql('outbox')}, holder",
        "outbox INDEXED BY outbox_holder WHERE signal = ?"
        " AND id NOT IN (SELECT value FROM json_each(?))"
        " AND uid NOT IN (SELECT value FROM json_each(?))",
        (channel, json.dumps(list(excluded)), json.dumps(list(parked))),
        turn,
    )
    for id_, uid, payload, send_alone, checksum_ok, holder in islice(rows, max_count):
        if not checksum_ok:
            raise CorruptRowError(f"wrong checksum of message {id_}")
        size += len(payload)
        if messages and (send_alone or size > max_bytes):
            break
        messages.append(Message(id_, uid, payload, channel, holder))
        if send_alone:
            break
    return messages


def find(db: sqlite3.Connection, channel: str, uid: str) -> Message | None:
    """Return one message. Raises CorruptRowError for a wrong checksum."""
    row = db.execute(
        f"SELECT id, payload, holder, {checksums.checksum_ok_sql('outbox')} FROM outbox"  # noqa: S608  SQL of our own
        " WHERE uid = ? AND signal = ?",
        (uid, channel),
    ).fetchone()
    if not row:
        return None
    id_, payload, holder, checksum_ok = row
    if not checksum_ok:
        raise CorruptRowError(f"wrong checksum of message {id_}")
    return Message(id_, uid, payload, channel, holder)


def backlogs(db: sqlite3.Connection, after: int, limit: int) -> tuple[list[Backlog], int | None]:
    """Count ``limit`` messages past the id ``after``, by channel.

    The second value is the id to continue from, ``None`` at the end: counting a long outbox in one
    step would delay a kill.
    """
    rows = db.execute(
        "SELECT signal, count(*), sum(size), min(queued_unix_ns), max(id) FROM"
        " (SELECT id, signal, size, queued_unix_ns FROM outbox WHERE id > ? ORDER BY id LIMIT ?)"
        " GROUP BY signal",
        (after, limit),
    ).fetchall()
    return [Backlog(*row[:4]) for row in rows], max((row[4] for row in rows), default=None)


def delete(db: sqlite3.Connection, messages: Sequence[Message]) -> set[tuple[str, str]]:
    """Delete messages, and return uid and channel of those that were there.

    By id and uid: a recreated database may give an id to another message.
    """
    keys = json.dumps([[message.id, message.uid] for message in messages])
    deleted = db.execute(
        "DELETE FROM outbox WHERE id IN (SELECT value ->> 0 FROM json_each(?1))"
        " AND uid IN (SELECT value ->> 1 FROM json_each(?1)) RETURNING uid, signal",
        (keys,),
    )
    return set(deleted.fetchall())
