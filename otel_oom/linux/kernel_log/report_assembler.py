"""What one thread that prints a report is in the middle of, or all, where no thread is told."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from otel_oom.linux.kernel_log import line_parser
from otel_oom.linux.kernel_log.line_types import (
    AllocatingTask,
    Invoked,
    KillAnnouncement,
    Killed,
    Line,
    LineType,
    MemcgOomTask,
    MemoryInfo,
    OomKillSummary,
    OomMemcg,
    TableBegins,
    TraceBegins,
    Usage,
)
from otel_oom.linux.kernel_log.report import LoggedKill, Report
from otel_oom.linux.kernel_log.report_text import Text
from otel_oom.linux.kernel_log.task_table import TableReader
from otel_oom.linux.kernel_stack import outwards
from otel_oom.model.text import escape_controls
from otel_oom.model.types import MemcgUsage
from otel_oom.model.units import NS_PER_S

MOST_FRAMES: Final = 48
_MOST_SECTIONS: Final = 64
_MOST_PENDING: Final = 4
_MOST_RECENT: Final = 64
_GROUP_NS: Final = 250_000_000
"""Longer than from one kill of a group to the next on a serial console.

Where no line tells its thread, a kill without a report that follows a group within that time is
taken for one of the group."""
_REPORT_NS: Final = 60 * NS_PER_S
_REPORT_LINES: Final = 1 << 12
"""Behind so long a silence, or so many lines that are none of a report's, it has no end."""
_KILL_NS: Final = 10 * NS_PER_S
_KILL_LINES: Final = 256
"""The same from a choice to its kill: the kill's own line was lost."""

_SECTIONS: Final[Sequence[type[LineType]]] = (
    *(
        Invoked,
        AllocatingTask,
        TraceBegins,
        MemcgOomTask,
        Usage,
        MemoryInfo,
        TableBegins,
        OomKillSummary,
    ),
)
"""What a report has, in this order and once each; which of them is up to the kernel."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A choice that waits for the line of its kill, printed at ``at`` lines from the first."""

    line: Line
    choice: KillAnnouncement
    report: Report
    at: int

    def overdue(self, line: Line, at: int) -> bool:
        """Whether that line has been lost."""
        return at - self.at > _KILL_LINES or abs(line.time_ns - self.line.time_ns) > _KILL_NS

    def kill(self) -> LoggedKill:
        """The kill, by the choice alone."""
        told = Killed(self.choice.message, self.choice.pid, self.choice.comm)
        return LoggedKill(
            self.line, told, self.report, text=self.report.text or escape_controls(self.line.text)
        )


