"""From the source to the disk: what must not wait.

Each event is stored, synced, before the kernel's buffer lets go of it. The counterpart of
:mod:`otel_oom.agent.delivery`, which may take its time.
"""

from __future__ import annotations

import logging
import selectors
import sqlite3
import time
from typing import Final

from msgspec.structs import replace

from otel_oom import snapshot
from otel_oom.agent import reconciler
from otel_oom.agent.delivery import DeliveryPipeline
from otel_oom.agent.reconciler import EVERY_S, SOON_S, Reconciler
from otel_oom.agent.watchdog import Watchdog
from otel_oom.capture.source import SupportsBufferStats, SupportsMarks
from otel_oom.capture.source_set import Sources
from otel_oom.linux import clock
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.model.events import (
    CapturedEvent,
    MissedKills,
    NoVictim,
    OomKill,
    ReaperStep,
    UndecodableRecord,
    UserspaceKill,
    VictimExit,
)
from otel_oom.model.snapshot import Snapshot
from otel_oom.snapshot import ProcessScanner
from otel_oom.snapshot.environ import EnvironReader
from otel_oom.store import Store, StoreError, undecodable

_LOG = logging.getLogger(__name__)

_STORE_RETRY_S: Final = 1.0
_MOST_EARLY: Final = 256
_EARLY_NS: Final = 1_000_000_000
"""Longer than an exit can come before its mark, shorter than until its id is another's."""


