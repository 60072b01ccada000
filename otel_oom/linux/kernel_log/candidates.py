"""The processes of a report's table as those that the kernel chose from."""

from __future__ import annotations

from otel_oom.linux.kernel_log.line_types import Killed
from otel_oom.linux.kernel_log.report import LoggedKill, Report
from otel_oom.linux.kernel_log.task_table import Row
from otel_oom.model.types import OomTask, TaskList


def candidates(report: Report | None, kill: LoggedKill | None, boottime_ns: int) -> TaskList | None:
    """The largest processes as the kernel listed them before the kill at ``boottime_ns``.

    ``kill`` is that, once it is logged: it tells what the size of a page is on that machine.
    ``None`` where the log has no table: sysctl ``vm.oom_dump_tasks=0``, or reports left out.
    """
    if report is None or report.table is None or not report.table.count:
        return None
    told = kill.told if kill and isinstance(kill.told, Killed) else None
    total_vm = told.memory.total_vm if told and told.memory else 0
    page = report.table.page(told.pid or 0 if told else 0, total_vm)
    time_ns = kill.line.time_ns if kill else report.time_ns
    chosen = report.chosen
    return TaskList(
        memcg=(chosen.oom_memcg if chosen else None) or report.limit_of,
        boottime_ns=boottime_ns - max(0, time_ns - report.table.time_ns),
        count=report.table.count,
        skipped=0,
        largest=tuple(_candidate(row, page) for row in report.table.largest),
    )


def process_of(report: Report | None, tid: int) -> int:
    """The process of a thread, where the report's table has it: a kill may name any thread."""
    return report.table.processes.get(tid, tid) if report and report.table else tid


def _candidate(row: Row, page: int) -> OomTask:
    tables = row.page_table_bytes
    if tables is None and row.page_table_pages is not None:
        tables = row.page_table_pages * page
    return OomTask(
        tgid=row.tgid,
        comm=row.comm,
        resident=row.rss * page,
        swap=None if row.swap is None else row.swap * page,
        page_tables=tables,
        uid=row.uid,
        score_adj=row.score_adj,
    )
