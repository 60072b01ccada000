"""Entries of systemd's journal, in JSON or in its export format.

The time is the kernel's own, converted to the wall clock by the time at which journald read the
line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from otel_oom.capture.userspace.daemons import UNITS, is_program_of
from otel_oom.commands.replay.formats.journal_export import parse_fields
from otel_oom.commands.replay.formats.log_line import LoggedLine
from otel_oom.linux.systemd.journal_entry import format_boot_id
from otel_oom.model.text import decode_bytes
from otel_oom.model.units import NS_PER_US

FORMAT: Final = "journal"

_ID: Final = re.compile(rb"[0-9a-f]{32}")
_NUMBER: Final = re.compile(rb"\d{1,19}")
_MAX_HOST_BYTES: Final = 255
_MAX_DELAY_US: Final = 3_600_000_000
"""No line is read later than this after it was printed: the clocks are those of two boots."""

Fields = Mapping[str, bytes]


def parse_json_entry(raw: bytes, *, allow_unverified: bool = False) -> LoggedLine | None:
    """Return the kernel's line in an entry as JSON; ``None`` for others.

    ``allow_unverified``: also a line of an entry without the field that only journald sets.
    """
    try:
        entry = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    return parse_journal_object(entry, allow_unverified=allow_unverified)


def parse_journal_object(
    entry: Mapping[str, Any], *, allow_unverified: bool = False
) -> LoggedLine | None:
    """Return the kernel's line in an entry whose JSON is parsed; see :func:`parse_json_entry`."""
    if "MESSAGE" not in entry:
        return None
    fields = {name: _bytes(value) for name, value in entry.items()}
    present = {name: value for name, value in fields.items() if value is not None}
    return _line(present, allow_unverified=allow_unverified)


def parse_export_entry(entry: bytes, *, allow_unverified: bool = False) -> LoggedLine | None:
    """Return the kernel's line in an entry of the export format; see :func:`parse_json_entry`."""
    return _line(parse_fields(entry), allow_unverified=allow_unverified)


def _bytes(value: Any) -> bytes | None:  # noqa: ANN401  JSON
    """Return a field's bytes: text, or numbers if it is not UTF-8; of several values the first."""
    if isinstance(value, list) and value and not isinstance(value[0], int):
        value = value[0]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    try:
        return bytes(value) if isinstance(value, list) else None
    except (TypeError, ValueError):
        return None


def _line(fields: Fields, *, allow_unverified: bool) -> LoggedLine | None:
    # Only journald sets fields that begin with an underscore; user space may set the others.
    unit = _daemon_unit(fields)
    unverified = ("_TRANSPORT" if unit is None else "_SYSTEMD_UNIT") not in fields
    if "MESSAGE" not in fields or (unverified and not allow_unverified):
        return None
    is_kernel = fields.get("_TRANSPORT", b"kernel") == b"kernel"
    if unit is None and (not is_kernel or fields.get("SYSLOG_FACILITY", b"0") != b"0"):
        return None
    printed_us = _micros(fields, "_SOURCE_MONOTONIC_TIMESTAMP")
    return LoggedLine(
        FORMAT,
        decode_bytes(fields["MESSAGE"]),
        since_boot_ns=None if printed_us is None else printed_us * NS_PER_US,
        when=_unix_ns(fields, printed_us) if unit is None else _sent_unix_ns(fields),
        host=decode_bytes(fields["_HOSTNAME"][:_MAX_HOST_BYTES]) if "_HOSTNAME" in fields else None,
        host_id=_id(fields, "_MACHINE_ID"),
        boot_id=format_boot_id(_id(fields, "_BOOT_ID") or "") or "",
        unverified=unverified,
        unit=unit,
    )


def _daemon_unit(fields: Fields) -> str | None:
    """Return the unit of a userspace OOM daemon, which wrote an entry; ``None`` for others."""
    name = fields.get("_SYSTEMD_UNIT")
    if name is None and "_TRANSPORT" not in fields:
        name = fields.get("SYSLOG_IDENTIFIER", b"") + b".service"
    unit = decode_bytes(name or b"")
    if unit not in UNITS or fields.get("_TRANSPORT") == b"kernel":
        return None
    executable = fields.get("_EXE")
    is_own = executable is None or is_program_of(unit, decode_bytes(executable))
    return unit if is_own else None


def _unix_ns(fields: Fields, printed_us: int | None) -> int | None:
    """Return when the kernel printed the line: when it was read, less the delay of the reader."""
    read_us = _micros(fields, "__REALTIME_TIMESTAMP")
    if read_us is None:
        return None
    read_uptime_us = _micros(fields, "__MONOTONIC_TIMESTAMP")
    if printed_us is not None and read_uptime_us is not None:
        delay_us = read_uptime_us - printed_us
        read_us -= delay_us if 0 <= delay_us < _MAX_DELAY_US else 0
    return read_us * NS_PER_US


def _sent_unix_ns(fields: Fields) -> int | None:
    """Return when a program sent its message, or else when it was received."""
    sent_us = _micros(fields, "_SOURCE_REALTIME_TIMESTAMP")
    return _unix_ns(fields, None) if sent_us is None else sent_us * NS_PER_US


def _micros(fields: Fields, name: str) -> int | None:
    value = fields.get(name, b"")
    return int(value) if _NUMBER.fullmatch(value) else None


def _id(fields: Fields, name: str) -> str | None:
    value = fields.get(name, b"")
    return value.decode("ascii") if _ID.fullmatch(value) else None
