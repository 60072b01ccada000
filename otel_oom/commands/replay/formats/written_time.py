"""Times as programs write them before a line: dates of any locale, ISO 8601, Unix time.

Dates are those of syslog (``Aug 12 03:54:03``), of ctime(3) (``Tue Aug 12 03:54:03 2025``), with
names in any locale and the day before or after the month, and of ISO 8601 and RFC 3339. Unix time
is in seconds with a fraction.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.commands.replay.formats import date_names
from otel_oom.commands.replay.formats.log_line import PartialTimestamp
from otel_oom.model.units import NS_PER_S

_NANO_DIGITS: Final = 9
_DAYS: Final = 7

_NAME: Final = rb"[^\x00-/:-@\[-`{-\x7f][^\x00- :-@\[-`{-\x7f]{0,40}"
_WORD: Final = rb"(?:(?:1[0-2]|[1-9])(?:\xe6\x9c\x88|\xec\x9b\x94)|" + _NAME + rb")"
"""A word of a name, or a number and the word month in Chinese and Japanese, or in Korean."""
_WORDS: Final = _WORD + rb"(?:,? {1,2}" + _WORD + rb"){0,4}"
"""A name of a day or month may have several words, such as that of Catalan ``de gen.``."""
_CLOCK: Final = rb"(\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?"
_DATE: Final = re.compile(
    # In Japanese and Korean a blank stands before a number of one digit.
    rb" ?(?:(" + _WORDS + rb") {1,3}(\d{1,2})"
    rb"|(?:(" + _WORDS + rb"),? {1,2})?(\d{1,2}) {1,2}(" + _WORDS + rb"))"
    rb"(?: (\d{4}))? " + _CLOCK + rb"(?:(?: [A-Z]{3,5})? (\d{4})(?=[] :]))?"
)
_ISO: Final = re.compile(
    rb"(?:" + _NAME + rb" )?(\d{4})[-/](\d\d)[-/](\d\d)[T ]" + _CLOCK + rb" ?"
    rb"(Z|[+-]\d\d(?::?\d\d)?|[A-Z]{1,5}(?= ))?(?![\w:])"
)
_UNIX: Final = re.compile(rb"(\d{9,11})\.(\d{3,9})(?=[ :\]])")


class WrittenTime(Struct, frozen=True):
    """A time, and the end of its text in the line."""

    when: int | PartialTimestamp
    end: int


def parse_written_time(raw: bytes, position: int = 0) -> WrittenTime | None:
    """Return the time that begins at ``position``; ``None`` without one."""
    if match := _ISO.match(raw, position):
        year, month, day, hour, minute, second = map(int, match.groups()[:6])
        offset_s = zone_offset_s(match[8])
        stamp = PartialTimestamp(
            year, month, day, hour, minute, second, fraction_ns(match[7]), offset_s
        )
        return WrittenTime(stamp, match.end())
    if match := _DATE.match(raw, position):
        named = _named_date(match)
        return WrittenTime(named, match.end()) if named else None
    if match := _UNIX.match(raw, position):
        return WrittenTime(int(match[1]) * NS_PER_S + fraction_ns(match[2]), match.end())
    return None


def parse_time_text(text: str) -> int | PartialTimestamp | None:
    """Return the time that is the whole text, such as a value in JSON."""
    raw = text.encode("utf-8", "replace")
    written = parse_written_time(raw + b" ")
    return written.when if written and written.end >= len(raw) else None


def fraction_ns(fraction: bytes | None) -> int:
    """Return the nanoseconds of the digits behind a point."""
    return int(fraction.ljust(_NANO_DIGITS, b"0")) if fraction else 0


def zone_offset_s(zone: bytes | None) -> int | None:
    """Return the offset in seconds of ``+01:00`` or ``-03``; ``None`` for a mere name."""
    if not zone:
        return None
    if zone in {b"Z", b"UTC", b"GMT"}:
        return 0
    if zone[:1] not in {b"+", b"-"}:
        return None
    digits = zone[1:].replace(b":", b"")
    seconds = int(digits[:2]) * 3600 + int(digits[2:4] or b"0") * 60
    return -seconds if zone[:1] == b"-" else seconds


def find_month(words: Sequence[str], year: int | None, day: int) -> int | None:
    """Return the month of a name, which that of a day of the week may precede.

    Where locales disagree, it is the month in which the day is that of the week.
    """
    for count in range(len(words)):
        months = date_names.find_months(" ".join(words[count:]))
        weekdays = date_names.find_days(" ".join(words[:count]))
        if not months or (count and not weekdays):
            continue
        for month in months if year is not None and weekdays else ():
            with suppress(ValueError):
                if date(year or 0, month, day).isoweekday() % _DAYS in weekdays:
                    return month
        return months[0]
    return None


def _named_date(match: re.Match[bytes]) -> PartialTimestamp | None:
    names, day, weekday, day_first, month_last, early_year, *clock, late_year = match.groups()
    # A year behind the clock follows a day of the week, else it is the name of a host.
    year_text = early_year or late_year
    year = int(year_text) if year_text else None
    number = int(day or day_first)
    text = names or b" ".join(filter(None, (weekday, month_last)))
    month = find_month(text.decode("utf-8", "replace").replace(",", "").split(), year, number)
    if month is None:
        return None
    hour, minute, second = map(int, clock[:3])
    return PartialTimestamp(year, month, number, hour, minute, second, fraction_ns(clock[3]))


def complete_year(
    stamp: int | PartialTimestamp | None, other: int | PartialTimestamp | None
) -> int | PartialTimestamp | None:
    """Return a date with the year of another time of the same line, if it has none."""
    if stamp is None:
        return other
    if not isinstance(stamp, PartialTimestamp) or stamp.year is not None:
        return stamp
    if isinstance(other, int):
        year, month = time.gmtime(other // NS_PER_S)[:2]
    elif other is not None and other.year is not None:
        year, month = other.year, other.month
    else:
        return stamp
    return replace(stamp, year=year - (stamp.month - month > _HALF_YEAR))


_HALF_YEAR: Final = 6
