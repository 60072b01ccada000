"""Lines as syslog daemons write them to files, and as journalctl(1) prints them as text.

A time, the host's name, ``kernel:`` and the text, before which the kernel's own time may stand.
The time is that of RFC 3164, which has neither year nor zone, that of RFC 3339, or one of
journalctl's: with the year and the zone's name (``short-full``), seconds of Unix time
(``short-unix``), or since the boot (``short-monotonic``). The format of RFC 5424 is known as well.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from otel_oom.commands.replay.formats import dmesg
from otel_oom.commands.replay.formats.log_line import LoggedLine, PartialTimestamp
from otel_oom.model.units import NS_PER_S, NS_PER_US

FORM: Final = "syslog"

_PRIORITY: Final = re.compile(rb"<(\d{1,3})>(1 )?")
_TIME: Final = re.compile(
    rb"(?:([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?"
    rb"|(?:[A-Z][a-z]{2} )?(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?"
    rb" ?(Z|[A-Z]{1,5}|[+-]\d\d:?\d\d)?"
    rb"|(\d{1,11})\.(\d{6})"
    rb"|\[ {0,9}(\d{1,9})\.(\d{6})(?: *<[^>\n]{0,20}>)?\]) "
)
_TAG: Final = re.compile(rb"(?:([\w.:-]{1,255}) )?kernel(?:\[\d{1,10}\])?: ?")
_TAG_5424: Final = re.compile(
    rb"([!-~]{1,255}) kernel [!-~]{1,128} [!-~]{1,32} "
    rb'(?:-|(?:\[(?:[^"\]]|"(?:[^"\\]|\\.)*")*\])+) ?'
    rb"(?:\xef\xbb\xbf)?"
)
_FACILITY_SHIFT: Final = 3
_NANO_DIGITS: Final = 9


def parse(raw: bytes) -> LoggedLine | None:
    """The kernel's line; ``None`` for others' and for what is in another form."""
    priority = _PRIORITY.match(raw)
    if priority and int(priority[1]) >> _FACILITY_SHIFT:
        return None
    at = priority.end() if priority else 0
    found = _TIME.match(raw, at)
    if not found:
        return None
    tagged = (_TAG_5424 if priority and priority[2] else _TAG).match(raw, found.end())
    timed = _timed(found)
    if not tagged or timed is None:
        return None
    named = replace(timed, host=tagged[1].decode("ascii") if tagged[1] else None)
    rest = raw[tagged.end() :]
    with_own_time = dmesg.since_boot(named, rest)
    return with_own_time or replace(named, text=dmesg.text(rest))


def _timed(found: re.Match[bytes]) -> LoggedLine | None:
    """A line with nothing but its time; ``None`` for a month that is none."""
    month = found[1]
    if month:
        if month not in dmesg.MONTHS:
            return None
        rest = found.groups()[1:5]
        stamp = PartialTimestamp.of(None, dmesg.MONTHS[month], rest, ns=_ns(found[6]))
        return LoggedLine(FORM, "", when=stamp)
    if found[7]:
        rest, zone = found.groups()[8:12], dmesg.offset_s(found[14])
        stamp = PartialTimestamp.of(
            int(found[7]), int(found[8]), rest, ns=_ns(found[13]), offset_s=zone
        )
        return LoggedLine(FORM, "", when=stamp)
    if found[15]:
        return LoggedLine(FORM, "", when=int(found[15]) * NS_PER_S + int(found[16]) * NS_PER_US)
    since_boot_ns = int(found[17]) * NS_PER_S + int(found[18]) * NS_PER_US
    return LoggedLine(FORM, "", since_boot_ns=since_boot_ns)


def _ns(fraction: bytes | None) -> int:
    return int(fraction.ljust(_NANO_DIGITS, b"0")) if fraction else 0
