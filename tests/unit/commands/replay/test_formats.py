"""The format of each logging program, as documented."""

from __future__ import annotations

import json

import pytest

from otel_oom.commands.replay.formats import detect
from otel_oom.commands.replay.formats.log_line import LoggedLine, PartialTimestamp
from tests.testlib.samples.replay_logs import (
    BOOT,
    MACHINE,
    format_export,
    format_json,
    journal_entries,
)

TEXT = "oom_reaper: reaped process 1 (a b), now anon-rss:0kB"
UPTIME_NS = 12345_678901_000
DATE = (2023, 3, 1, 9, 5, 7)
BOOT_ID = "f0e1d2c3-0000-4000-8000-000000000001"

SYSLOG: dict[str, tuple[str, int | PartialTimestamp]] = {
    # RFC 3164, section 4.1.2; the day is padded with a space.
    "traditional": ("Mar  1 09:05:07 db1 kernel: ", PartialTimestamp(None, *DATE[1:])),
    "traditional, no space": ("Mar  1 09:05:07 db1 kernel:", PartialTimestamp(None, *DATE[1:])),
    "traditional, two digits": (
        "Mar 11 09:05:07 db1 kernel: ",
        PartialTimestamp(None, 3, 11, 9, 5, 7),
    ),
    "wire": ("<4>Mar  1 09:05:07 db1 kernel: ", PartialTimestamp(None, *DATE[1:])),
    "short-precise": (
        "Mar 01 09:05:07.123456 db1 kernel: ",
        PartialTimestamp(None, *DATE[1:], 123_456_000),
    ),
    # RFC 3339, as rsyslog writes files by default since 8.2210 in Debian.
    "rsyslog": (
        "2023-03-01T09:05:07.123456+01:00 db1 kernel: ",
        PartialTimestamp(*DATE, 123_456_000, 3600),
    ),
    "rsyslog, UTC": ("2023-03-01T09:05:07Z db1 kernel: ", PartialTimestamp(*DATE, 0, 0)),
    "short-iso": ("2023-03-01T09:05:07+0100 db1 kernel: ", PartialTimestamp(*DATE, 0, 3600)),
    "short-iso-precise": (
        "2023-03-01T09:05:07.000001-0330 db1 kernel: ",
        PartialTimestamp(*DATE, 1000, -12600),
    ),
    "short-full": ("Wed 2023-03-01 09:05:07 UTC db1 kernel: ", PartialTimestamp(*DATE, 0, 0)),
    "short-full, a zone's name": (
        "Wed 2023-03-01 09:05:07 CET db1 kernel: ",
        PartialTimestamp(*DATE),
    ),
    "short-unix": ("1677661507.123456 db1 kernel: ", 1677661507_123456_000),
    "an address": ("Mar  1 09:05:07 10.0.0.7 kernel: ", PartialTimestamp(None, *DATE[1:])),
    # RFC 5424, section 6, with and without structured data.
    "RFC 5424": (
        "<4>1 2023-03-01T09:05:07.5Z db1 kernel - - - ",
        PartialTimestamp(*DATE, 500_000_000, 0),
    ),
    "RFC 5424 with data": (
        r'<4>1 2023-03-01T09:05:07Z db1 kernel - - [a@1 b="c\"] d"][e@1] ',
        PartialTimestamp(*DATE, 0, 0),
    ),
}


@pytest.mark.parametrize("name", SYSLOG)
def test_a_syslog_line_has_time_host_and_text(name: str) -> None:
    before, when = SYSLOG[name]
    line = detect.parse_line(f"{before}{TEXT}".encode())
    host = "10.0.0.7" if "address" in name else "db1"
    assert line == LoggedLine("syslog", TEXT, when=when, host=host)


@pytest.mark.parametrize("name", SYSLOG)
def test_the_kernels_own_time_in_a_syslog_line_is_read_too(name: str) -> None:
    before, when = SYSLOG[name]
    line = detect.parse_line(f"{before}[12345.678901][ T4711] {TEXT}".encode())
    assert line is not None
    assert (line.since_boot_ns, line.caller, line.when) == (UPTIME_NS, 4711, when)
    assert line.text == TEXT


DMESG = {
    "plain": "[12345.678901] ",
    "--raw": "<4>[12345.678901] ",
    "--decode": "kern  :warn  : [12345.678901] ",
    "--show-delta": "[12345.678901 <    0.000090>] ",
    "with a processor": "[12345.678901][    C1] ",
    "--color": "\x1b[32m[12345.678901] \x1b[0m\x1b[33m",
}


@pytest.mark.parametrize("name", DMESG)
def test_a_line_of_dmesg_has_the_time_since_the_boot(name: str) -> None:
    line = detect.parse_line(f"{DMESG[name]}{TEXT}".encode())
    assert line == LoggedLine("dmesg", TEXT, since_boot_ns=UPTIME_NS)


