"""Bytes as a line of journalctl's JSON, and its text as that of a userspace OOM daemon.

A line of plain text is tried as the text alone: so a corpus needs no JSON around each message.
"""

from __future__ import annotations

import json
from typing import Final

from otel_oom.capture.userspace.daemons import UNITS
from otel_oom.capture.userspace.messages import parse_message
from otel_oom.linux.systemd.journal_entry import JournalEntry, parse_cursor, parse_entry
from otel_oom.model.text import decode_bytes

_BOOT_ID: Final = "f0e1d2c3000040008000000000000001"
_MAX_NS: Final = 1 << 62
_MAX_PID: Final = 10**10
_MAX_COMM_CHARS: Final = 64


def check_input(data: bytes) -> None:
    """Parse an entry and its message; check that the values are bounded and can be stored."""
    fields = {
        "__CURSOR": "s=0;i=1",
        "_BOOT_ID": _BOOT_ID,
        "__MONOTONIC_TIMESTAMP": "1",
        "__REALTIME_TIMESTAMP": "2",
        "MESSAGE": decode_bytes(data),
    }
    for raw in (data, json.dumps(fields).encode()):
        entry = parse_entry(raw)
        if entry is not None:
            _check_entry(entry, raw)
        cursor = parse_cursor(raw)
        assert cursor is None or len(cursor.encode()) <= len(raw)


def _check_entry(entry: JournalEntry, raw: bytes) -> None:
    assert 0 <= entry.unix_ns < _MAX_NS
    assert 0 <= entry.monotonic_us < _MAX_NS
    assert entry.pid is None or 0 <= entry.pid < _MAX_PID
    for text in (entry.cursor, entry.boot_id, entry.unit, entry.message):
        # A byte that is not UTF-8 becomes four characters.
        assert len(text.encode()) <= 4 * len(raw)
    for unit in UNITS:
        kill = parse_message(unit, entry.message, entry.message)
        if kill is not None and kill.victim is not None:
            assert kill.victim.tgid
            assert len(kill.victim.comm or "") <= _MAX_COMM_CHARS
