"""Lines of Android's logcat, of its low memory killer daemon and of the kernel.

The formats of ``logcat -v``: ``threadtime``, with ``epoch``, ``monotonic``, ``year``, ``zone`` or
``uid`` as well, ``time``, ``brief``, ``tag`` and ``process``; :mod:`.logcat_long` reads ``long``.
Any app may write under any tag; the process id 0 is the kernel's, whose log logd copies.
"""

from __future__ import annotations

import re
from typing import Final

from otel_oom.capture.userspace.android import ANDROID
from otel_oom.commands.replay.formats.log_line import LoggedLine, PartialTimestamp
from otel_oom.commands.replay.formats.written_time import fraction_ns, zone_offset_s
from otel_oom.model.text import decode_bytes
from otel_oom.model.units import NS_PER_S

FORMAT: Final = "logcat"

_DATE: Final = re.compile(
    rb"(?:(\d{4})-)?(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{3,9})(?: ([+-]\d{4}))? {1,8}"
)
_SECONDS: Final = re.compile(rb" {0,12}(\d{1,11})\.(\d{3,9}) {1,8}")
_EPOCH_DIGITS: Final = 9
"""A smaller number of seconds is the time since the boot."""
_THREAD: Final = re.compile(
    rb"(?:[\w-]{1,32} {1,8})?(\d{1,10}) {1,10}\d{1,10} [VDIWEF] "
    rb"(?:([^\s:][^:\n]{0,63}?)? *: ?)?"
)
_BRIEF: Final = re.compile(rb"[VDIWEF]/([^\s(:][^(:\n]{0,63}?) *(?:\( *(\d{1,10})\))?: ?")
_PROCESS: Final = re.compile(rb"[VDIWEF]\( *(\d{1,10})\) (.*?) {1,4}\(([\w.-]{1,64})\)", re.DOTALL)
_TAGS: Final = frozenset({b"lowmemorykiller", b"lmkd"})


def parse_logcat_line(raw: bytes) -> LoggedLine | None:
    """Return a line of the daemon or of the kernel; ``None`` for others, and other formats."""
    when, since_boot_ns, position = _parse_time(raw)
    if position and (match := _THREAD.match(raw, position)):
        pid, tag, text = match[1], match[2] or b"", raw[match.end() :]
    elif match := _BRIEF.match(raw, position):
        tag, pid, text = match[1], match[2] or b"", raw[match.end() :]
    elif not position and (match := _PROCESS.fullmatch(raw)):
        pid, text, tag = match.groups()
    else:
        return None
    is_kernel = pid == b"0"
    if is_kernel:
        # logd takes what stands before a colon for a tag.
        text = b"%s: %s" % (tag, text) if tag else text
    elif tag not in _TAGS:
        return None
    return LoggedLine(
        FORMAT,
        decode_bytes(text),
        since_boot_ns=since_boot_ns,
        when=when,
        unverified=not is_kernel,
        unit=None if is_kernel else ANDROID,
    )


def _parse_time(raw: bytes) -> tuple[int | PartialTimestamp | None, int | None, int]:
    """Return the date, the time since the boot, and the end of the one that there is; else 0."""
    if match := _DATE.match(raw):
        month, day, hour, minute, second = map(int, match.groups()[1:6])
        year = int(match[1]) if match[1] else None
        fraction, offset_s = fraction_ns(match[7]), zone_offset_s(match[8])
        stamp = PartialTimestamp(year, month, day, hour, minute, second, fraction, offset_s)
        return stamp, None, match.end()
    if match := _SECONDS.match(raw):
        time_ns = int(match[1]) * NS_PER_S + fraction_ns(match[2])
        is_epoch = len(match[1]) >= _EPOCH_DIGITS
        return (time_ns, None, match.end()) if is_epoch else (None, time_ns, match.end())
    return None, None, 0
