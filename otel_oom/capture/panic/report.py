"""Find an OOM panic in the last log lines of an earlier boot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.capture.panic.previous_boot import PreviousBoot
from otel_oom.linux.kernel_log.line_parser import (
    parse_line,
    parse_panic,
    parse_task_row,
)
from otel_oom.linux.kernel_log.line_types import AllocatingTask, CallTraceHeader, Line
from otel_oom.linux.kernel_log.parser import KernelLogParser
from otel_oom.linux.kernel_log.piece_joiner import MAX_CHARS
from otel_oom.linux.kernel_log.report import LoggedNoVictim, Report, build_oom_control
from otel_oom.linux.kernel_log.report_assembler import MAX_FRAMES
from otel_oom.linux.kernel_log.stack_frames import parse_frame
from otel_oom.linux.kernel_stack import trim_to_decision
from otel_oom.model.events import Panic
from otel_oom.model.types import Capture, Task
from otel_oom.model.units import NS_PER_S, NS_PER_US, US_PER_S

_INVOKED: Final = " invoked oom-killer: "
_SYSTEM_WIDE: Final = "system-wide"
_MAX_ORIGINAL_CHARS: Final = 1 << 15
_PANIC_ON_HOST_OOM: Final = "1"
_PANIC_ALWAYS: Final = "2"
_MAX_REPORT_NS: Final = 60_000_000_000
"""Longer than a report takes on a slow console: later lines end the log for another reason."""


class BootLogTail(Struct, frozen=True):
    """Last log lines of a boot, oldest first.

    ``location`` is where ``source`` has the lines from index ``own_index`` on; lines before are the
    journal's. ``stored_unix_ns`` is when they were stored, in nanoseconds of Unix time. ``boot`` is
    their boot, if the journal has it.
    """

    source: str
    location: str
    lines: Sequence[Line]
    own_index: int = 0
    stored_unix_ns: int = 0
    boot: PreviousBoot | None = None


def find_panic(log: BootLogTail) -> Panic | None:
    """Return the OOM panic in a log; it is the last thing that its kernel did."""
    for index, line in enumerate(log.lines):
        message = parse_panic(line.text)
        if message:
            return _build_panic_at(log, index, message)
    return None


def find_truncated_report(log: BootLogTail, policy: str) -> Panic | None:
    """Return the panic that must have followed a report at the log's end.

    ``policy`` is ``vm.panic_on_oom``.
    """
    if policy not in {_PANIC_ON_HOST_OOM, _PANIC_ALWAYS}:
        return None
    report, _ = _last_reports(log.lines, None)
    # A sysrq request has order -1, and never leads to a panic.
    if report is None or report.header is None or report.header.order < 0:
        return None
    if log.lines[-1].time_ns - report.time_ns > _MAX_REPORT_NS:
        return None
    on_host = build_oom_control(report, None, log.location).constraint is None
    if policy == _PANIC_ON_HOST_OOM and not on_host:
        return None
    trigger = AllocatingTask(report.trigger_tid) if report.trigger_tid else None
    return _build_panic(log, report.time_ns, None, report, trigger)


def _build_panic_at(log: BootLogTail, index: int, message: str) -> Panic:
    """Build the panic of a line with the report before it, or else with the trace after it."""
    line = log.lines[index]
    # "No killable process" ends a report, and precedes a panic of the host.
    unfinished, no_victim = _last_reports(log.lines[:index], line.caller)
    report = unfinished or no_victim or Report()
    trigger, stack = _read_trace(
        [later for later in log.lines[index + 1 :] if later.caller == line.caller]
    )
    if not report.stack:
        report = replace(report, stack=stack)
    return _build_panic(log, line.time_ns, message, report, trigger)


def _last_reports(lines: Sequence[Line], caller: int | None) -> tuple[Report | None, Report | None]:
    """Return the caller's unfinished report, and the one that has just ended without a victim."""
    parser = KernelLogParser()
    no_victim: Report | None = None
    for line in lines:
        event = parser.feed(line)
        if event is not None:
            no_victim = event.report if isinstance(event, LoggedNoVictim) else None
    unfinished = parser.unfinished(caller)
    # A report with a victim belongs to a kill.
    return (None if unfinished is None or unfinished.summary else unfinished), no_victim


def _read_trace(lines: Sequence[Line]) -> tuple[AllocatingTask | None, tuple[str, ...]]:
    """Return the thread that panicked and its stack, as panic() prints them."""
    trigger: AllocatingTask | None = None
    frames: list[str] = []
    in_trace = False
    for text in (line.text for line in lines if len(line.text) <= MAX_CHARS):
        parsed = parse_line(text)
        if isinstance(parsed, AllocatingTask):
            trigger = trigger or parsed
        elif isinstance(parsed, CallTraceHeader):
            in_trace = not frames
        elif text.strip() == "</TASK>" or text.startswith("Kernel Offset:"):
            in_trace = False
        elif in_trace and len(frames) < MAX_FRAMES and (frame := parse_frame(text)):
            frames.append(frame)
    return trigger, trim_to_decision(frames)


def _build_panic(
    log: BootLogTail,
    time_ns: int,
    message: str | None,
    report: Report,
    trigger: AllocatingTask | None,
) -> Panic:
    header = report.header
    tid = trigger.tid if trigger else report.trigger_tid
    comm = header.comm if header else trigger.comm if trigger else None
    decision = build_oom_control(report, None, log.location)
    if message and _SYSTEM_WIDE in message:
        decision = replace(decision, constraint="none")
    unix_ns, time_source = log.stored_unix_ns, "record"
    if log.boot and time_ns:
        log_unix_ns = time_ns + log.boot.unix_offset_ns
        # If the journal read the log late, its times are late too.
        if not unix_ns or log_unix_ns < unix_ns + NS_PER_S:
            unix_ns, time_source = log_unix_ns, "log"
    return Panic(
        boot_id=log.boot.boot_id if log.boot else "",
        boottime_ns=time_ns,
        time_unix_ns=unix_ns,
        trigger=_find_process(log.lines, tid, comm),
        decision=decision,
        capture=Capture(log.source, log.location, cpu=None, sequence=0),
        stack=report.stack,
        message=message,
        tid=tid,
        comm=comm,
        time_source=time_source,
        original=_format_original(log, from_report=header is not None),
    )


def _find_process(lines: Sequence[Line], tid: int | None, comm: str | None) -> Task | None:
    """Return the process of a thread by the report's table, which has one row for each process."""
    for line in reversed(lines):
        row = parse_task_row(line.text) if tid is not None else None
        if row and tid in {row.tid, row.tgid}:
            return Task(row.tgid, tid, uid=row.uid, comm=comm)
    return None


def _format_original(log: BootLogTail, *, from_report: bool) -> str:
    """Return the log from the start of the report or record; of a long log, its end."""
    start = log.own_index
    if from_report:
        start = max(index for index, line in enumerate(log.lines) if _INVOKED in line.text)
    lines = [_format_line(line) for line in log.lines[start:]]
    chars_left = _MAX_ORIGINAL_CHARS
    for index in reversed(range(len(lines))):
        chars_left -= len(lines[index]) + 1
        if chars_left < 0:
            return "\n".join(lines[index + 1 :])
    return "\n".join(lines)


def _format_line(line: Line) -> str:
    seconds, micros = divmod(line.time_ns // NS_PER_US, US_PER_S)
    return f"[{seconds:5}.{micros:06}] {line.text}" if line.time_ns else line.text
