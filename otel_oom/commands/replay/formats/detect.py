"""Parsing of a line in any format.

Each line shows its own format, so a file may mix several. Terminal colours are stripped first, and
where unverified lines are allowed, the prefixes of container runtimes.
"""

from __future__ import annotations

import json
import re
from typing import Final

from msgspec.structs import replace

from otel_oom.commands.replay.formats import journal_export
from otel_oom.commands.replay.formats.dmesg import parse_dmesg_line
from otel_oom.commands.replay.formats.journal_fields import parse_export_entry, parse_json_entry
from otel_oom.commands.replay.formats.log_line import LoggedLine
from otel_oom.commands.replay.formats.syslog import parse_syslog_line
from otel_oom.linux.systemd.journal_entry import format_boot_id
from otel_oom.model.text import decode_bytes

TEXT: Final = "text"

_COLOUR: Final = re.compile(rb"\x1b\[[0-9;]{0,32}[mK]")
_CRI: Final = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]{8,18}(?:Z|[+-]\d\d:\d\d) std(?:out|err) [FP] ")
"""Prefix in container logs of the kubelet: time, stream, and if the line is complete."""
_JSON_PREFIXES: Final = (b"\x1e", b"data: ")
"""Those of journalctl's json-seq and json-sse."""
_FIELD: Final = re.compile(rb'\s*(?:[A-Z0-9_]{1,64}=|"\w{1,64}" ?:)')
"""Beginning of a line of journalctl's verbose and json-pretty, which are not supported."""
_BOOT: Final = re.compile(rb"-- (?:Boot ([0-9a-f]{32})|Reboot) --")


def parse_line(raw: bytes, *, allow_unverified: bool = False) -> LoggedLine | None:
    """Return the kernel's line; ``None`` for others, and for an unknown format.

    ``allow_unverified``: also a line that any program can have written, such as a container on its
    standard output.
    """
    if raw.startswith(journal_export.BEGIN):
        return parse_export_entry(raw, allow_unverified=allow_unverified)
    raw = raw.rstrip(b"\r")
    if b"\x1b[" in raw:
        raw = _COLOUR.sub(b"", raw)
    for prefix in _JSON_PREFIXES:
        raw = raw.removeprefix(prefix)
    if raw.startswith(b"{"):
        entry = parse_json_entry(raw, allow_unverified=allow_unverified)
        return entry or (_parse_docker_line(raw) if allow_unverified else None)
    cri = _CRI.match(raw)
    if cri:
        return _parse_wrapped_text(raw[cri.end() :]) if allow_unverified else None
    return parse_syslog_line(raw) or parse_dmesg_line(raw)


def parse_boot_marker(raw: bytes) -> str | None:
    """Return the boot id in journalctl's mark of a new boot: empty without one."""
    marker = _BOOT.fullmatch(raw.rstrip(b"\r"))
    if not marker:
        return None
    return format_boot_id((marker[1] or b"").decode("ascii")) or ""


def parse_bare_text(raw: bytes) -> LoggedLine | None:
    """Return a line without prefix; ``None`` for a field of another format."""
    return None if _FIELD.match(raw) else LoggedLine(TEXT, decode_bytes(raw))


def _parse_docker_line(raw: bytes) -> LoggedLine | None:
    try:
        text = json.loads(raw)["log"].encode("utf-8", "surrogatepass").rstrip(b"\n")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return None if text.startswith(b"{") else _parse_wrapped_text(text)


def _parse_wrapped_text(text: bytes) -> LoggedLine | None:
    line = parse_line(text)
    return line and replace(line, unverified=True)
