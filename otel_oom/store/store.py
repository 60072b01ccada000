"""The store as the stages see it: each method is one step on the disk, or none of it.

The store does not know what the bytes mean.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from otel_oom.event import Missed, NoVictim, OomKill, Reaping, VictimExit
from otel_oom.reconcile import Account, Stored
from otel_oom.store import counters, dead_letters, folder, journal, outbox
from otel_oom.store.database import NAME, Database
from otel_oom.store.rows import Encoded, JournalRow, Message
from otel_oom.witness import Witness


class Store:
    """The durable state in one folder; safe to use from several threads.

    A context manager: entering takes the folder's lock and opens the database. Each method
    raises sqlite3.Error when what it was to read or write is not on the disk.
    """

    def __init__(self, path: Path) -> None:
        """Prepare a store in the folder ``path``, which is made if it is missing."""
        self.folder = path
        self._database = Database(path / NAME)

    def __enter__(self) -> Self:
        """Lock and open.

        Raises:
            StoreError: another agent has it, or it can't be read or written.
        """
        self._lock = folder.lock(self.folder)
        try:
            self._database.open()
        except (sqlite3.Error, OSError) as error:
            os.close(self._lock)
            raise folder.StoreError(
                f"The database in {self.folder} can't be opened: {error}. "
                "Move it away and look into it later, or name another folder with --state-dir."
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        """Close and release the lock."""
        self._database.close()
        os.close(self._lock)

    def record(self, event: OomKill | NoVictim | Missed, witness: Witness) -> bool:
        """Put an event on the disk, synced; ``False`` when it was there already."""
        return self._database.write(lambda db: journal.insert(db, event, witness))

    def record_exit(self, boot_id: str, exit_: VictimExit) -> bool:
        """Note how the victim's process ended, for its span; ``False`` without such a victim."""
        return self._database.write(lambda db: journal.add_exit(db, boot_id, exit_))

    def record_reaping(self, boot_id: str, step: Reaping) -> bool:
        """Note a step of the kernel's reaper, for its victim's span; at most some of them."""
        return self._database.write(lambda db: journal.add_reaping(db, boot_id, step))

    def open_kills(self, most: int, boot_id: str, deadline_boottime_ns: int) -> list[JournalRow]:
        """The oldest events that owe a log, or a span that can be told now.

        A span can be told when the victim has exited, when it was marked before
        ``deadline_boottime_ns``, or in another boot than ``boot_id``.
        """
        return self._database.read(
            lambda db: journal.owing(db, most, boot_id, deadline_boottime_ns)
        )

    def oldest_open_boottime_ns(self, boot_id: str) -> int | None:
        """When the oldest kill of this boot that still owes something was, if there is one."""
        return self._database.read(lambda db: journal.oldest_owing_boottime_ns(db, boot_id))

    def queue(self, entries: Sequence[Encoded]) -> None:
        """Move logs and spans into the outbox and their kills on in the journal, as one step."""

        def move(db: sqlite3.Connection) -> None:
            for entry in entries:
                outbox.insert(db, entry)
                journal.told(db, entry)

        self._database.write(move)

    def waiting(self, signal: str, most: int, most_bytes: int) -> list[Message]:
        """The oldest messages of ``signal``: at most ``most``, of ``most_bytes`` together.

        One message alone may be larger.
        """
        return self._database.read(lambda db: outbox.oldest(db, signal, most, most_bytes))

    def delivered(self, messages: Sequence[Message]) -> None:
        """Let go of messages that the backend has taken."""
        self._database.write(lambda db: _let_go(db, messages, counters.SENT))

    def refused(self, messages: Sequence[Message], reason: str) -> None:
        """Set messages aside that the backend will not take, with its reason."""

        def move(db: sqlite3.Connection) -> None:
            dead_letters.insert(db, messages, reason)
            _let_go(db, messages, counters.REFUSED)

        self._database.write(move)

    def count(self, boot_id: str, counts: Mapping[str, int]) -> None:
        """Raise counters of a boot, or of :data:`~otel_oom.store.counters.NO_BOOT`."""
        self._database.write(lambda db: counters.add(db, boot_id, counts))

    def note(self, boot_id: str, values: Mapping[str, int]) -> None:
        """Set counters to what was last seen."""
        self._database.write(lambda db: counters.put(db, boot_id, values))

    def counters(self, boot_id: str) -> dict[str, int]:
        """The counters of a boot, or of :data:`~otel_oom.store.counters.NO_BOOT`, by name."""
        return self._database.read(lambda db: counters.of(db, boot_id))

    def totals(self) -> dict[str, int]:
        """The counters of all boots together, by name."""
        return self._database.read(counters.totals)

    def account(self, boot_id: str) -> Account:
        """How far the kernel's own count of a boot is accounted for."""
        found = self.counters(boot_id)
        return Account(
            told=found.get(counters.CAPTURED_KILL, 0),
            again=found.get(counters.AGAIN, 0),
            missed=found.get(counters.MISSED, 0),
            sequence=found.get(counters.LOG_SEQUENCE),
        )

    def settle(self, boot_id: str, *, again: int, sequence: int) -> None:
        """Note how often the kernel counted a kill twice, and up to which line of its log."""
        self.note(boot_id, {counters.AGAIN: again, counters.LOG_SEQUENCE: sequence})

    def kills_of(self, boot_id: str, most: int) -> list[Stored]:
        """The newest kills of a boot, as far as they can be known again in the kernel's log."""
        return self._database.read(lambda db: journal.kills_of(db, boot_id, most))

    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        return self._database.read(
            lambda db: {
                table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608  names of our own
                for table in ("journal", "outbox", "dead_letters")
            }
        )


def _let_go(db: sqlite3.Connection, messages: Sequence[Message], counter: str) -> None:
    gone = outbox.delete(db, messages)
    counters.add(db, counters.NO_BOOT, {counter + signal: n for signal, n in gone.items()})
