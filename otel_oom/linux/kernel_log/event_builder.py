"""Build events from the kernel log, with the details that /proc adds."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.linux.dying_process import DyingProcess
from otel_oom.linux.kernel_log.line_types import KilledProcess, Line
from otel_oom.linux.kernel_log.report import (
    LoggedKill,
    LoggedNoVictim,
    Report,
    build_oom_control,
    build_task_list,
    find_tgid,
)
from otel_oom.linux.process import (
    is_below_memory_cgroup,
    memory_cgroup_path,
    shows_memory_cgroup,
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
    _prefetched: dict[tuple[int, str | None], DyingProcess | None] = {}

    def prefetch(self, report: Report) -> None:
        """Look up the processes in a report now: they may be gone when it ends."""
        if report.chosen:
            self._prefetch(report.chosen.pid, report.chosen.comm)
        elif report.header and report.trigger_tid is not None:
            self._prefetched.clear()
            self._prefetch(report.trigger_tid, report.header.comm)

    def _prefetch(self, tid: int, comm: str | None) -> None:
        if len(self._prefetched) < _MAX_PREFETCHED:
            self._prefetched[tid, comm] = self.processes.by_dying_thread(tid, comm)

    def _process(
        self, tid: int, comm: str | None, boottime_ns: int, memcg: str | None
    ) -> DyingProcess | None:
        """Return the process of a thread; a later one can have the same id and name.

        One of unknown start is not later if it is in ``memcg``, or below that.
        """
        process = self._prefetched.get((tid, comm)) or self.processes.by_dying_thread(tid, comm)
        if process is None or process.latest_start_ns <= boottime_ns:
            return process
        is_started = process.task.start_boottime_ns is not None
        return process if memcg and not is_started and _is_in(process.cgroup, memcg) else None

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
        first = self._find_first(event)
        memcg = self._memcg_path(event, boottime_ns)
        victim = self._victim(event, boottime_ns, memcg or event.group_path)
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

    def _memcg_path(self, event: LoggedKill, boottime_ns: int) -> str | None:
        """Return the victim's cgroup. A report has that of the first kill of a group only.

        A cgroup with processes of its own has no child with a memory controller (cgroup v2's "no
        internal processes"). So all members are in the group's cgroup, or all are below it: then
        the end of the path is unknown, and only /proc has it.
        """
        report, group = event.report, event.group_path
        chosen = (
            (report.summary and report.summary.task_memcg) or report.task_memcg if report else None
        )
        if event.first_of_group is None:
            return chosen
        if group is None or chosen in {None, group}:
            return group
        if not self.processes.usable or event.parsed.pid is None:
            return f"{group.rstrip('/')}/…"
        process = self._process(event.parsed.pid, event.parsed.comm, boottime_ns, group)
        return memory_cgroup_path(process.cgroup) if process else None

    def _find_first(self, event: LoggedKill) -> OomKill | None:
        if event.first_of_group is None or self._first_of_group is None:
            return None
        sequence, kill = self._first_of_group
        return kill if sequence == event.first_of_group.line.sequence else None

    def _victim(self, event: LoggedKill, boottime_ns: int, memcg: str | None) -> Task:
        """Return the victim; without /proc, its process id is nearly always the logged one.

        find_lock_task_mm() takes another thread only if the first one has exited by itself.
        """
        parsed, summary = event.parsed, event.report.summary if event.report else None
        if parsed.pid is None:
            return Task(None, comm=parsed.comm)
        process = self._process(parsed.pid, parsed.comm, boottime_ns, memcg)
        tgid = find_tgid(event.report, parsed.pid)
        by_sysctl = _KILL_ALLOCATING_TASK in (parsed.message or "")
        if summary and event.first_of_group is None and not by_sysctl:
            tgid = summary.pid
        task = process.task if process else Task(tgid, parsed.pid, comm=parsed.comm)
        if isinstance(parsed, KilledProcess):
            # Older kernels print neither.
            uid = task.uid if parsed.uid is None else parsed.uid
            score_adj = task.score_adj if parsed.score_adj is None else parsed.score_adj
            task = replace(task, uid=uid, score_adj=score_adj)
        return _add_report_fields(task, event.report)

    def _trigger(self, event: LoggedKill, victim: Task, boottime_ns: int) -> Task | None:
        if event.report is None and event.line.caller is not None:
            # Without a report, the thread that printed the line is still the allocating one.
            process = self._process(event.line.caller, None, boottime_ns, None)
            return process.task if process else None
        return self._allocating_task(event.report, victim, boottime_ns)

    def _allocating_task(
        self, report: Report | None, victim: Task | None, boottime_ns: int
    ) -> Task | None:
        """Return the allocating task; its process is in /proc, the victim's, or in the table."""
        if report is None or report.header is None or report.trigger_tid is None:
            return None
        tid, comm = report.trigger_tid, report.header.comm
        # Whoever hits a limit is in its cgroup, or below.
        memcg = (report.summary and report.summary.oom_memcg) or report.oom_memcg
        process = self._process(tid, comm, boottime_ns, memcg)
        task = process.task if process else None
        if task is None and victim is not None and tid in {victim.tid, victim.tgid}:
            task = replace(victim, tid=tid, comm=comm)
        if task is None and report.task_table and tid in report.task_table.total_vm:
            task = Task(find_tgid(report, tid), tid, comm=comm)
        return replace(task, score_adj=report.header.score_adj) if task else None


def _is_in(cgroup: str, memcg: str) -> bool:
    return shows_memory_cgroup(cgroup, memcg) or is_below_memory_cgroup(cgroup, memcg)


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
