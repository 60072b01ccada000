"""Lines of dmesg(1) and syslog(2), and the parts that other text formats share.

By default ``[12345.678901] text``, before it ``<4>`` (``--raw``) or ``kern  :warn  : `` (``-x``);
in place of the time since the boot ``[Tue Nov 24 09:12:44 2026]`` (``-T``), in any locale,
``2026-11-24T09:12:44,123456+00:00`` (``--time-format iso``), ``[Nov24 09:12]`` and
``[  +0.000012]`` (``-H``), ``[<    0.000012>]`` (``-d``), or none (``-x -t``). Talos prints
``kern: warning: [2026-11-24T09:12:44.123456789Z]: text``, and its own records as ``user:``.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec.structs import replace

from otel_oom.capture.userspace.talos import TALOS, TALOS_PREFIX
from otel_oom.commands.replay.formats.log_line import LoggedLine, PartialTimestamp
from otel_oom.commands.replay.formats.written_time import (
    find_month,
    parse_written_time,
)
from otel_oom.model.text import decode_bytes
from otel_oom.model.units import NS_PER_S, NS_PER_US

FORMAT: Final = "dmesg"

_DELTA: Final = rb"(?: *<[^>\n]{0,20}>?)?"
_SINCE_BOOT: Final = re.compile(
    rb"\[ {0,9}(\d{1,9})\.(\d{6})" + _DELTA + rb"\]"
    # In a second pair of brackets: the printing thread (T) or processor (C).
    rb"(?: ?\[ {0,9}(?:T(\d{1,10})|C\d{1,10})\]"
    # Of phones: (processor)[thread:name]; [processor: name: thread]; c1  thread.
    rb"|  ?\(\d{1,3}\)\[(\d{1,10}):[^\]\n]{1,32}\]"
    rb"| ?\[\d{1,3}: {0,16}[^\]:\n]{1,32}: {0,10}(\d{1,10})\]"
    rb"| c\d{1,3} {1,6}(\d{1,10})(?= ))? ?"
)
_BRACKET_END: Final = re.compile(_DELTA + rb"\] ?")
_SHORT: Final = re.compile(
    # A month, which begins with its number in Chinese, Japanese and Korean, and the day.
    rb"\[ ?((?:\d{1,2}(?=\xe6\x9c\x88|\xec\x9b\x94))?[^\x00- \d\[\]:+<][^\x00-\x1f\d\[\]:]{0,40}?)"
    rb" ?(\d{1,2}) (\d\d):(\d\d)\] ?"
)
_ELAPSED: Final = re.compile(rb"\[(?: {0,9}\+(\d{1,9})\.(\d{6})|< {0,9}(\d{1,9})\.(\d{6})>)\] ?")
_LEVEL: Final = re.compile(rb"<(\d{1,4})>")
_DECODED: Final = re.compile(rb"([a-z0-9]{2,9}) {0,6}:[a-z]{3,7} {0,6}: ?")
_TALOS: Final = re.compile(rb"(?:([\w.:-]{1,255}): )?(kern|user): {1,8}[a-z]{3,7}: \[")
_TALOS_END: Final = re.compile(rb"\]: ?")
FACILITY_SHIFT: Final = 3


def parse_dmesg_line(raw: bytes) -> LoggedLine | None:
    """Return the line of the kernel or of Talos; ``None`` for others, and other formats."""
    level = _LEVEL.match(raw)
    decoded = None if level else _DECODED.match(raw)
    is_kernel = not (level and int(level[1]) >> FACILITY_SHIFT)
    if decoded:
        is_kernel = decoded[1] == b"kern"
    rest = raw[(level or decoded).end() :] if level or decoded else raw  # type: ignore[union-attr]
    line = (
        parse_boot_time(LoggedLine(FORMAT, ""), rest)
        or _parse_dated(rest)
        or _parse_elapsed(rest)
        or _parse_talos(raw)
    )
    if line is None and decoded:
        line = LoggedLine(FORMAT, decode_bytes(rest))
    if line is None or (is_kernel and line.unit is None):
        return line
    return replace(line, unit=TALOS) if line.text.startswith(TALOS_PREFIX) else None


def parse_boot_time(line: LoggedLine, rest: bytes) -> LoggedLine | None:
    """Return ``line`` with uptime, thread and text of ``rest``; ``None`` without an uptime."""
    match = _SINCE_BOOT.match(rest)
    if not match:
        return None
    caller = match[3] or match[4] or match[5] or match[6]
    return replace(
        line,
        text=decode_bytes(rest[match.end() :]),
        since_boot_ns=int(match[1]) * NS_PER_S + int(match[2]) * NS_PER_US,
        caller=int(caller) if caller else None,
    )


def _parse_dated(rest: bytes) -> LoggedLine | None:
    is_bracketed = rest.startswith(b"[")
    written = parse_written_time(rest, int(is_bracketed))
    if written is None or isinstance(written.when, int) or written.when.year is None:
        return None
    if not is_bracketed:
        # Other programs write such a time as well: dmesg has a comma in it.
        is_dmesg = b"," in rest[: written.end]
        text = rest[written.end :].removeprefix(b" ")
        return LoggedLine(FORMAT, decode_bytes(text), when=written.when) if is_dmesg else None
    end = _BRACKET_END.match(rest, written.end)
    if not end:
        return None
    line = LoggedLine(FORMAT, "", when=written.when)
    text = rest[end.end() :]
    # The recorder of a serial console writes the date before the kernel's own time.
    return parse_boot_time(line, text) or replace(line, text=decode_bytes(text))


def _parse_elapsed(rest: bytes) -> LoggedLine | None:
    if match := _ELAPSED.match(rest):
        seconds, us = match[1] or match[3], match[2] or match[4]
        elapsed_ns = int(seconds) * NS_PER_S + int(us) * NS_PER_US
        return LoggedLine(FORMAT, decode_bytes(rest[match.end() :]), elapsed_ns=elapsed_ns)
    match = _SHORT.match(rest)
    month = find_month(match[1].decode("utf-8", "replace").split(), None, 1) if match else None
    if not match or month is None:
        return None
    day, hour, minute = map(int, match.groups()[1:])
    when = PartialTimestamp(None, month, day, hour, minute, 0)
    return LoggedLine(FORMAT, decode_bytes(rest[match.end() :]), when=when)


def _parse_talos(raw: bytes) -> LoggedLine | None:
    head = _TALOS.match(raw)
    written = parse_written_time(raw, head.end()) if head else None
    end = _TALOS_END.match(raw, written.end) if written else None
    if not head or not written or not end:
        return None
    host = head[1].decode("ascii") if head[1] else None
    unit = None if head[2] == b"kern" else TALOS
    text = decode_bytes(raw[end.end() :])
    return LoggedLine(FORMAT, text, when=written.when, host=host, unit=unit)
