"""The store as the stages see it: each method is one step on the disk, or none of it.

The store does not know what the bytes mean.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Self

from msgspec.structs import replace

from otel_oom import __version__
from otel_oom.config.store import StoreLimits
from otel_oom.model.events import NoVictim, OomKill, Panic, ReaperStep, StoredEvent, VictimExit
from otel_oom.model.snapshot import Snapshot
from otel_oom.store import counters, dead_letters, event_log, outbox, sent_copies
from otel_oom.store.database import Database
from otel_oom.store.history import History
from otel_oom.store.recovery import salvage
from otel_oom.store.recovery.salvage import QuarantinedDatabase
from otel_oom.store.state_dir import StateFolder, StoreError
from otel_oom.store.stats import StoreStats
from otel_oom.store.types import (
    Backlog,
    BootTally,
    DeadLetter,
    Message,
    OutboxEntry,
    PendingEvent,
    Rejection,
    StoredKill,
)

_LOG = logging.getLogger(__name__)

_MOST_SETTLED: Final = 4096
"""So many may wait for the disk to let go of them before nothing more is sent."""

_TALLY: Final = 1000
"""Messages that are counted in one step."""

_UPKEEP_S: Final = 60.0
_SOON_S: Final = 5.0


class Store:
    """The durable state in one folder; safe to use from several threads.

    A context manager: entering takes the folder's lock and opens the database. Each method
    raises sqlite3.Error when what it was to read or write is not on the disk.
    """

    def __init__(self, path: Path, bounds: StoreLimits = StoreLimits()) -> None:  # noqa: B008  frozen
        """Prepare a store in the folder ``path``, which is made if it is missing."""
        self.folder = path
        self._bounds = bounds
        self._state_folder = StateFolder(path)
        self._database = Database(self._state_folder, bounds)
        self.stats = StoreStats(self._database)
        self.history = History(self._database)
        self._settled: dict[int, tuple[Message, Rejection | None]] = {}
        self._settling = threading.Lock()
        self._upkeep = 0.0
        self._unfinished: str | None = None

    def __enter__(self) -> Self:
        """Lock and open.

        Raises:
            StoreError: another agent has it, or it can't be read or written.
        """
        self._state_folder.lock()
        try:
            self._database.open()
            self._database.write(lambda db: event_log.retry_undecodable(db, __version__))
        except StoreError:
            self._state_folder.release()
            raise
        except (sqlite3.Error, OSError) as error:
            self._database.close()
            self._state_folder.release()
            raise StoreError(
                f"The database in {self.folder} can't be opened: {error}. "
                "Move it away and look into it later, or name another folder with --state-dir."
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        """Close and release the lock."""
        with suppress(sqlite3.Error):
            self._let_go()
        self._database.close()
        self._state_folder.release()

    def insert(
        self,
        event: StoredEvent,
        snapshot: Snapshot,
        *,
        unfinished: bool = False,
    ) -> bool:
        """Put an event on the disk, synced; ``False`` when it was there already.

        One that is ``unfinished`` is not told before :meth:`finish`, or the next start.
        """

        def insert(db: sqlite3.Connection) -> bool:
            new = event_log.insert(db, event, snapshot)
            if new and unfinished:
                self._unfinished = event.uid
            return new

        return self._database.write(insert, adds=True)

    def complete(self, uid: str, snapshot: Snapshot | None) -> None:
        """Put in place of the unfinished event's snapshot one that has seen more, if there is one.

        It may be told from now on, even when this fails.
        """
        try:
            if snapshot:
                self._database.write(
                    lambda db: event_log.set_snapshot(db, uid, snapshot), adds=True
                )
        finally:
            self._unfinished = None

    def add_exit(self, boot_id: str, exit_: VictimExit) -> bool:
        """Note how the victim's process ended, for its span; ``False`` without such a victim."""
        return self._database.write(lambda db: event_log.add_exit(db, boot_id, exit_), adds=True)

    def add_reaper_step(self, boot_id: str, step: ReaperStep) -> bool:
        """Note a step of the kernel's reaper, for its victim's span; at most some of them."""
        return self._database.write(
            lambda db: event_log.add_reaper_step(db, boot_id, step), adds=True
        )

    def pending_events(
        self,
        most: int,
        boot_id: str,
        deadline_boottime_ns: int,
        decoded: Mapping[str, PendingEvent] = {},
    ) -> list[PendingEvent]:
        """The oldest events that owe a log, or a span that can be told now.

        A span can be told when the victim has exited, when it was marked before
        ``deadline_boottime_ns``, or in another boot than ``boot_id``. Events that the caller has
        ``decoded`` before, by uid, are not decoded again.
        """
        while True:
            rows, undecodable = self._database.read(
                lambda db: event_log.pending(
                    db,
                    most,
                    boot_id,
                    deadline_boottime_ns,
                    but=self._unfinished,
                    decoded=decoded,
                )
            )
            if undecodable:
                self.quarantine(undecodable)
            if rows or not undecodable:
                return rows

    def quarantine(self, reasons: Mapping[int, str]) -> None:
        """Set journal rows aside, by id, that can't be read or encoded; they stay on the disk.

        They are taken up again when another version of this program opens the store.
        """
        self._database.write(lambda db: event_log.quarantine(db, reasons, __version__))
        for id_, reason in reasons.items():
            _LOG.error(
                "Row %d of the journal can't be told (%s); it is kept, and no other waits for it",
                id_,
                reason,
            )

    def oldest_pending_boottime_ns(self, boot_id: str) -> int | None:
        """When the oldest kill of this boot that still owes something was, if there is one."""
        return self._database.read(lambda db: event_log.oldest_pending_boottime_ns(db, boot_id))

    def enqueue(self, entries: Sequence[OutboxEntry]) -> None:
        """Move logs and spans into the outbox and their kills on in the journal, as one step."""

        def move(db: sqlite3.Connection) -> None:
            for entry in entries:
                outbox.insert(db, entry)
                event_log.mark_queued(db, entry)
                if self._database.has_spare_space(db):
                    sent_copies.insert(db, entry)
                counters.add(db, counters.NO_BOOT, entry.counts)

        self._database.write(move)

    def next_batch(self, signal: str, most: int, most_bytes: int) -> list[Message]:
        """The oldest messages of ``signal``: at most ``most``, of ``most_bytes`` together.

        One message alone may be larger; one that is to go alone comes alone.
        """
        self._let_go()
        but = [*self._settled]
        return self._database.read(lambda db: outbox.next_batch(db, signal, most, most_bytes, but))

    def ack(self, messages: Sequence[Message]) -> None:
        """Let go of messages that the backend has taken."""
        self._settle(messages, None)

    def reject(self, messages: Sequence[Message], refusal: Rejection) -> None:
        """Set messages aside that the backend will not take."""
        self._settle(messages, refusal)

    def _settle(self, messages: Sequence[Message], refusal: Rejection | None) -> None:
        with self._settling:
            self._settled |= {m.id: (replace(m, payload=b""), refusal) for m in messages}
        self._let_go()

    def _let_go(self) -> None:
        """Bring to the disk what backends have answered for.

        What the disk can't let go of now is not sent again meanwhile: it is remembered.
        """
        with self._settling:
            settled = dict(self._settled)
        if not settled:
            return
        try:
            self._database.write(lambda db: _let_go(db, settled.values()))
        except sqlite3.Error:
            self._upkeep = min(self._upkeep, time.monotonic() + _SOON_S)
            if len(settled) > _MOST_SETTLED:
                raise
            return
        with self._settling:
            for id_ in settled:
                # Another thread may have had the same to let go of.
                self._settled.pop(id_, None)

    def maintain(self) -> float:
        """Do what is due from time to time, if it is; the seconds until it is due again."""
        due = self._upkeep - time.monotonic()
        if due > 0:
            return due
        self._let_go()
        full = self._database.prune(self._bounds.max_age_s)
        wait_s = _SOON_S if full or self._settled else _UPKEEP_S
        self._upkeep = time.monotonic() + wait_s
        return wait_s

    def quarantined_databases(self) -> list[QuarantinedDatabase]:
        """The databases that could not be read and were moved aside, oldest first."""
        return self._database.read(salvage.quarantined_databases)

    def add_counters(self, boot_id: str, counts: Mapping[str, int]) -> None:
        """Raise counters of a boot, or of :data:`~otel_oom.store.counters.NO_BOOT`."""
        self._database.write(lambda db: counters.add(db, boot_id, counts))

    def set_counters(self, boot_id: str, values: Mapping[str, int]) -> None:
        """Set counters to what was last seen."""
        self._database.write(lambda db: counters.set_values(db, boot_id, values))

    def counters(self, boot_id: str) -> dict[str, int]:
        """The counters of a boot, or of :data:`~otel_oom.store.counters.NO_BOOT`, by name."""
        return self._database.read(lambda db: counters.by_boot(db, boot_id))

    def counter_totals(self) -> dict[str, int]:
        """The counters of all boots together, by name."""
        return self._database.read(counters.totals)

    def boot_tally(self, boot_id: str) -> BootTally:
        """How far the kernel's own count of a boot is accounted for."""
        found = self.counters(boot_id)
        return BootTally(
            recorded=found.get(counters.CAPTURED_KILL, 0),
            double_counted=found.get(counters.DOUBLE_COUNTED, 0),
            missed=found.get(counters.MISSED, 0),
            log_sequence=found.get(counters.LOG_SEQUENCE),
        )

    def update_tally(
        self, boot_id: str, *, double_counted: int, log_sequence: int, log_starts: bool = False
    ) -> None:
        """Note how often the kernel counted a kill twice, and up to which line of its log.

        ``log_starts``: nothing up to that line counts, as long as the boot lasts.
        """
        begin = {counters.LOG_START: log_sequence} if log_starts else {}
        self.set_counters(
            boot_id,
            {counters.DOUBLE_COUNTED: double_counted, counters.LOG_SEQUENCE: log_sequence, **begin},
        )

    def stored_kills(self, boot_id: str, most: int) -> list[StoredKill]:
        """The newest kills of a boot, as far as they can be known again in the kernel's log."""
        return self._database.read(lambda db: event_log.stored_kills(db, boot_id, most))

    def replayed_events(self) -> Iterator[OomKill | NoVictim | Panic]:
        """What was found in logs of the past and is still stored, oldest first."""
        after: int | None = 0
        while after is not None:
            events, after = self._database.read(
                partial(event_log.replayed_after, after=after, most=_TALLY)
            )
            yield from events

    def pending_count(self) -> int:
        """How much is still to be sent: messages, and events that are not made into any yet."""
        # In this order: what becomes a message meanwhile counts twice, and never not at all.
        owing = self._database.read(event_log.count_pending)
        return owing + sum(backlog.count for backlog in self.backlogs())

    def backlogs(self) -> list[Backlog]:
        """What waits to be sent, by signal; what comes or goes meanwhile may be in it or not."""
        found: dict[str, Backlog] = {}
        after: int | None = 0
        while after is not None:
            parts, after = self._database.read(partial(outbox.backlogs, after=after, most=_TALLY))
            for part in parts:
                sofar = found.get(part.signal, replace(part, count=0, size=0))
                found[part.signal] = replace(
                    sofar, count=sofar.count + part.count, size=sofar.size + part.size
                )
        return [found[signal] for signal in sorted(found)]

    def dead_letters(self, after: int, most: int) -> list[DeadLetter]:
        """The oldest dead letters past the id ``after``, at most ``most``."""
        return self._database.read(lambda db: dead_letters.page(db, after, most))

    def newest_dead_letter_id(self) -> int:
        """The id of the newest dead letter; 0 without any."""
        return self._database.read(dead_letters.newest_id)

    def resend_dead_letters(self, ids: Sequence[int]) -> int:
        """Move dead letters back into the outbox; how many there were."""

        def move(db: sqlite3.Connection) -> int:
            dead_letters.copy_to_outbox(db, ids)
            return dead_letters.delete(db, ids)

        return self._database.write(move)

    def drop_dead_letters(self, ids: Sequence[int]) -> int:
        """Delete dead letters; how many there were."""
        return self._database.write(lambda db: dead_letters.delete(db, ids))

    def row_counts(self) -> dict[str, int]:
        """How many rows each table has."""
        return self._database.read(
            lambda db: {
                table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608  names of our own
                for table in ("events", "outbox", "dead_letters")
            }
        )


def _let_go(db: sqlite3.Connection, settled: Iterable[tuple[Message, Rejection | None]]) -> None:
    """Delete what was taken, and move what was refused, each counted as often as it was there."""
    by_answer: dict[Rejection | None, list[Message]] = {}
    for message, refusal in settled:
        by_answer.setdefault(refusal, []).append(message)
    for refusal, messages in by_answer.items():
        if refusal is not None:
            dead_letters.insert(db, messages, refusal)
        counter = counters.SENT if refusal is None else counters.REJECTED
        gone = outbox.delete(db, messages)
        counters.add(db, counters.NO_BOOT, {counter + name: n for name, n in gone.items()})