@pytest.mark.parametrize("before", ["", "kern  :err   : "])
def test_a_line_of_dmesg_may_have_a_date_instead(before: str) -> None:
    of_ctime = detect.parse_line(f"{before}[Wed Mar  1 09:05:07 2023] {TEXT}".encode())
    assert of_ctime == LoggedLine("dmesg", TEXT, when=PartialTimestamp(*DATE))
    of_iso = detect.parse_line(f"{before}2023-03-01T09:05:07,123456+01:00 {TEXT}".encode())
    assert of_iso == LoggedLine("dmesg", TEXT, when=PartialTimestamp(*DATE, 123_456_000, 3600))


def test_short_monotonic_has_a_host_and_no_date() -> None:
    for before in ("[12345.678901]", "[12345.678901 <    0.000090 >]"):
        line = detect.parse_line(f"{before} db1 kernel: {TEXT}".encode())
        assert line == LoggedLine("syslog", TEXT, since_boot_ns=UPTIME_NS, host="db1")


def test_an_entry_of_the_journal_has_all() -> None:
    (entry,) = journal_entries([TEXT], 12345.678901)
    expected = LoggedLine(
        "journal",
        TEXT,
        since_boot_ns=UPTIME_NS,
        when=(int(entry["__REALTIME_TIMESTAMP"]) - 5_000_000) * 1000,
        host="db1",
        host_id=MACHINE,
        boot_id=BOOT_ID,
    )
    (as_text,) = format_json([entry])
    for raw in (
        as_text.encode(),
        b"\x1e" + as_text.encode(),
        b"data: " + as_text.encode(),
        format_export([entry]),
    ):
        assert detect.parse_line(raw) == expected


def test_invalid_utf8_is_read() -> None:
    message = b"Killed process 1 (\xff\n) total-vm"
    (entry,) = journal_entries([""])
    raw = json.dumps({**entry, "MESSAGE": list(message)}).encode()
    del entry["MESSAGE"]
    exported = format_export([entry])[:-1]
    exported += b"MESSAGE\n" + len(message).to_bytes(8, "little") + message + b"\n"
    for given in (raw, exported):
        line = detect.parse_line(given)
        assert line is not None
        assert line.text == "Killed process 1 (\\xff\n) total-vm"


@pytest.mark.parametrize(
    "raw",
    [
        f"2023-03-01T09:05:07.123456789Z stderr F [12345.678901] {TEXT}",
        json.dumps({"log": f"[12345.678901] {TEXT}\n", "stream": "stdout", "time": "x"}),
    ],
)
def test_prefixes_of_container_runtimes_are_stripped(raw: str) -> None:
    line = LoggedLine("dmesg", TEXT, since_boot_ns=UPTIME_NS, unverified=True)
    assert detect.parse_line(raw.encode(), allow_unverified=True) == line
    assert detect.parse_line(raw.encode()) is None


@pytest.mark.parametrize(
    "raw",
    [
        f"Mar  1 09:05:07 db1 systemd[1]: {TEXT}",
        f"Mar  1 09:05:07 db1 kernelly: {TEXT}",
        f"<12>Mar  1 09:05:07 db1 kernel: {TEXT}",  # facility 1: user
        f"<12>[12345.678901] {TEXT}",
        f"daemon:info  : [12345.678901] {TEXT}",
        f"Xyz  1 09:05:07 db1 kernel: {TEXT}",
        f"<12>1 2023-03-01T09:05:07Z db1 kernel - - - {TEXT}",
        f"kernel: {TEXT}",
        TEXT,
        "",
        "{",
        "[]",
        '{"MESSAGE": null}',
        '{"log": {}}',
        "[" * 100_000,
        '{"log":' * 5_000,
        *format_json(journal_entries([TEXT], _TRANSPORT="stdout")),
        *format_json(journal_entries([TEXT], SYSLOG_FACILITY="1")),
    ],
)
def test_lines_of_user_space_are_ignored(raw: str) -> None:
    assert detect.parse_line(raw.encode()) is None


def test_the_boot_marks_of_journalctl_are_parsed() -> None:
    assert detect.parse_boot_marker(f"-- Boot {BOOT} --".encode()) == BOOT_ID
    assert detect.parse_boot_marker(b"-- Reboot --") == ""
    assert detect.parse_boot_marker(b"-- No entries --") is None


@pytest.mark.parametrize("text", ["    MESSAGE=Killed process 1", '        "MESSAGE" : "x"'])
def test_fields_of_other_formats_are_no_bare_text(text: str) -> None:
    assert not detect.is_bare_text(text.encode())
    assert detect.is_bare_text(TEXT.encode())
