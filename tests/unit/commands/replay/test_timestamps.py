"""Times without a year, and uptimes, completed by the time of the file."""

from __future__ import annotations

import time
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


def _years(ended: tuple[int, ...], *dates: tuple[int, int]) -> list[int]:
    resolver = TimestampResolver(_ns(*ended))
    positions = [resolver.add(_dated(*date)) for date in dates]
    resolved = [resolver.resolve(position) for position in positions]
    assert {source for _, source in resolved} <= {WITHOUT_YEAR}
    return [datetime.fromtimestamp(at // S, UTC).year for at, _ in resolved]


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
    assert _years(ended, *dates) == years


def test_a_complete_date_needs_no_file() -> None:
    resolver = TimestampResolver(_ns(2023, 11, 14))
    whole = resolver.add(
        LoggedLine("syslog", "", when=PartialTimestamp(2020, 1, 2, 3, 4, 5, 6, 3600))
    )
    local = resolver.add(LoggedLine("dmesg", "", when=PartialTimestamp(2020, 1, 2, 3, 4, 5)))
    unix = resolver.add(LoggedLine("journal", "", when=77))
    assert all(position.is_final for position in (whole, local, unix))
    assert resolver.resolve(whole) == (_ns(2020, 1, 2, 2, 4, 5) + 6, LOG)
    assert resolver.resolve(local) == (_ns(2020, 1, 2, 3, 4, 5), WITHOUT_ZONE)
    assert resolver.resolve(unix) == (77, LOG)


def test_a_missing_zone_is_the_local_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    resolver = TimestampResolver(_ns(2023, 11, 14))
    assert resolver.resolve(resolver.add(_dated(7, 1, 2023)))[0] == _ns(2023, 7, 1, 10)
    assert resolver.resolve(resolver.add(_dated(1, 1, 2023)))[0] == _ns(2023, 1, 1, 11)


def _uptimes(*uptimes_s: float, ended_s: int = 10_000) -> list[float]:
    resolver = TimestampResolver(ended_s * S)
    positions = [
        resolver.add(LoggedLine("dmesg", "", since_boot_ns=int(uptime_s * S)))
        for uptime_s in uptimes_s
    ]
    assert not any(position.is_final for position in positions)
    resolved = [resolver.resolve(position) for position in positions]
    assert {source for _, source in resolved} == {FILE}
    return [at / S for at, _ in resolved]


def test_uptimes_end_with_the_file() -> None:
    assert _uptimes(5, 100, 400) == [9_605, 9_700, 10_000]


def test_an_earlier_boot_ended_before_the_next_began() -> None:
    assert _uptimes(50, 300, 1, 100) == [9_650, 9_900, 9_901, 10_000]
    assert _uptimes(10.5, 10, 11) == [9_999.5, 9_999, 10_000]


def test_an_invalid_date_gets_the_time_of_the_file() -> None:
    resolver = TimestampResolver(_ns(2023, 11, 14))
    position = resolver.add(_dated(2, 30))
    assert resolver.resolve(position) == (_ns(2023, 11, 14), FILE)
    position = resolver.add(LoggedLine("syslog", "", when=PartialTimestamp(2023, 13, 1, 0, 0, 0)))
    assert resolver.resolve(position) == (_ns(2023, 11, 14), FILE)
