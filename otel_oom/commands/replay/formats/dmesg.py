"""Lines as dmesg(1) prints them and syslog(2) has them; what all text forms share of those.

By default ``[12345.678901] text``, before it ``<4>`` (``--raw``) or ``kern  :warn  : `` (``-x``);
in place of the time since the boot ``[Tue Nov 24 09:12:44 2026]`` (``-T``) or
``2026-11-24T09:12:44,123456+00:00`` (``--time-format iso``).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from otel_oom.commands.replay.formats.log_line import LoggedLine, PartialTimestamp
from otel_oom.model.text import decode_bytes
from otel_oom.model.units import NS_PER_S, NS_PER_US

FORM: Final = "dmesg"

MONTHS: Final = {
    name: number
    for number, name in enumerate(
        b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(),
        1,
    )
}

_SINCE_BOOT: Final = re.compile(
    rb"\[ {0,9}(\d{1,9})\.(\d{6})(?: *<[^>\n]{0,20}>?)?\]"
    # In brackets of its own the thread (T) or the processor (C) that printed it.
    rb"(?: ?\[ {0,9}(?:T(\d{1,10})|C\d{1,10})\])? ?"
)
_CTIME: Final = re.compile(
    rb"\[[A-Z][a-z]{2} ([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d) (\d{4})\] ?"
)
_ISO: Final = re.compile(rb"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d),(\d{6})([+-]\d\d:\d\d) ?")
_LEVEL: Final = re.compile(rb"<(\d{1,4})>")
_DECODED: Final = re.compile(rb"([a-z0-9]{2,9}) {0,6}:[a-z]{3,7} {0,6}: ?")
_FACILITY_SHIFT: Final = 3


def parse(raw: bytes) -> LoggedLine | None:
    """The kernel's line; ``None`` for user space's and for what is in another form."""
    level = _LEVEL.match(raw)
    decoded = None if level else _DECODED.match(raw)
    if level and int(level[1]) >> _FACILITY_SHIFT:
        return None
    if decoded and decoded[1] != b"kern":
        return None
    rest = raw[(level or decoded).end() :] if level or decoded else raw  # type: ignore[union-attr]
    found = _CTIME.match(rest)
    if found:
        stamp = _ctime(found)
        return LoggedLine(FORM, text(rest[found.end() :]), when=stamp) if stamp else None
    found = _ISO.match(rest)
    if found:
        ns, zone = int(found[7]) * NS_PER_US, offset_s(found[8])
        digits = found.groups()[2:6]
        stamp = PartialTimestamp.of(int(found[1]), int(found[2]), digits, ns=ns, offset_s=zone)
        return LoggedLine(FORM, text(rest[found.end() :]), when=stamp)
    return since_boot(LoggedLine(FORM, ""), rest)


def since_boot(line: LoggedLine, rest: bytes) -> LoggedLine | None:
    """``line`` with the time, the thread and the text in ``rest``; ``None`` without a time."""
    found = _SINCE_BOOT.match(rest)
    if not found:
        return None
    return replace(
        line,
        text=text(rest[found.end() :]),
        since_boot_ns=int(found[1]) * NS_PER_S + int(found[2]) * NS_PER_US,
        caller=int(found[3]) if found[3] else None,
    )


def text(raw: bytes) -> str:
    r"""A line's text; what is not UTF-8 stands as ``\xNN``."""
    return decode_bytes(raw)


def offset_s(zone: bytes | None) -> int | None:
    """The seconds that a zone such as ``+01:00`` is ahead; ``None`` for one by name alone."""
    if not zone:
        return None
    if zone in {b"Z", b"UTC", b"GMT"}:
        return 0
    if zone[:1] not in {b"+", b"-"}:
        return None
    digits = zone[1:].replace(b":", b"")
    seconds = int(digits[:2]) * 3600 + int(digits[2:4] or b"0") * 60
    return -seconds if zone[:1] == b"-" else seconds


def _ctime(found: re.Match[bytes]) -> PartialTimestamp | None:
    month = MONTHS.get(found[1])
    if month is None:
        return None
    return PartialTimestamp.of(int(found[6]), month, found.groups()[1:5])
