"""Lines of syslog daemons, and text output of journalctl(1).

They contain a time, the host's name, ``kernel:`` and the text; the kernel's own time may precede
the text. The time is that of RFC 3164, without year and zone, that of RFC 3339, or one of
journalctl's: with the year and the zone's name (``short-full``), Unix time in seconds
(``short-unix``), or the uptime (``short-monotonic``). RFC 5424 is supported as well. A line with
the id of a process is that of a program which calls itself ``kernel``.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec.structs import replace

from otel_oom.commands.replay.formats import dmesg
from otel_oom.commands.replay.formats.log_line import LoggedLine, PartialTimestamp
from otel_oom.model.text import decode_bytes
from otel_oom.model.units import NS_PER_S, NS_PER_US

FORMAT: Final = "syslog"

_PRIORITY: Final = re.compile(rb"<(\d{1,3})>(1 )?")
_TIME: Final = re.compile(
    rb"(?:([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?"
    rb"|(?:[A-Z][a-z]{2} )?(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?"
    rb" ?(Z|[A-Z]{1,5}|[+-]\d\d:?\d\d)?"
    rb"|(\d{1,11})\.(\d{6})"
    rb"|\[ {0,9}(\d{1,9})\.(\d{6})(?: *<[^>\n]{0,20}>)?\]) "
)
_TAG: Final = re.compile(rb"(?:([\w.:-]{1,255}) )?kernel: ?")
_TAG_5424: Final = re.compile(
    rb"([!-~]{1,255}) kernel - [!-~]{1,32} "
    rb'(?:-|(?:\[(?:[^"\]]|"(?:[^"\\]|\\.)*")*\])+) ?'
    rb"(?:\xef\xbb\xbf)?"
)
_NANO_DIGITS: Final = 9


def parse_syslog_line(raw: bytes) -> LoggedLine | None:
    """Return the kernel's line; ``None`` for others, and for other formats."""
    priority = _PRIORITY.match(raw)
    if priority and int(priority[1]) >> dmesg.FACILITY_SHIFT:
        return None
    time = _TIME.match(raw, priority.end() if priority else 0)
    if not time:
        return None
    tag = (_TAG_5424 if priority and priority[2] else _TAG).match(raw, time.end())
    timed = _timed_line(time)
    if not tag or timed is None:
        return None
    line = replace(timed, host=tag[1].decode("ascii") if tag[1] else None)
    rest = raw[tag.end() :]
    return dmesg.parse_boot_time(line, rest) or replace(line, text=decode_bytes(rest))


def _timed_line(time: re.Match[bytes]) -> LoggedLine | None:
    """Return a line with nothing but its time; ``None`` for an unknown month."""
    if time[1]:
        month = dmesg.MONTHS.get(time[1])
        if month is None:
            return None
        day, hour, minute, second = map(int, time.groups()[1:5])
        when = PartialTimestamp(None, month, day, hour, minute, second, _fraction_ns(time[6]))
        return LoggedLine(FORMAT, "", when=when)
    if time[7]:
        year, month, day, hour, minute, second = map(int, time.groups()[6:12])
        ns, offset_s = _fraction_ns(time[13]), dmesg.zone_offset_s(time[14])
        when = PartialTimestamp(year, month, day, hour, minute, second, ns, offset_s)
        return LoggedLine(FORMAT, "", when=when)
    if time[15]:
        return LoggedLine(FORMAT, "", when=int(time[15]) * NS_PER_S + int(time[16]) * NS_PER_US)
    since_boot_ns = int(time[17]) * NS_PER_S + int(time[18]) * NS_PER_US
    return LoggedLine(FORMAT, "", since_boot_ns=since_boot_ns)


def _fraction_ns(fraction: bytes | None) -> int:
    return int(fraction.ljust(_NANO_DIGITS, b"0")) if fraction else 0
