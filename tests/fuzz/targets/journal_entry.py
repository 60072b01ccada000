"""Bytes as a line of journalctl's JSON, and its text as that of a userspace OOM daemon.

The same bytes are the lines of a boot before this one.

A line of plain text is tried as the text alone: so a corpus needs no JSON around each message.
"""

from __future__ import annotations

import io
import json
from typing import Final

from otel_oom.capture.panic.previous_boot import read_boot
from otel_oom.capture.userspace.android import AndroidParser
from otel_oom.capture.userspace.daemons import UNITS
from otel_oom.capture.userspace.messages import parse_message
from otel_oom.capture.userspace.nohang import NohangParser
from otel_oom.capture.userspace.talos import TalosParser
from otel_oom.commands.replay.formats.journal_fields import parse_json_entry
from otel_oom.linux.systemd.journal_entry import JournalEntry, parse_cursor, parse_entry
from otel_oom.model.text import decode_bytes
from tests.fuzz.targets.json_value import build_json

_BOOT_ID: Final = "f0e1d2c3000040008000000000000001"
_WORDS: Final = (
    *("__CURSOR", "_BOOT_ID", "MESSAGE", "_PID", "_SYSTEMD_UNIT", "SYSLOG_FACILITY", *UNITS),
    *("__MONOTONIC_TIMESTAMP", "__REALTIME_TIMESTAMP", "_SOURCE_REALTIME_TIMESTAMP"),
    *("_SOURCE_MONOTONIC_TIMESTAMP", "_TRANSPORT", "_HOSTNAME", "kernel", "0", _BOOT_ID),
)
_MAX_NS: Final = 1 << 62
_MAX_PID: Final = 10**10
_MAX_COMM_CHARS: Final = 256


def check_input(data: bytes) -> None:
    """Parse an entry and its message; check that the values are bounded and can be stored."""
    fields = {
        "__CURSOR": "s=0;i=1",
        "_BOOT_ID": _BOOT_ID,
        "__MONOTONIC_TIMESTAMP": "1",
        "__REALTIME_TIMESTAMP": "2",
        "MESSAGE": decode_bytes(data),
    }
    for raw in (data, json.dumps(fields).encode(), build_json(data, _WORDS)):
        entry = parse_entry(raw)
        if entry is not None:
            _check_entry(entry, raw)
        cursor = parse_cursor(raw)
        assert cursor is None or len(cursor.encode()) <= 4 * len(raw)
        parse_json_entry(raw, allow_unverified=True)
        boot = read_boot(io.BytesIO(raw))
        if boot is not None:
            assert 0 < len(boot.lines) <= raw.count(b"\n") + 1
            for line in boot.lines:
                assert len(line.text.encode()) <= 4 * len(raw)


def _check_entry(entry: JournalEntry, raw: bytes) -> None:
    assert 0 <= entry.unix_ns < _MAX_NS
    assert 0 <= entry.monotonic_us < _MAX_NS
    assert entry.pid is None or 0 <= entry.pid < _MAX_PID
    for text in (entry.cursor, entry.boot_id, entry.unit, entry.message):
        # A byte that is not UTF-8 becomes four characters.
        assert len(text.encode()) <= 4 * len(raw)
    kills = [parse_message(unit, entry.message, entry.message) for unit in UNITS]
    talos, android, nohang = TalosParser(), AndroidParser(), NohangParser()
    for message in entry.message.split("\n"):
        kills += [talos.feed(message), nohang.feed(message), *android.feed(message)]
    for kill in (*kills, *android.flush()):
        if kill is not None and kill.victim is not None:
            assert kill.victim.tgid
            assert len(kill.victim.comm or "") <= _MAX_COMM_CHARS
        assert kill is None or len(kill.original) <= 2 * len(entry.message) + _MAX_COMM_CHARS
