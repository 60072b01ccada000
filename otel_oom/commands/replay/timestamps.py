"""Times of the lines of one file, also without a year, or with uptimes only.

A date without a year is in the last year in which it is not later than the file. Each time that
the dates start again before the end of the file, it is one year earlier. An uptime is as long
before the file's own time as before the last line of its boot. That is too late by the time for
which nothing was printed at the end.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.commands.replay.formats.log_line import LoggedLine, PartialTimestamp
from otel_oom.commands.replay.hints import Hints
from otel_oom.model.units import DAY_S, NS_PER_S

# Values of oom.time.source.
LOG: Final = "log"
WITHOUT_ZONE: Final = "log_without_zone"
WITHOUT_YEAR: Final = "log_without_year"
FILE: Final = "file"
GIVEN: Final = "given"

_DAYS_AHEAD: Final = 1
"""Tolerated days by which mtime may precede the last line (clock skew, time zones)."""
_DAYS_BACK: Final = 31
"""Tolerated days by which dates may go back within a year (clock changes)."""
_MAX_SECOND: Final = 59
_NEW_YEAR_DAYS: Final = 180
_MONTH_DAYS: Final = 31
_MAX_BOOTS: Final = 1 << 16
"""Boots of one file; those beyond it count as one."""
_LEAP_YEARS: Final = 9
"""From one leap year to the next there can be eight."""
BACK_NS: Final = NS_PER_S
"""Tolerated time by which uptimes may go back within a boot (unsynchronised processors)."""


class LinePosition(Struct, frozen=True):
    """The time of a line, as far as it is known before the end of the file.

    ``year_turns`` and ``boots`` count those since the file's first line.
    """

    when: int | PartialTimestamp | None
    since_boot_ns: int | None
    year_turns: int
    boots: int

    @property
    def is_final(self) -> bool:
        """Return true if no later line changes the time."""
        return isinstance(self.when, int) or bool(self.when and self.when.year is not None)


class TimestampResolver:
    """Resolver of the times of a file's lines, added in their order."""

    def __init__(self, ended_unix_ns: int, hints: Hints | None = None) -> None:
        self._hints = hints or Hints()
        self._ended_unix_ns = self._hints.captured_unix_ns or ended_unix_ns
        self._year_turns = 0
        self._last: PartialTimestamp | None = None
        self._last_uptime_ns: int | None = None
        self._uptimes_before_ns = [0]
        """For each boot the sum of the last uptimes of the boots before it."""

    def add(self, line: LoggedLine) -> LinePosition:
        """Return the position of the next line."""
        if isinstance(line.when, PartialTimestamp) and line.when.year is None:
            self._add_date(line.when)
        if line.since_boot_ns is not None and line.when is None:
            if line.since_boot_ns < (self._last_uptime_ns or 0) - BACK_NS:
                self.start_boot()
            self._last_uptime_ns = max(self._last_uptime_ns or 0, line.since_boot_ns)
        boots = len(self._uptimes_before_ns) - 1
        return LinePosition(line.when, line.since_boot_ns, self._year_turns, boots)

    def start_boot(self) -> None:
        """Count the following lines to another boot."""
        if self._last_uptime_ns is not None and len(self._uptimes_before_ns) < _MAX_BOOTS:
            self._uptimes_before_ns.append(self._uptimes_before_ns[-1] + self._last_uptime_ns)
            self._last_uptime_ns = None

    def resolve(self, position: LinePosition) -> tuple[int, str]:
        """Return the Unix time in nanoseconds, and its source.

        If the position is not final, all lines must have been added.
        """
        when = position.when
        if isinstance(when, int):
            return when, LOG
        try:
            if when is not None and when.year is not None:
                return when.unix_ns(), WITHOUT_ZONE if when.offset_s is None else LOG
            if when is not None:
                year = self._last_year() - (self._year_turns - position.year_turns)
                return when.unix_ns(year), WITHOUT_YEAR if self._hints.year is None else GIVEN
        except (ValueError, OverflowError):
            # There is no such day, but there was such a line.
            pass
        if self._hints.boot_unix_ns is not None and position.since_boot_ns is not None:
            return self._by_uptime(position, self._boot_ended_ns()), GIVEN
        return self._by_uptime(position, self._ended_unix_ns), FILE

    def _add_date(self, date: PartialTimestamp) -> None:
        if self._last is not None:
            ahead = _day_of_year(date) - _day_of_year(self._last)
            if ahead < -_DAYS_BACK:
                self._year_turns += 1
            elif (
                ahead > _NEW_YEAR_DAYS
                and self._year_turns
                and _day_of_year(self._last) < _DAYS_BACK
            ):
                # A late line, of the year before.
                self._year_turns -= 1
        self._last = date

    def _last_year(self) -> int:
        """Return the year of the last date; raise ValueError if there is no such day."""
        if self._hints.year is not None:
            return self._hints.year
        latest = self._ended_unix_ns + _DAYS_AHEAD * DAY_S * NS_PER_S
        year = time.localtime(latest // NS_PER_S).tm_year
        for back in range(_LEAP_YEARS):
            # Not every year has a 29th of February.
            with suppress(ValueError):
                if self._last and self._last.unix_ns(year - back) <= latest:
                    return year - back
        raise ValueError(self._last)

    def _boot_ended_ns(self) -> int:
        """Return when the last line was printed, by the time of its boot that the user gave."""
        return (self._hints.boot_unix_ns or 0) + (self._last_uptime_ns or 0)

    def _by_uptime(self, position: LinePosition, log_ended_ns: int) -> int:
        if position.since_boot_ns is None:
            return log_ended_ns
        # A boot ended before the next one started.
        before_ns, boot = self._uptimes_before_ns, position.boots
        all_ns = before_ns[-1] + (self._last_uptime_ns or 0)
        ended_ns = before_ns[boot + 1] if boot + 1 < len(before_ns) else all_ns
        last_ns = ended_ns - before_ns[boot]
        return log_ended_ns - (all_ns - ended_ns) - max(0, last_ns - position.since_boot_ns)


class ElapsedClock:
    """Clock of lines that have the minute, or the time since the line before (``dmesg -H``)."""

    def __init__(self) -> None:
        self._minute: PartialTimestamp | None = None
        self._elapsed_ns = 0

    def complete(self, line: LoggedLine) -> LoggedLine:
        """Return the line with the time of its minute; its seconds are at most those."""
        if line.elapsed_ns is None:
            self._minute = line.when if isinstance(line.when, PartialTimestamp) else None
            self._elapsed_ns = 0
            return line
        self._elapsed_ns += line.elapsed_ns
        if self._minute is None:
            return line
        second, ns = divmod(self._elapsed_ns, NS_PER_S)
        if second > _MAX_SECOND:
            second, ns = _MAX_SECOND, 0
        return replace(line, when=replace(self._minute, second=second, ns=ns))


def _day_of_year(date: PartialTimestamp) -> int:
    return (date.month - 1) * _MONTH_DAYS + date.day
