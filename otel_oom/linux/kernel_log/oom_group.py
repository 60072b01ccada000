"""Which kills are of one decision: the report's own, and those of ``memory.oom.group`` after it."""

from __future__ import annotations

from typing import Final

from otel_oom.linux.kernel_log.candidates import process_of
from otel_oom.linux.kernel_log.line_types import Exiting, Killed, Line
from otel_oom.linux.kernel_log.report import DuplicateKillLine, LoggedKill, Report
from otel_oom.model.text import escape_controls

_MOST_DEAD: Final = 4096


def dead_of(kill: LoggedKill) -> set[int]:
    """The processes that are dead once this kill is told."""
    chosen = kill.report.chosen if kill.report else None
    dead = {chosen.pid} if chosen and isinstance(kill.told, Killed) else set()
    if isinstance(kill.told, Killed) and kill.told.pid is not None:
        dead.add(process_of(kill.report, kill.told.pid))
    return dead


def member(
    first: LoggedKill, dead: set[int], line: Line, form: Killed | Exiting
) -> LoggedKill | DuplicateKillLine | None:
    """One of a group. One may come again, by another thread; another may be exiting."""
    if isinstance(form, Exiting) or form.pid is None:
        return None
    process = process_of(first.report, form.pid)
    if process in dead:
        return DuplicateKillLine(line)
    if len(dead) < _MOST_DEAD:
        dead.add(process)
    return LoggedKill(line, form, first.report, first, text=escape_controls(line.text))


def fits(report: Report | None, form: Killed | Exiting) -> bool:
    """Whether the kill is the report's. Chosen is a process, marked is a thread of it."""
    chosen = report.chosen if report else None
    if report is None or chosen is None or form.pid == chosen.pid:
        return True
    if form.pid is not None and process_of(report, form.pid) == chosen.pid:
        return True
    return isinstance(form, Killed) and form.uid == chosen.uid
