"""An entry of the journal with values that no journal has."""

from __future__ import annotations

import json

import pytest

from otel_oom.linux.systemd.journal_entry import parse_cursor, parse_entry

ENTRY = {
    "__CURSOR": "s=0;i=1",
    "_BOOT_ID": "f0e1d2c3000040008000000000000001",
    "__MONOTONIC_TIMESTAMP": "1",
    "__REALTIME_TIMESTAMP": "2",
    "MESSAGE": "text",
}


def test_half_a_character_can_be_stored() -> None:
    changed = {**ENTRY, "MESSAGE": "\ud800", "_SYSTEMD_UNIT": "\udfff", "__CURSOR": "\ud801"}
    raw = json.dumps(changed).encode()
    entry = parse_entry(raw)
    assert entry is not None
    for text in (entry.message, entry.unit, entry.cursor, parse_cursor(raw) or ""):
        assert text.encode().startswith(b"\\xed")


@pytest.mark.parametrize("cursor", [None, 7, ["a"], {"a": "b"}])
def test_a_cursor_is_text(cursor: object) -> None:
    raw = json.dumps({**ENTRY, "__CURSOR": cursor}).encode()
    assert parse_entry(raw) is None
    assert parse_cursor(raw) is None


@pytest.mark.parametrize(("pid", "parsed"), [("7", 7), ("9" * 5000, None), ("٣", None)])
def test_a_process_id_is_a_short_number(pid: str, parsed: int | None) -> None:
    entry = parse_entry(json.dumps({**ENTRY, "_PID": pid}).encode())
    assert entry is not None
    assert entry.pid == parsed
