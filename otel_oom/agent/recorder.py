"""Store each event with a snapshot of its victim and host."""

from __future__ import annotations

import logging
import sqlite3
from typing import Final, TypeVar

from msgspec.structs import replace

from otel_oom.agent.report_interval import ReportInterval
from otel_oom.agent.stats import Stats
from otel_oom.capture.source import AnnotateKill
from otel_oom.linux import clock
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.containers.service import ContainerService
from otel_oom.model.events import (
    CapturedEvent,
    NoVictim,
    OomKill,
    ReaperStep,
    UndecodableRecord,
    UserspaceKill,
    VictimExit,
    hit_own_limit,
)
from otel_oom.model.loss import MissedKills
from otel_oom.model.snapshot import HostMemory, Snapshot
from otel_oom.model.types import MemcgUsage
from otel_oom.model.units import NS_PER_S
from otel_oom.model.usage import UsageHistory
from otel_oom.snapshot import ProcessScanner, add_limit_cgroup, read_usage, take_snapshot
from otel_oom.snapshot.environ import EnvironReader
from otel_oom.snapshot.host_stats import read_vm_settings
from otel_oom.snapshot.process_notes import ProcessNotes
from otel_oom.snapshot.usage import UsageSource
from otel_oom.store import Store, StoreError, undecodable

_LOG = logging.getLogger(__name__)

_Kill = TypeVar("_Kill", OomKill, UserspaceKill)

_MAX_EARLY_EXITS: Final = 256
_EARLY_NS: Final = NS_PER_S
"""Longer than an exit can precede its mark, shorter than the reuse of its process id."""


