"""Entries of systemd's journal: one in JSON, or the fields of its export format.

The time is the kernel's own, on the scale of the wall clock by when journald read the line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

from otel_oom.commands.replay.formats import journal_export
from otel_oom.commands.replay.formats.dmesg import text
from otel_oom.commands.replay.formats.log_line import LoggedLine
from otel_oom.model.units import NS_PER_US

FORM: Final = "journal"

_ID: Final = re.compile(rb"[0-9a-f]{32}")
_NUMBER: Final = re.compile(rb"\d{1,19}")
_LATE_US: Final = 3_600_000_000
"""By more than this no line was read late: the clocks are of two boots."""

Fields = Mapping[str, bytes]


def of_json(raw: bytes) -> LoggedLine | None:
    """The kernel's line in an entry as JSON; ``None`` for others'."""
    try:
        entry = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or "MESSAGE" not in entry:
        return None
    found = {name: _bytes(value) for name, value in entry.items()}
    return _line({name: value for name, value in found.items() if value is not None})


def of_export(entry: bytes) -> LoggedLine | None:
    """The kernel's line in an entry of the export format; ``None`` for others'."""
    return _line(journal_export.fields(entry))


def _bytes(value: Any) -> bytes | None:  # noqa: ANN401  JSON
    """A field's bytes: text, or where that is no UTF-8 numbers; of several values the first."""
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


def _line(found: Fields) -> LoggedLine | None:
    # journald sets what begins with an underscore itself; user space may claim the rest.
    if found.get("_TRANSPORT", b"kernel") != b"kernel":
        return None
    if found.get("SYSLOG_FACILITY", b"0") != b"0" or "MESSAGE" not in found:
        return None
    return LoggedLine(
        FORM,
        text(found["MESSAGE"]),
        since_boot_ns=_since_boot_ns(found),
        when=_unix_ns(found),
        host=text(found["_HOSTNAME"]) if "_HOSTNAME" in found else None,
        host_id=_id(found, "_MACHINE_ID"),
        boot_id=dashed(_id(found, "_BOOT_ID") or ""),
    )


def _since_boot_ns(found: Fields) -> int | None:
    micros = _micros(found, "_SOURCE_MONOTONIC_TIMESTAMP")
    return None if micros is None else micros * NS_PER_US


def _unix_ns(found: Fields) -> int | None:
    """When the kernel printed it: when it was read, less how long it had waited for that."""
    read = _micros(found, "__REALTIME_TIMESTAMP")
    if read is None:
        return None
    printed = _micros(found, "_SOURCE_MONOTONIC_TIMESTAMP")
    read_since_boot = _micros(found, "__MONOTONIC_TIMESTAMP")
    if printed is not None and read_since_boot is not None:
        late = read_since_boot - printed
        read -= late if 0 <= late < _LATE_US else 0
    return read * NS_PER_US


def _micros(found: Fields, name: str) -> int | None:
    value = found.get(name, b"")
    return int(value) if _NUMBER.fullmatch(value) else None


def _id(found: Fields, name: str) -> str | None:
    value = found.get(name, b"")
    return value.decode("ascii") if _ID.fullmatch(value) else None


def dashed(boot_id: str) -> str:
    """A boot's id as the kernel writes it, out of journald's 32 digits."""
    if not boot_id:
        return ""
    cuts = (0, 8, 12, 16, 20, 32)
    return "-".join(boot_id[begin:end] for begin, end in pairwise(cuts))
