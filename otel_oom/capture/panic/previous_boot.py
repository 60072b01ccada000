"""Read the previous boot's kernel log from systemd's journal.

journalctl(1) reads it, as JSON: its file format is private, and its library is not on every host.
Size and time are limited. The kernel's last second is seldom in it, as nothing runs any more that
could write it.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Mapping
from typing import IO, Any, Final

from msgspec import Struct

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
_TIMEOUT_S: Final = 20.0
_MAX_BYTES: Final = 1 << 24
_MAX_LINE_BYTES: Final = 1 << 15
_CLOCK_LINES: Final = 64
"""Only the newest lines have the offset of the clocks at the end: a suspend changes it."""

_KERNEL_FACILITY: Final = "0"


class PreviousBoot(Struct, frozen=True):
    """Id and last log lines of a boot, oldest first.

    ``unix_offset_ns`` leads from the log's clock at its end to Unix time, in nanoseconds: the
    shortest delay from the printing of a line to its arrival in the journal.
    """

    boot_id: str
    lines: tuple[Line, ...]
    unix_offset_ns: int


def read_previous_boot(program: str = "journalctl") -> PreviousBoot | None:
    """Read the boot before this one, in seconds; ``None`` if the journal does not have it."""
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
        timer = threading.Timer(_TIMEOUT_S, process.kill)
        timer.daemon = True
        timer.start()
        try:
            assert process.stdout is not None  # noqa: S101  it is a pipe
            return read_boot(process.stdout)
        finally:
            timer.cancel()
            process.kill()


def read_boot(output: IO[bytes]) -> PreviousBoot | None:
    """Read the last boot of journalctl's ``output``; ``None`` without a line of the kernel."""
    entries: list[tuple[str, Line, int]] = []
    bytes_left = _MAX_BYTES
    while bytes_left > 0 and (raw := output.readline(_MAX_LINE_BYTES)):
        bytes_left -= len(raw)
        entry = _parse_entry(raw, len(entries))
        if entry is not None:
            entries.append(entry)
    if not entries:
        return None
    boot_id = entries[-1][0]
    lines = [(line, unix_ns) for entry_boot, line, unix_ns in entries if entry_boot == boot_id]
    offset_ns = min(unix_ns - line.time_ns for line, unix_ns in lines[-_CLOCK_LINES:])
    return PreviousBoot(boot_id, tuple(line for line, _ in lines), offset_ns)


def _parse_entry(raw: bytes, sequence: int) -> tuple[str, Line, int] | None:
    """Return boot id, line and arrival time of a kernel message; ``None`` for any other."""
    try:
        entry: Mapping[str, Any] = json.loads(raw)
        boot_id = format_boot_id(entry["_BOOT_ID"])
        text = decode_message(entry["MESSAGE"])
        time_ns = parse_timestamp_ns(entry["_SOURCE_MONOTONIC_TIMESTAMP"])
        unix_ns = parse_timestamp_ns(entry["__REALTIME_TIMESTAMP"])
        facility = entry["SYSLOG_FACILITY"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if boot_id is None or text is None or facility != _KERNEL_FACILITY:
        return None
    return boot_id, Line(text, time_ns, sequence), unix_ns
