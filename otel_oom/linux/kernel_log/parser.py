"""The lines of a kernel's log into events: which lines belong to one OOM kill.

A kill is some hundred lines: who asked for memory, its stack, the cgroup's counters, a table of
tasks, who was chosen, and last the "Killed process" line. The kernel leaves out all but that last
one when kills come fast (10 reports in 5 s), so a kill without a report is a kill of which less is
known. Reports come one after another: the kernel holds its ``oom_lock`` from the first line to the
last (a cgroup's own did without before 4.2). Lines of others may stand between them; where each
line tells the thread that printed it, they are told apart by that. Where two reports are mixed and
nothing tells their lines apart, neither is told what may be the other's.

Up to 5.0 there is a line of the choice before the kill's own: both are one kill, which may be that
of a child; without the second line, the chosen one. A process that dies because it shares its
memory with the victim ("sharing same memory") is none: the kernel does not count it either.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Final

from otel_oom.linux.kernel_log import line_parser
from otel_oom.linux.kernel_log.line_types import (
    Exiting,
    GroupKill,
    Invoked,
    KillAnnouncement,
    Killed,
    Line,
    LineType,
    NoKillableProcess,
    OomKillSummary,
    Reaped,
)
from otel_oom.linux.kernel_log.oom_group import dead_of, fits, member
from otel_oom.linux.kernel_log.prefix import undressed
from otel_oom.linux.kernel_log.report import (
    DuplicateKillLine,
    LogEvent,
    LoggedKill,
    LoggedNoVictim,
    LoggedReaping,
    Report,
    decision,
)
from otel_oom.linux.kernel_log.report_assembler import MOST_FRAMES, Pending, Thread
from otel_oom.model.text import escape_controls

__all__ = [
    "MOST_CHARS",
    "MOST_FRAMES",
    "DuplicateKillLine",
    "KernelLogParser",
    "LogEvent",
    "LoggedKill",
    "LoggedNoVictim",
    "LoggedReaping",
    "Report",
    "decision",
]

MOST_CHARS: Final = 1 << 13
"""The longest line that is read, joined from pieces or not; the kernel's are shorter."""

_MOST_THREADS: Final = 16
_SWEEP_LINES: Final = 1 << 10

_Key = tuple[str | None, int | None]


