"""Build events from the kernel log, with the details that /proc adds."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.linux.kernel_log.line_types import KilledProcess, Line
from otel_oom.linux.kernel_log.report import (
    LoggedKill,
    LoggedNoVictim,
    Report,
    build_oom_control,
    build_task_list,
    find_tgid,
)
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import NoVictim, OomKill
from otel_oom.model.text import escape_controls
from otel_oom.model.types import Capture, LogProvenance, Memcg, Task
from otel_oom.model.units import NS_PER_S

_RATELIMIT_NS: Final = NS_PER_S
"""An allocation may retry without end: within this time, repetitions are only counted."""
_MAX_RATELIMITS: Final = 64
_MAX_PREFETCHED: Final = 8
_KILL_ALLOCATING_TASK: Final = "oom_kill_allocating_task"
"""The sysctl that kills the allocating thread instead of a chosen process."""


class _Ratelimit(Struct):
    begin_ns: int
    missed: int = 0


class EventBuilder(Struct):
    """Builder of the events of one boot from one source."""

    boot_id: str
    source: str
    hook: str
    processes: ProcessLookup
    _ratelimits: dict[str | None, _Ratelimit] = {}
    _first_of_group: tuple[int, OomKill] | None = None
    _prefetched: dict[tuple[int, str | None], Task | None] = {}

    def prefetch(self, report: Report) -> None:
        """Look up the processes in a report now: they may be gone when it ends."""
        if report.chosen:
            self._prefetch(report.chosen.pid, report.chosen.comm)
        elif report.header and report.trigger_tid is not None:
            self._prefetched.clear()
            self._prefetch(report.trigger_tid, report.header.comm)

    def _prefetch(self, tid: int, comm: str | None) -> None:
        if len(self._prefetched) < _MAX_PREFETCHED:
            self._prefetched[tid, comm] = self.processes.by_thread(tid, comm)

    def _process(self, tid: int, comm: str | None, boottime_ns: int) -> Task | None:
        """Return the process of a thread; a later one can have the same id and name."""
        task = self._prefetched.get((tid, comm)) or self.processes.by_thread(tid, comm)
        is_later = task and (task.start_boottime_ns or 0) > boottime_ns
        return None if is_later else task

    def build_kill(
        self,
        event: LoggedKill,
        boottime_ns: int,
        unix_offset_ns: int,
        provenance: LogProvenance | None = None,
    ) -> OomKill:
        """Return the kill at ``boottime_ns``; adding the offset gives Unix time.

        The log has neither the victim's swap nor its cgroup's inode.
        """
        report, parsed = event.report, event.parsed
        is_member = event.first_of_group is not None
        victim = self._victim(event, boottime_ns)
        first = self._find_first(event)
        # A report has the cgroup of the first kill of a group only.
        memcg = None
        if report and not is_member:
            memcg = (report.summary and report.summary.task_memcg) or report.task_memcg
        trigger_memcg = report.trigger_memcg if report else None
        kill = OomKill(
            **self._common_fields(event.line, report, parsed.message, boottime_ns, unix_offset_ns),
            trigger=first.trigger if first else self._trigger(event, victim, boottime_ns),
            victim=victim,
            memory=parsed.memory if isinstance(parsed, KilledProcess) else None,
            memcg=Memcg(None, memcg) if memcg else None,
            trigger_memcg=Memcg(None, trigger_memcg) if trigger_memcg else None,
            incident=first.uid if first else None,
            skipped=not isinstance(parsed, KilledProcess),
            original=event.text,
            tasks=None if is_member else build_task_list(report, event, boottime_ns),
            provenance=provenance,
        )
        self._prefetched.clear()
        if not is_member:
            self._first_of_group = event.line.sequence, kill
        return kill

    def build_no_victim(
        self,
        event: LoggedNoVictim,
        boottime_ns: int,
        unix_offset_ns: int,
        provenance: LogProvenance | None = None,
    ) -> NoVictim | None:
        """Return the event; ``None`` if the last one of that cgroup is less than 1 s old."""
        fields = self._common_fields(event.line, event.report, None, boottime_ns, unix_offset_ns)
        path = event.report.oom_memcg if event.report else None
        ratelimit = self._ratelimits.pop(path, _Ratelimit(boottime_ns - _RATELIMIT_NS))
        if len(self._ratelimits) >= _MAX_RATELIMITS:
            del self._ratelimits[next(iter(self._ratelimits))]
        if boottime_ns - ratelimit.begin_ns < _RATELIMIT_NS:
            ratelimit.missed += 1
            self._ratelimits[path] = ratelimit
            return None
        self._ratelimits[path] = _Ratelimit(boottime_ns)
        return NoVictim(
            **fields,
            trigger=self._allocating_task(event.report, None, boottime_ns),
            repeat_count=ratelimit.missed,
            original=event.report.text if event.report else escape_controls(event.line.text),
            provenance=provenance,
        )

    def _common_fields(
        self,
        line: Line,
        report: Report | None,
        message: str | None,
        boottime_ns: int,
        unix_offset_ns: int,
    ) -> dict[str, Any]:
        return {
            "boot_id": self.boot_id,
            "boottime_ns": boottime_ns,
            "time_unix_ns": boottime_ns + unix_offset_ns,
            "decision": build_oom_control(report, message, self.hook),
            "capture": Capture(self.source, self.hook, cpu=None, sequence=line.sequence),
            "stack": report.stack if report else (),
        }

    def _find_first(self, event: LoggedKill) -> OomKill | None:
        if event.first_of_group is None or self._first_of_group is None:
            return None
        sequence, kill = self._first_of_group
        return kill if sequence == event.first_of_group.line.sequence else None

    def _victim(self, event: LoggedKill, boottime_ns: int) -> Task:
        """Return the victim; without /proc, its process id is nearly always the logged one.

        find_lock_task_mm() takes another thread only if the first one has exited by itself.
        """
        parsed, summary = event.parsed, event.report.summary if event.report else None
        if parsed.pid is None:
            return Task(None, comm=parsed.comm)
        process = self._process(parsed.pid, parsed.comm, boottime_ns)
        tgid = find_tgid(event.report, parsed.pid)
        by_sysctl = _KILL_ALLOCATING_TASK in (parsed.message or "")
        if summary and event.first_of_group is None and not by_sysctl:
            tgid = summary.pid
        task = process or Task(tgid, parsed.pid, comm=parsed.comm)
        if isinstance(parsed, KilledProcess):
            # Older kernels print neither.
            uid = task.uid if parsed.uid is None else parsed.uid
            score_adj = task.score_adj if parsed.score_adj is None else parsed.score_adj
            task = replace(task, uid=uid, score_adj=score_adj)
        return _add_report_fields(task, event.report)

    def _trigger(self, event: LoggedKill, victim: Task, boottime_ns: int) -> Task | None:
        if event.report is None and event.line.caller is not None:
            # Without a report, the thread that printed the line is still the allocating one.
            return self._process(event.line.caller, None, boottime_ns)
        return self._allocating_task(event.report, victim, boottime_ns)

    def _allocating_task(
        self, report: Report | None, victim: Task | None, boottime_ns: int
    ) -> Task | None:
        """Return the allocating task; its process is in /proc, the victim's, or in the table."""
        if report is None or report.header is None or report.trigger_tid is None:
            return None
        tid, comm = report.trigger_tid, report.header.comm
        task = self._process(tid, comm, boottime_ns)
        if task is None and victim is not None and tid in {victim.tid, victim.tgid}:
            task = replace(victim, tid=tid, comm=comm)
        if task is None and report.task_table and tid in report.task_table.total_vm:
            task = Task(find_tgid(report, tid), tid, comm=comm)
        return replace(task, score_adj=report.header.score_adj) if task else None


def _add_report_fields(victim: Task, report: Report | None) -> Task:
    """Add the uid and the score that the report has and the line of the kill lacks."""
    row = report.task_table.find_row(victim.tid) if report and report.task_table else None
    uid = row.uid if row else None
    if uid is None and report and report.summary and report.summary.pid == victim.tid:
        uid = report.summary.uid
    return replace(
        victim,
        uid=uid if victim.uid is None else victim.uid,
        score_adj=row.score_adj if row and victim.score_adj is None else victim.score_adj,
    )
