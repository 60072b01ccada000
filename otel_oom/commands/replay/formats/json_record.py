"""Records in JSON of log collectors and of the clouds' logging services, and of ``dmesg -J``.

Their fields differ by program: a message, a time and a host, at the top or in an object below. The
message is the kernel's text, or a whole line of syslog. Any program can have written it: only the
journal's own fields prove more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from msgspec.structs import replace

from otel_oom.capture.userspace.daemons import UNITS
from otel_oom.commands.replay.formats.journal_fields import parse_journal_object
from otel_oom.commands.replay.formats.log_line import TEXT, LoggedLine, PartialTimestamp
from otel_oom.commands.replay.formats.written_time import complete_year, parse_time_text
from otel_oom.model.text import decode_bytes
from otel_oom.model.units import NS_PER_S, NS_PER_US

_JOURNAL: Final = frozenset({"_TRANSPORT", "MESSAGE"})
_MESSAGES: Final = (
    *("message", "msg", "log", "textPayload", "@message", "line", "text"),
    *("short_message", "_raw", "body", "event", "stringValue"),
)
_TIMES: Final = (
    "@timestamp",
    "timestamp",
    "time",
    "ts",
    "@ts",
    "date",
    "_time",
    "eventTime",
    "timeUnixNano",
)
_HOSTS: Final = ("_HOSTNAME", "hostname", "host", "source_host", "nodename", "node_name")
_PROGRAMS: Final = (
    *("SYSLOG_IDENTIFIER", "ident", "appname", "program", "programname", "syslog_identifier"),
    *("process_name", "container_name", "APP-NAME"),
)
_KERNEL: Final = frozenset({"kernel", "kern", "kmsg", "-"})
_MAX_DEPTH: Final = 4
_MAX_HOST_CHARS: Final = 255
_NS_DIGITS: Final = 19
_FLUENT_BIT: Final = re.compile(
    rb"\[\d{1,10}\] [\w.*-]{1,128}: \[\[?(\d{9,11}\.\d{1,9})(?:, \{\}\])?, (\{.*\})\]"
)
_ARROW: Final = b'"=>'

Parser = Callable[[bytes], LoggedLine | None]


def parse_json_record(raw: bytes, parse_text: Parser) -> LoggedLine | None:
    """Return the kernel's line in a record; ``None`` for others.

    ``parse_text`` reads a message that is a whole line of a text file.
    """
    try:
        record = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return _parse_record(record, parse_text) if isinstance(record, dict) else None


def parse_fluent_bit_line(raw: bytes, parse_text: Parser) -> LoggedLine | None:
    """Return the kernel's line in the output of fluent-bit's ``stdout``; ``None`` for others."""
    match = _FLUENT_BIT.fullmatch(raw)
    if not match:
        return None
    line = parse_json_record(match[2].replace(_ARROW, b'":'), parse_text)
    return line and _complete(line, parse_time_text(match[1].decode("ascii")), None)


def has_message(record: Mapping[str, Any]) -> bool:
    """Return whether a record has a message itself, not in an array of others."""
    objects = _objects(record)
    return any(_JOURNAL & fields.keys() or _message(fields) is not None for fields in objects)


def _parse_record(record: Mapping[str, Any], parse_text: Parser) -> LoggedLine | None:
    objects = list(_objects(record))
    journal = next((fields for fields in objects if _JOURNAL & fields.keys()), None)
    if journal is not None:
        line = parse_journal_object(journal, allow_unverified=True)
    else:
        message = next((text for text in map(_message, objects) if text is not None), None)
        unit = _find_daemon(objects)
        if message is None or (unit is None and _is_of_program(objects)):
            return None
        is_of_container = "stream" in record
        line = _parse_message(message.rstrip("\r\n"), parse_text, allow_bare=not is_of_container)
        if line and unit:
            line = replace(line, unit=unit)
    if line is None:
        return None
    line = _complete(line, _first(_time, objects), _first(_host, objects))
    uptime_ns = _uptime_ns(record)
    if uptime_ns is not None and line.since_boot_ns is None:
        line = replace(line, since_boot_ns=uptime_ns)
    return replace(line, unverified=True)


def _objects(value: Mapping[str, Any], depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Yield an object and those in it, the outer ones first."""
    yield value
    if depth < _MAX_DEPTH:
        for inner in value.values():
            if isinstance(inner, dict):
                yield from _objects(inner, depth + 1)


def _first(get: Callable[[Mapping[str, Any]], Any], objects: list[Mapping[str, Any]]) -> Any:  # noqa: ANN401  of get
    return next((value for value in map(get, objects) if value is not None), None)


def _message(fields: Mapping[str, Any]) -> str | None:
    return next((fields[name] for name in _MESSAGES if isinstance(fields.get(name), str)), None)


def _find_daemon(objects: list[Mapping[str, Any]]) -> str | None:
    """Return the unit of the userspace OOM daemon that a record names."""
    names = (fields.get(name) for fields in objects for name in _PROGRAMS)
    units = (f"{name.removesuffix('.service')}.service" for name in names if isinstance(name, str))
    return next((unit for unit in units if unit in UNITS), None)


def _is_of_program(objects: list[Mapping[str, Any]]) -> bool:
    """Return whether a record names another program than the kernel."""
    names = (fields.get(name) for fields in objects for name in _PROGRAMS)
    return any(isinstance(name, str) and name.lower() not in _KERNEL for name in names)


def _parse_message(message: str, parse_text: Parser, *, allow_bare: bool) -> LoggedLine | None:
    raw = message.encode("utf-8", "surrogatepass")
    if raw.startswith(b"{"):
        return None
    line = parse_text(raw)
    return LoggedLine(TEXT, decode_bytes(raw)) if line is None and allow_bare else line


def _complete(
    line: LoggedLine, when: int | PartialTimestamp | None, host: str | None
) -> LoggedLine:
    return replace(line, when=complete_year(line.when, when), host=line.host or host)


def _time(fields: Mapping[str, Any]) -> int | PartialTimestamp | None:
    for name in _TIMES:
        value = fields.get(name)
        if isinstance(value, str) and value.isascii():
            parsed = _unix_ns(int(value)) if _is_number(value) else parse_time_text(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            parsed = _unix_ns(value)
        else:
            continue
        if parsed is not None:
            return parsed
    return None


def _is_number(value: str) -> bool:
    return value.isdigit() and len(value) <= _NS_DIGITS


def _unix_ns(value: float) -> int | None:
    """Return Unix time in nanoseconds of a number in seconds, or in thousandths of thousandths."""
    for unit_ns in (NS_PER_S, 10**6, 10**3, 1):
        if 10**17 < value * unit_ns < 10**19:
            return int(value) * unit_ns + int(value % 1 * unit_ns)
    return None


def _uptime_ns(record: Mapping[str, Any]) -> int | None:
    """Return the kernel's own time of fluent-bit's input ``kmsg``, or of ``dmesg -J``."""
    seconds, us = record.get("sec"), record.get("usec")
    if isinstance(seconds, int) and isinstance(us, int) and 0 <= seconds < 10**9:
        return seconds * NS_PER_S + us * NS_PER_US
    uptime = record.get("time")
    if "pri" in record and isinstance(uptime, int | float) and 0 <= uptime < 10**9:
        return round(uptime * 10**6) * NS_PER_US
    return None


def _host(fields: Mapping[str, Any]) -> str | None:
    for name in _HOSTS:
        value = fields.get(name)
        if isinstance(value, dict):
            value = value.get("name") or value.get("hostname")
        if isinstance(value, str) and value:
            return value[:_MAX_HOST_CHARS]
    return None
