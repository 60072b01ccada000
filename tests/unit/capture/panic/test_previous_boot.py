"""The previous boot, with a program in place of journalctl."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_oom.capture.panic import previous_boot
from otel_oom.capture.panic.previous_boot import PreviousBoot, read_previous_boot

BOOT = "0123456789abcdef0123456789abcdef"
UNIX_US = 1_700_000_000_000_000

ReadBoot = Callable[..., PreviousBoot | None]


def journal_entry(number: int, message: object = "text", **changes: Any) -> bytes:  # noqa: ANN401  any field
    """Return a line of journalctl: printed at that second, and received a bit later."""
    fields = {
        "_BOOT_ID": BOOT,
        "MESSAGE": message,
        "SYSLOG_FACILITY": "0",
        "_SOURCE_MONOTONIC_TIMESTAMP": str(number * 1_000_000),
        "__MONOTONIC_TIMESTAMP": str(number * 1_000_000 + 900),
        "__REALTIME_TIMESTAMP": str(UNIX_US + number * 1_000_000 + 900 - number),
        "__CURSOR": "s=1;i=1",
    }
    return json.dumps({**fields, **changes}).encode() + b"\n"


@pytest.fixture
def read_boot(tmp_path: Path) -> ReadBoot:
    """Return a function that reads the boot from a program in place of journalctl."""

    def read(output: bytes = b"", script: str = "", code: int = 0) -> PreviousBoot | None:
        (tmp_path / "output").write_bytes(output)
        program = tmp_path / "journalctl"
        program.write_text(
            f'#!/bin/sh\necho "$@" >{tmp_path}/arguments\ncat {tmp_path}/output\n'
            f"{script}\nexit {code}\n",
            encoding="utf-8",
        )
        program.chmod(0o700)
        return read_previous_boot(str(program))

    return read


def test_previous_boot_has_id_lines_and_clock(read_boot: ReadBoot, tmp_path: Path) -> None:
    boot = read_boot(journal_entry(1, "one") + journal_entry(2, "two"))
    assert boot is not None
    assert boot.boot_id == "01234567-89ab-cdef-0123-456789abcdef"
    assert [(line.text, line.time_ns) for line in boot.lines] == [
        ("one", 10**9),
        ("two", 2 * 10**9),
    ]
    assert boot.unix_offset_ns == (UNIX_US + 898) * 1000
    arguments = (tmp_path / "arguments").read_text(encoding="utf-8").split()
    assert "--boot=-1" in arguments
    assert "--dmesg" in arguments


def test_clock_is_that_of_the_last_lines(read_boot: ReadBoot) -> None:
    """A suspend changes the offset: earlier lines do not count."""
    suspended_us = 3600 * 1_000_000
    early = [journal_entry(1, __REALTIME_TIMESTAMP=str(UNIX_US + 1_000_000))]
    late = [
        journal_entry(number, __REALTIME_TIMESTAMP=str(UNIX_US + number * 1_000_000 + suspended_us))
        for number in range(2, 80)
    ]
    boot = read_boot(b"".join([*early, *late]))
    assert boot is not None
    assert boot.unix_offset_ns == (UNIX_US + suspended_us) * 1000


def test_messages_that_are_bytes_are_decoded(read_boot: ReadBoot) -> None:
    """The journal has null for a message that is too long."""
    boot = read_boot(journal_entry(1, list(b"a\xff")) + journal_entry(2, None))
    assert boot is not None
    assert [line.text for line in boot.lines] == [r"a\xff"]


def test_messages_of_user_space_are_skipped(read_boot: ReadBoot) -> None:
    assert read_boot(journal_entry(1, SYSLOG_FACILITY="1")) is None


@pytest.mark.parametrize(
    "malformed",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b"{\n",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        journal_entry(1, _BOOT_ID="x"),
        journal_entry(1, _BOOT_ID=7),
        journal_entry(1, _SOURCE_MONOTONIC_TIMESTAMP="soon"),
        journal_entry(1, _SOURCE_MONOTONIC_TIMESTAMP=None),
        journal_entry(1, _SOURCE_MONOTONIC_TIMESTAMP="-1"),
        journal_entry(1, __REALTIME_TIMESTAMP="9" * 40),
        journal_entry(1, [999]),
        journal_entry(1, ["x"]),
        journal_entry(1, {"a": 1}),
        journal_entry(1, "x" * 100_000),
        b"1" * 100_000 + b"\n",
    ],
)
def test_malformed_entries_are_skipped(read_boot: ReadBoot, malformed: bytes) -> None:
    assert read_boot(malformed) is None
    boot = read_boot(malformed + journal_entry(2, "next"))
    assert boot is not None
    assert [line.text for line in boot.lines] == ["next"]


def test_no_previous_boot_without_a_journal(read_boot: ReadBoot) -> None:
    assert read_previous_boot("journalctl-that-is-not-here") is None
    assert read_boot(code=1) is None


def test_program_that_does_not_end_is_killed(
    read_boot: ReadBoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines until then are used."""
    monkeypatch.setattr(previous_boot, "_TIMEOUT_S", 0.5)
    boot = read_boot(journal_entry(1), script="exec sleep 1000")
    assert boot is not None
    assert len(boot.lines) == 1


def test_output_of_the_program_is_limited(
    read_boot: ReadBoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previous_boot, "_MAX_BYTES", 10_000)
    boot = read_boot(journal_entry(1), script="exec yes '{}'")
    assert boot is not None
    assert len(boot.lines) == 1
