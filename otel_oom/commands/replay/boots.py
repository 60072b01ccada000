"""The lines of one boot of one host: what is told of by some of them together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_oom.capture.panic.report import BootLogTail, panic_in
from otel_oom.commands.replay.formats.detect import BARE
from otel_oom.commands.replay.formats.log_line import LoggedLine, PartialTimestamp
from otel_oom.commands.replay.timestamps import LinePosition
from otel_oom.linux.kernel_log.event_builder import EventBuilder
from otel_oom.linux.kernel_log.line_parser import parse_panic
from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.linux.kernel_log.parser import KernelLogParser
from otel_oom.linux.kernel_log.report import LogEvent, LoggedKill, LoggedNoVictim
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import Panic
from otel_oom.model.units import NS_PER_S

SOURCE: Final = "replay"
BEGINS: Final = "Linux version "
"""What a kernel says first."""

_MOST_RECENT: Final = 1 << 12
"""More than from a line to the one by which it is told: a report of as many processes."""
_PANIC_LINES: Final = 64
"""So many behind a panic's own line have its stack."""
_NOWHERE: Final = Path("/nonexistent")
_BACK_NS: Final = 1_000_000_000
"""By so much the log's clock may go back within a boot: processors disagree."""
_SOME_YEAR: Final = 2000
"""A leap year: it only tells how far apart two dates are."""
_PIECES: Final = (
    *(",cpuset=", ",mems_allowed=", ",global_oom,", ",oom_memcg=", ",task_memcg=", ",task="),
    " are going to be killed due to",
)
"""What a line of the kernel's begins with that was printed in pieces, for it was long; only
/dev/kmsg tells that it goes on with the one before."""


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """What was logged, in which line, and all that is needed to make an event of it."""

    event: LoggedKill | LoggedNoVictim | Panic
    line: LoggedLine
    moment: LinePosition
    events: EventBuilder


class Boot:
    """Follows the log of one boot."""

    def __init__(self, first: LoggedLine) -> None:
        """Begin with the boot of that line."""
        self._boot_id = first.boot_id
        self._events = EventBuilder(first.boot_id, SOURCE, first.form, ProcessLookup(_NOWHERE))
        self._parser = KernelLogParser()
        self._recent: dict[int, tuple[Line, LoggedLine, LinePosition]] = {}
        self._sequence = 0
        self._panic: int | None = None
        """The number of a panic's line, until its stack has been read."""
        self._since_boot_ns = 0
        self._rough_ns = 0
        self._clock_ns = 0

    def is_over(self, line: LoggedLine) -> bool:
        """Whether a line is of another boot than those before it."""
        if line.boot_id != self._boot_id or line.text.startswith(BEGINS):
            return True
        now_ns = line.since_boot_ns
        return now_ns is not None and now_ns < self._since_boot_ns - _BACK_NS

    def pass_by(self, line: LoggedLine) -> None:
        """See how late it is by a line that is near no kill."""
        if line.since_boot_ns is not None:
            self._since_boot_ns = line.since_boot_ns

    def feed(self, line: LoggedLine, moment: LinePosition) -> Iterator[PendingEvent]:
        """What the line completes."""
        self.pass_by(line)
        self._sequence += 1
        given = Line(
            line.text,
            self._time_ns(line),
            self._sequence,
            line.caller,
            continues=line.text.startswith(_PIECES),
            exact=line.form != BARE,
        )
        self._recent[self._sequence] = given, line, moment
        if len(self._recent) > _MOST_RECENT:
            del self._recent[next(iter(self._recent))]
        yield from self._told(self._parser.feed(given))
        if self._panic is None and parse_panic(line.text):
            self._panic = self._sequence
        if self._panic is not None and self._sequence - self._panic >= _PANIC_LINES:
            yield from self._panicked()

    def end(self) -> Iterator[PendingEvent]:
        """What is still to be told when there are no more lines."""
        yield from self._told(*self._parser.finish())
        yield from self._panicked()

    def _told(self, *events: LogEvent | None) -> Iterator[PendingEvent]:
        for event in events:
            if isinstance(event, LoggedKill | LoggedNoVictim):
                _, line, moment = self._recent[event.line.sequence]
                yield PendingEvent(event, line, moment, self._events)

    def _panicked(self) -> Iterator[PendingEvent]:
        if self._panic is None:
            return
        _, line, moment = self._recent[self._panic]
        self._panic = None
        kept = [given for given, _, _ in self._recent.values()]
        panic = panic_in(BootLogTail(SOURCE, line.form, kept))
        if panic:
            yield PendingEvent(panic, line, moment, self._events)

    def _time_ns(self, line: LoggedLine) -> int:
        """A time by which two lines can be told to be of one decision.

        Of times in whole seconds the second may just have turned.
        """
        if line.since_boot_ns is not None:
            return line.since_boot_ns
        stamp = line.when if isinstance(line.when, PartialTimestamp) else None
        when = line.when if isinstance(line.when, int) else None
        in_seconds = stamp is not None and not stamp.ns
        if stamp:
            with suppress(ValueError, OverflowError):
                when = stamp.unix_ns(_SOME_YEAR)
        if when is not None:
            passed = when - self._rough_ns
            self._rough_ns = when
            self._clock_ns += max(0, passed - NS_PER_S) if in_seconds else passed
        return self._clock_ns
