"""The lines of the kernel's log into events: which lines belong to one OOM kill.

A kill is some hundred lines: who asked for memory, its stack, the cgroup's counters, a table of
tasks, who was chosen, and last the "Killed process" line. The kernel leaves out all but that last
one when kills come fast (10 reports in 5 s), so a kill without a report is a kill of which less is
known. Reports come one after another: the kernel holds its ``oom_lock`` from the first line to the
last. Lines of others may stand between them; where each line tells the thread that printed it,
they are told apart by that.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from otel_oom.capture import log_lines
from otel_oom.capture.log_forms import (
    Asking,
    Chosen,
    Exiting,
    Form,
    GroupKill,
    Invoked,
    Killed,
    LimitOf,
    Line,
    NoneToKill,
    Reaped,
    TraceBegins,
    Usage,
)
from otel_oom.capture.stack import outwards
from otel_oom.facts import Decision, Limits, Memcg

MOST_CHARS: Final = 1 << 13
"""The longest line that is read, joined from pieces or not; the kernel's are shorter."""

MOST_FRAMES: Final = 48
_MOST_THREADS: Final = 16
_GROUP_NS: Final = 250_000_000
"""Longer than from one kill of a group to the next on a serial console.

Where no line tells its thread, a kill without a report that follows a group within that time is
taken for one of the group."""

_OF_MEMCG: Final = "Memory cgroup out of memory"
"""How oom_kill_process() begins its line when, and only when, a cgroup's limit was hit."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was logged of one want of memory before anyone died; any part may be missing.

    ``stack`` runs from the decision outwards. ``tid`` is the thread that asked for memory.
    """

    invoked: Invoked | None = None
    tid: int | None = None
    stack: tuple[str, ...] = ()
    limits: Limits | None = None
    limit_of: str | None = None
    chosen: Chosen | None = None
    time_ns: int = 0
    """When its last line was printed, on the log's clock."""


@dataclass(frozen=True, slots=True)
class LoggedKill:
    """A kill, or one that found its victim exiting, and the report before it.

    ``first`` is the kill whose decision this one shares (``memory.oom.group``).
    """

    line: Line
    told: Killed | Exiting
    report: Report | None
    first: LoggedKill | None = None


@dataclass(frozen=True, slots=True)
class LoggedAgain:
    """The first of a group, killed, logged and counted once more along with the rest of it."""

    line: Line


@dataclass(frozen=True, slots=True)
class LoggedNoVictim:
    """There was nobody to kill."""

    line: Line
    report: Report | None


@dataclass(frozen=True, slots=True)
class LoggedReaping:
    """The reaper is done with a victim."""

    line: Line
    told: Reaped


LogEvent = LoggedKill | LoggedAgain | LoggedNoVictim | LoggedReaping | Report
"""A report is told as soon as it says who asked, and again when it says who is to die.

Both are still alive then, as far as the kernel is concerned."""


def decision(report: Report | None, message: str | None, hook: str) -> Decision:
    """What the kernel weighed, as far as its log tells: neither points nor capacity.

    ``message`` is how the "Killed process" line begins, where that is known already.
    """
    report = report or Report()
    invoked, chosen = report.invoked, report.chosen
    # Without the line of the choice, only a cgroup's own is told apart from the rest.
    of_memcg = report.limits is not None or (message or "").startswith(_OF_MEMCG)
    path = (chosen and chosen.oom_memcg) or report.limit_of
    return Decision(
        hook=hook,
        constraint=chosen.constraint if chosen else "memcg" if of_memcg else None,
        order=invoked.order if invoked else None,
        gfp_mask=invoked.gfp_mask if invoked else None,
        gfp_flags=invoked.gfp_flags if invoked else None,
        message=message,
        memcg=Memcg(None, path) if path else None,
        limits=report.limits,
    )


@dataclass(slots=True)
class _Thread:
    """What one printing thread is in the middle of; all of them, where no thread is told."""

    report: Report | None = None
    in_trace: bool = False
    frames: list[str] = field(default_factory=list)
    piece: str = ""
    last: LoggedKill | None = None
    last_ns: int = 0
    in_group: bool = False

    def soon(self, line: Line) -> bool:
        """Whether ``line`` can be of the decision that the last kill was of."""
        return self.last is not None and 0 <= line.time_ns - self.last_ns < _GROUP_NS


