"""Fan-out of a message to the channels of its signal, each with a copy in the outbox.

A copy leaves with the decision of its own exporter. A channel that has a message while others still
wait for it is *settled*: it gets no second copy if the event is encoded again.

Functions over a connection; those that write must run within a transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from otel_oom.model.channel import channel_signal
from otel_oom.store.recovery import checksums
from otel_oom.store.types import END_SUFFIX

Channels = Mapping[str, Sequence[str]]
"""The channels of each signal; a signal without any has its own alone."""

OF_SIGNAL: Final = "signal >= ? AND signal < ? || ';'"
"""Condition for all channels of a signal, given twice: ``;`` follows the separator in ASCII."""

_MOVED_ROWS: Final = 64


def stored_channels(db: sqlite3.Connection) -> list[str]:
    """Return the channels with messages in the outbox; one seek for each."""
    channels: list[str] = []
    query = "SELECT min(signal) FROM outbox WHERE signal > ?"
    while channel := db.execute(query, (channels[-1] if channels else "",)).fetchone()[0]:
        channels.append(channel)
    return channels


def unsettled_channels(
    db: sqlite3.Connection, uid: str, signal: str, channels: Channels
) -> list[str]:
    """Return the channels that still need a message of an event."""
    targets = [*channels.get(signal, ())] or [signal]
    if len(targets) == 1:
        return targets
    query = "SELECT channel FROM settled_messages WHERE uid = ?"
    settled = {channel for (channel,) in db.execute(query, (uid,))}
    unsettled = [channel for channel in targets if channel not in settled]
    if not unsettled:
        _forget(db, uid, signal)
    return unsettled


def settle(db: sqlite3.Connection, messages: Iterable[tuple[str, str]], channels: Channels) -> None:
    """Note which channels are done with messages, by uid and channel, as long as others wait."""
    if all(len(targets) == 1 for targets in channels.values()):
        return
    for uid, channel in messages:
        signal = channel_signal(channel)
        others = f"SELECT 1 FROM outbox WHERE uid = ? AND {OF_SIGNAL}"  # noqa: S608  SQL of our own
        if db.execute(others, (uid, signal, signal)).fetchone():
            _insert(db, uid, channel)
        else:
            _forget(db, uid, signal)


def settle_dropped(db: sqlite3.Connection, uid: str, channel: str, channels: Channels) -> bool:
    """Note that a channel has a message that was dropped meanwhile; true if all channels have it.

    Its event is encoded again for the others.
    """
    targets = channels.get(channel_signal(channel), ())
    if len(targets) > 1:
        _insert(db, uid, channel)
        if unsettled_channels(db, uid, channel_signal(channel), channels):
            return False
    return True


def move_orphans(db: sqlite3.Connection, channels: Channels) -> bool:
    """Move some messages of channels without an exporter to others; false without any.

    They go to the channels of their signal that neither have nor had them. Messages of a signal
    that is off stay.
    """
    for channel in stored_channels(db):
        targets = channels.get(channel_signal(channel), ())
        if targets and channel not in targets:
            _move(db, channel, targets)
            return True
    db.execute(
        "DELETE FROM settled_messages WHERE uid NOT IN (SELECT uid FROM outbox)"
        " AND replace(uid, ?, '') NOT IN"
        " (SELECT uid FROM events WHERE NOT (log_queued AND span_queued))",
        (END_SUFFIX,),
    )
    return False


def _move(db: sqlite3.Connection, channel: str, targets: Iterable[str]) -> None:
    rows = db.execute(
        "SELECT id FROM outbox WHERE signal = ? ORDER BY id LIMIT ?", (channel, _MOVED_ROWS)
    ).fetchall()
    db.executemany(
        "INSERT OR IGNORE INTO outbox"  # noqa: S608  SQL of our own
        " (uid, signal, payload, queued_unix_ns, send_alone, holder, size, crc32)"
        " SELECT uid, ?2, payload, queued_unix_ns, send_alone, holder, size,"
        # A damaged row stays one.
        f" CASE WHEN {checksums.checksum_ok_sql('outbox')}"
        " THEN row_crc32(CAST(uid AS BLOB), CAST(?2 AS BLOB), CAST(payload AS BLOB)) ELSE -1 END"
        " FROM outbox WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM settled_messages"
        " WHERE settled_messages.uid = outbox.uid AND channel = ?2)",
        [(id_, target) for (id_,) in rows for target in targets],
    )
    db.executemany("DELETE FROM outbox WHERE id = ?", rows)


def _insert(db: sqlite3.Connection, uid: str, channel: str) -> None:
    db.execute("INSERT OR IGNORE INTO settled_messages VALUES (?, ?)", (uid, channel))


def _forget(db: sqlite3.Connection, uid: str, signal: str) -> None:
    condition = OF_SIGNAL.replace("signal", "channel")
    db.execute(
        f"DELETE FROM settled_messages WHERE uid = ? AND {condition}",  # noqa: S608  SQL of our own
        (uid, signal, signal),
    )
