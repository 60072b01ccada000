"""A line of a file into a line of the kernel's log, whoever wrote the file.

Each line says by itself which form it is in, so a file may have several. What stands around it is
taken off before: a terminal's colours, and what container runtimes write their output in.
"""

from __future__ import annotations

import json
import re
from typing import Final

from otel_oom.commands.replay.formats import dmesg, journal_export, journal_fields, syslog
from otel_oom.commands.replay.formats.log_line import LoggedLine

BARE: Final = "text"

_COLOUR: Final = re.compile(rb"\x1b\[[0-9;]{0,32}[mK]")
_CRI: Final = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]{8,18}(?:Z|[+-]\d\d:\d\d) std(?:out|err) [FP] ")
"""What the kubelet's containers write to: time, stream, and whether the line is whole."""
_AROUND_JSON: Final = (b"\x1e", b"data: ")
"""journalctl's json-seq and json-sse."""
_FIELD: Final = re.compile(rb'\s*(?:[A-Z0-9_]{1,64}=|"\w{1,64}" ?:)')
"""How a line begins in journalctl's verbose and json-pretty, which are not read."""
_BOOT: Final = re.compile(rb"-- (?:Boot ([0-9a-f]{32})|Reboot) --")


def parse(raw: bytes) -> LoggedLine | None:
    """The kernel's line; ``None`` for others' and for what is no such line."""
    if raw.startswith(journal_export.BEGIN):
        return journal_fields.of_export(raw)
    raw = raw.rstrip(b"\r")
    if b"\x1b[" in raw:
        raw = _COLOUR.sub(b"", raw)
    for around in _AROUND_JSON:
        raw = raw.removeprefix(around)
    if raw.startswith(b"{"):
        return journal_fields.of_json(raw) or _of_docker(raw)
    wrapped = _CRI.match(raw)
    if wrapped:
        raw = raw[wrapped.end() :]
    return syslog.parse(raw) or dmesg.parse(raw)


def boot(raw: bytes) -> str | None:
    """The id of the boot that begins here, as journalctl marks it; empty if it tells none."""
    found = _BOOT.fullmatch(raw.rstrip(b"\r"))
    if not found:
        return None
    return journal_fields.dashed(found[1].decode("ascii")) if found[1] else ""


def bare(raw: bytes) -> LoggedLine | None:
    """A line that is nothing but text; ``None`` for a field of another format."""
    return None if _FIELD.match(raw) else LoggedLine(BARE, dmesg.text(raw))


def _of_docker(raw: bytes) -> LoggedLine | None:
    """A line of Docker's json-file driver."""
    try:
        text = json.loads(raw)["log"].encode("utf-8", "surrogatepass").rstrip(b"\n")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return None if text.startswith(b"{") else parse(text)
