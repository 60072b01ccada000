"""What journalctl prints, by a program in its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_oom.capture.panic import previous_boot as journal
from otel_oom.capture.panic.previous_boot import PreviousBoot, read_previous_boot

BOOT = "0123456789abcdef0123456789abcdef"
UNIX_US = 1_700_000_000_000_000

Run = Callable[..., PreviousBoot | None]


def entry(number: int, message: object = "text", **changes: Any) -> bytes:  # noqa: ANN401  any field
    """A line of JSON as journalctl prints it, printed at that second and arrived a bit later."""
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
def run(tmp_path: Path) -> Run:
    """The boot out of what a program prints that is started as journalctl would be."""

    def started(output: bytes = b"", script: str = "", code: int = 0) -> PreviousBoot | None:
        (tmp_path / "output").write_bytes(output)
        program = tmp_path / "journalctl"
        program.write_text(
            f'#!/bin/sh\necho "$@" >{tmp_path}/arguments\ncat {tmp_path}/output\n'
            f"{script}\nexit {code}\n",
            encoding="utf-8",
        )
        program.chmod(0o700)
        return read_previous_boot(str(program))

    return started


def test_the_boot_before_is_read(run: Run, tmp_path: Path) -> None:
    """Its id as the kernel writes it, its lines with their times, the nearest of the clocks."""
    boot = run(entry(1, "one") + entry(2, "two"))
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


def test_the_clock_is_that_of_the_end(run: Run) -> None:
    """A suspend parts the clocks: lines of before it don't count."""
    slept = 3600 * 1_000_000
    early = [entry(1, __REALTIME_TIMESTAMP=str(UNIX_US + 1_000_000))]
    late = [
        entry(number, __REALTIME_TIMESTAMP=str(UNIX_US + number * 1_000_000 + slept))
        for number in range(2, 80)
    ]
    boot = run(b"".join([*early, *late]))
    assert boot is not None
    assert boot.unix_offset_ns == (UNIX_US + slept) * 1000


def test_bytes_are_told_as_text(run: Run) -> None:
    """What is not UTF-8 comes as numbers; what is too long comes as nothing."""
    boot = run(entry(1, list(b"a\xff")) + entry(2, None))
    assert boot is not None
    assert [line.text for line in boot.lines] == [r"a\xff"]


def test_user_space_is_left_out(run: Run) -> None:
    """A line that a process wrote into the kernel's log has a facility of its own."""
    assert run(entry(1, SYSLOG_FACILITY="1")) is None


@pytest.mark.parametrize(
    "noise",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b"{\n",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        entry(1, _BOOT_ID="x"),
        entry(1, _BOOT_ID=7),
        entry(1, _SOURCE_MONOTONIC_TIMESTAMP="soon"),
        entry(1, _SOURCE_MONOTONIC_TIMESTAMP=None),
        entry(1, _SOURCE_MONOTONIC_TIMESTAMP="-1"),
        entry(1, __REALTIME_TIMESTAMP="9" * 40),
        entry(1, [999]),
        entry(1, ["x"]),
        entry(1, {"a": 1}),
        entry(1, "x" * 100_000),
        b"1" * 100_000 + b"\n",
    ],
)
def test_noise_is_left_out(run: Run, noise: bytes) -> None:
    """Whatever else is printed, the lines beside it are read."""
    assert run(noise) is None
    boot = run(noise + entry(2, "kept"))
    assert boot is not None
    assert [line.text for line in boot.lines] == ["kept"]


def test_a_host_without_a_journal_has_no_boot_before(run: Run) -> None:
    """Without the program, or when it says that there is none, nothing is told."""
    assert read_previous_boot("journalctl-that-is-not-here") is None
    assert run(code=1) is None


def test_a_program_that_does_not_end_is_ended(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has printed by then counts."""
    monkeypatch.setattr(journal, "_TIMEOUT_S", 0.5)
    boot = run(entry(1), script="exec sleep 1000")
    assert boot is not None
    assert len(boot.lines) == 1


def test_a_program_that_prints_without_end_is_ended(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many bytes are read and no more."""
    monkeypatch.setattr(journal, "_MAX_BYTES", 10_000)
    boot = run(entry(1), script="exec yes '{}'")
    assert boot is not None
    assert len(boot.lines) == 1