class KernelLogParser:
    """Joins lines, given in their order, into events; keeps no more than a report or a few."""

    def __init__(self) -> None:
        """Begin between two reports."""
        self._threads: dict[_Key, Thread] = {}
        self._late: deque[LogEvent] = deque()
        self._at = 0

    @property
    def in_report(self) -> bool:
        """Whether a report has begun: each line may be of it, until this is over."""
        return any(thread.report is not None for thread in self._threads.values())

    def feed(self, line: Line) -> LogEvent | None:
        """The event that ``line`` completes, if any; no text makes this raise.

        A kill whose own line is missing is told some lines later, or by :meth:`end`.
        """
        event = self._fed(line)
        if not self._late:
            return event
        if event is not None:
            self._late.append(event)
        return self._late.popleft()

    def end(self) -> list[LogEvent]:
        """What is still to be told when the log has ended."""
        for key in list(self._threads):
            self._drop(key)
        told = list(self._late)
        self._late.clear()
        return told

    def unfinished(self, caller: int | None, stream: str | None = None) -> Report | None:
        """What that thread has begun to report, and not ended."""
        thread = self._threads.get((stream, caller))
        return thread.unfinished() if thread else None

    def _fed(self, line: Line) -> LogEvent | None:
        self._at += 1
        if line.after_loss:
            # What was begun may have ended unseen: its parts would go to another kill.
            for key in [key for key in self._threads if key[0] == line.stream]:
                self._drop(key)
        if self._at % _SWEEP_LINES == 0:
            self._sweep(line)
        if len(line.text) > 2 * MOST_CHARS:
            return None
        if not line.exact:
            line = undressed(line)
        text = self._joined(line)
        if len(text) > MOST_CHARS:
            return None
        thread = self._threads.get((line.stream, line.caller))
        if thread is None:
            form = line_parser.parse(text)
            return None if form is None else self._take(None, line, form)
        self._expire(thread, line)
        thread.keep(line)
        if thread.table and text.startswith("[") and thread.table.add(text):
            form = None
        else:
            form = line_parser.parse(text)
            if form is None and not thread.trace(text):
                return None
        thread.seen_ns, thread.seen_at = line.time_ns, self._at
        return None if form is None else self._take(thread, line, form)

    def _take(self, thread: Thread | None, line: Line, form: LineType) -> LogEvent | None:
        if isinstance(form, Reaped):
            return LoggedReaping(line, form)
        if isinstance(form, Invoked | OomKillSummary | KillAnnouncement | Killed | Exiting):
            return self._of_report(self._moved(line), line, form)
        if isinstance(form, NoKillableProcess):
            return LoggedNoVictim(line, thread.close(line) if thread else None)
        if not isinstance(form, GroupKill):
            return thread.add(line, form) if thread else None
        if thread and thread.last and thread.soon(line):
            thread.group, thread.last_ns = dead_of(thread.last), line.time_ns
        return None

    def _of_report(
        self,
        thread: Thread,
        line: Line,
        form: Invoked | OomKillSummary | KillAnnouncement | Killed | Exiting,
    ) -> LogEvent | None:
        if isinstance(form, Invoked):
            thread.begin(line, form)
            thread.keep(line)
            return None
        if isinstance(form, OomKillSummary):
            return thread.choose(line, form)
        if isinstance(form, KillAnnouncement):
            return self._choice(thread, line, form)
        return self._victim(thread, line, form)

    def _choice(self, thread: Thread, line: Line, form: KillAnnouncement) -> Report:
        report = thread.close(line) or Report(text=escape_controls(line.text), time_ns=line.time_ns)
        report = replace(report, choice=form)
        late = thread.wait_for_kill(Pending(line, form, report, self._at))
        if late:
            self._late.append(late)
        return report

    def _victim(self, thread: Thread, line: Line, form: Killed | Exiting) -> LogEvent | None:
        if isinstance(form, Killed):
            if form.pid is None and thread.told_before(form, line):
                return None
            if form.memory is None:
                thread.recent.append((form.comm, line.time_ns))
            pending = thread.chosen_for(form)
            if pending:
                told = replace(form, message=form.message or pending.choice.message)
                text = f"{pending.kill().text}\n{escape_controls(line.text)}"
                return _last(thread, line, told, pending.report, text)
        report = thread.close(line)
        if report is None and thread.group is not None and thread.soon(line) and thread.last:
            thread.last_ns = line.time_ns
            return member(thread.last, thread.group, line, form)
        fitting = report if fits(report, form) else None
        return _last(
            thread, line, form, fitting, (fitting and fitting.text) or escape_controls(line.text)
        )

    def _joined(self, line: Line) -> str:
        """The text, behind what it continues; a long path makes pieces of a line."""
        thread = self._threads.get((line.stream, line.caller))
        if not line.continues:
            if thread:
                thread.piece = ""
            if line.text.startswith(("oom-kill:", "Tasks in /")):
                (thread or self._moved(line)).piece = line.text[: MOST_CHARS + 1]
            return line.text
        if not thread or not thread.piece:
            return line.text
        thread.piece = (thread.piece + line.text)[: MOST_CHARS + 1]
        return thread.piece

    def _moved(self, line: Line) -> Thread:
        """The thread of that line, as the youngest of all."""
        key = line.stream, line.caller
        thread = self._threads.pop(key, None) or Thread()
        if len(self._threads) >= _MOST_THREADS:
            self._drop(next(iter(self._threads)))
        self._threads[key] = thread
        thread.seen_ns, thread.seen_at = line.time_ns, self._at
        return thread

    def _sweep(self, line: Line) -> None:
        """Let go of what has no end, in threads that print nothing any more."""
        for (stream, _), thread in self._threads.items():
            if stream == line.stream:
                self._expire(thread, line)

    def _expire(self, thread: Thread, line: Line) -> None:
        if thread.stale(line, self._at):
            thread.close(line)
        overdue = [each for each in thread.pending if each.overdue(line, self._at)]
        for each in overdue:
            thread.pending.remove(each)
            self._late.append(each.kill())

    def _drop(self, key: _Key) -> None:
        self._late.extend(each.kill() for each in self._threads.pop(key).pending)


def _last(
    thread: Thread, line: Line, form: Killed | Exiting, report: Report | None, text: str
) -> LoggedKill:
    """The kill that the next ones may be of a group with."""
    kill = LoggedKill(line, form, report, text=text)
    thread.last, thread.last_ns, thread.group = kill, line.time_ns, None
    return kill
