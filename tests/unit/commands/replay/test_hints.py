"""Facts that a log lacks and the user gives: time of the boot, year, zone, host."""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from otel_oom.commands.replay.hints import Hints, add_hints, read_hints
from otel_oom.commands.replay.run import LogReader
from otel_oom.model.events import OomKill
from otel_oom.model.units import NS_PER_S
from tests.testlib.samples.replay_logs import KILL, dmesg_lines, syslog_lines

SAVED = datetime(2026, 3, 1, tzinfo=UTC)
UPTIME_S = 100


def parse(*options: str) -> Hints:
    parser = argparse.ArgumentParser()
    add_hints(parser)
    return read_hints(parser.parse_args(options))


def kill_of(lines: list[str], folder: Path, *options: str) -> tuple[datetime, str | None, str]:
    path = folder / "kern.log"
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    os.utime(path, (SAVED.timestamp(),) * 2)
    (kill,) = (
        event for event in LogReader([path], parse(*options)).events() if isinstance(event, OomKill)
    )
    assert kill.provenance is not None
    second = datetime.fromtimestamp(kill.time_unix_ns // NS_PER_S, UTC)
    return second, kill.provenance.host, kill.provenance.time_source


def test_a_time_of_the_boot_dates_uptimes(tmp_path: Path) -> None:
    boot = datetime(2025, 8, 12, 5, 0, tzinfo=timezone(timedelta(hours=2)))
    later = f"[{UPTIME_S + 5000:12.6f}] usb 1-1: new device"
    second, _, source = kill_of(
        [*dmesg_lines(KILL), later], tmp_path, "--boot-time", boot.isoformat()
    )
    assert second == boot + timedelta(seconds=UPTIME_S)
    assert source == "given"


def test_a_time_of_the_boot_is_that_of_the_last_one(tmp_path: Path) -> None:
    """The boot before ended when the last one began, or earlier."""
    boot = datetime(2025, 8, 12, tzinfo=UTC)
    lines = [*dmesg_lines(KILL), "[    0.000000] Linux version 6.1", "[   50.000000] usb: new"]
    second, _, _ = kill_of(lines, tmp_path, "--boot-time", str(int(boot.timestamp())))
    assert second <= boot


def test_the_time_of_saving_stands_for_that_of_the_file(tmp_path: Path) -> None:
    saved = datetime(2025, 8, 12, tzinfo=UTC)
    second, _, source = kill_of(
        dmesg_lines(KILL), tmp_path, "--captured-at", "2025-08-12T00:00:00Z"
    )
    assert timedelta(0) <= saved - second <= timedelta(seconds=1)
    assert source == "file"


def test_the_year_is_that_of_the_last_date(tmp_path: Path) -> None:
    lines = [*syslog_lines(KILL, "Dec 31 23:59:59"), *syslog_lines(["usb 1-1"], "Jan  1 00:00:00")]
    second, _, source = kill_of(lines, tmp_path, "--year", "2021")
    assert second == datetime(2020, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert source == "given"


@pytest.mark.parametrize(
    ("zone", "offset_h"),
    [("Europe/Berlin", 2), ("+02:00", 2), ("-0330", -3.5), ("Asia/Kolkata", 5.5), ("UTC", 0)],
)
def test_the_zone_is_that_of_times_without_one(zone: str, offset_h: float, tmp_path: Path) -> None:
    lines = [f"2025-08-12T12:00:00 db1 kernel: {text}" for text in KILL]
    second, _, _ = kill_of(lines, tmp_path, f"--timezone={zone}")
    assert second == datetime(2025, 8, 12, 12, tzinfo=UTC) - timedelta(hours=offset_h)
    zoned = [f"2025-08-12T12:00:00+00:00 db1 kernel: {text}" for text in KILL]
    second, _, source = kill_of(zoned, tmp_path, f"--timezone={zone}")
    assert (second, source) == (datetime(2025, 8, 12, 12, tzinfo=UTC), "log")


def test_the_host_is_that_of_lines_without_one(tmp_path: Path) -> None:
    assert kill_of(dmesg_lines(KILL), tmp_path, "--host", "db9")[1] == "db9"
    assert kill_of(syslog_lines(KILL), tmp_path, "--host", "db9")[1] == "db1"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--timezone", "Mars/Olympus"),
        ("--timezone", "../etc/passwd"),
        ("--year", "26"),
        ("--year", "9999"),
        ("--host", ""),
        ("--host", "a\x1b[1m"),
    ],
)
def test_an_invalid_value_is_an_error(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(option, value)
    assert f"argument {option}: " in capsys.readouterr().err


def test_a_time_that_is_none_names_its_option() -> None:
    with pytest.raises(ValueError, match=r"--boot-time yesterday is not a time\. Write it as"):
        parse("--boot-time", "yesterday")
