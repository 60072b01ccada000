"""Assembly of events from the log lines of one boot of one host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.capture.panic.report import BootLogTail, find_panic
from otel_oom.commands.replay.formats.detect import TEXT
from otel_oom.commands.replay.formats.log_line import LoggedLine, PartialTimestamp
from otel_oom.commands.replay.timestamps import BACK_NS, LinePosition
from otel_oom.linux.kernel_log.event_builder import EventBuilder
from otel_oom.linux.kernel_log.line_parser import parse_panic
from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.linux.kernel_log.parser import KernelLogParser
from otel_oom.linux.kernel_log.report import LogEvent, LoggedKill, LoggedNoVictim
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import Panic
from otel_oom.model.units import NS_PER_S

SOURCE: Final = "replay"
FIRST_LINE: Final = "Linux version "
"""The beginning of a kernel's first line."""

_MAX_RECENT: Final = 1 << 12
"""Lines from the beginning of a report to its end: its table has one for each task."""
_PANIC_LINES: Final = 64
"""Lines after a panic that contain its stack."""
_NO_PROC: Final = Path("/nonexistent")
_ANY_LEAP_YEAR: Final = 2000
_CONTINUATIONS: Final = (
    *(",cpuset=", ",mems_allowed=", ",global_oom,", ",oom_memcg=", ",task_memcg=", ",task="),
    " are going to be killed due to",
)
"""Beginnings of the second part of a long line; only /dev/kmsg marks such a part as one."""


class PendingEvent(Struct, frozen=True):
    """A parsed event, its line, and the builder that completes it."""

    event: LoggedKill | LoggedNoVictim | Panic
    line: LoggedLine
    position: LinePosition
    builder: EventBuilder


class Boot:
    """Follower of the log of one boot."""

    def __init__(self, first: LoggedLine) -> None:
        self._boot_id = first.boot_id
        self._builder = EventBuilder(first.boot_id, SOURCE, first.format, ProcessLookup(_NO_PROC))
        self._parser = KernelLogParser()
        self._recent: dict[int, tuple[Line, LoggedLine, LinePosition]] = {}
        self._sequence = 0
        self._panic: int | None = None
        """The number of the panic's line, until its stack has been read."""
        self._since_boot_ns = 0
        self._last_wall_ns = 0
        self._clock_ns = 0

    def ends_before(self, line: LoggedLine) -> bool:
        """Return whether ``line`` belongs to another boot."""
        if line.boot_id != self._boot_id or line.text.startswith(FIRST_LINE):
            return True
        now_ns = line.since_boot_ns
        return now_ns is not None and now_ns < self._since_boot_ns - BACK_NS

    def skip(self, line: LoggedLine) -> None:
        """Take the time of a line, and nothing else."""
        if line.since_boot_ns is not None:
            self._since_boot_ns = line.since_boot_ns

    def feed(self, line: LoggedLine, position: LinePosition) -> Iterator[PendingEvent]:
        """Yield the events that ``line`` completes."""
        self.skip(line)
        self._sequence += 1
        parsed = Line(
            line.text,
            self._time_ns(line),
            self._sequence,
            line.caller,
            continues=line.text.startswith(_CONTINUATIONS),
            exact=line.format != TEXT,
        )
        self._recent[self._sequence] = parsed, line, position
        if len(self._recent) > _MAX_RECENT:
            del self._recent[next(iter(self._recent))]
        yield from self._with_lines(self._parser.feed(parsed))
        if self._panic is None and parse_panic(line.text):
            self._panic = self._sequence
        if self._panic is not None and self._sequence - self._panic >= _PANIC_LINES:
            yield from self._panic_event()

    def end(self) -> Iterator[PendingEvent]:
        """Yield the events that the end of the log completes."""
        yield from self._with_lines(*self._parser.finish())
        yield from self._panic_event()

    def _with_lines(self, *events: LogEvent | None) -> Iterator[PendingEvent]:
        for event in events:
            if isinstance(event, LoggedKill | LoggedNoVictim):
                _, line, position = self._recent[event.line.sequence]
                yield PendingEvent(event, line, position, self._builder)

    def _panic_event(self) -> Iterator[PendingEvent]:
        if self._panic is None:
            return
        _, line, position = self._recent[self._panic]
        self._panic = None
        tail = [parsed for parsed, _, _ in self._recent.values()]
        panic = find_panic(BootLogTail(SOURCE, line.format, tail))
        if panic:
            yield PendingEvent(panic, line, position, self._builder)

    def _time_ns(self, line: LoggedLine) -> int:
        """Return a time whose differences show whether two lines belong to one decision.

        A difference in whole seconds is reduced by one: the second may just have changed.
        """
        if line.since_boot_ns is not None:
            return line.since_boot_ns
        wall_ns = line.when if isinstance(line.when, int) else None
        whole_seconds = False
        if isinstance(line.when, PartialTimestamp):
            whole_seconds = not line.when.ns
            with suppress(ValueError, OverflowError):
                wall_ns = line.when.unix_ns(_ANY_LEAP_YEAR)
        if wall_ns is not None:
            elapsed_ns = wall_ns - self._last_wall_ns
            self._last_wall_ns = wall_ns
            self._clock_ns += max(0, elapsed_ns - NS_PER_S) if whole_seconds else elapsed_ns
        return self._clock_ns