class EventRecorder:
    """Recorder of each event on disk, in the thread that captures."""

    def __init__(  # noqa: PLR0913  each is named at the call
        self,
        store: Store,
        stats: Stats,
        containers: ContainerService,
        annotate: AnnotateKill,
        *,
        report_interval_s: int = 0,
        usage: UsageSource | None = None,
        environ: EnvironReader | None = None,
    ) -> None:
        """Record in ``store`` and count in ``stats``; ``annotate`` adds what the kernel log has.

        Within ``report_interval_s`` a container's kills share one report and task list. ``usage``
        has the minutes before a kill. ``environ`` reads the victims of userspace OOM daemons.
        """
        self._store = store
        self._stats = stats
        self._containers = containers
        self._annotate = annotate
        self._usage = usage
        self._boot_id = clock.boot_id()
        self._cgroups = CgroupMount.find()
        self._environ = environ or EnvironReader()
        self._notes = ProcessNotes()
        self._notes.start()
        self._scanner = ProcessScanner(self._cgroups)
        self._reports = ReportInterval(report_interval_s)
        self._early_exits: dict[int, VictimExit] = {}

    def close(self) -> None:
        """End the threads that read of processes."""
        self._environ.close()
        self._notes.close()

    def record(self, event: CapturedEvent) -> None:
        """Store an event that was just captured.

        Raises:
            sqlite3.Error, StoreError: the store failed; the event may be recorded again.
        """
        if isinstance(event, UndecodableRecord):
            self._quarantine(event.record, event.reason)
            return
        self._stats.on_captured(event)
        if self._usage:
            self._usage.is_capturing = True
        try:
            is_new = self._store_event(event)
        except (sqlite3.IntegrityError, sqlite3.DataError) as error:
            # Of this event alone, like all but the errors of the store: others must not wait.
            self._quarantine_event(event, error)
        except (sqlite3.Error, StoreError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  likewise
            self._quarantine_event(event, error)
        else:
            if is_new:
                self._stats.on_stored(event)
        finally:
            if self._usage:
                self._usage.is_capturing = False

    def record_recovered(self, event: CapturedEvent) -> None:
        """Store an event that was found late; no snapshot can be taken any more."""
        if isinstance(event, OomKill | MissedKills):
            self._store.insert(event, Snapshot(process_found=False))

    def _quarantine_event(self, event: CapturedEvent, error: Exception) -> None:
        record = repr(event).encode("utf-8", "backslashreplace")
        self._quarantine(record, f"{type(error).__name__}: {error}")

    def _quarantine(self, record: bytes, reason: str) -> None:
        """Keep a record that can't become an event, unless too many are kept already."""
        path = undecodable.save_record(self._store.path, record)
        if path is not None:
            _LOG.error("Undecodable record (%s) kept in %s", reason, path)
            return
        self._stats.dropped_records += 1
        _LOG.error(
            "Undecodable record (%s) dropped: %s/undecodable is full: dropped=%d",
            reason,
            self._store.path,
            self._stats.dropped_records,
        )

    def _store_event(
        self, event: OomKill | UserspaceKill | NoVictim | MissedKills | VictimExit | ReaperStep
    ) -> bool:
        """Store an event; return false for a duplicate."""
        if isinstance(event, VictimExit):
            stored = self._store.add_exit(self._boot_id, event)
            if not stored and event.kill_uid is None:
                self._hold_early_exit(event)
            return stored
        if isinstance(event, ReaperStep):
            return self._store.add_reaper_step(self._boot_id, event)
        if isinstance(event, OomKill):
            return self._store_kill(event)
        if isinstance(event, UserspaceKill):
            return self._store_userspace_kill(event)
        containers = self._containers.resolve_now(event)
        stored = self._store.insert(event, Snapshot(process_found=False, containers=containers))
        if stored:
            _LOG.warning("Out of memory, and the kernel found no process that it may kill")
        return stored

    def _store_kill(self, kill: OomKill) -> bool:
        marked_usage = kill.memcg_usage
        kill, snapshot = self._snapshot(kill)
        kill = self._reports.refer(kill, snapshot)
        if not self._store.insert(kill, snapshot, incomplete=True):
            _LOG.info("Duplicate kill of pid %s ignored", kill.victim.tgid)
            return False
        _LOG.info(
            "OOM kill of %r (pid %s)%s", kill.victim.comm, kill.victim.tgid, _origin_suffix(kill)
        )
        self._complete(kill, snapshot, marked_usage)
        # A victim that dies at once, on another CPU, can exit before it is marked.
        exit_ = self._early_exits.get(kill.victim.tgid or 0)
        if exit_ and _is_exit_of(exit_, kill):
            if self._store.add_exit(self._boot_id, exit_):
                self._stats.on_stored(exit_)
            del self._early_exits[exit_.tgid]
        return True

    def _store_userspace_kill(self, kill: UserspaceKill) -> bool:
        history = self._build_usage_history(kill, None)
        kill, snapshot = self._snapshot(kill)
        stored = self._store.insert(kill, replace(snapshot, usage_history=history))
        if stored:
            _LOG.info("Kill by %s%s: %r", kill.killer.name, _origin_suffix(kill), kill.original)
        return stored

    def _hold_early_exit(self, exit_: VictimExit) -> None:
        self._early_exits.pop(exit_.tgid, None)
        if len(self._early_exits) >= _MAX_EARLY_EXITS:
            # The oldest: its kill would have come long ago.
            del self._early_exits[next(iter(self._early_exits))]
        self._early_exits[exit_.tgid] = exit_

    def _snapshot(self, kill: _Kill) -> tuple[_Kill, Snapshot]:
        try:
            snapshot = take_snapshot(kill, self._cgroups, environ=self._environ, notes=self._notes)
            kill = replace(kill, memcg_usage=read_usage(kill, self._cgroups))
        except Exception:  # noqa: BLE001  the kill comes first
            # The kernel's record is stored even if user space can read nothing.
            _LOG.exception("Snapshot of the victim failed")
            snapshot = Snapshot(process_found=False)
        if kill.victim and kill.victim.start:
            # The snapshot has it.
            kill = replace(kill, victim=replace(kill.victim, start=None))
        return kill, replace(snapshot, containers=self._containers.resolve_now(kill))

    def _build_usage_history(
        self, kill: OomKill | UserspaceKill, host: HostMemory | None
    ) -> UsageHistory | None:
        try:
            return self._usage.build_history(kill, host) if self._usage else None
        except Exception:  # noqa: BLE001  as above
            _LOG.exception("Usage before the kill is unknown")
            return None

    def _complete(self, kill: OomKill, snapshot: Snapshot, marked_usage: MemcgUsage | None) -> None:
        """Add what takes longer to read, now that the kill is on disk.

        ``marked_usage`` is that of the victim's cgroup at the mark, not as it was read later.
        """
        # Before the report, for which the kernel may need long: the cgroup can vanish.
        marked = replace(kill, memcg_usage=marked_usage)
        history = self._build_usage_history(marked, snapshot.host)
        # The decision may be in the log alone, whose report is not needed.
        annotated = self._reports.refer(self._annotate(kill), snapshot)
        if annotated.decision is not kill.decision:
            if history and kill.decision is None and hit_own_limit(annotated):
                # It was built as that of the victim alone.
                history = replace(history, limit=history.victim, victim=None)
            else:
                marked = replace(annotated, memcg_usage=marked_usage)
                history = self._build_usage_history(marked, snapshot.host)
        complete_kill, complete_snapshot = self._read_more(
            annotated, replace(snapshot, usage_history=history) if history else snapshot
        )
        unchanged = complete_kill is kill and complete_snapshot is snapshot
        try:
            self._store.complete(complete_kill, None if unchanged else complete_snapshot)
        except (sqlite3.Error, StoreError, MemoryError) as error:
            _LOG.warning("Could not store the process list of this kill: %s", error)
        else:
            self._reports.add(complete_kill, snapshot)

    def _read_more(self, kill: OomKill, snapshot: Snapshot) -> tuple[OomKill, Snapshot]:
        if kill.capture.recovered:
            return kill, snapshot
        try:
            snapshot = add_limit_cgroup(kill, snapshot, self._cgroups)
            snapshot = replace(snapshot, vm_sysctl=read_vm_settings())
            swapped = bool(snapshot.host and snapshot.host.swap_used)
            if kill.report_uid is None:
                kill = self._scanner.add_tasks(kill, swapped=swapped)
        except Exception:  # noqa: BLE001  as above
            _LOG.exception("Process scan failed")
        return kill, snapshot


def _origin_suffix(kill: OomKill | UserspaceKill) -> str:
    return ", recovered from before this start" if kill.capture.recovered else ""


def _is_exit_of(exit_: VictimExit, kill: OomKill) -> bool:
    """Return true if an exit captured before the kill is that of its victim."""
    same = kill.victim.start_boottime_ns in {None, exit_.start_boottime_ns}
    return same and abs(exit_.boottime_ns - kill.boottime_ns) < _EARLY_NS