@dataclass(slots=True)
class Thread:
    """Takes the lines of a report in their order; ``seen_at`` is how many lines were before it."""

    report: Report | None = None
    in_trace: bool = False
    frames: list[str] = field(default_factory=list)
    piece: str = ""
    text: Text | None = None
    table: TableReader | None = None
    pending: list[Pending] = field(default_factory=list)
    last: LoggedKill | None = None
    last_ns: int = 0
    group: set[int] | None = None
    recent: deque[tuple[str, int]] = field(default_factory=lambda: deque(maxlen=_MOST_RECENT))
    seen_ns: int = 0
    seen_at: int = 0
    _sections: list[type[LineType]] = field(default_factory=list)
    _begun: frozenset[type[LineType]] = frozenset()

    def begin(self, line: Line, form: Invoked) -> None:
        """A report begins; one that has not ended may go on among its lines."""
        self._begun = frozenset(self._sections) if self.report and line.caller is None else _NONE
        self.last, self.group = None, None
        self._open(Report(invoked=form, tid=line.caller, time_ns=line.time_ns))
        self._sections = [Invoked]

    def _open(self, report: Report) -> None:
        self.report, self.table, self.text = report, None, Text()
        self.in_trace, self.frames, self.piece = False, [], ""
        self._sections = []

    def add(self, line: Line, form: LineType) -> Report | None:
        """Take a line that tells more of what has begun; the report, if it is who asked."""
        report = self.report
        if report is None or report.chosen:
            return None
        if not (isinstance(form, Usage) and form.swap):
            self._note(type(form))
        if isinstance(form, TraceBegins):
            # A second stack is somebody else's.
            self.in_trace = not self.frames
            return None
        if isinstance(form, AllocatingTask):
            if report.tid is None and _same(report, form.comm):
                report = dataclasses.replace(report, tid=form.tid)
            self.report = report
            return report
        self.in_trace = False
        if isinstance(form, Usage):
            report = dataclasses.replace(report, limits=_limits(report.limits, form))
        elif isinstance(form, OomMemcg):
            # Those of the cgroups below it follow.
            report = dataclasses.replace(report, limit_of=report.limit_of or form.path)
        elif isinstance(form, MemcgOomTask):
            report = _with_task(report, form)
        elif isinstance(form, TableBegins):
            self.table = TableReader(form.columns, line.time_ns)
        self.report = report
        return None

    def _note(self, section: type[LineType]) -> None:
        if len(self._sections) < _MOST_SECTIONS:
            self._sections.append(section)

    def trace(self, text: str) -> bool:
        """Take what may be a line of the stack; whether it is one."""
        if not self.in_trace and not self._begun:
            return False
        if text.strip() == "</TASK>":
            self.in_trace = False
            return True
        frame = line_parser.frame(text)
        if frame and not self.in_trace:
            # Of the report before this one.
            self._note(TraceBegins)
        elif frame and len(self.frames) < MOST_FRAMES:
            self.frames.append(frame)
        return frame is not None

    def choose(self, line: Line, form: OomKillSummary) -> Report:
        """Take who is to die: all but the kill itself is known then."""
        report = self.report
        if report is None or report.chosen:
            self._begun = _NONE
            self._open(Report(tid=line.caller))
            self.keep(line)
        self._note(OomKillSummary)
        self.last, self.group, self.in_trace = None, None, False
        self.report = dataclasses.replace(self._told(line) or Report(), chosen=form)
        return self.report

    def close(self, line: Line) -> Report | None:
        """The report that ends with this line, if one has begun."""
        report = self._told(line)
        self.report, self.text, self.table = None, None, None
        self.in_trace, self.frames, self.piece = False, [], ""
        self._sections, self._begun = [], _NONE
        return report

    def unfinished(self) -> Report | None:
        """What has begun and not ended."""
        return self.report and dataclasses.replace(self.report, stack=outwards(self.frames))

    def _told(self, line: Line) -> Report | None:
        report = self.report
        if report is None:
            return None
        if self._mixed():
            # What is in it may be of either of two.
            return Report(chosen=report.chosen, time_ns=line.time_ns) if report.chosen else None
        return dataclasses.replace(
            report,
            stack=outwards(self.frames),
            table=self.table.table() if self.table else None,
            text=str(self.text) if self.text else None,
            time_ns=line.time_ns,
        )

    def _mixed(self) -> bool:
        """Whether lines of the report before this one are among its own.

        A part comes twice then, or out of its order, or the table is missing that was in the other.
        """
        if not self._begun:
            return False
        order = [_SECTIONS.index(section) for section in self._sections if section in _SECTIONS]
        lacks_table = TableBegins in self._begun and TableBegins not in self._sections
        return lacks_table or order != sorted(set(order))

    def keep(self, line: Line) -> None:
        """Keep the text of a line of the report."""
        if self.report and self.text:
            self.text.add(line.text, continues=line.continues)

    def wait_for_kill(self, pending: Pending) -> LoggedKill | None:
        """Wait for the line of a kill; the oldest choice that there is no room for is one."""
        self.pending.append(pending)
        return self.pending.pop(0).kill() if len(self.pending) > _MOST_PENDING else None

    def chosen_for(self, form: Killed) -> Pending | None:
        """The choice that this kill comes of: of its number, else the last, whose child it is."""
        if not self.pending:
            return None
        same = [at for at, each in enumerate(self.pending) if each.choice.pid == form.pid]
        return self.pending.pop(same[0] if same else -1)

    def stale(self, line: Line, at: int) -> bool:
        """Whether what has begun has no end that is still to come."""
        return self.report is not None and (
            at - self.seen_at > _REPORT_LINES or abs(line.time_ns - self.seen_ns) > _REPORT_NS
        )

    def soon(self, line: Line) -> bool:
        """Whether ``line`` can be of the decision that the last kill was of."""
        return self.last is not None and 0 <= line.time_ns - self.last_ns < _GROUP_NS

    def told_before(self, form: Killed, line: Line) -> bool:
        """Whether a kill without a number is one that was told by its own line before."""
        for each in self.recent:
            comm, at_ns = each
            if comm == form.comm and abs(line.time_ns - at_ns) < _KILL_NS:
                self.recent.remove(each)
                return True
        return False


_NONE: Final[frozenset[type[LineType]]] = frozenset()


def _same(report: Report, comm: str | None) -> bool:
    """Whether that can be the name of who asked."""
    asked = report.invoked.comm if report.invoked else None
    return None in {asked, comm} or asked == comm


def _with_task(report: Report, form: MemcgOomTask) -> Report:
    report = dataclasses.replace(report, limit_of=form.oom_memcg)
    # Before 2.6.36, whose first line has no such score, it is the one that asked who is told.
    if report.invoked and report.invoked.score_adj is None:
        return dataclasses.replace(report, asking_memcg=form.task_memcg)
    return dataclasses.replace(report, task_memcg=form.task_memcg)


def _limits(known: MemcgUsage | None, form: Usage) -> MemcgUsage:
    known = known or MemcgUsage(None, None, None, None)
    if form.swap:
        return replace(known, swap_limit=form.limit, swap_usage=form.usage)
    return replace(known, limit=form.limit, usage=form.usage)
