"""Lines of dmesg(1) and syslog(2), and the parts that other text formats share.

By default ``[12345.678901] text``, before it ``<4>`` (``--raw``) or ``kern  :warn  : `` (``-x``);
in place of the time since the boot ``[Tue Nov 24 09:12:44 2026]`` (``-T``) or
``2026-11-24T09:12:44,123456+00:00`` (``--time-format iso``).
"""

from __future__ import annotations

import re
from typing import Final

from msgspec.structs import replace

from otel_oom.commands.replay.formats.log_line import LoggedLine, PartialTimestamp
from otel_oom.model.text import decode_bytes
from otel_oom.model.units import NS_PER_S, NS_PER_US

FORMAT: Final = "dmesg"

MONTHS: Final = {
    name: number
    for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)
}

_SINCE_BOOT: Final = re.compile(
    rb"\[ {0,9}(\d{1,9})\.(\d{6})(?: *<[^>\n]{0,20}>?)?\]"
    # In a second pair of brackets: the printing thread (T) or processor (C).
    rb"(?: ?\[ {0,9}(?:T(\d{1,10})|C\d{1,10})\])? ?"
)
_CTIME: Final = re.compile(
    rb"\[[A-Z][a-z]{2} ([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d) (\d{4})\] ?"
)
_ISO: Final = re.compile(rb"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d),(\d{6})([+-]\d\d:\d\d) ?")
_LEVEL: Final = re.compile(rb"<(\d{1,4})>")
_DECODED: Final = re.compile(rb"([a-z0-9]{2,9}) {0,6}:[a-z]{3,7} {0,6}: ?")
FACILITY_SHIFT: Final = 3


def parse_dmesg_line(raw: bytes) -> LoggedLine | None:
    """Return the kernel's line; ``None`` for user space, and for other formats."""
    level = _LEVEL.match(raw)
    decoded = None if level else _DECODED.match(raw)
    if level and int(level[1]) >> FACILITY_SHIFT:
        return None
    if decoded and decoded[1] != b"kern":
        return None
    rest = raw[(level or decoded).end() :] if level or decoded else raw  # type: ignore[union-attr]
    ctime = _CTIME.match(rest)
    match = ctime or _ISO.match(rest)
    if match:
        when = _ctime(match) if ctime else _iso(match)
        return LoggedLine(FORMAT, decode_bytes(rest[match.end() :]), when=when) if when else None
    return parse_boot_time(LoggedLine(FORMAT, ""), rest)


def parse_boot_time(line: LoggedLine, rest: bytes) -> LoggedLine | None:
    """Return ``line`` with uptime, thread and text of ``rest``; ``None`` without an uptime."""
    match = _SINCE_BOOT.match(rest)
    if not match:
        return None
    return replace(
        line,
        text=decode_bytes(rest[match.end() :]),
        since_boot_ns=int(match[1]) * NS_PER_S + int(match[2]) * NS_PER_US,
        caller=int(match[3]) if match[3] else None,
    )


def zone_offset_s(zone: bytes | None) -> int | None:
    """Return the offset in seconds of a zone such as ``+01:00``; ``None`` for a mere name."""
    if not zone:
        return None
    if zone in {b"Z", b"UTC", b"GMT"}:
        return 0
    if zone[:1] not in {b"+", b"-"}:
        return None
    digits = zone[1:].replace(b":", b"")
    seconds = int(digits[:2]) * 3600 + int(digits[2:4] or b"0") * 60
    return -seconds if zone[:1] == b"-" else seconds


def _ctime(match: re.Match[bytes]) -> PartialTimestamp | None:
    month = MONTHS.get(match[1])
    if month is None:
        return None
    day, hour, minute, second, year = map(int, match.groups()[1:])
    return PartialTimestamp(year, month, day, hour, minute, second)


def _iso(match: re.Match[bytes]) -> PartialTimestamp:
    year, month, day, hour, minute, second, us = map(int, match.groups()[:7])
    ns, offset_s = us * NS_PER_US, zone_offset_s(match[8])
    return PartialTimestamp(year, month, day, hour, minute, second, ns, offset_s)
