"""When the lines of one file were printed, though it may leave out the year, or all but uptimes.

A date without a year is of the last year in which it is not later than the file; each time the
dates begin anew on the way there, it is a year earlier. A time since the boot alone is as long
before the file's own time as it is before the last line of its boot: that is late by as long as
nothing was printed at the end.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from otel_oom.commands.replay.formats.log_line import LoggedLine, PartialTimestamp
from otel_oom.model.units import DAY_S, NS_PER_S

LOG: Final = "log"
WITHOUT_ZONE: Final = "log_without_zone"
WITHOUT_YEAR: Final = "log_without_year"
FILE: Final = "file"
"""How a time is known; the last one by the file's own time."""

_DAYS_AHEAD: Final = 1
"""By so many days a file may be of earlier than its last line: its writer's clock, and zones."""
_DAYS_BACK: Final = 31
"""By so many days the dates may go back within a year: clocks are set."""
_NEW_YEAR_DAYS: Final = 180
_MONTH_DAYS: Final = 31
_LEAP_YEARS: Final = 9
"""From one leap year to the next there can be eight."""
_BACK_NS: Final = 1_000_000_000
"""By so much the log's clock may go back within a boot: processors disagree."""


@dataclass(frozen=True, slots=True)
class LinePosition:
    """When a line was printed, as far as its file tells before its end.

    ``turn`` is how many years had begun since the file's first line, ``boot`` how many boots.
    """

    when: int | PartialTimestamp | None
    since_boot_ns: int | None
    turn: int
    boot: int

    @property
    def is_known(self) -> bool:
        """Whether nothing that is still to come changes it."""
        return isinstance(self.when, int) or bool(self.when and self.when.year is not None)


class TimestampResolver:
    """Follows the times of a file's lines, given in their order."""

    def __init__(self, ended_unix_ns: int) -> None:
        """Of a file that was last written at that Unix time, in nanoseconds."""
        self._ended_unix_ns = ended_unix_ns
        self._turn = 0
        self._last: PartialTimestamp | None = None
        self._ends_ns: list[int | None] = [None]
        """The last time since the boot that each boot has told."""

    def note(self, line: LoggedLine) -> LinePosition:
        """A line's place."""
        if isinstance(line.when, PartialTimestamp) and line.when.year is None:
            self._note_date(line.when)
        if line.since_boot_ns is not None and line.when is None:
            last = self._ends_ns[-1]
            if last is not None and line.since_boot_ns < last - _BACK_NS:
                self.new_boot()
                last = None
            self._ends_ns[-1] = max(last or 0, line.since_boot_ns)
        return LinePosition(line.when, line.since_boot_ns, self._turn, len(self._ends_ns) - 1)

    def new_boot(self) -> None:
        """What follows is of another boot."""
        if self._ends_ns[-1] is not None:
            self._ends_ns.append(None)

    def unix_ns(self, moment: LinePosition) -> tuple[int, str]:
        """The Unix time of a moment in nanoseconds, and how it is known.

        Of a moment that is not known by itself once all lines are noted.
        """
        when = moment.when
        if isinstance(when, int):
            return when, LOG
        try:
            if when is not None and when.year is not None:
                return when.unix_ns(), WITHOUT_ZONE if when.offset_s is None else LOG
            if when is not None:
                return self._in_year(when, moment.turn), WITHOUT_YEAR
        except (ValueError, OverflowError):
            # There is no such day; the line is there all the same.
            pass
        return self._by_file(moment), FILE

    def _note_date(self, stamp: PartialTimestamp) -> None:
        if self._last is not None:
            ahead = _day(stamp) - _day(self._last)
            if ahead < -_DAYS_BACK:
                self._turn += 1
            elif ahead > _NEW_YEAR_DAYS and self._turn and _day(self._last) < _DAYS_BACK:
                # One that was late: it belongs to the year before.
                self._turn -= 1
        self._last = stamp

    def _in_year(self, stamp: PartialTimestamp, turn: int) -> int:
        return stamp.unix_ns(self._last_year() - (self._turn - turn))

    def _last_year(self) -> int:
        """The year of the last date.

        Raises:
            ValueError: there is no such day.
        """
        latest = self._ended_unix_ns + _DAYS_AHEAD * DAY_S * NS_PER_S
        year = time.localtime(latest // NS_PER_S).tm_year
        for back in range(_LEAP_YEARS):
            # Not every year has a 29th of February.
            with suppress(ValueError):
                if self._last and self._last.unix_ns(year - back) <= latest:
                    return year - back
        raise ValueError(self._last)

    def _by_file(self, moment: LinePosition) -> int:
        if moment.since_boot_ns is None:
            return self._ended_unix_ns
        ended = self._ended_unix_ns
        for end_ns in reversed(self._ends_ns[moment.boot + 1 :]):
            # A boot was over before the next one began.
            ended -= end_ns or 0
        last = self._ends_ns[moment.boot] or 0
        return ended - max(0, last - moment.since_boot_ns)


def _day(stamp: PartialTimestamp) -> int:
    """A day's number in the year, near enough to compare."""
    return (stamp.month - 1) * _MONTH_DAYS + stamp.day
