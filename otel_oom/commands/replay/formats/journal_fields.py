"""Entries of systemd's journal, in JSON or in its export format.

The time is the kernel's own, converted to the wall clock by the time at which journald read the
line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

from otel_oom.commands.replay.formats.dmesg import decode_text
from otel_oom.commands.replay.formats.journal_export import parse_fields
from otel_oom.commands.replay.formats.log_line import LoggedLine
from otel_oom.model.units import NS_PER_US

FORMAT: Final = "journal"

_ID: Final = re.compile(rb"[0-9a-f]{32}")
_NUMBER: Final = re.compile(rb"\d{1,19}")
_MAX_DELAY_US: Final = 3_600_000_000
"""No line is read later than this after it was printed: the clocks are those of two boots."""

Fields = Mapping[str, bytes]


def parse_json_entry(raw: bytes) -> LoggedLine | None:
    """Return the kernel's line in an entry as JSON; ``None`` for others."""
    try:
        entry = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or "MESSAGE" not in entry:
        return None
    fields = {name: _bytes(value) for name, value in entry.items()}
    return _line({name: value for name, value in fields.items() if value is not None})


def parse_export_entry(entry: bytes) -> LoggedLine | None:
    """Return the kernel's line in an entry of the export format; ``None`` for others."""
    return _line(parse_fields(entry))


def _bytes(value: Any) -> bytes | None:  # noqa: ANN401  JSON
    """Return a field's bytes: text, or numbers if it is not UTF-8; of several values the first."""
    if isinstance(value, list) and value and not isinstance(value[0], int):
        value = value[0]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, list):
        try:
            return bytes(value)
        except (TypeError, ValueError):
            return None
    return None


def _line(fields: Fields) -> LoggedLine | None:
    # Only journald sets fields that begin with an underscore; user space may set the others.
    if fields.get("_TRANSPORT", b"kernel") != b"kernel":
        return None
    if fields.get("SYSLOG_FACILITY", b"0") != b"0" or "MESSAGE" not in fields:
        return None
    return LoggedLine(
        FORMAT,
        decode_text(fields["MESSAGE"]),
        since_boot_ns=_since_boot_ns(fields),
        when=_unix_ns(fields),
        host=decode_text(fields["_HOSTNAME"]) if "_HOSTNAME" in fields else None,
        host_id=_id(fields, "_MACHINE_ID"),
        boot_id=format_boot_id(_id(fields, "_BOOT_ID") or ""),
    )


def _since_boot_ns(fields: Fields) -> int | None:
    micros = _micros(fields, "_SOURCE_MONOTONIC_TIMESTAMP")
    return None if micros is None else micros * NS_PER_US


def _unix_ns(fields: Fields) -> int | None:
    """Return when the kernel printed the line: when it was read, less the delay of the reader."""
    read_us = _micros(fields, "__REALTIME_TIMESTAMP")
    if read_us is None:
        return None
    printed_uptime = _micros(fields, "_SOURCE_MONOTONIC_TIMESTAMP")
    read_uptime = _micros(fields, "__MONOTONIC_TIMESTAMP")
    if printed_uptime is not None and read_uptime is not None:
        delay = read_uptime - printed_uptime
        read_us -= delay if 0 <= delay < _MAX_DELAY_US else 0
    return read_us * NS_PER_US


def _micros(fields: Fields, name: str) -> int | None:
    value = fields.get(name, b"")
    return int(value) if _NUMBER.fullmatch(value) else None


def _id(fields: Fields, name: str) -> str | None:
    value = fields.get(name, b"")
    return value.decode("ascii") if _ID.fullmatch(value) else None


def format_boot_id(boot_id: str) -> str:
    """Return a boot id as the kernel writes it, from journald's 32 digits."""
    if not boot_id:
        return ""
    cuts = (0, 8, 12, 16, 20, 32)
    return "-".join(boot_id[begin:end] for begin, end in pairwise(cuts))
