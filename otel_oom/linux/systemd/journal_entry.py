"""One entry of systemd's journal, out of journalctl's JSON (systemd.journal-fields(7))."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from otel_oom.model.text import decode_bytes
from otel_oom.model.units import NS_PER_US

FIELDS: Final = "MESSAGE,_SYSTEMD_UNIT,_PID,_SOURCE_REALTIME_TIMESTAMP"
"""What is asked for; position, boot and times of its coming are always told."""

_BOOT_ID: Final = re.compile(r"([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})")
_DIGITS: Final = 20
_MOST_NS: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Entry:
    """A message of a unit.

    ``unix_ns`` is when it was sent where that is told, else when the journal took it, which
    ``monotonic_us`` is on CLOCK_MONOTONIC of its boot, in microseconds.
    """

    cursor: str
    boot_id: str
    monotonic_us: int
    unix_ns: int
    unit: str
    pid: int | None
    message: str


def entry_of(raw: bytes) -> Entry | None:
    """The entry of a line; ``None`` for what is none or has no text."""
    try:
        fields = json.loads(raw)
        boot_id, message = boot_id_of(fields["_BOOT_ID"]), text_of(fields.get("MESSAGE"))
        sent, pid = fields.get("_SOURCE_REALTIME_TIMESTAMP"), fields.get("_PID", "")
        if boot_id is None or message is None:
            return None
        return Entry(
            cursor=str(fields["__CURSOR"]),
            boot_id=boot_id,
            monotonic_us=ns_of(fields["__MONOTONIC_TIMESTAMP"]) // NS_PER_US,
            unix_ns=ns_of(sent or fields["__REALTIME_TIMESTAMP"]),
            unit=str(fields.get("_SYSTEMD_UNIT", "")),
            pid=int(pid) if pid.isdecimal() else None,
            message=message,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def cursor_of(raw: bytes) -> str | None:
    """The position of an entry, whatever it is."""
    try:
        return str(json.loads(raw)["__CURSOR"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def boot_id_of(value: str) -> str | None:
    """A boot's id as the kernel writes it; ``None`` for what is none."""
    found = _BOOT_ID.fullmatch(value)
    return "-".join(found.groups()) if found else None


def ns_of(micros: str) -> int:
    """Nanoseconds out of a number of microseconds.

    Raises:
        ValueError: it is none, or of no year that this will see.
    """
    value = int(micros[:_DIGITS]) * NS_PER_US
    if not 0 <= value < _MOST_NS:
        raise ValueError(micros)
    return value


def text_of(message: object) -> str | None:
    """A text; what is not one by itself is told as the numbers of its bytes."""
    if isinstance(message, str):
        return message.encode("utf-8", errors="backslashreplace").decode()
    if isinstance(message, list):
        return decode_bytes(bytes(message))
    return None
