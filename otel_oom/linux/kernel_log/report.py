"""The events of a kernel log: reports, kills, and searches without a victim."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from otel_oom.linux.kernel_log import line_types
from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.linux.kernel_log.task_table import TaskTable
from otel_oom.model.types import Memcg, MemcgUsage, OomControl, TaskList

_CONSTRAINT_OF_MESSAGE: Final = (
    # oom_kill_process() begins its line so when, and only when, a cgroup's limit was hit.
    ("Memory cgroup out of memory", "memcg"),
    ("No available memory (MPOL_BIND)", "memory_policy"),
    ("No available memory in cpuset", "cpuset"),
)
"""The constraint that the line of a kill implies, where no other line has it."""


class Report(Struct, frozen=True):
    """The log of one OOM decision before a process dies; any part may be missing.

    ``stack`` runs from the decision outwards. ``trigger_tid`` is the thread that requested memory,
    ``trigger_memcg`` its cgroup, and ``task_memcg`` the victim's. ``text`` is the report as logged,
    ``time_ns`` the time of its last line on the log's clock.
    """

    header: line_types.OomHeader | None = None
    trigger_tid: int | None = None
    stack: tuple[str, ...] = ()
    memcg_usage: MemcgUsage | None = None
    oom_memcg: str | None = None
    task_memcg: str | None = None
    trigger_memcg: str | None = None
    task_table: TaskTable | None = None
    summary: line_types.OomKillSummary | None = None
    announcement: line_types.KillAnnouncement | None = None
    text: str | None = None
    time_ns: int = 0

    @property
    def chosen(self) -> line_types.OomKillSummary | line_types.KillAnnouncement | None:
        """The line that names the chosen process, once it is printed."""
        return self.summary or self.announcement


class LoggedKill(Struct, frozen=True):
    """A kill, or an attempt that found its victim exiting, and the report before it.

    ``first_of_group`` is the kill that shares its decision (``memory.oom.group``), ``group_path``
    the cgroup of the group. ``text`` is the report and its own line, or that alone.
    """

    line: Line
    parsed: line_types.KilledProcess | line_types.ExitingVictim
    report: Report | None
    first_of_group: LoggedKill | None = None
    group_path: str | None = None
    text: str = ""


class DuplicateKillLine(Struct, frozen=True):
    """A process of a group that the kernel killed, logged and counted a second time."""

    line: Line


class LoggedNoVictim(Struct, frozen=True):
    """A search that found no killable process."""

    line: Line
    report: Report | None


class LoggedReaping(Struct, frozen=True):
    """A victim whose memory the oom_reaper took."""

    line: Line
    parsed: line_types.ReapedProcess


LogEvent = LoggedKill | DuplicateKillLine | LoggedNoVictim | LoggedReaping | Report
"""A report is an event once it names the allocating task, and again once it names the victim.

Both are still alive at that time."""


def build_oom_control(report: Report | None, message: str | None, source: str) -> OomControl:
    """Return the decision as far as the log has it, that is without points and total memory.

    ``message`` is the beginning of the "Killed process" line, if it is known already.
    """
    report = report or Report()
    header, summary = report.header, report.summary
    path = (summary and summary.oom_memcg) or report.oom_memcg
    return OomControl(
        source=source,
        constraint=summary.constraint if summary else _constraint(report, message or ""),
        order=header.order if header else None,
        gfp_mask=header.gfp_mask if header else None,
        gfp_flags=header.gfp_flags if header else None,
        message=message,
        memcg=Memcg(None, path) if path else None,
        memcg_usage=report.memcg_usage,
    )


def _constraint(report: Report, message: str) -> str | None:
    """Return the constraint without a summary: that of the host is unknown then."""
    if report.memcg_usage or report.oom_memcg:
        return "memcg"
    return next((name for begin, name in _CONSTRAINT_OF_MESSAGE if message.startswith(begin)), None)


def build_task_list(
    report: Report | None, kill: LoggedKill | None, boottime_ns: int
) -> TaskList | None:
    """Return the largest processes as listed before the kill at ``boottime_ns``.

    ``kill``, once it is logged, gives the page size. ``None`` where the log has no table: sysctl
    ``vm.oom_dump_tasks=0``, or a report that the kernel omitted.
    """
    table = report.task_table if report else None
    if report is None or table is None or not table.count:
        return None
    killed = kill.parsed if kill and isinstance(kill.parsed, line_types.KilledProcess) else None
    total_vm = killed.memory.total_vm if killed and killed.memory else 0
    page_bytes = table.page_bytes(killed.pid or 0 if killed else 0, total_vm)
    time_ns = kill.line.time_ns if kill else report.time_ns
    summary = report.summary
    return TaskList(
        memcg=(summary.oom_memcg if summary else None) or report.oom_memcg,
        boottime_ns=boottime_ns - max(0, time_ns - table.time_ns),
        count=table.count,
        skipped=0,
        largest=tuple(row.to_task(page_bytes) for row in table.largest),
    )


def find_tgid(report: Report | None, tid: int) -> int:
    """Return the process of a thread by the report's table: a kill may name any thread."""
    return report.task_table.tgids.get(tid, tid) if report and report.task_table else tid