class KernelLogParser:
    """Joins lines, given in their order, into events; keeps no more than a report or a few."""

    def __init__(self) -> None:
        """Begin between two reports."""
        self._threads: dict[int | None, _Thread] = {}

    def feed(self, line: Line) -> LogEvent | None:
        """The event that ``line`` completes, if any; no text makes this raise."""
        if line.after_loss:
            # What was begun may have ended unseen: its parts would go to another kill.
            self._threads.clear()
        text = self._joined(line)
        if len(text) > MOST_CHARS:
            return None
        form = log_lines.parse(text)
        if isinstance(form, Reaped):
            return LoggedReaping(line, form)
        thread = self._threads.get(line.caller)
        if form is None:
            if thread and thread.in_trace:
                _trace(thread, text)
            return None
        if isinstance(form, Invoked):
            self._begin(line, form)
            return None
        if isinstance(form, Chosen | Killed | Exiting | NoneToKill):
            return _told(thread or self._new(line), line, form)
        return _add(thread, line, form) if thread else None

    def unfinished(self, caller: int | None) -> Report | None:
        """What that thread has begun to report, and not ended."""
        thread = self._threads.get(caller)
        if thread is None or thread.report is None:
            return None
        return replace(thread.report, stack=outwards(thread.frames))

    def _joined(self, line: Line) -> str:
        """The text, behind what it continues; a long path makes pieces of a line."""
        if not line.continues:
            thread = self._threads.get(line.caller)
            if thread:
                thread.piece = ""
            if line.text.startswith(("oom-kill:", "Tasks in /")):
                (thread or self._new(line)).piece = line.text[: MOST_CHARS + 1]
            return line.text
        thread = self._threads.get(line.caller)
        if not thread or not thread.piece:
            return line.text
        thread.piece = (thread.piece + line.text)[: MOST_CHARS + 1]
        return thread.piece

    def _begin(self, line: Line, form: Invoked) -> None:
        self._threads.pop(line.caller, None)
        thread = self._new(line)
        thread.report = Report(invoked=form, tid=line.caller, time_ns=line.time_ns)

    def _new(self, line: Line) -> _Thread:
        if len(self._threads) >= _MOST_THREADS:
            del self._threads[next(iter(self._threads))]
        thread = self._threads[line.caller] = _Thread()
        return thread


def _add(thread: _Thread, line: Line, form: Form) -> Report | None:
    """Take a line that tells more of what has begun; the report, if it is who asked."""
    if isinstance(form, GroupKill):
        thread.in_group = thread.soon(line)
        thread.last_ns = line.time_ns
        return None
    report = thread.report
    if report is None or report.chosen:
        return None
    if isinstance(form, Asking) and report.tid is None:
        report = replace(report, tid=form.tid)
    elif isinstance(form, TraceBegins):
        # A second stack is somebody else's.
        thread.in_trace = not thread.frames
    elif isinstance(form, Usage):
        thread.in_trace = False
        report = replace(report, limits=_limits(report.limits, form))
    elif isinstance(form, LimitOf):
        thread.in_trace = False
        report = replace(report, limit_of=form.path)
    thread.report = report
    return report if isinstance(form, Asking) else None


def _trace(thread: _Thread, text: str) -> None:
    if text.strip() == "</TASK>" or text.startswith("Mem-Info:"):
        thread.in_trace = False
        return
    frame = log_lines.frame(text)
    if frame and len(thread.frames) < MOST_FRAMES:
        thread.frames.append(frame)


def _limits(known: Limits | None, form: Usage) -> Limits:
    known = known or Limits(None, None, None, None)
    if form.swap:
        return replace(known, swap_limit=form.limit, swap_usage=form.usage)
    return replace(known, limit=form.limit, usage=form.usage)


def _told(
    thread: _Thread, line: Line, form: Chosen | Killed | Exiting | NoneToKill
) -> LogEvent | None:
    """Close what has begun, or tell the choice that is in it."""
    report = thread.report
    if report:
        report = replace(report, stack=outwards(thread.frames), time_ns=line.time_ns)
    thread.in_trace, thread.piece = False, ""
    if isinstance(form, Chosen):
        if report is None or report.chosen:
            report = Report(tid=line.caller, time_ns=line.time_ns)
        thread.report = replace(report, chosen=form)
        thread.last, thread.in_group = None, False
        return thread.report
    thread.report, thread.frames = None, []
    if isinstance(form, NoneToKill):
        return LoggedNoVictim(line, report)
    if report is None and thread.in_group and thread.soon(line) and thread.last:
        thread.last_ns = line.time_ns
        return _member(thread.last, line, form)
    kill = LoggedKill(line, form, report if _fits(report, form) else None)
    thread.last, thread.last_ns, thread.in_group = kill, line.time_ns, False
    return kill


def _member(
    first: LoggedKill, line: Line, form: Killed | Exiting
) -> LoggedKill | LoggedAgain | None:
    """One of a group. The chosen one may come again; another may be exiting by itself."""
    chosen = first.report.chosen if first.report else None
    again = form.pid == first.told.pid or (chosen is not None and form.pid == chosen.pid)
    if isinstance(form, Exiting):
        return None
    if again and isinstance(first.told, Killed):
        return LoggedAgain(line)
    return LoggedKill(line, form, first.report, first)


def _fits(report: Report | None, form: Killed | Exiting) -> bool:
    """Whether the kill is the report's. Chosen is a process, marked is a thread of it."""
    chosen = report.chosen if report else None
    if chosen is None or form.pid == chosen.pid:
        return True
    return isinstance(form, Killed) and form.uid == chosen.uid
