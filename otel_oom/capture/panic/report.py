"""What the log of a boot that is over tells of a panic for want of memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.capture.panic.previous_boot import PreviousBoot
from otel_oom.linux.kernel_log.line_parser import (
    parse_frame,
    parse_line,
    parse_panic,
    parse_task_row,
)
from otel_oom.linux.kernel_log.line_types import AllocatingTask, CallTraceHeader, Line
from otel_oom.linux.kernel_log.parser import MAX_CHARS, KernelLogParser
from otel_oom.linux.kernel_log.report import LoggedNoVictim, Report, build_oom_control
from otel_oom.linux.kernel_log.report_assembler import MAX_FRAMES
from otel_oom.linux.kernel_stack import trim_to_decision
from otel_oom.model.events import Panic
from otel_oom.model.types import Capture, Task
from otel_oom.model.units import NS_PER_S, NS_PER_US, US_PER_S

_INVOKED: Final = " invoked oom-killer: "
_SYSTEM_WIDE: Final = "system-wide"
_ORIGINAL_CHARS: Final = 1 << 15
_HOST_ALONE: Final = "1"
_ALWAYS: Final = "2"
_REPORT_NS: Final = 60_000_000_000
"""Longer than a report takes on a slow console: behind that, something else was the end."""


class BootLogTail(Struct, frozen=True):
    """The last lines of a boot, oldest first.

    ``source`` has those from the index ``own`` on, at ``where``; those before are the journal's.
    ``unix_ns`` is when they were stored, in nanoseconds of Unix time. ``boot`` is the one that they
    are of, where the journal tells it.
    """

    source: str
    where: str
    lines: Sequence[Line]
    own: int = 0
    unix_ns: int = 0
    boot: PreviousBoot | None = None


def panic_in(log: BootLogTail) -> Panic | None:
    """The first panic for want of memory in a log: a kernel has no second one."""
    for at, line in enumerate(log.lines):
        message = parse_panic(line.text)
        if message:
            return _told(log, at, message)
    return None


def truncated_report(log: BootLogTail, policy: str) -> Panic | None:
    """A report at a log's end that only a panic follows with ``vm.panic_on_oom`` as ``policy``."""
    report, _ = _reports(log.lines, None)
    # Sysrq's request has an order of -1, and never leads to a panic.
    if report is None or report.header is None or report.header.order < 0:
        return None
    if log.lines[-1].time_ns - report.time_ns > _REPORT_NS:
        return None
    of_host = build_oom_control(report, None, log.where).constraint is None
    if policy == _ALWAYS or (policy == _HOST_ALONE and of_host):
        return _event(
            log,
            report.time_ns,
            None,
            report,
            AllocatingTask(report.trigger_tid) if report.trigger_tid else None,
        )
    return None


def _told(log: BootLogTail, at: int, message: str) -> Panic:
    """The panic in the line at ``at``, by the report before it, else by the lines behind it."""
    line = log.lines[at]
    # That nobody can be killed ends a report, and begins the panic of a host.
    begun, in_vain = _reports(log.lines[:at], line.caller)
    report = begun or in_vain or Report()
    asking, stack = _trace([after for after in log.lines[at + 1 :] if after.caller == line.caller])
    if not report.stack:
        report = replace(report, stack=stack)
    return _event(log, line.time_ns, message, report, asking)


def _reports(lines: Sequence[Line], caller: int | None) -> tuple[Report | None, Report | None]:
    """What that thread has begun to report and not ended, and what has just ended in vain."""
    parser = KernelLogParser()
    in_vain: Report | None = None
    for line in lines:
        event = parser.feed(line)
        if event is not None:
            in_vain = event.report if isinstance(event, LoggedNoVictim) else None
    begun = parser.unfinished(caller)
    # One that has somebody to kill is of a kill.
    return (None if begun is None or begun.summary else begun), in_vain


def _trace(lines: Sequence[Line]) -> tuple[AllocatingTask | None, tuple[str, ...]]:
    """The thread that panicked and its stack, as panic() itself prints them."""
    asking: AllocatingTask | None = None
    frames: list[str] = []
    in_trace = False
    for text in (line.text for line in lines if len(line.text) <= MAX_CHARS):
        form = parse_line(text)
        if isinstance(form, AllocatingTask):
            asking = asking or form
        elif isinstance(form, CallTraceHeader):
            in_trace = not frames
        elif text.strip() == "</TASK>" or text.startswith("Kernel Offset:"):
            in_trace = False
        elif in_trace and len(frames) < MAX_FRAMES and (frame := parse_frame(text)):
            frames.append(frame)
    return asking, trim_to_decision(frames)


def _event(
    log: BootLogTail,
    time_ns: int,
    message: str | None,
    report: Report,
    asking: AllocatingTask | None,
) -> Panic:
    invoked = report.header
    tid = asking.tid if asking else report.trigger_tid
    comm = invoked.comm if invoked else asking.comm if asking else None
    weighed = build_oom_control(report, None, log.where)
    if message and _SYSTEM_WIDE in message:
        weighed = replace(weighed, constraint="none")
    unix_ns, time_source = log.unix_ns, "record"
    if log.boot and time_ns:
        mapped = time_ns + log.boot.unix_offset_ns
        # A journal that was late to read the log tells its times too late.
        if not unix_ns or mapped < unix_ns + NS_PER_S:
            unix_ns, time_source = mapped, "log"
    return Panic(
        boot_id=log.boot.boot_id if log.boot else "",
        boottime_ns=time_ns,
        time_unix_ns=unix_ns,
        trigger=_process(log.lines, tid, comm),
        decision=weighed,
        capture=Capture(log.source, log.where, cpu=None, sequence=0),
        stack=report.stack,
        message=message,
        tid=tid,
        comm=comm,
        time_source=time_source,
        original=_original(log, whole=invoked is not None),
    )


def _process(lines: Sequence[Line], tid: int | None, comm: str | None) -> Task | None:
    """The process of a thread, if the report's table has it: there each has one row."""
    for line in reversed(lines):
        row = parse_task_row(line.text) if tid is not None else None
        if row and tid in {row.tid, row.tgid}:
            return Task(row.tgid, tid, uid=row.uid, comm=comm)
    return None


def _original(log: BootLogTail, *, whole: bool) -> str:
    """The log from the report on, or from where the record begins; of a long one, the end."""
    begin = log.own
    if whole:
        begin = max(at for at, line in enumerate(log.lines) if _INVOKED in line.text)
    lines = [_printed(line) for line in log.lines[begin:]]
    room = _ORIGINAL_CHARS
    for at in reversed(range(len(lines))):
        room -= len(lines[at]) + 1
        if room < 0:
            return "\n".join(lines[at + 1 :])
    return "\n".join(lines)


def _printed(line: Line) -> str:
    seconds, micros = divmod(line.time_ns // NS_PER_US, US_PER_S)
    return f"[{seconds:5}.{micros:06}] {line.text}" if line.time_ns else line.text
