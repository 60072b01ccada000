"""What is on disk: the journal of kills, the outbox of OTLP bytes, the dead letters.

One SQLite file, one connection (versions before 3.51.3 can corrupt the log when two connections
reset it), synced at every commit. The store does not know what the bytes mean.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from otel_oom.event import NoVictim, OomKill, Reaping, VictimExit
from otel_oom.witness import Witness

SCHEMA_VERSION: Final = 1

_SCHEMA: Final = """
CREATE TABLE journal (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    boot_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    tgid INTEGER,
    started_ns INTEGER,
    boottime_ns INTEGER NOT NULL,
    stored_unix_ns INTEGER NOT NULL,
    event TEXT NOT NULL,
    witness TEXT NOT NULL,
    exit TEXT,
    reaper TEXT NOT NULL DEFAULT '[]',
    log_queued INTEGER NOT NULL DEFAULT 0,
    span_queued INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX journal_open ON journal (id) WHERE NOT (log_queued AND span_queued);
CREATE UNIQUE INDEX journal_victim ON journal (boot_id, tgid, started_ns);
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL,
    signal TEXT NOT NULL,
    payload BLOB NOT NULL,
    queued_unix_ns INTEGER NOT NULL,
    UNIQUE (uid, signal)
);
CREATE INDEX outbox_signal ON outbox (signal, id);
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL,
    signal TEXT NOT NULL,
    payload BLOB NOT NULL,
    reason TEXT NOT NULL,
    refused_unix_ns INTEGER NOT NULL
);
"""

_TYPES: Final[dict[str, type[OomKill | NoVictim]]] = {"kill": OomKill, "no_victim": NoVictim}

_MOST_STEPS: Final = 16
"""The reaper tries a victim again and again; what counts is the first and the last of it."""


class StoreError(Exception):
    """The store can't be used; the message says why and what to do next."""