class IngestLoop:
    """The loop that takes each event from the kernel to the disk, in the thread that captures."""

    def __init__(
        self,
        sources: Sources,
        store: Store,
        delivery: DeliveryPipeline,
        heartbeat: Watchdog,
        *,
        history: bool,
    ) -> None:
        """Take from ``sources``, which are attached, to ``store``, and wake ``delivery``.

        ``history`` is whether what was killed on this boot before the first start counts too.
        """
        source = sources.kernel
        self._source = source
        self._sources = sources
        self._buffer = source if isinstance(source, SupportsBufferStats) else None
        self._store = store
        self._delivery = delivery
        self._counts = delivery.counts
        self._runtimes = delivery.runtimes
        self._heartbeat = heartbeat
        self._boot_id = clock.boot_id()
        self._memcg_files = CgroupMount.find()
        self._environ = EnvironReader()
        self._scanner = ProcessScanner(self._memcg_files)
        self._store_fails = False
        self._early: dict[int, VictimExit] = {}
        self._reconciler = Reconciler(
            store,
            self._boot_id,
            drain=lambda: source.drain(self._handle),
            record=self._record_found,
            marks=source.read_marks if isinstance(source, SupportsMarks) else None,
            history=history,
        )
        self._compare_at = time.monotonic()

    def loop(self, stop_fd: int) -> None:
        """Drain whenever there is something, until ``stop_fd`` is readable."""
        with selectors.DefaultSelector() as selector:
            selector.register(stop_fd, selectors.EVENT_READ)
            sources = [source.fileno() for source in self._sources.all]
            for source in sources:
                selector.register(source, selectors.EVENT_READ)
            while True:
                self._drain()
                self._heartbeat.turn()
                if self._store_fails:
                    # The sources stay readable: wait for the signal or for some time alone.
                    for source in sources:
                        selector.unregister(source)
                    ready = selector.select(min(_STORE_RETRY_S, self._heartbeat.wait_s))
                    for source in sources:
                        selector.register(source, selectors.EVENT_READ)
                else:
                    compare_s = max(0.0, self._compare_at - time.monotonic())
                    ready = selector.select(min(compare_s, self._heartbeat.wait_s))
                if any(key.fd == stop_fd for key, _ in ready):
                    return

    def finish(self) -> None:
        """Take what has come since :meth:`loop` ended; the kernel side may go away after this."""
        self._drain()
        if self._store_fails:
            _LOG.error(
                "The store still takes no kills: what waits in the kernel's buffer %s",
                "stays there for the next start" if self._source.pinned else "is lost",
            )

    def _drain(self) -> None:
        if self._buffer:
            self._counts.held(self._buffer.buffered_bytes())
        try:
            self._drain_and_compare()
        except (sqlite3.Error, StoreError, MemoryError) as error:
            # SQLite has an error of Python's own for what it can't allocate.
            if not self._store_fails:
                _LOG.error(
                    "The store does not take kills (%s); they wait in the kernel's buffer, and "
                    "are tried again every %.0f s",
                    error,
                    _STORE_RETRY_S,
                )
            self._store_fails = True
            return
        if self._store_fails:
            _LOG.info("The store takes kills again")
        self._store_fails = False
        self._report_loss()

    def _drain_and_compare(self) -> None:
        """Take what has come; now and then hold it against what the kernel has counted by then."""
        due = time.monotonic() >= self._compare_at
        count = reconciler.counted() if due else None
        taken = self._source.drain(self._handle)
        if due:
            again = self._reconciler.compare(count)
            self._compare_at = time.monotonic() + (SOON_S if again else EVERY_S)
        elif taken:
            self._compare_at = min(self._compare_at, time.monotonic() + SOON_S)
        # Behind the kernel's: what waits there is kept by what tells it.
        for source in self._sources.beside:
            source.drain(self._handle)

    def _record_found(self, event: CapturedEvent) -> None:
        """Store what was found late: of that nothing is to be seen any more."""
        if isinstance(event, OomKill | MissedKills):
            self._store.insert(event, Snapshot(process_found=False))
        self._delivery.wake()

    def _handle(self, event: CapturedEvent) -> None:
        # A storm keeps the loop in one turn for as long as it lasts.
        self._heartbeat.turn()
        if isinstance(event, UndecodableRecord):
            place = undecodable.save_record(self._store.folder, event.record)
            _LOG.error("A record can't be read (%s), and is kept in %s", event.reason, place)
            return
        self._counts.capture(event)
        if self._store_event(event):
            self._counts.store(event)
        self._delivery.wake()

    def _store_event(
        self, event: OomKill | UserspaceKill | NoVictim | MissedKills | VictimExit | ReaperStep
    ) -> bool:
        """Put it on the disk; whether it is news."""
        if isinstance(event, VictimExit):
            stored = self._store.add_exit(self._boot_id, event)
            if not stored:
                self._keep_early(event)
            return stored
        if isinstance(event, ReaperStep):
            return self._store.add_reaper_step(self._boot_id, event)
        if isinstance(event, OomKill):
            return self._store_kill(event)
        if isinstance(event, UserspaceKill):
            return self._store_userspace_kill(event)
        seen = Snapshot(process_found=False, containers=self._runtimes.resolve_now(event))
        stored = self._store.insert(event, seen)
        if stored:
            _LOG.warning("There was no memory, and no process that the kernel may kill")
        return stored

    def _store_kill(self, event: OomKill) -> bool:
        seen = self._look(event)
        if not self._store.insert(event, seen, unfinished=True):
            _LOG.info("The kill of pid %s was told before", event.victim.tgid)
            return False
        late = ", of before this start" if event.capture.recovered else ""
        _LOG.info("OOM kill of %r (pid %s)%s", event.victim.comm, event.victim.tgid, late)
        self._look_around(event, seen)
        # A victim that dies at once, on another CPU, can be told before its mark.
        early = self._early.get(event.victim.tgid or 0)
        if early and _is_of(early, event):
            if self._store.add_exit(self._boot_id, early):
                self._counts.store(early)
            del self._early[early.tgid]
        return True

    def _store_userspace_kill(self, event: UserspaceKill) -> bool:
        stored = self._store.insert(event, self._look(event))
        if stored:
            late = ", of before this start" if event.capture.recovered else ""
            _LOG.info("Kill by %s%s: %r", event.killer.name, late, event.original)
        return stored

    def _keep_early(self, event: VictimExit) -> None:
        self._early.pop(event.tgid, None)
        if len(self._early) >= _MOST_EARLY:
            # The oldest: its kill is long past coming.
            del self._early[next(iter(self._early))]
        self._early[event.tgid] = event

    def _look(self, kill: OomKill | UserspaceKill) -> Snapshot:
        try:
            seen = snapshot.take_snapshot(kill, self._memcg_files, environ=self._environ)
        except Exception:  # noqa: BLE001  whatever it was, the kill comes first
            # What the kernel said is stored whatever user space could not read.
            _LOG.exception("Nothing could be read of the victim of an OOM kill")
            seen = Snapshot(process_found=False)
        return replace(seen, containers=self._runtimes.resolve_now(kill))

    def _look_around(self, kill: OomKill, seen: Snapshot) -> None:
        """See what takes longer, now that the kill is on the disk, and add it there."""
        more = seen
        try:
            if not kill.capture.recovered:
                more = self._scanner.add_to(kill, seen)
        except Exception:  # noqa: BLE001  as above
            _LOG.exception("It could not be seen who used the memory")
        try:
            if self._sources.log:
                logged = self._sources.log.completed(kill)
                more = replace(
                    more, kernel_report=logged.original, kernel_report_tasks=logged.tasks
                )
        except Exception:  # noqa: BLE001  as above
            _LOG.exception("The kernel's own report of an OOM kill could not be read")
        try:
            self._store.complete(kill.uid, None if more is seen else more)
        except (sqlite3.Error, StoreError, MemoryError) as error:
            _LOG.warning("Who used the memory is not told, for it can't be stored: %s", error)

    def _report_loss(self) -> None:
        loss = self._source.lost_events()
        if loss != self._counts.loss:
            if loss.victims != self._counts.loss.victims:
                self._reconciler.buffer_was_full()
            _LOG.error(
                "Lost since the last agent ended: %d kills and %d exits that found the kernel's "
                "buffer full, %d records that could not be read, %d lines overwritten in the "
                "kernel's log",
                loss.victims,
                loss.exits,
                loss.undecodable,
                loss.log_lines,
            )
            self._counts.loss = loss


def _is_of(exit_: VictimExit, kill: OomKill) -> bool:
    """Whether an exit that was told before the kill is its victim's."""
    same = kill.victim.start_boottime_ns in {None, exit_.start_boottime_ns}
    return same and abs(exit_.boottime_ns - kill.boottime_ns) < _EARLY_NS
