"""Parsing of a line in any format.

Each line shows its own format, so a file may mix several. Terminal colours are stripped first, and
where unverified lines are allowed, the prefixes of container runtimes.
"""

from __future__ import annotations

import json
import re
from typing import Final

from msgspec.structs import replace

from otel_oom.capture.kmsg.reader import parse_record
from otel_oom.capture.userspace.talos import TALOS, TALOS_PREFIX, parse_user_record
from otel_oom.commands.replay.formats import journal_export
from otel_oom.commands.replay.formats.dmesg import parse_boot_time, parse_dmesg_line
from otel_oom.commands.replay.formats.journal_fields import parse_export_entry, parse_json_entry
from otel_oom.commands.replay.formats.json_record import (
    parse_fluent_bit_line,
    parse_json_record,
)
from otel_oom.commands.replay.formats.log_line import TEXT, LoggedLine
from otel_oom.commands.replay.formats.logcat import parse_logcat_line
from otel_oom.commands.replay.formats.syslog import DAEMON, find_unit, parse_syslog_line
from otel_oom.commands.replay.formats.wrapped import parse_wrapped_line
from otel_oom.linux.systemd.journal_entry import format_boot_id
from otel_oom.model.text import decode_bytes
from otel_oom.model.units import NS_PER_US

KMSG: Final = "kmsg"

_NAMELESS: Final = re.compile(rb"(?:kernel:|" + DAEMON + rb"\[\d{1,10}\]:) ?")
_KMSG: Final = re.compile(rb"\d{1,4},\d{1,19},\d{1,18},[^;,\s]{1,8}[,;]")

_COLOUR: Final = re.compile(rb"\x1b\[[0-9;]{0,32}[mK]")
_CRI: Final = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]{8,18}(?:Z|[+-]\d\d:\d\d) std(?:out|err) [FP] ")
"""Prefix in container logs of the kubelet: time, stream, and if the line is complete."""
_JSON_PREFIXES: Final = (b"\x1e", b"data: ")
"""Those of journalctl's json-seq and json-sse."""
_FIELD: Final = re.compile(rb'\s*(?:[A-Z0-9_]{1,64}=|"\w{1,64}" ?:)')
"""Beginning of a line of journalctl's verbose and json-pretty, which are not supported."""
_OF_USER: Final = re.compile(
    rb"<(?:[89]|[1-9]\d{1,3})>|(?!kern)[a-z0-9]{2,9} {0,6}:[a-z]{3,7} {0,6}: "
)
"""A facility of user space at the beginning, as dmesg(1) prints it."""
_BOOT: Final = re.compile(rb"-- (?:Boot ([0-9a-f]{32})|Reboot) --")


def parse_line(raw: bytes, *, allow_unverified: bool = False) -> LoggedLine | None:
    """Return the line of the kernel or of a daemon; ``None`` for others, and unknown formats.

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
        if entry or not allow_unverified:
            return entry
        return _parse_docker_line(raw) or parse_json_record(raw, _parse_text)
    cri = _CRI.match(raw)
    if cri:
        return _parse_wrapped_text(raw[cri.end() :]) if allow_unverified else None
    line = _parse_text(raw)
    if line is not None or not allow_unverified:
        return line
    return (
        parse_logcat_line(raw)
        or parse_fluent_bit_line(raw, _parse_text)
        or _parse_nameless(raw)
        or parse_wrapped_line(raw, _parse_text_or_nameless)
    )


def _parse_text(raw: bytes) -> LoggedLine | None:
    return parse_syslog_line(raw) or parse_dmesg_line(raw) or _parse_kmsg_record(raw)


def _parse_nameless(raw: bytes) -> LoggedLine | None:
    """Return a line with nothing but the program's name in front, as cut(1) leaves it."""
    match = _NAMELESS.match(raw)
    if not match:
        return None
    rest = raw[match.end() :]
    if match[1]:
        unit = find_unit(match[1])
        return LoggedLine(TEXT, decode_bytes(rest), unverified=True, unit=unit)
    line = parse_boot_time(LoggedLine(TEXT, ""), rest) or LoggedLine(TEXT, decode_bytes(rest))
    return replace(line, unverified=True)


def _parse_text_or_nameless(raw: bytes) -> LoggedLine | None:
    return _parse_text(raw) or parse_logcat_line(raw) or _parse_nameless(raw)


def _parse_kmsg_record(raw: bytes) -> LoggedLine | None:
    """Return the line of a record of /dev/kmsg, as cat(1) reads it."""
    if not _KMSG.match(raw):
        return None
    if (record := parse_record(raw)) is not None:
        return LoggedLine(KMSG, record.text, since_boot_ns=record.time_ns, caller=record.caller)
    of_user = parse_user_record(raw)
    if of_user is None or not of_user.text.startswith(TALOS_PREFIX):
        return None
    return LoggedLine(KMSG, of_user.text, since_boot_ns=of_user.time_us * NS_PER_US, unit=TALOS)


def parse_boot_marker(raw: bytes) -> str | None:
    """Return the boot id in journalctl's mark of a new boot: empty without one."""
    marker = _BOOT.fullmatch(raw.rstrip(b"\r"))
    if not marker:
        return None
    return format_boot_id((marker[1] or b"").decode("ascii")) or ""


def is_bare_text(raw: bytes) -> bool:
    """Return whether a line is no field, and no record, of another format or of user space."""
    return not (_FIELD.match(raw) or _KMSG.match(raw) or _OF_USER.match(raw))


def _parse_docker_line(raw: bytes) -> LoggedLine | None:
    try:
        text = json.loads(raw)["log"].encode("utf-8", "surrogatepass").rstrip(b"\n")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return None if text.startswith(b"{") else _parse_wrapped_text(text)


def _parse_wrapped_text(text: bytes) -> LoggedLine | None:
    line = parse_line(text)
    return line and replace(line, unverified=True)
