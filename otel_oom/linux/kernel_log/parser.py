"""Join the lines of a kernel log into events: which lines belong to one OOM kill.

A kill is some hundred lines: the allocating task, its stack, the cgroup's counters, a task table,
the chosen process, and last the "Killed process" line. The kernel omits all but that last one when
kills come fast (10 reports in 5 s): a kill without a report has fewer details. Reports follow one
another: the kernel holds its ``oom_lock`` from the first line to the last (except for a cgroup's
before 4.2). Other lines may stand between them; where each line records the thread that printed
it, this separates them. Where two reports are mixed and nothing separates their lines, neither
gets a part that may be the other's.

Until 5.0 a line announces the kill: both lines are one kill, which may be that of a child; without
the second line, of the announced process. A process that dies because it shares its memory with the
victim ("sharing same memory") is no kill: the kernel does not count it either.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from otel_oom.linux.kernel_log.kill_tracker import KillTracker, PendingKill, is_kill_of
from otel_oom.linux.kernel_log.line_parser import parse_stored_line
from otel_oom.linux.kernel_log.line_types import (
    ExitingVictim,
    KillAnnouncement,
    KilledProcess,
    Line,
    LineType,
    MemcgCounter,
    MemcgOomTask,
    NoKillableProcess,
    OomGroupKill,
    OomHeader,
    OomKillSummary,
    OomMemcg,
    ReapedProcess,
    TaskTableHeader,
)
from otel_oom.linux.kernel_log.piece_joiner import BEGINNINGS, MAX_CHARS, PieceJoiner
from otel_oom.linux.kernel_log.prefix import strip_prefix
from otel_oom.linux.kernel_log.report import (
    LogEvent,
    LoggedKill,
    LoggedNoVictim,
    LoggedReaping,
    Report,
)
from otel_oom.linux.kernel_log.report_assembler import ReportAssembler
from otel_oom.model.text import escape_controls
from otel_oom.model.units import NS_PER_S

_MAX_THREADS: Final = 16
_SWEEP_LINES: Final = 1 << 10
_REPORT_NS: Final = 60 * NS_PER_S
_REPORT_LINES: Final = 1 << 12
"""After so long a silence, or as many other lines, an unfinished report has no end."""

_REPORT_ONLY: Final = (MemcgCounter, OomMemcg, MemcgOomTask, TaskTableHeader)
"""The lines that no other report of the kernel has: they show one whose head is missing."""

_Key = tuple[str | None, int | None]


class _Thread(Struct):
    """The state of one printing thread; ``line_number`` and ``time_ns`` are its last line's.

    ``choice`` is the report's last line, until its kill.
    """

    assembler: ReportAssembler = field(default_factory=ReportAssembler)
    kills: KillTracker = field(default_factory=KillTracker)
    pieces: PieceJoiner = field(default_factory=PieceJoiner)
    choice: PendingKill | None = None
    line_number: int = 0
    time_ns: int = 0

    def is_stale(self, line: Line, line_count: int) -> bool:
        """Return whether the end of an unfinished report does not come any more."""
        return self.assembler.report is not None and (
            line_count - self.line_number > _REPORT_LINES
            or abs(line.time_ns - self.time_ns) > _REPORT_NS
        )


class KernelLogParser:
    """Parser of lines, fed in their order, into events; it keeps a few reports at most."""

    def __init__(self) -> None:
        self._threads: dict[_Key, _Thread] = {}
        self._late: deque[LogEvent] = deque()
        self._line_count = 0
        self._last: Line | None = None

    @property
    def in_report(self) -> bool:
        """Return true if a report has begun: until it ends, each line may be part of it."""
        return any(thread.assembler.report is not None for thread in self._threads.values())

    def feed(self, line: Line) -> LogEvent | None:
        """Return the event that ``line`` completes, if any; no text makes this raise.

        A kill whose own line is missing is returned some lines later, or by :meth:`finish`.
        """
        event = self._feed(line)
        if not self._late:
            return event
        if event is not None:
            self._late.append(event)
        return self._late.popleft()

    def finish(self) -> list[LogEvent]:
        """Return the remaining events at the end of the log."""
        for key in list(self._threads):
            self._drop(key)
        events = list(self._late)
        self._late.clear()
        return events

    def unfinished(self, caller: int | None, stream: str | None = None) -> Report | None:
        """Return the report that a thread has begun and not ended."""
        thread = self._threads.get((stream, caller))
        return thread.assembler.unfinished() if thread else None

    def _feed(self, line: Line) -> LogEvent | None:
        self._line_count += 1
        is_doubled = self._is_doubled(line)
        if line.after_loss:
            self._cut(line.stream)
        if self._line_count % _SWEEP_LINES == 0:
            self._sweep(line)
        if len(line.text) > 2 * MAX_CHARS:
            return None
        if not line.exact:
            line = strip_prefix(line)
        thread = self._threads.get((line.stream, line.caller))
        if thread is None and line.text.startswith(BEGINNINGS):
            thread = self._renewed_thread(line)
        if thread is not None:
            return self._feed_thread(thread, line, is_doubled=is_doubled)
        parsed = parse_stored_line(line.text) if len(line.text) <= MAX_CHARS else None
        return None if parsed is None else self._handle(None, line, parsed)

    def _feed_thread(self, thread: _Thread, line: Line, *, is_doubled: bool) -> LogEvent | None:
        text, joined = thread.pieces.join(line, self._line_count)
        if len(text) > MAX_CHARS:
            return None
        self._expire(thread, line)
        if is_doubled:
            return None
        thread.assembler.add_text(line.text, continues=joined)
        parsed = None
        if not thread.assembler.add_row(text):
            parsed = parse_stored_line(text)
            if parsed is None and not thread.assembler.add_frame(text):
                return None
        thread.time_ns, thread.line_number = line.time_ns, self._line_count
        return None if parsed is None else self._handle(thread, line, parsed)

    def _is_doubled(self, line: Line) -> bool:
        """Return whether a line is the one before once more, as two loggers store it."""
        last, self._last = self._last, line
        return last is not None and (line.text, line.time_ns, line.stream, line.caller) == (
            *(last.text, last.time_ns, last.stream, last.caller),
        )

    def _cut(self, stream: str | None) -> None:
        """End all reports: an end may be lost, and their parts would go to another kill.

        The kill of a choice may still follow, if other lines were lost.
        """
        for key in [key for key in self._threads if key[0] == stream]:
            choice = self._threads[key].choice
            self._threads[key].choice = None
            self._drop(key)
            if choice:
                self._threads[key] = _Thread()
                self._threads[key].kills.add_pending(replace(choice, is_cut=True))

    def _handle(self, thread: _Thread | None, line: Line, parsed: LineType) -> LogEvent | None:
        if isinstance(parsed, ReapedProcess):
            return LoggedReaping(line, parsed)
        if isinstance(parsed, NoKillableProcess):
            return LoggedNoVictim(line, thread.assembler.close(line) if thread else None)
        if isinstance(
            parsed, OomHeader | OomKillSummary | KillAnnouncement | KilledProcess | ExitingVictim
        ):
            return self._handle_in_thread(self._renewed_thread(line), line, parsed)
        if thread and isinstance(parsed, OomGroupKill):
            thread.kills.begin_group(line, parsed.path)
            return None
        if isinstance(parsed, _REPORT_ONLY) and not (thread and thread.assembler.report):
            thread = self._renewed_thread(line)
            thread.kills.end_group()
            thread.assembler.begin_headless(line)
        return thread.assembler.add(line, parsed) if thread else None

    def _handle_in_thread(
        self,
        thread: _Thread,
        line: Line,
        parsed: OomHeader | OomKillSummary | KillAnnouncement | KilledProcess | ExitingVictim,
    ) -> LogEvent | None:
        if isinstance(parsed, OomHeader):
            self._await_kill(thread)
            thread.kills.end_group()
            thread.assembler.begin(line, parsed)
            return None
        if isinstance(parsed, OomKillSummary):
            self._await_kill(thread)
            thread.kills.end_group()
            report = thread.assembler.add_summary(line, parsed)
            thread.choice = PendingKill(line, parsed, report, self._line_count)
            return report
        if isinstance(parsed, KillAnnouncement):
            return self._on_announcement(thread, line, parsed)
        return self._on_kill(thread, line, parsed)

    def _on_announcement(self, thread: _Thread, line: Line, parsed: KillAnnouncement) -> Report:
        text = escape_controls(line.text)
        report = thread.assembler.close(line) or Report(text=text, time_ns=line.time_ns)
        report = replace(report, announcement=parsed)
        self._add_pending(thread, PendingKill(line, parsed, report, self._line_count))
        return report

    def _await_kill(self, thread: _Thread) -> None:
        """Keep the choice of a report whose kill may still follow, behind that of another."""
        if thread.choice:
            self._add_pending(thread, thread.choice)
            thread.choice = None

    def _add_pending(self, thread: _Thread, pending: PendingKill) -> None:
        late = thread.kills.add_pending(pending)
        if late:
            self._late.append(late)

    def _on_kill(
        self, thread: _Thread, line: Line, parsed: KilledProcess | ExitingVictim
    ) -> LogEvent | None:
        kills, text = thread.kills, escape_controls(line.text)
        if isinstance(parsed, KilledProcess) and kills.is_repetition(parsed, line):
            return None
        pending = kills.pop_pending(parsed)
        if pending and not pending.is_cut:
            announced = pending.to_kill()
            if isinstance(parsed, KilledProcess):
                parsed = replace(parsed, message=parsed.message or announced.parsed.message)
            text = f"{announced.text}\n{text}"
            return kills.add_kill(LoggedKill(line, parsed, pending.report, text=text))
        report = thread.assembler.close(line)
        if report is None and kills.is_in_group(line):
            return kills.add_member(line, parsed)
        if report and not is_kill_of(report, parsed):
            self._await_kill(thread)
            report = None
        thread.choice = None
        text = (report and report.text) or text
        return kills.add_kill(LoggedKill(line, parsed, report, text=text))

    def _renewed_thread(self, line: Line) -> _Thread:
        """Return the thread of a line, as the most recent of all."""
        key = line.stream, line.caller
        thread = self._threads.pop(key, None) or _Thread()
        if len(self._threads) >= _MAX_THREADS:
            self._drop(next(iter(self._threads)))
        self._threads[key] = thread
        thread.time_ns, thread.line_number = line.time_ns, self._line_count
        return thread

    def _sweep(self, line: Line) -> None:
        for (stream, _), thread in self._threads.items():
            if stream == line.stream:
                self._expire(thread, line)

    def _expire(self, thread: _Thread, line: Line) -> None:
        if thread.is_stale(line, self._line_count):
            thread.assembler.close(line)
            self._await_kill(thread)
        self._late.extend(thread.kills.pop_lost(line, self._line_count))

    def _drop(self, key: _Key) -> None:
        thread = self._threads.pop(key)
        self._await_kill(thread)
        self._late.extend(thread.kills.pop_lost())
