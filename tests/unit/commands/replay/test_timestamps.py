"""Years that a log leaves out, and times since a boot, by what is known of its file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from otel_oom.commands.replay.formats.log_line import LoggedLine, PartialTimestamp
from otel_oom.commands.replay.timestamps import (
    FILE,
    LOG,
    WITHOUT_YEAR,
    WITHOUT_ZONE,
    TimestampResolver,
)

S = 10**9


def _ns(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp()) * S  # type: ignore[misc,arg-type]


def _dated(month: int, day: int, year: int | None = None) -> LoggedLine:
    return LoggedLine("syslog", "", when=PartialTimestamp(year, month, day, 12, 0, 0))


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine's zone is UTC meanwhile."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def _years(ended: tuple[int, ...], *dates: tuple[int, int]) -> list[int]:
    """The years of these dates, in a file that was last written then."""
    line = TimestampResolver(_ns(*ended))
    moments = [line.note(_dated(*date)) for date in dates]
    told = [line.unix_ns(moment) for moment in moments]
    assert {source for _, source in told} <= {WITHOUT_YEAR}
    return [datetime.fromtimestamp(at // S, UTC).year for at, _ in told]


@pytest.mark.parametrize(
    ("ended", "dates", "years"),
    [
        ((2023, 11, 14), [(11, 13), (11, 14)], [2023, 2023]),
        # Last written in a year that had not begun when its last line was printed.
        ((2024, 1, 2), [(12, 30), (12, 31)], [2023, 2023]),
        ((2024, 1, 2), [(12, 31), (1, 1)], [2023, 2024]),
        # A log that nobody rotates.
        ((2024, 3, 1), [(5, 1), (2, 1), (11, 1), (1, 5)], [2022, 2023, 2023, 2024]),
        # A clock that was set back by some days is no new year.
        ((2023, 11, 14), [(6, 20), (6, 1), (6, 25)], [2023, 2023, 2023]),
        # Two lines that change places at the turn of the year.
        ((2024, 1, 2), [(12, 31), (1, 1), (12, 31), (1, 1)], [2023, 2024, 2023, 2024]),
        # A zone ahead of this machine's: the file's last line is of its tomorrow.
        ((2023, 11, 14), [(11, 14)], [2023]),
        # A leap day is of a leap year.
        ((2026, 1, 1), [(2, 29)], [2024]),
    ],
)
def test_a_year_is_the_last_that_fits_the_file(
    ended: tuple[int, ...], dates: list[tuple[int, int]], years: list[int]
) -> None:
    """No line is later than its file, and dates that begin anew begin a year."""
    assert _years(ended, *dates) == years


def test_a_date_that_has_all_needs_no_file() -> None:
    """Nothing of it is inferred but the zone where there is none, and it is known at once."""
    line = TimestampResolver(_ns(2023, 11, 14))
    whole = line.note(LoggedLine("syslog", "", when=PartialTimestamp(2020, 1, 2, 3, 4, 5, 6, 3600)))
    local = line.note(LoggedLine("dmesg", "", when=PartialTimestamp(2020, 1, 2, 3, 4, 5)))
    unix = line.note(LoggedLine("journal", "", when=77))
    assert all(moment.is_known for moment in (whole, local, unix))
    assert line.unix_ns(whole) == (_ns(2020, 1, 2, 2, 4, 5) + 6, LOG)
    assert line.unix_ns(local) == (_ns(2020, 1, 2, 3, 4, 5), WITHOUT_ZONE)
    assert line.unix_ns(unix) == (77, LOG)


def test_a_zone_is_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """As its rules were on that day."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    line = TimestampResolver(_ns(2023, 11, 14))
    assert line.unix_ns(line.note(_dated(7, 1, 2023)))[0] == _ns(2023, 7, 1, 10)
    assert line.unix_ns(line.note(_dated(1, 1, 2023)))[0] == _ns(2023, 1, 1, 11)


def _uptimes(*uptimes_s: float, ended_s: int = 10_000) -> list[float]:
    line = TimestampResolver(ended_s * S)
    moments = [
        line.note(LoggedLine("dmesg", "", since_boot_ns=int(uptime_s * S)))
        for uptime_s in uptimes_s
    ]
    assert not any(moment.is_known for moment in moments)
    told = [line.unix_ns(moment) for moment in moments]
    assert {source for _, source in told} == {FILE}
    return [at / S for at, _ in told]


def test_uptimes_end_with_the_file() -> None:
    """The last line is as old as the file, and the others are as much older as they are."""
    assert _uptimes(5, 100, 400) == [9_605, 9_700, 10_000]


def test_an_earlier_boot_ended_before_the_next_began() -> None:
    """Uptimes that go back are of another boot, unless it is by less than a second."""
    assert _uptimes(50, 300, 1, 100) == [9_650, 9_900, 9_901, 10_000]
    assert _uptimes(10.5, 10, 11) == [9_999.5, 9_999, 10_000]


def test_a_day_that_is_none_is_told_by_the_file() -> None:
    """A line with a date that cannot be is still a line."""
    line = TimestampResolver(_ns(2023, 11, 14))
    moment = line.note(_dated(2, 30))
    assert line.unix_ns(moment) == (_ns(2023, 11, 14), FILE)
    moment = line.note(LoggedLine("syslog", "", when=PartialTimestamp(2023, 13, 1, 0, 0, 0)))
    assert line.unix_ns(moment) == (_ns(2023, 11, 14), FILE)
