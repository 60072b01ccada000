"""The kills that the kernel's log still has, whoever was there to see them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_oom.capture.kmsg.clock import LogClock
from otel_oom.capture.kmsg.reader import DEVICE, KmsgReader
from otel_oom.capture.mark_matching import ReadMarks, match_marks
from otel_oom.linux import clock
from otel_oom.linux.kernel_log.event_builder import EventBuilder
from otel_oom.linux.kernel_log.parser import KernelLogParser
from otel_oom.linux.kernel_log.report import DuplicateKillLine, LoggedKill
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import OomKill

_MOST_LINES: Final = 1 << 18
"""More than the largest log that a kernel is usually given (16 MiB) holds."""
_MOST_KILLS: Final = 1 << 14
_NOWHERE: Final = Path("/nonexistent")


@dataclass(frozen=True, slots=True)
class KmsgBacklog:
    """Kills in the order of the log, as far as it reaches back.

    ``again`` is how often the first of a group was killed, logged and counted a second time.
    ``sequence`` is the number of the last line that was read.
    """

    kills: tuple[OomKill, ...]
    again: int
    sequence: int


def read_kills(
    boot_id: str, source: str, after: int, marks: ReadMarks | None = None, device: Path = DEVICE
) -> KmsgBacklog:
    """What the log has behind the line of number ``after``.

    Each kill that ``marks`` knows has time and process of its mark. Times of the others are the
    log's own, mapped to CLOCK_BOOTTIME: those of lines printed before a suspend are late by as
    long as that took. What a process was beside what the log tells of it is not looked up: its id
    is another's by now.

    Raises:
        CaptureError: the log can't be read here.
        OSError: it can't be read any more.
    """
    reader = KmsgReader(device, from_start=True)
    parser, line_clock = KernelLogParser(), LogClock()
    told: list[LoggedKill] = []
    again, sequence = 0, after
    try:
        for line in reader.read_lines(_MOST_LINES):
            line_clock.note(line.time_ns)
            # A report may have begun before the line that the last reading ended at.
            event = parser.feed(line)
            if line.sequence <= after:
                continue
            sequence = line.sequence
            if isinstance(event, DuplicateKillLine):
                again += 1
            elif isinstance(event, LoggedKill) and len(told) < _MOST_KILLS:
                told.append(event)
        told += [event for event in parser.finish() if isinstance(event, LoggedKill)]
    finally:
        reader.close()
    events = EventBuilder(boot_id, source, str(device), ProcessLookup(_NOWHERE))
    offset = clock.boot_to_unix_offset_ns()

    def kill(event: LoggedKill) -> OomKill:
        return events.build_kill(event, line_clock.boottime_of(event.line.time_ns), offset)

    found: dict[int, OomKill] = {}
    for event in told:
        if event.first_of_group and event.first_of_group.line.sequence not in found:
            # It was read before; the rest of its group bears its name.
            found[event.first_of_group.line.sequence] = kill(event.first_of_group)
        found[event.line.sequence] = kill(event)
    kills = list(found.values())
    if marks and kills:
        # Asked behind the log: whatever that has is marked by now.
        tids = {kill.victim.tid for kill in kills if kill.victim.tid}
        kills = match_marks(kills, marks(tids), line_clock.told_at, line_clock.doubt_ns)
    new = (kill for kill in kills if kill.capture.sequence > after)
    return KmsgBacklog(tuple(new), again, sequence)


def last_sequence(device: Path = DEVICE) -> int:
    """The number of the log's last line; -1 for a log without any.

    Raises:
        CaptureError: the log can't be read here.
    """
    reader = KmsgReader(device)
    reader.close()
    return -1 if reader.sequence is None else reader.sequence
