"""Assembly of events from the log lines of one boot of one host."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.capture.panic.report import BootLogTail, find_panic
from otel_oom.commands.replay.formats.log_line import TEXT, LoggedLine, PartialTimestamp
from otel_oom.commands.replay.timestamps import BACK_NS, LinePosition
from otel_oom.linux.kernel_log.event_builder import EventBuilder
from otel_oom.linux.kernel_log.line_parser import parse_panic
from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.linux.kernel_log.parser import KernelLogParser
from otel_oom.linux.kernel_log.report import LogEvent, LoggedKill, LoggedNoVictim
from otel_oom.linux.kernel_log.syslog_line import CONTINUATIONS
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import Panic
from otel_oom.model.types import SYSRQ_ORDER
from otel_oom.model.units import NS_PER_S

SOURCE: Final = "replay"
FIRST_LINE: Final = "Linux version "
"""The beginning of a kernel's first line."""

_MAX_RECENT_LINES: Final = 1 << 12
_MAX_RECENT_CHARS: Final = 1 << 20
"""Lines before a panic, with its report: the table of that has one for each task."""
_PANIC_LINES: Final = 64
"""Lines after a panic that contain its stack."""
_NO_PROC: Final = Path("/nonexistent")
_ANY_LEAP_YEAR: Final = 2000

_ROW_BYTES: Final = 400
"""Memory of a row of a report's table, of which the size of the thread and its process are kept."""
_EVENT_BYTES: Final = 1 << 13
"""Memory of the other parts of an event."""


class LogLine(Line, frozen=True, kw_only=True):
    """A line to parse, with the line and the position in the file that it was made of."""

    logged: LoggedLine
    position: LinePosition


class PendingEvent(Struct, frozen=True):
    """A parsed event, its line, and the builder that completes it."""

    event: LoggedKill | LoggedNoVictim | Panic
    line: LoggedLine
    position: LinePosition
    builder: EventBuilder

    @property
    def is_by_sysrq(self) -> bool:
        """Return true for a kill by sysrq, which a daemon may have written to."""
        if not isinstance(self.event, LoggedKill) or self.event.report is None:
            return False
        header = self.event.report.header
        return header is not None and header.order == SYSRQ_ORDER

    @property
    def size_bytes(self) -> int:
        """About the memory that it takes; members of a group share their report."""
        event, size_bytes = self.event, _EVENT_BYTES + sys.getsizeof(self.line.text)
        if isinstance(event, Panic):
            return size_bytes + sys.getsizeof(event.original)
        report = event.report
        text = event.text if isinstance(event, LoggedKill) else report and report.text
        table = report.task_table if report else None
        row_count = len(table.total_vm) if table else 0
        return size_bytes + sys.getsizeof(text) + _ROW_BYTES * row_count


class Boot:
    """Follower of the log of one boot."""

    def __init__(self, first: LoggedLine) -> None:
        self._boot_id = first.boot_id
        self._builder = EventBuilder(first.boot_id, SOURCE, first.format, ProcessLookup(_NO_PROC))
        self._parser = KernelLogParser()
        self._recent: deque[LogLine] = deque()
        self._recent_chars = 0
        self._sequence = 0
        self._panic: LogLine | None = None
        self._panicked = False
        """A panic ends a boot: further ones are not searched for."""
        self.fed_chars = 0
        """Length of the parsed lines: what it has in memory was made of them."""
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
        parsed = LogLine(
            line.text,
            self._time_ns(line),
            self._sequence,
            line.caller,
            continues=line.text.startswith(CONTINUATIONS),
            exact=line.format != TEXT,
            logged=line,
            position=position,
        )
        self.fed_chars += len(line.text)
        self._add_recent(parsed)
        yield from self._with_lines(self._parser.feed(parsed))
        if not self._panicked and parse_panic(line.text):
            self._panic, self._panicked = parsed, True
        if self._panic is not None and self._sequence - self._panic.sequence >= _PANIC_LINES:
            yield from self._panic_event()

    def _add_recent(self, line: LogLine) -> None:
        self._recent.append(line)
        self._recent_chars += len(line.text)
        while len(self._recent) > _MAX_RECENT_LINES or self._recent_chars > _MAX_RECENT_CHARS:
            self._recent_chars -= len(self._recent.popleft().text)

    def end(self) -> Iterator[PendingEvent]:
        """Yield the events that the end of the log completes."""
        yield from self._with_lines(*self._parser.finish())
        yield from self._panic_event()

    def _with_lines(self, *events: LogEvent | None) -> Iterator[PendingEvent]:
        for event in events:
            if isinstance(event, LoggedKill | LoggedNoVictim) and isinstance(event.line, LogLine):
                line = event.line
                yield PendingEvent(event, line.logged, line.position, self._builder)

    def _panic_event(self) -> Iterator[PendingEvent]:
        if self._panic is None:
            return
        line, self._panic = self._panic, None
        panic = find_panic(BootLogTail(SOURCE, line.logged.format, list(self._recent)))
        if panic:
            yield PendingEvent(panic, line.logged, line.position, self._builder)

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
