"""Dates in the locales of the C library, by dmesg -T and by journalctl."""

# ruff: noqa: RUF001  the letters are those of the languages

from __future__ import annotations

from calendar import timegm
from datetime import UTC, datetime
from pathlib import Path

import pytest

from otel_oom.commands.replay.formats import detect
from otel_oom.commands.replay.formats.date_names import find_months
from otel_oom.commands.replay.formats.log_line import LoggedLine, PartialTimestamp
from otel_oom.model.units import NS_PER_S
from tests.testlib.samples.log_lines import KILLED
from tests.testlib.samples.log_locales import LOCALE_DATES, MOMENT
from tests.testlib.samples.replay_cases import kills_of_case

OCTOBER_14 = {1001, 1013}
"""Victims of the 14th of October; the others are of the 12th of August."""


@pytest.mark.parametrize("language", LOCALE_DATES)
def test_a_date_of_each_language_is_read(language: str) -> None:
    line = detect.parse_line(f"[{LOCALE_DATES[language]}] {KILLED}".encode())
    assert line == LoggedLine("dmesg", KILLED, when=PartialTimestamp(*MOMENT))


@pytest.mark.parametrize("language", LOCALE_DATES)
def test_journalctl_writes_the_month_alone(language: str) -> None:
    _, _, without_weekday = LOCALE_DATES[language].partition(" ")
    date = without_weekday.removesuffix(" 2025")
    line = detect.parse_line(f"{date} db1 kernel: {KILLED}".encode())
    assert line is not None
    assert (line.text, line.host) == (KILLED, "db1")
    if language not in {"Croatian", "Czech", "Polish"}:
        assert line.when == PartialTimestamp(None, *MOMENT[1:])


@pytest.mark.parametrize(
    ("month", "day"),
    [
        *(("Aug12", 12), ("Aug 2", 2), ("août12", 12), ("авг12", 12), ("ag. 2", 2)),
        *((" 8月12", 12), (" 8월 2", 2), ("8月12", 12), ("d’ag.12", 12)),
    ],
)
def test_dmesg_for_people_writes_the_day_next_to_the_month(month: str, day: int) -> None:
    line = detect.parse_line(f"[{month} 03:54] {KILLED}".encode())
    assert line == LoggedLine("dmesg", KILLED, when=PartialTimestamp(None, 8, day, 3, 54, 0))


def test_the_day_of_the_week_decides_between_languages() -> None:
    """In Czech it is August, in Croatian and Serbian July."""
    assert set(find_months("srp")) == {7, 8}
    czech = detect.parse_line("[Út srp 12 03:54:03 2025] x".encode())
    croatian = detect.parse_line(b"[uto srp 15 03:54:03 2025] x")
    assert czech is not None
    assert croatian is not None
    assert czech.when == PartialTimestamp(2025, 8, 12, 3, 54, 3)
    assert croatian.when == PartialTimestamp(2025, 7, 15, 3, 54, 3)


def test_a_word_that_is_no_name_is_no_date() -> None:
    for date in ("Foo Aug 12 03:54:03 2025", "Tue Foo 12 03:54:03 2025"):
        assert detect.parse_line(f"[{date}] {KILLED}".encode()) is None


def test_a_log_may_mix_languages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.mktime", timegm)
    kills = kills_of_case("dmesg-locale.log", tmp_path)
    dates = {kill.victim.tgid: kill.time_unix_ns // NS_PER_S for kill in kills}
    august, october = (
        int(datetime(2025, month, day, 3, 54, 3, tzinfo=UTC).timestamp())
        for month, day in ((8, 12), (10, 14))
    )
    assert dates == {
        pid: october if pid in OCTOBER_14 else august for pid in range(1000, 1000 + len(kills))
    }
    assert len(kills) == len({*dates}) == 20
