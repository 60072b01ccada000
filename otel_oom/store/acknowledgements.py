"""Acknowledgements: messages that a backend accepted or rejected, until they have left the outbox.

A disk may be unable to delete them now. They are remembered, so that none is sent again meanwhile.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from otel_oom.model.channel import channel_signal
from otel_oom.store import counters, dead_letters, fan_out, outbox
from otel_oom.store.database import Database
from otel_oom.store.recovery import checksums
from otel_oom.store.types import END_SUFFIX, Message, Rejection

_MAX_REMEMBERED: Final = 4096
"""Beyond this number nothing more is sent until the disk works."""


class Acknowledgements:
    """Messages that must leave the outbox; safe to use from several threads."""

    def __init__(self, database: Database, channels: Callable[[], fan_out.Channels]) -> None:
        self._database = database
        self._channels = channels
        self._mutex = threading.Lock()
        self._messages: dict[int, tuple[Message, Rejection | None]] = {}

    @property
    def ids(self) -> list[int]:
        """The ids of the messages that are remembered."""
        return [*self._messages]

    def add(self, messages: Sequence[Message], rejection: Rejection | None) -> None:
        """Remember messages that were accepted, or rejected for the reason given."""
        with self._mutex:
            self._messages |= {m.id: (replace(m, payload=b""), rejection) for m in messages}

    def flush(self) -> bool:
        """Delete the messages from the outbox; return ``False`` if the disk can't do that now.

        Raises sqlite3.Error if it can't, and there are too many to remember.
        """
        with self._mutex:
            messages = dict(self._messages)
        if not messages:
            return True
        try:
            self._database.write(lambda db: _delete(db, messages.values(), self._channels()))
        except sqlite3.Error:
            if len(messages) > _MAX_REMEMBERED:
                raise
            return False
        uids = (message.uid.removesuffix(END_SUFFIX) for message, _ in messages.values())
        self._database.expect_history(uids)
        with self._mutex:
            for id_ in messages:
                # Another thread may have deleted the same ones.
                self._messages.pop(id_, None)
        return True


def _delete(
    db: sqlite3.Connection,
    acknowledged: Iterable[tuple[Message, Rejection | None]],
    channels: fan_out.Channels,
) -> None:
    """Delete messages, keep rejected ones as dead letters, and count those that were there."""
    by_rejection: dict[Rejection | None, list[Message]] = {}
    for message, rejection in acknowledged:
        by_rejection.setdefault(rejection, []).append(message)
    for rejection, messages in by_rejection.items():
        if rejection is not None:
            dead_letters.insert(db, messages, rejection)
        counter = counters.SENT if rejection is None else counters.REJECTED
        deleted = outbox.delete(db, messages)
        counts = Counter(counter + channel for _, channel in deleted)
        counters.add(db, counters.NO_BOOT, counts)
        fan_out.settle(db, deleted, channels)
        if rejection is None:
            gone = [
                message for message in messages if (message.uid, message.channel) not in deleted
            ]
            _mark_delivered(db, gone, channels)


def _mark_delivered(
    db: sqlite3.Connection, messages: Iterable[Message], channels: fan_out.Channels
) -> None:
    """Mark signals that all exporters have, so that none is encoded again.

    Their messages were dropped from the outbox on the way, with the report that they had.
    """
    for message in messages:
        column = {"logs": "log_queued", "traces": "span_queued"}[channel_signal(message.channel)]
        pending = f"SELECT 1 FROM events WHERE uid = ? AND NOT {column}"  # noqa: S608  names of our own
        if not db.execute(pending, (message.uid,)).fetchone():
            continue
        if not fan_out.settle_dropped(db, message.uid, message.channel, channels):
            continue
        update = f"{column} = 1 WHERE uid = ? AND NOT {column}"
        checksums.update_events(db, update, (message.uid,))
