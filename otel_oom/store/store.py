"""The store as the stages use it: each method is one transaction.

The store does not know what the bytes mean.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Self

from otel_oom import __version__
from otel_oom.config.store import StoreLimits
from otel_oom.linux import clock
from otel_oom.model.events import OomKill, ReaperStep, ReplayedEvent, StoredEvent, VictimExit
from otel_oom.model.near_limit import NearLimit
from otel_oom.model.snapshot import Snapshot
from otel_oom.store import (
    counters,
    drops,
    encoded_events,
    event_log,
    fan_out,
    kill_series,
    outbox,
    repeats,
)
from otel_oom.store.accepted_deltas import AcceptedDeltas
from otel_oom.store.acknowledgements import Acknowledgements
from otel_oom.store.database import Database
from otel_oom.store.dead_letters import DeadLetters
from otel_oom.store.delayed_sync import DelayedSync
from otel_oom.store.history import History
from otel_oom.store.kernel_tally import KernelTally
from otel_oom.store.recovery import salvage
from otel_oom.store.rehearsal import Rehearsal
from otel_oom.store.state_dir import StateDirectory, StoreError
from otel_oom.store.stats import StoreStats
from otel_oom.store.types import Message, OutboxEntry, PendingEvent, Rejection, Repeat

_LOG = logging.getLogger(__name__)

_PAGE: Final = 1000
"""Rows that are read in one step."""

_EVENTS: Final = "events"
_MAINTENANCE_S: Final = 60.0
_SOON_S: Final = 5.0


class Store:
    """The durable state in one directory; safe to use from several threads.

    A context manager: entering locks the directory and opens the database. Each method raises
    sqlite3.Error if the disk does not have what it was to write, or can't be read.
    """

    def __init__(self, path: Path, limits: StoreLimits = StoreLimits()) -> None:  # noqa: B008  frozen
        self.path = path
        self._limits = limits
        self._state_dir = StateDirectory(path)
        self._database = Database(self._state_dir, limits)
        self.stats = StoreStats(self._database)
        self.history = History(self._database)
        self.tally = KernelTally(self._database)
        self.accepted_deltas = AcceptedDeltas(self._database)
        self.dead_letters = DeadLetters(self._database)
        self.rehearsal = Rehearsal(self._database)
        self.delayed_sync = DelayedSync(self._database)
        self.channels: fan_out.Channels = {}
        self._acknowledgements = Acknowledgements(self._database, lambda: self.channels)
        self._maintenance_due = 0.0
        self._incomplete_uid: str | None = None
        self._boot_id = clock.boot_id()
        self._turns: dict[str, str] = {}
        """The holder that was the last one, by channel; of pending events, by :data:`_EVENTS`."""

    def __enter__(self) -> Self:
        """Lock and open. Raises StoreError if another agent uses it, or it is not usable."""
        self._state_dir.lock()
        try:
            self._database.open()
            self._database.write(lambda db: event_log.retry_undecodable(db, __version__))
        except StoreError:
            self._state_dir.release()
            raise
        except (sqlite3.Error, OSError) as error:
            self._database.close()
            self._state_dir.release()
            raise StoreError(
                f"The database in {self.path} can't be opened: {error}. "
                "Move it away and look into it later, or name another directory with --state-dir."
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(sqlite3.Error):
            self._acknowledgements.flush()
        self._database.close()
        self._state_dir.release()

    def insert(self, event: StoredEvent, snapshot: Snapshot, *, incomplete: bool = False) -> bool:
        """Store an event, synced; return ``False`` if it is stored already.

        An ``incomplete`` one is not pending before :meth:`complete`, or the next start. The
        event of a cgroup near its limit drops no other: without space it raises StoreError.
        """

        def insert(db: sqlite3.Connection) -> bool:
            is_new = event_log.insert(db, event, snapshot)
            if is_new and incomplete:
                self._incomplete_uid = event.uid
            return is_new

        return self._database.write(insert, adds=True, spare_only=isinstance(event, NearLimit))

    def complete(self, kill: OomKill, snapshot: Snapshot | None) -> None:
        """Replace the incomplete kill and its snapshot, if there are better ones.

        The kill is pending from now on, even if this fails. Like an exit and a reaper step, this
        is synced a little later: :mod:`otel_oom.store.delayed_sync`.
        """
        try:
            if snapshot:
                self._database.write(
                    lambda db: event_log.replace_kill(db, kill, snapshot), adds=True, synced=False
                )
        finally:
            self._incomplete_uid = None

    def add_exit(self, boot_id: str, exit_: VictimExit) -> bool:
        """Store the exit of a victim, for its span; return ``False`` without such a victim."""
        return self._database.write(
            lambda db: event_log.add_exit(db, boot_id, exit_), adds=True, synced=False
        )

    def add_reaper_step(self, boot_id: str, step: ReaperStep) -> bool:
        """Store a step of the kernel's reaper, for its victim's span; return ``False`` if not."""
        return self._database.write(
            lambda db: event_log.add_reaper_step(db, boot_id, step), adds=True, synced=False
        )

    def pending_events(
        self,
        limit: int,
        boot_id: str,
        deadline_boottime_ns: int,
        decoded: Mapping[str, PendingEvent] = {},
    ) -> list[PendingEvent]:
        """Return events whose log is not queued, or whose span is due and not queued.

        The holders take turns, from behind that of the last event that was enqueued; the oldest
        events of each come first. A span is due when the victim has exited, when it was marked
        before ``deadline_boottime_ns``, or in another boot than ``boot_id``. Events that the caller
        has ``decoded`` before, by uid, are not decoded again.
        """
        while True:
            events, undecodable = self._database.read(
                lambda db: event_log.pending(
                    db,
                    limit,
                    boot_id,
                    deadline_boottime_ns,
                    excluded_uid=self._incomplete_uid,
                    decoded=decoded,
                    turn=self._turns.get(_EVENTS, ""),
                )
            )
            if undecodable:
                self.quarantine(undecodable)
            if events or not undecodable:
                return events

    def quarantine(self, reasons: Mapping[int, str]) -> None:
        """Quarantine events, by id, that can't be decoded or encoded; they stay on the disk.

        The store releases them when another version of this program opens it.
        """
        self._database.write(lambda db: event_log.quarantine(db, reasons, __version__))
        for id_, reason in reasons.items():
            _LOG.error(
                "Store: event row %d can't be decoded or encoded, quarantined: %s", id_, reason
            )

    def oldest_pending_boottime_ns(self, boot_id: str) -> int | None:
        """Return the kernel time of the oldest pending event of a boot; ``None`` without any."""
        return self._database.read(lambda db: event_log.oldest_pending_boottime_ns(db, boot_id))

    def enqueue(self, entries: Sequence[OutboxEntry]) -> None:
        """Add encoded events to the outbox, and mark them as queued, in transactions of 1 MiB.

        This is synced a little later, mostly with the response: without it the event is encoded
        again, with the same uid.
        """
        for part in outbox.split(entries, self.channels):
            self._database.write(partial(self._enqueue, entries=part), synced=False)

    def set_channels(self, channels: fan_out.Channels) -> None:
        """Queue for these channels; move the messages of exporters that are gone to them."""
        self.channels = channels
        while self._database.write(lambda db: fan_out.move_orphans(db, channels)):
            pass

    def _enqueue(self, db: sqlite3.Connection, entries: Sequence[OutboxEntry]) -> None:
        for entry in entries:
            holder = self._turns[_EVENTS] = outbox.insert(db, entry, self.channels)
            is_new = event_log.mark_queued(db, entry)
            if self._database.has_spare_space(db):
                encoded_events.insert(db, entry)
            if is_new:
                kill_series.count(db, entry, holder, self._limits.max_series)
                if entry.repeat and entry.repeat.key:
                    repeats.save(db, entry.repeat, holder)

    def find_repeat(self, key: str) -> Repeat | None:
        """Return the last kill of the victim named ``key``."""
        return self._database.read(lambda db: repeats.find(db, key))

    def next_batch(
        self, channel: str, max_count: int, max_bytes: int, parked: Sequence[str] = ()
    ) -> list[Message]:
        """Return messages of a channel: at most ``max_count``, of ``max_bytes`` together.

        The holders take turns; the oldest messages of each come first. Without progress the same
        come again. A single message may be larger, and one that must be sent alone comes alone.
        """
        self._flush_acknowledgements()
        excluded, turn = self._acknowledgements.ids, self._turns.get(channel, "")
        return self._database.read(
            lambda db: outbox.next_batch(
                db, channel, max_count, max_bytes, excluded, turn=turn, parked=parked
            )
        )

    def find_message(self, channel: str, uid: str) -> Message | None:
        """Return a message of the outbox, if it is still there."""
        return self._database.read(lambda db: outbox.find(db, channel, uid))

    def ack(self, messages: Sequence[Message]) -> None:
        """Delete messages that the backend has accepted."""
        self._acknowledge(messages, None)

    def reject(self, messages: Sequence[Message], rejection: Rejection) -> None:
        """Keep messages that the backend has rejected as dead letters."""
        self._acknowledge(messages, rejection)

    def _acknowledge(self, messages: Sequence[Message], rejection: Rejection | None) -> None:
        self._turns |= {message.channel: message.holder for message in messages}
        self._acknowledgements.add(messages, rejection)
        self._flush_acknowledgements()

    def _flush_acknowledgements(self) -> bool:
        is_flushed = False
        try:
            is_flushed = self._acknowledgements.flush()
        finally:
            if not is_flushed:
                self._maintenance_due = min(self._maintenance_due, time.monotonic() + _SOON_S)
        return is_flushed

    def maintain(self) -> float:
        """Prune the history and report drops if that is due; return the seconds until then."""
        remaining_s = self._maintenance_due - time.monotonic()
        if remaining_s > 0:
            return remaining_s
        is_flushed = self._flush_acknowledgements()
        is_disk_full = self._database.prune(self._limits.max_age_s)
        # Without space for the events, the drops are kept for the next time.
        with suppress(sqlite3.Error):
            if self._database.read(drops.is_report_due):
                self._database.write(lambda db: drops.report(db, self._boot_id), adds=True)
        wait_s = _MAINTENANCE_S if is_flushed and not is_disk_full else _SOON_S
        self._maintenance_due = time.monotonic() + wait_s
        return wait_s

    def quarantined_databases(self) -> list[salvage.QuarantinedDatabase]:
        """Return the database files that could not be read and were quarantined, oldest first."""
        return self._database.read(salvage.quarantined_databases)

    def counters(self, boot_id: str) -> dict[str, int]:
        """Return the counters of a boot, or of :data:`~otel_oom.store.counters.NO_BOOT`."""
        return self._database.read(lambda db: counters.by_boot(db, boot_id))

    def set_counters(self, boot_id: str, values: Mapping[str, int]) -> None:
        """Set counters of a boot, or of :data:`~otel_oom.store.counters.NO_BOOT`."""
        self._database.write(lambda db: counters.set_values(db, boot_id, values))

    def replayed_events(self) -> Iterator[ReplayedEvent]:
        """Yield the stored events that were found in old logs, oldest first."""
        after: int | None = 0
        while after is not None:
            events, after = self._database.read(
                partial(event_log.replayed_events, after=after, limit=_PAGE)
            )
            yield from events
