"""Assemble the report of one printing thread, or of all if the log does not record threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.linux.kernel_log import line_types
from otel_oom.linux.kernel_log.line_types import Line, LineType
from otel_oom.linux.kernel_log.report import Report
from otel_oom.linux.kernel_log.report_text import ReportText
from otel_oom.linux.kernel_log.stack_frames import parse_frame
from otel_oom.linux.kernel_log.task_table import TaskTableReader
from otel_oom.linux.kernel_stack import trim_to_decision
from otel_oom.model.types import MemcgUsage

MAX_FRAMES: Final = 48
_MAX_SECTIONS: Final = 64

_SECTION_ORDER: Final[Sequence[type[LineType]]] = (
    line_types.OomHeader,
    line_types.AllocatingTask,
    line_types.CallTraceHeader,
    line_types.MemcgOomTask,
    line_types.MemcgCounter,
    line_types.MemInfoHeader,
    line_types.TaskTableHeader,
    line_types.OomKillSummary,
)
"""The sections of a report, once each at most; which of them is up to the kernel."""

_BEFORE_TRACE: Final = ([line_types.OomHeader], [line_types.AllocatingTask])
_OF_HEAD: Final = (line_types.AllocatingTask, line_types.CallTraceHeader)


class ReportAssembler(Struct):
    """Assembler of the lines of a report in their order.

    ``_interrupted`` are the sections of a report without an end, of which lines may follow amid the
    next one, and even behind its end: ``_was_mixed``.
    """

    report: Report | None = None
    frames: list[str] = []
    _in_trace: bool = False
    _text: ReportText | None = None
    _table: TaskTableReader | None = None
    _sections: list[type[LineType]] = []
    _interrupted: frozenset[type[LineType]] = frozenset()
    _was_mixed: bool = False

    def begin(self, line: Line, header: line_types.OomHeader) -> None:
        """Begin a report; the lines of one without an end may still follow."""
        interrupted = self.report is not None and line.caller is None
        self._interrupted = frozenset(self._sections) if interrupted else frozenset()
        self._open(Report(header=header, trigger_tid=line.caller, time_ns=line.time_ns))
        self._was_mixed = False
        self._sections = [line_types.OomHeader]
        self.add_text(line.text)

    def begin_headless(self, line: Line) -> None:
        """Begin a report whose first lines are missing, unless lines of another may follow."""
        if not self._was_mixed:
            self._open(Report(trigger_tid=line.caller, time_ns=line.time_ns))
            self.add_text(line.text)

    def _open(self, report: Report | None) -> None:
        self.report, self._table = report, None
        self._text = ReportText() if report else None
        self._in_trace, self.frames = False, []
        self._sections = []

    def add_text(self, text: str, *, continues: bool = False) -> None:
        """Add a line, or a piece that continues the one before, if a report has begun."""
        if self._text:
            self._text.add(text, continues=continues)

    def add_row(self, text: str) -> bool:
        """Add a row of the task table; return whether it is one."""
        return self._table is not None and text.startswith("[") and self._table.add(text)

    def add_frame(self, text: str) -> bool:
        """Add a line of a stack; return whether it is one."""
        if not self._in_trace and not self._may_begin_trace() and not self._interrupted:
            return False
        if text.strip() == "</TASK>":
            self._in_trace = False
            return True
        frame = parse_frame(text)
        if frame and self._may_begin_trace():
            self._in_trace = True
        if frame and not self._in_trace:
            # It is of the interrupted report.
            self._add_section(line_types.CallTraceHeader)
        elif frame and len(self.frames) < MAX_FRAMES:
            self.frames.append(frame)
        return frame is not None

    def _may_begin_trace(self) -> bool:
        """Return whether a stack may begin without a header: 32-bit arm, and old x86."""
        is_head = self._sections[-1:] in _BEFORE_TRACE
        return is_head and not self._in_trace and not self.frames and not self._interrupted

    def add(self, line: Line, parsed: LineType) -> Report | None:
        """Add another line; return the report if it now has the allocating task."""
        report = self.report
        # In a report without its head, a task and its stack are others.
        is_foreign = report and report.header is None and isinstance(parsed, _OF_HEAD)
        if report is None or report.summary or is_foreign:
            return None
        if not (isinstance(parsed, line_types.MemcgCounter) and parsed.swap):
            self._add_section(type(parsed))
        if isinstance(parsed, line_types.CallTraceHeader):
            # A second stack is that of another task.
            self._in_trace = not self.frames
            return None
        if isinstance(parsed, line_types.AllocatingTask):
            if report.trigger_tid is None and _may_be_trigger(report, parsed):
                report = replace(report, trigger_tid=parsed.tid)
            self.report = report
            return report
        self._in_trace = False
        if isinstance(parsed, line_types.MemcgCounter):
            report = replace(report, memcg_usage=_add_counter(report.memcg_usage, parsed))
        elif isinstance(parsed, line_types.OomMemcg):
            # Further ones are of the cgroups below it.
            report = replace(report, oom_memcg=report.oom_memcg or parsed.path)
        elif isinstance(parsed, line_types.MemcgOomTask):
            report = _add_memcg_task(report, parsed)
        elif isinstance(parsed, line_types.TaskTableHeader):
            self._table = TaskTableReader(parsed.columns, line.time_ns)
        self.report = report
        return None

    def _add_section(self, section: type[LineType]) -> None:
        if len(self._sections) < _MAX_SECTIONS:
            self._sections.append(section)

    def add_summary(self, line: Line, summary: line_types.OomKillSummary) -> Report:
        """Add the last line before the kill; return the report."""
        if self.report is None or self.report.summary:
            self._interrupted = frozenset()
            self._open(Report(trigger_tid=line.caller))
            self.add_text(line.text)
        self._add_section(line_types.OomKillSummary)
        self._in_trace = False
        self.report = replace(self._build(line) or Report(), summary=summary)
        return self.report

    def close(self, line: Line) -> Report | None:
        """Return the report that ends with this line, if one has begun."""
        report = self._build(line)
        self._open(None)
        self._was_mixed, self._interrupted = bool(self._interrupted), frozenset()
        return report

    def unfinished(self) -> Report | None:
        """Return the report that has begun and not ended."""
        return self.report and replace(self.report, stack=trim_to_decision(self.frames))

    def _build(self, line: Line) -> Report | None:
        report = self.report
        if report is None:
            return None
        if self._is_mixed():
            # Each part may be of either report.
            summary = report.summary
            return Report(summary=summary, time_ns=line.time_ns) if summary else None
        return replace(
            report,
            stack=trim_to_decision(self.frames),
            task_table=self._table.build() if self._table else None,
            text=str(self._text) if self._text else None,
            time_ns=line.time_ns,
        )

    def _is_mixed(self) -> bool:
        """Return whether lines of the interrupted report are among those of this one.

        Then a section is repeated, or out of order, or this one has no table while that had one.
        """
        if not self._interrupted:
            return False
        order = [_SECTION_ORDER.index(each) for each in self._sections if each in _SECTION_ORDER]
        lacks_table = (
            line_types.TaskTableHeader in self._interrupted
            and line_types.TaskTableHeader not in self._sections
        )
        return lacks_table or order != sorted(set(order))


def _may_be_trigger(report: Report, task: line_types.AllocatingTask) -> bool:
    comm = report.header.comm if report.header else None
    return None in {comm, task.comm} or comm == task.comm


def _add_memcg_task(report: Report, parsed: line_types.MemcgOomTask) -> Report:
    report = replace(report, oom_memcg=parsed.oom_memcg)
    # Before 2.6.36, whose header has no such score, the task is the allocating one.
    if report.header and report.header.score_adj is None:
        return replace(report, trigger_memcg=parsed.task_memcg)
    return replace(report, task_memcg=parsed.task_memcg)


def _add_counter(usage: MemcgUsage | None, counter: line_types.MemcgCounter) -> MemcgUsage:
    usage = usage or MemcgUsage(None, None, None, None)
    if counter.swap:
        return replace(usage, swap_limit=counter.limit, swap_usage=counter.usage)
    return replace(usage, limit=counter.limit, usage=counter.usage)
