"""Lines of syslog daemons, and text output of journalctl(1).

They contain a time, the host's name, ``kernel:`` and the text; the kernel's own time may precede
the text. Busybox and OpenWrt write facility and level before ``kernel:``, ChromeOS the level, and
some no host. The time is one of :mod:`.written_time` or the uptime (``short-monotonic``). RFC 5424
is supported as well, with or without its priority. A line with the id of a process is that of a
program which calls itself ``kernel``, or of a userspace OOM daemon, which it names.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec.structs import replace

from otel_oom.capture.userspace.daemons import UNITS
from otel_oom.commands.replay.formats import dmesg
from otel_oom.commands.replay.formats.log_line import LoggedLine
from otel_oom.commands.replay.formats.written_time import parse_written_time
from otel_oom.model.text import decode_bytes
from otel_oom.model.units import NS_PER_S, NS_PER_US

FORMAT: Final = "syslog"

_PRIORITY: Final = re.compile(rb"<(\d{1,3})>")
_VERSION: Final = re.compile(rb"1 (?=\d{4}-)")
_UPTIME: Final = re.compile(rb"\[ {0,9}(\d{1,9})\.(\d{6})(?: *<[^>\n]{0,20}>)?\]")
_LEVEL: Final = rb"(?i:emerg|panic|alert|crit|err|error|warn|warning|notice|info|debug)"
_HOST: Final = rb" (?:(?!(?:\w{1,16}\.)?" + _LEVEL + rb" )([\w.:-]{1,255}) )?"
_TAG: Final = re.compile(_HOST + rb"(?:(?:kern\.)?" + _LEVEL + rb" )?kernel: ?")
DAEMON: Final = b"(" + b"|".join(unit.removesuffix(".service").encode() for unit in UNITS) + b")"
_DAEMON_TAG: Final = re.compile(
    _HOST + rb"(?:(?:\w{1,16}\.)?" + _LEVEL + rb" )?" + DAEMON + rb"(?:\[\d{1,10}\])?: ?"
)
_END_5424: Final = (
    rb" [!-~]{1,32} "
    rb'(?:-|(?:\[(?:[^"\]]|"(?:[^"\\]|\\.)*")*\])+) ?'
    rb"(?:\xef\xbb\xbf)?"
)
_TAG_5424: Final = re.compile(rb" ([!-~]{1,255}) kernel -" + _END_5424)
_DAEMON_TAG_5424: Final = re.compile(rb" ([!-~]{1,255}) " + DAEMON + rb" [!-~]{1,128}" + _END_5424)


def parse_syslog_line(raw: bytes) -> LoggedLine | None:
    """Return the line of the kernel or of a daemon; ``None`` for others, and other formats."""
    priority = _PRIORITY.match(raw)
    start = priority.end() if priority else 0
    version = _VERSION.match(raw, start)
    timed = _parse_time(raw, version.end() if version else start)
    if timed is None:
        return None
    line, end = timed
    tag = (_TAG_5424 if version else _TAG).match(raw, end)
    if not tag:
        return _parse_daemon_line(raw, line, end, is_5424=version is not None)
    if priority and int(priority[1]) >> dmesg.FACILITY_SHIFT:
        return None
    host = tag[1].decode("ascii") if tag[1] and tag[1] != b"-" else None
    rest = raw[tag.end() :]
    line = replace(line, host=host)
    return dmesg.parse_boot_time(line, rest) or replace(line, text=decode_bytes(rest))


def _parse_daemon_line(
    raw: bytes, line: LoggedLine, end: int, *, is_5424: bool
) -> LoggedLine | None:
    tag = (_DAEMON_TAG_5424 if is_5424 else _DAEMON_TAG).match(raw, end)
    if not tag:
        return None
    return replace(
        line,
        text=decode_bytes(raw[tag.end() :]),
        host=tag[1].decode("ascii") if tag[1] and tag[1] != b"-" else None,
        unit=find_unit(tag[2]),
    )


def find_unit(program: bytes) -> str:
    """Return the unit of a daemon by the name of its program."""
    return f"{program.decode('ascii')}.service"


def _parse_time(raw: bytes, position: int) -> tuple[LoggedLine, int] | None:
    """Return a line with nothing but its time, and the end of that."""
    if written := parse_written_time(raw, position):
        return LoggedLine(FORMAT, "", when=written.when), written.end
    if match := _UPTIME.match(raw, position):
        since_boot_ns = int(match[1]) * NS_PER_S + int(match[2]) * NS_PER_US
        return LoggedLine(FORMAT, "", since_boot_ns=since_boot_ns), match.end()
    return None