@dataclass(frozen=True, slots=True)
class JournalRow:
    """An event that still owes its log, its span or both.

    ``waited`` is whether its victim has had its time to exit.
    """

    id: int
    event: OomKill | NoVictim
    witness: Witness
    exit: VictimExit | None
    reaper: tuple[Reaping, ...]
    waited: bool
    stored_unix_ns: int
    log_queued: bool
    span_queued: bool


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a journal row was translated to: its log, its span or both, as OTLP bytes."""

    row_id: int
    uid: str
    log: bytes | None
    span: bytes | None

    @property
    def payloads(self) -> dict[str, bytes | None]:
        """The bytes by their signal."""
        return {"logs": self.log, "traces": self.span}


@dataclass(frozen=True, slots=True)
class Message:
    """Encoded OTLP that waits to be sent: one signal of one kill."""

    id: int
    uid: str
    payload: bytes


class Store:
    """The durable state in one folder; safe to use from several threads.

    A context manager: entering takes the folder's lock and opens the database.
    """

    def __init__(self, folder: Path) -> None:
        """Prepare a store in ``folder``, which is made if it is missing."""
        self.folder = folder
        self._mutex = threading.Lock()

    def __enter__(self) -> Self:
        """Lock and open.

        Raises:
            StoreError: another agent has it, or it can't be read or written.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(
                self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise StoreError(
                f"The state folder {self.folder} can't be used: {error.strerror}. "
                "Name another with --state-dir, or run as a user who may write there."
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise StoreError(
                f"Another otel-oom already works in {self.folder}. "
                "Stop it first, or give this one a --state-dir of its own."
            ) from None
        try:
            self._open()
        except (sqlite3.Error, OSError) as error:
            os.close(self._lock)
            raise StoreError(
                f"The database in {self.folder} can't be opened: {error}. "
                "Move it away and look into it later, or name another folder with --state-dir."
            ) from error
        return self

    def _open(self) -> None:
        path = self.folder / "otel-oom.db"
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        # In KiB; the default of 2,000 would be a fifteenth of the agent's memory.
        self._db.execute("PRAGMA cache_size=-256")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._db.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
        elif version != SCHEMA_VERSION:
            self._db.close()
            message = f"it has schema version {version}, this otel-oom knows {SCHEMA_VERSION}"
            raise sqlite3.DatabaseError(message)

    def __exit__(self, *_: object) -> None:
        """Close and release the lock."""
        with self._mutex:
            self._db.close()
        os.close(self._lock)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._mutex:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def record(self, event: OomKill | NoVictim, witness: Witness) -> bool:
        """Put an event on the disk, synced; ``False`` when it was there already.

        A process dies once: marked again, by whatever thread, it is the same kill. Only what was
        killed has a span.

        Raises:
            sqlite3.Error: it is not on the disk.
        """
        victim = event.victim if isinstance(event, OomKill) else None
        dies = isinstance(event, OomKill) and not event.skipped
        with self._transaction() as db:
            cursor = db.execute(
                "INSERT OR IGNORE INTO journal (uid, boot_id, kind, tgid, started_ns, boottime_ns,"
                " stored_unix_ns, event, witness, span_queued)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    event.uid,
                    event.boot_id,
                    "kill" if victim else "no_victim",
                    victim.tgid if victim and dies else None,
                    victim.started_ns if victim else None,
                    event.boottime_ns,
                    time.time_ns(),
                    json.dumps(event.to_json()),
                    json.dumps(witness.to_json()),
                    not dies,
                ),
            )
            return cursor.rowcount == 1

    def record_exit(self, boot_id: str, exit_: VictimExit) -> bool:
        """Note how the victim's process ended, for its span; ``False`` without such a victim.

        Raises:
            sqlite3.Error: it is not on the disk.
        """
        with self._transaction() as db:
            cursor = db.execute(
                "UPDATE journal SET exit = ? WHERE boot_id = ? AND tgid = ?"
                " AND (started_ns IS NULL OR started_ns = ?) AND exit IS NULL",
                (json.dumps(exit_.to_json()), boot_id, exit_.tgid, exit_.started_ns),
            )
            return cursor.rowcount > 0

    def record_reaping(self, boot_id: str, step: Reaping) -> bool:
        """Note a step of the kernel's reaper, for its victim's span; at most some of them.

        Raises:
            sqlite3.Error: it is not on the disk.
        """
        with self._transaction() as db:
            cursor = db.execute(
                "UPDATE journal SET reaper = json_insert(reaper, '$[#]', json(?))"
                " WHERE boot_id = ? AND tgid = ? AND (started_ns IS NULL OR started_ns = ?)"
                " AND json_array_length(reaper) < ?",
                (json.dumps(step.to_json()), boot_id, step.tgid, step.started_ns, _MOST_STEPS),
            )
            return cursor.rowcount > 0

    def open_kills(self, most: int, boot_id: str, deadline_boottime_ns: int) -> list[JournalRow]:
        """The oldest events that owe a log, or a span that can be told now.

        A span can be told when the victim has exited, when it was marked before
        ``deadline_boottime_ns``, or in another boot than ``boot_id``.
        """
        with self._mutex:
            rows = self._db.execute(
                "SELECT id, kind, event, witness, exit, reaper,"
                " boot_id != ?1 OR boottime_ns < ?2 AS waited,"
                " stored_unix_ns, log_queued, span_queued"
                " FROM journal WHERE NOT (log_queued AND span_queued) AND"
                " (NOT log_queued OR exit IS NOT NULL OR waited)"
                " ORDER BY id LIMIT ?3",
                (boot_id, deadline_boottime_ns, most),
            ).fetchall()
        return [
            JournalRow(
                id=row[0],
                event=_TYPES[row[1]].from_json(json.loads(row[2])),
                witness=Witness.from_json(json.loads(row[3])),
                exit=VictimExit(**json.loads(row[4])) if row[4] else None,
                reaper=tuple(Reaping(**step) for step in json.loads(row[5])),
                waited=bool(row[6]),
                stored_unix_ns=row[7],
                log_queued=bool(row[8]),
                span_queued=bool(row[9]),
            )
            for row in rows
        ]

    def oldest_open_boottime_ns(self, boot_id: str) -> int | None:
        """When the oldest kill of this boot that still owes something was, if there is one."""
        with self._mutex:
            row = self._db.execute(
                "SELECT min(boottime_ns) FROM journal"
                " WHERE NOT (log_queued AND span_queued) AND boot_id = ?",
                (boot_id,),
            ).fetchone()
        return None if row[0] is None else int(row[0])

    def queue(self, entries: Sequence[Encoded]) -> None:
        """Move logs and spans into the outbox and their kills on in the journal, as one step."""
        now = time.time_ns()
        with self._transaction() as db:
            for entry in entries:
                for signal, payload in entry.payloads.items():
                    if payload is not None:
                        db.execute(
                            "INSERT OR IGNORE INTO outbox (uid, signal, payload, queued_unix_ns)"
                            " VALUES (?, ?, ?, ?)",
                            (entry.uid, signal, payload, now),
                        )
                db.execute(
                    "UPDATE journal SET log_queued = log_queued OR ?,"
                    " span_queued = span_queued OR ? WHERE id = ?",
                    (entry.log is not None, entry.span is not None, entry.row_id),
                )

    def waiting(self, signal: str, most: int, most_bytes: int) -> list[Message]:
        """The oldest messages of ``signal``: at most ``most``, of ``most_bytes`` together.

        One message alone may be larger.
        """
        with self._mutex:
            rows = self._db.execute(
                "SELECT id, uid, payload FROM outbox WHERE signal = ? ORDER BY id LIMIT ?",
                (signal, most),
            ).fetchall()
        messages: list[Message] = []
        size = 0
        for id_, uid, payload in rows:
            size += len(payload)
            if messages and size > most_bytes:
                break
            messages.append(Message(id_, uid, payload))
        return messages

    def delivered(self, messages: Sequence[Message]) -> None:
        """Let go of messages that the backend has taken."""
        with self._transaction() as db:
            db.executemany("DELETE FROM outbox WHERE id = ?", [(m.id,) for m in messages])

    def refused(self, messages: Sequence[Message], reason: str) -> None:
        """Set messages aside that the backend will not take, with its reason."""
        now = time.time_ns()
        with self._transaction() as db:
            db.executemany(
                "INSERT INTO dead_letters (uid, signal, payload, reason, refused_unix_ns)"
                " SELECT uid, signal, payload, ?, ? FROM outbox WHERE id = ?",
                [(reason, now, m.id) for m in messages],
            )
            db.executemany("DELETE FROM outbox WHERE id = ?", [(m.id,) for m in messages])

    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        with self._mutex:
            return {
                table: self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608  names of our own
                for table in ("journal", "outbox", "dead_letters")
            }
