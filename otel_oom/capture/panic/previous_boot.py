"""The kernel's log of the boot before this one, as systemd's journal has it.

It is read by journalctl(1) as JSON: the files' own format is not for others to read, and the
library for it is not on every host that has the program. How much and how long is bounded. What
the kernel says in its last second is seldom in it, for nobody runs any more who could write it.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.linux.systemd.journal_entry import decode_message, format_boot_id, parse_timestamp_ns

_ARGUMENTS: Final = (
    "--dmesg",
    "--boot=-1",
    "--output=json",
    "--output-fields=MESSAGE,SYSLOG_FACILITY,_SOURCE_MONOTONIC_TIMESTAMP",
    "--lines=2048",
    "--no-pager",
    "--quiet",
)
_LIMIT_S: Final = 20.0
_MOST_BYTES: Final = 1 << 24
_LINE_BYTES: Final = 1 << 15
_OF_CLOCK: Final = 64
"""The newest lines alone tell how the clocks stood at the end: a suspend moves them."""

_KERNEL: Final = "0"


@dataclass(frozen=True, slots=True)
class PreviousBoot:
    """What is left of a boot: its id, its last lines, oldest first, and where its clock stood.

    ``unix_offset_ns`` leads from the log's clock at its end to Unix time, in nanoseconds: the
    smallest distance from the printing of a line to its arrival in the journal.
    """

    boot_id: str
    lines: tuple[Line, ...]
    unix_offset_ns: int


def previous_boot(program: str = "journalctl") -> PreviousBoot | None:
    """The boot before this one; ``None`` where there is no journal of it. Takes seconds."""
    try:
        started = subprocess.Popen(
            [program, *_ARGUMENTS],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None
    with started as process:
        late = threading.Timer(_LIMIT_S, process.kill)
        late.daemon = True
        late.start()
        try:
            return _boot(process)
        finally:
            late.cancel()
            process.kill()


def _boot(process: subprocess.Popen[bytes]) -> PreviousBoot | None:
    entries: list[tuple[str, Line, int]] = []
    left = _MOST_BYTES
    assert process.stdout is not None  # noqa: S101  it was asked for
    while left > 0 and (raw := process.stdout.readline(_LINE_BYTES)):
        left -= len(raw)
        entry = _entry(raw, len(entries))
        if entry is not None:
            entries.append(entry)
    if not entries:
        return None
    boot_id = entries[-1][0]
    lines = [(line, unix_ns) for of_boot, line, unix_ns in entries if of_boot == boot_id]
    offset = min(unix_ns - line.time_ns for line, unix_ns in lines[-_OF_CLOCK:])
    return PreviousBoot(boot_id, tuple(line for line, _ in lines), offset)


def _entry(raw: bytes, sequence: int) -> tuple[str, Line, int] | None:
    """The boot's id, a line of the kernel's own, and when it arrived; ``None`` for all else."""
    try:
        entry: Mapping[str, Any] = json.loads(raw)
        boot_id = format_boot_id(entry["_BOOT_ID"])
        text = decode_message(entry["MESSAGE"])
        time_ns = parse_timestamp_ns(entry["_SOURCE_MONOTONIC_TIMESTAMP"])
        unix_ns = parse_timestamp_ns(entry["__REALTIME_TIMESTAMP"])
        facility = entry["SYSLOG_FACILITY"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if boot_id is None or text is None or facility != _KERNEL:
        return None
    return boot_id, Line(text, time_ns, sequence), unix_ns
