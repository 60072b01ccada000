"""Read the kills that are still in the kernel log."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.capture.kmsg.clock import LogClock
from otel_oom.capture.kmsg.open_log import open_kernel_log
from otel_oom.capture.kmsg.reader import DEVICE
from otel_oom.capture.mark_matching import ReadMarks, match_marks
from otel_oom.linux import clock
from otel_oom.linux.kernel_log.event_builder import EventBuilder
from otel_oom.linux.kernel_log.parser import KernelLogParser
from otel_oom.linux.kernel_log.record_number import is_same_numbering
from otel_oom.linux.kernel_log.report import DuplicateKillLine, LoggedKill
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import OomKill

_MAX_LINES: Final = 1 << 18
"""More than fit into the largest usual log (16 MiB)."""
_MAX_KILLS: Final = 1 << 14
_NO_PROC: Final = Path("/nonexistent")


class KmsgBacklog(Struct, frozen=True):
    """Kills in the order of the log, and the number of its last line.

    ``double_counted`` counts first members of a group that were killed, logged and counted twice.
    """

    kills: tuple[OomKill, ...]
    double_counted: int
    sequence: int


def read_backlog(
    boot_id: str,
    source: str,
    after: int,
    read_marks: ReadMarks | None = None,
    device: Path = DEVICE,
) -> KmsgBacklog:
    """Read the kills after the line of number ``after``, or all if that is of another numbering.

    Kills with a mark have its time and process. Times of others are the log's, converted to
    CLOCK_BOOTTIME: a suspend after a line makes it late by its duration. Processes are not looked
    up in /proc, as their ids may have been reused.

    Raises:
        CaptureError: the log can't be read here.
        OSError: it can't be read any more.
    """
    reader = open_kernel_log(device, from_start=True)
    parser, line_clock = KernelLogParser(), LogClock()
    logged: list[LoggedKill] = []
    double_counted, sequence = 0, after
    try:
        for line in reader.read_lines(_MAX_LINES):
            line_clock.update(line.time_ns)
            if not is_same_numbering(line.sequence, after):
                after = -1
            # A report may begin before the line at which the last reading ended.
            event = parser.feed(line)
            if line.sequence <= after:
                continue
            sequence = line.sequence
            if isinstance(event, DuplicateKillLine):
                double_counted += 1
            elif isinstance(event, LoggedKill) and len(logged) < _MAX_KILLS:
                logged.append(event)
        logged += [event for event in parser.finish() if isinstance(event, LoggedKill)]
    finally:
        reader.close()
    builder = EventBuilder(boot_id, source, reader.source, ProcessLookup(_NO_PROC))
    offset_ns = clock.boot_to_unix_offset_ns()
    kills: dict[int, OomKill] = {}
    for kill in logged:
        # The first of a group may have been read before; the others refer to its uid.
        for member in filter(None, (kill.first_of_group, kill)):
            if member is kill or member.line.sequence not in kills:
                boottime_ns = line_clock.to_boottime(member.line.time_ns)
                kills[member.line.sequence] = builder.build_kill(member, boottime_ns, offset_ns)
    matched = list(kills.values())
    if read_marks and matched:
        # Read after the log: all kills in it are marked by now.
        marks = read_marks({kill.victim.tid for kill in matched if kill.victim.tid})
        matched = match_marks(
            matched, marks, line_clock.boottime_of_monotonic, line_clock.tolerance_ns
        )
    new = (kill for kill in matched if kill.capture.sequence > after)
    return KmsgBacklog(tuple(new), double_counted, sequence)


def read_last_sequence(device: Path = DEVICE) -> int:
    """Return the number of the log's last line; -1 for an empty log.

    Raises:
        CaptureError: the log can't be read here.
    """
    reader = open_kernel_log(device)
    reader.close()
    return -1 if reader.sequence is None else reader.sequence
