"""One entry of systemd's journal, from journalctl's JSON (systemd.journal-fields(7))."""

from __future__ import annotations

import json
import re
from typing import Final

from msgspec import Struct

from otel_oom.model.text import decode_bytes
from otel_oom.model.units import NS_PER_US

OUTPUT_FIELDS: Final = "MESSAGE,_SYSTEMD_UNIT,_PID,_EXE,_SOURCE_REALTIME_TIMESTAMP"
"""The requested fields; cursor, boot id and reception times are always included."""

_BOOT_ID: Final = re.compile(r"([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})")
_PID: Final = re.compile(r"[0-9]{1,10}")
_MAX_DIGITS: Final = 20
_MAX_NS: Final = 1 << 62


class JournalEntry(Struct, frozen=True):
    """A message of a unit.

    ``unit``, ``pid`` and ``executable`` are of its writer, by the journal's own knowledge: no
    program can forge a field that begins with an underscore. ``executable`` is ``None`` for a
    writer that had ended before. ``unix_ns`` is the time at which the message was sent, or else
    received. ``monotonic_us`` is the time of reception on CLOCK_MONOTONIC of its boot, in
    microseconds.
    """

    cursor: str
    boot_id: str
    monotonic_us: int
    unix_ns: int
    unit: str
    pid: int | None
    executable: str | None
    message: str


def parse_entry(raw: bytes) -> JournalEntry | None:
    """Parse a line of journalctl; ``None`` if it is no entry or has no text."""
    try:
        fields = json.loads(raw)
        boot_id, message = format_boot_id(fields["_BOOT_ID"]), decode_message(fields.get("MESSAGE"))
        sent, pid = fields.get("_SOURCE_REALTIME_TIMESTAMP"), fields.get("_PID", "")
        if boot_id is None or message is None:
            return None
        return JournalEntry(
            cursor=_decode_text(fields["__CURSOR"]),
            boot_id=boot_id,
            monotonic_us=parse_timestamp_ns(fields["__MONOTONIC_TIMESTAMP"]) // NS_PER_US,
            unix_ns=parse_timestamp_ns(sent or fields["__REALTIME_TIMESTAMP"]),
            unit=_decode_text(fields.get("_SYSTEMD_UNIT", "")),
            pid=int(pid) if _PID.fullmatch(pid) else None,
            executable=decode_message(fields.get("_EXE")),
            message=message,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def parse_cursor(raw: bytes) -> str | None:
    """Return the cursor of any entry."""
    try:
        return _decode_text(json.loads(raw)["__CURSOR"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def format_boot_id(value: str) -> str | None:
    """Return a boot id with dashes, like the kernel's; ``None`` if it is malformed."""
    match = _BOOT_ID.fullmatch(value)
    return "-".join(match.groups()) if match else None


def parse_timestamp_ns(micros: str) -> int:
    """Convert a number of microseconds to nanoseconds. Raises ValueError beyond the year 2116."""
    value = int(micros[:_MAX_DIGITS]) * NS_PER_US
    if not 0 <= value < _MAX_NS:
        raise ValueError(micros)
    return value


def decode_message(message: object) -> str | None:
    """Return a text; journalctl shows one that is not UTF-8 as an array of bytes."""
    if isinstance(message, str):
        return _decode_text(message)
    if isinstance(message, list):
        return decode_bytes(bytes(message))
    return None


def _decode_text(value: object) -> str:
    """Return a string that UTF-8 can encode: a JSON escape can stand for half a character."""
    if not isinstance(value, str):
        raise TypeError(value)
    return decode_bytes(value.encode("utf-8", "surrogatepass"))
