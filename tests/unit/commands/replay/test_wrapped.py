"""Lines of known formats behind other text: read for what they are, and no program's for a kill."""

from __future__ import annotations

import json

import pytest

from otel_oom.commands.replay.formats import detect
from otel_oom.model.types import TEXT_FILE, UNVERIFIED
from tests.testlib.samples.log_lines import KILLED
from tests.testlib.samples.replay_logs import replay, replay_kills

KERNEL = f"Nov 14 21:00:00 db1 kernel: {KILLED}"
DMESG = f"[  100.000000] {KILLED}"

PROGRAMS = [
    f"Nov 14 21:00:00 db1 app[12]: {KERNEL}",
    f"Nov 14 21:00:00 db1 app: {KERNEL}",
    f"Nov 14 21:00:00 db1 app: {DMESG}",
    f"Nov 14 21:00:00 db1 my app: {DMESG}",
    f"Nov 14 21:00:00 db1 app {DMESG}",
    f"Nov 14 21:00:00 db1 (sd-exec)[12]: {DMESG}",
    f"Nov 14 21:00:00 db1 user.notice kernel: {KILLED}",
    f"Nov 14 21:00:00 db1 kernel[4711]: {DMESG}",
    f"2023-11-14T21:00:00.5+01:00 db1 app: {KERNEL}",
    f"2023-11-14T21:00:00.5+01:00 db1 my app: {DMESG}",
    f"2023-11-14T21:00:00.5Z app: {DMESG}",
    f"<14>Nov 14 21:00:00 db1 app: {DMESG}",
    f"/var/log/syslog:Nov 14 21:00:00 db1 app[12]: {KERNEL}",
    f"12:Nov 14 21:00:00 db1 app: {DMESG}",
    f"> Nov 14 21:00:00 db1 app {DMESG}",
    f"user: warning: [2023-11-14T21:00:00.5Z]: {KILLED}",
    f"12,1000,100000000,-;{KILLED}",
    f"user  :warn  : {KILLED}",
    json.dumps({"message": KERNEL, "program": "app"}),
    json.dumps({"message": KILLED, "SYSLOG_IDENTIFIER": "app"}),
    json.dumps({"jsonPayload": {"MESSAGE": KILLED, "_TRANSPORT": "journal"}}),
    json.dumps({"MESSAGE": KILLED, "SYSLOG_FACILITY": "1"}),
    json.dumps({"log": KILLED, "stream": "stdout"}),
    json.dumps({"message": f"Nov 14 21:00:00 db1 app[1]: {DMESG}"}),
]


@pytest.mark.parametrize("line", PROGRAMS)
def test_a_line_that_names_another_program_is_no_kill(line: str) -> None:
    assert replay([line]) == []
    assert replay([KERNEL.replace(KILLED, "usb 1-1: new device"), line]) == []


@pytest.mark.parametrize(
    ("line", "source"),
    [
        (f"> {KERNEL}", TEXT_FILE),
        (f"kern.log:{KERNEL}", TEXT_FILE),
        (f"/var/log/kern.log:12:{KERNEL}", TEXT_FILE),
        (f"12-{KERNEL}", TEXT_FILE),
        (f'"{KERNEL}"', TEXT_FILE),
        (f"\t{DMESG}", TEXT_FILE),
        (f"web-1  | {DMESG}", UNVERIFIED),
        (f"job 3 of 7 {KERNEL}", UNVERIFIED),
        (f"2023-11-14T21:00:00Z {KERNEL}", UNVERIFIED),
        (f"kernel: {KILLED}", UNVERIFIED),
    ],
)
def test_text_before_a_line_decides_who_vouches_for_it(line: str, source: str) -> None:
    (kill,) = replay_kills([line])
    assert kill.provenance is not None
    assert kill.provenance.source == source
    assert kill.provenance.line == KILLED.replace("(tail)", "()")


@pytest.mark.parametrize("before", ["> ", "web-1 | ", "kernel: ", "kern.log:12:"])
def test_wrapped_lines_are_read_from_a_named_file_only(before: str) -> None:
    assert replay([f"{before}{DMESG}"])
    assert replay([f"{before}{DMESG}"], is_named=False) == []


def test_a_time_before_a_line_gives_its_date_the_year() -> None:
    line = detect.parse_line(
        b"2020-01-01T00:00:00Z Dec 31 23:59:59 db1 kernel: x", allow_unverified=True
    )
    assert line is not None
    assert not isinstance(line.when, int)
    assert line.when is not None
    assert (line.when.year, line.when.month, line.host) == (2019, 12, "db1")
